"""pandas' indexes, and the arrays that are made of an index.

{"range": [0, 10, 1], "name": "id"}         a RangeIndex; the name only where there is one
{"values": {...}, "freq": "D"}              any other: its array, and how often, where a DatetimeIndex knows
{"levels": [...], "codes": [...], "names": [...], "sortorder": 1}
{"categories": <index>, "ordered": false, "codes": {...}}    a categorical array
"""

from typing import Any, Final

from dotflow.codec.frames.pandas import arrays as pandas_arrays
from dotflow.codec.frames.pandas.arrays import values_of
from dotflow.codec.frames.pending import Inner
from dotflow.codec.types.classes import NotEncodable

#: Levels and categories are looked at one by one when they are read, and a range takes no room in a file.
_LONGEST: Final = 10_000_000

_KINDS: Final = (
    "Index", "RangeIndex", "DatetimeIndex", "TimedeltaIndex", "PeriodIndex", "IntervalIndex", "CategoricalIndex",
)  # fmt: skip


def describe_array(array: Any, place: str) -> dict[str, Any]:
    """As in `pandas_arrays`, also of categorical arrays."""
    import pandas as pd

    if type(array) is not pd.Categorical:
        return pandas_arrays.describe_array(array, place)
    return {
        "categories": describe_index(array.categories, f"{place}.categories"),
        "ordered": array.ordered,
        "codes": pandas_arrays.describe_array(array.codes, place),
    }


def build_array(payload: dict[str, Any], store: list[Any]) -> Any:
    """The opposite of `describe_array`, from what has been decoded. Raises ValueError, TypeError or KeyError."""
    import pandas as pd

    if "categories" not in payload:
        return pandas_arrays.build_array(payload, store)
    categories = _short(build_index(payload["categories"], store))
    dtype = pd.CategoricalDtype(categories, ordered=payload["ordered"] is True)
    return pd.Categorical.from_codes(pandas_arrays.build_array(payload["codes"], store), dtype=dtype)


def describe_index(index: Any, place: str) -> dict[str, Any]:
    """An index, as JSON with what is to be encoded in it. Raises NotEncodable."""
    import pandas as pd

    if type(index) is pd.MultiIndex:
        return _describe_levels(index, place)
    if type(index) not in [getattr(pd, kind) for kind in _KINDS]:
        raise NotEncodable("it is more than an index of pandas")
    name = {} if index.name is None else {"name": Inner(index.name, f"{place}.name")}
    if type(index) is pd.RangeIndex:
        return {"range": [index.start, index.stop, index.step], **name}
    found = {"values": describe_array(values_of(index), place), **name}
    if type(index) in (pd.DatetimeIndex, pd.TimedeltaIndex) and index.freq is not None:
        if pd.tseries.frequencies.to_offset(index.freq.freqstr) != index.freq:
            raise NotEncodable("its freq says more than its name; set .freq to None")
        found["freq"] = index.freq.freqstr
    return found


def build_index(payload: dict[str, Any], store: list[Any]) -> Any:
    """The opposite of `describe_index`, from what has been decoded. Raises ValueError, TypeError or KeyError."""
    import pandas as pd

    if "levels" in payload:
        return pd.MultiIndex(
            levels=[_short(build_index(level, store)) for level in payload["levels"]],
            codes=[build_array(codes, store) for codes in payload["codes"]],
            names=payload["names"],
            sortorder=payload.get("sortorder"),
        )
    name = payload.get("name")
    if "range" in payload:
        if [type(part) for part in payload["range"]] != [int, int, int]:
            raise TypeError("its range is none")
        return pd.RangeIndex(*payload["range"], name=name)
    values = build_array(payload["values"], store)
    index = pd.Index(values, dtype=values.dtype, name=name, tupleize_cols=False)
    if "freq" not in payload:
        return index
    return type(index)(index, freq=pd.tseries.frequencies.to_offset(payload["freq"]), name=name)


def _describe_levels(index: Any, place: str) -> dict[str, Any]:
    found = {
        "levels": [describe_index(level.rename(None), place) for level in index.levels],
        "codes": [pandas_arrays.describe_array(codes, place) for codes in index.codes],
        "names": Inner(list(index.names), f"{place}.names"),
    }
    return found if index.sortorder is None else {**found, "sortorder": index.sortorder}


def _short(index: Any) -> Any:
    if len(index) > _LONGEST:
        raise ValueError("it has more levels or categories than are read")
    return index
