"""The arrays of pandas' columns, and the indexes.

An array is described by its parts, with the numbers of the Arrow arrays that hold its values:

    {"dtype": "<f8", "at": 0}                       a NumPy array, by its bytes
    {"items": [...]}                                objects, one by one: Arrow would make None of nan, lists of tuples
    {"text": "pyarrow", "missing": "nan", "at": 0}  text; a short array has readable "items" instead
    {"masked": "Int64", "at": 0}                    numbers and booleans with missing ones
    {"arrow": true, "at": 0}                        pd.ArrowDtype
    {"utc": {...}, "zone": ...}                     moments, and the time zone that shows them
    {"period": "M", "ordinals": {...}}
    {"closed": "right", "left": {...}, "right": {...}}
    {"categories": <index>, "ordered": false, "codes": {...}}

An index is one of

    {"range": [0, 10, 1], "name": "id"}             the name only where there is one
    {"values": {...}, "freq": "D"}                  the frequency only of a DatetimeIndex or TimedeltaIndex that has one
    {"levels": [...], "codes": [...], "names": [...], "sortorder": 1}
"""

import sys
from datetime import datetime, tzinfo
from typing import Any, Final

from dotflow.codec.frames.dtypes import build_dtype, describe_dtype
from dotflow.codec.frames.ipc import load_pyarrow
from dotflow.codec.frames.numpy import build_array as build_numpy
from dotflow.codec.frames.numpy import bytes_of
from dotflow.codec.frames.pending import Pending
from dotflow.codec.types.classes import NotEncodable, module_of

_MAX_READABLE: Final = 64  # texts of an array that is readable in the JSON

#: pandas looks at each level and category, and a range takes no room in a file.
_MAX_LABELS: Final = 10_000_000

_MASKED: Final = (
    *("boolean", "Float32", "Float64"),
    *(f"{kind}{bits}" for kind in ("Int", "UInt") for bits in (8, 16, 32, 64)),
)


def describe_array(array: Any, path: str, store: list[Any]) -> dict[str, Any]:
    """Describes an array of one dimension, and adds its Arrow arrays to the store. Raises NotEncodable."""
    import numpy as np
    import pandas as pd

    dtype, kind = array.dtype, type(array.dtype)
    if isinstance(array, np.ndarray):
        if dtype.hasobject:
            return {"items": Pending(array.tolist(), path)}
        return {"dtype": describe_dtype(dtype), "at": _put(store, bytes_of(array))}
    if kind is pd.CategoricalDtype:
        categories = describe_index(array.categories, f"{path}.categories", store)
        return {"categories": categories, "ordered": array.ordered, "codes": describe_array(array.codes, path, store)}
    if kind is pd.StringDtype:
        text = {"text": dtype.storage, "missing": "NA" if dtype.na_value is pd.NA else "nan"}
        if len(array) > _MAX_READABLE:
            return {**text, "at": _put(store, array)}
        return {**text, "items": Pending([None if pd.isna(item) else item for item in array], path)}
    if kind is pd.DatetimeTZDtype:
        utc = np.asarray(array.tz_convert(None))
        return {"utc": describe_array(utc, path, store), "zone": describe_zone(dtype.tz, path)}
    if kind is pd.PeriodDtype:
        return {"period": dtype.name[len("period[") : -1], "ordinals": describe_array(array.asi8, path, store)}
    if kind is pd.IntervalDtype:
        ends = {end: describe_array(values_of(getattr(array, end)), path, store) for end in ("left", "right")}
        return {"closed": dtype.closed, **ends}
    if kind is pd.ArrowDtype:
        return {"arrow": True, "at": _put(store, array)}
    if dtype.name in _MASKED and kind is type(pd.api.types.pandas_dtype(dtype.name)):
        return {"masked": dtype.name, "at": _put(store, array)}
    if kind is pd.SparseDtype:
        raise NotEncodable("it is sparse; use .sparse.to_dense()")
    raise NotEncodable(f"arrays of {dtype.name} are not kept; return a Series of a dtype of pandas or Arrow")


def build_array(payload: dict[str, Any], store: dict[int, Any]) -> Any:
    """Builds what `describe_array` described. Raises ValueError, TypeError or KeyError.

    Each Arrow array leaves the store when it is used, so that a value is no larger than its file.
    """
    import numpy as np
    import pandas as pd

    if "dtype" in payload:
        dtype, data = build_dtype(payload["dtype"]), _take(store, payload, load_pyarrow().uint8())
        view = memoryview(data.buffers()[1] or b"")[data.offset : data.offset + len(data)]
        return build_numpy(dtype, view, (len(data) // (dtype.itemsize or 1),))
    if "text" in payload:
        return _build_text(payload, store)
    if "items" in payload:
        return np.fromiter(payload["items"], object, len(payload["items"]))  # np.array would look into lists and arrays
    if "masked" in payload:
        if payload["masked"] not in _MASKED:
            raise ValueError("its dtype is unknown")
        dtype = pd.api.types.pandas_dtype(payload["masked"])
        return dtype.__from_arrow__(_take(store, payload, load_pyarrow().from_numpy_dtype(dtype.numpy_dtype)))
    if "arrow" in payload:
        return pd.arrays.ArrowExtensionArray(store.pop(payload["at"]))
    if "utc" in payload:
        utc = pd.DatetimeIndex(build_array(payload["utc"], store)).tz_localize("UTC")
        return utc.tz_convert(build_zone(payload["zone"])).array.copy()  # an index's own is read-only
    if "period" in payload:
        ordinals = build_array(payload["ordinals"], store)
        return pd.arrays.PeriodArray(ordinals, dtype=pd.PeriodDtype(payload["period"]))
    if "categories" in payload:
        dtype = pd.CategoricalDtype(_build_labels(payload["categories"], store), ordered=payload["ordered"] is True)
        return pd.Categorical.from_codes(build_array(payload["codes"], store), dtype=dtype)
    left, right = build_array(payload["left"], store), build_array(payload["right"], store)
    return pd.arrays.IntervalArray.from_arrays(left, right, closed=payload["closed"])


def describe_index(index: Any, path: str, store: list[Any]) -> dict[str, Any]:
    """Describes an index, and adds its Arrow arrays to the store. Raises NotEncodable."""
    import pandas as pd

    if module_of(type(index)).partition(".")[0] != "pandas":
        raise NotEncodable("it is more than an index of pandas")
    if type(index) is pd.MultiIndex:
        levels = {
            "levels": [describe_index(level.rename(None), path, store) for level in index.levels],
            "codes": [describe_array(codes, path, store) for codes in index.codes],
            "names": Pending(list(index.names), f"{path}.names"),
        }
        return levels if index.sortorder is None else {**levels, "sortorder": index.sortorder}
    name = {} if index.name is None else {"name": Pending(index.name, f"{path}.name")}
    if type(index) is pd.RangeIndex:
        return {"range": [index.start, index.stop, index.step], **name}
    description = {"values": describe_array(values_of(index), path, store), **name}
    if type(index) in (pd.DatetimeIndex, pd.TimedeltaIndex) and index.freq is not None:
        if pd.tseries.frequencies.to_offset(index.freq.freqstr) != index.freq:
            raise NotEncodable("its freq is more than its name; set .freq to None")
        description["freq"] = index.freq.freqstr
    return description


def build_index(payload: dict[str, Any], store: dict[int, Any]) -> Any:
    """Builds what `describe_index` described. Raises ValueError, TypeError or KeyError."""
    import pandas as pd

    if "levels" in payload:
        return pd.MultiIndex(
            levels=[_build_labels(level, store) for level in payload["levels"]],
            codes=[build_array(codes, store) for codes in payload["codes"]],
            names=payload["names"],
            sortorder=payload.get("sortorder"),
        )
    name = payload.get("name")
    if "range" in payload:
        return pd.RangeIndex(range(*payload["range"]), name=name)
    values = build_array(payload["values"], store)
    index = pd.Index(values, dtype=values.dtype, name=name, tupleize_cols=False)
    if "freq" not in payload:
        return index
    return type(index)(index, freq=pd.tseries.frequencies.to_offset(payload["freq"]), name=name)


def values_of(holder: Any) -> Any:
    """Returns the array of a Series or an Index: a NumPy array for a dtype of NumPy."""
    import numpy as np

    return holder.to_numpy() if isinstance(holder.dtype, np.dtype) else holder.array


def describe_zone(zone: Any, path: str) -> Any:
    """Describes a time zone. pandas before 3 makes those of pytz."""
    pytz, name = sys.modules.get("pytz"), getattr(zone, "zone", None)
    if pytz is not None and name in pytz.all_timezones_set and type(zone) is type(pytz.timezone(name)):
        return {"pytz": name}
    return Pending(datetime(1970, 1, 1, tzinfo=zone), path)


def build_zone(payload: Any) -> tzinfo:
    """Builds what `describe_zone` described. Raises ValueError, TypeError or KeyError."""
    if type(payload) is dict:
        import pytz

        if payload["pytz"] not in pytz.all_timezones_set:
            raise ValueError("its time zone is unknown")
        return pytz.timezone(payload["pytz"])  # type: ignore[no-any-return]
    if type(payload) is not datetime or payload.tzinfo is None:
        raise TypeError("its time zone is invalid")
    return payload.tzinfo


def _put(store: list[Any], values: Any) -> int:
    """Adds a buffer, or an array that Arrow can convert, to the store, and returns its number."""
    pa = load_pyarrow()
    if isinstance(values, memoryview):
        buffer = pa.py_buffer(values)
        array = pa.Array.from_buffers(pa.uint8(), buffer.size, [None, buffer])
    else:
        array = pa.array(values)
    store.append(array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array)
    return len(store) - 1


def _take(store: dict[int, Any], payload: dict[str, Any], *types: Any) -> Any:
    """Takes an Arrow array that needs no conversion. Runs or views could unfold to a million times their size."""
    array = store.pop(payload["at"])
    if array.type not in types or (array.type == load_pyarrow().uint8() and array.null_count):
        raise TypeError("its values are of another type than its dtype")
    return array


def _build_text(payload: dict[str, Any], store: dict[int, Any]) -> Any:
    import numpy as np
    import pandas as pd

    # pandas before 2.3 has no argument for the missing value, which is always NA.
    missing = {"NA": {}, "nan": {"na_value": np.nan}}[payload["missing"]]
    dtype = pd.StringDtype({"pyarrow": "pyarrow", "python": "python"}[payload["text"]], **missing)
    if "items" not in payload:
        pa = load_pyarrow()
        return dtype.__from_arrow__(_take(store, payload, pa.string(), pa.large_string()))
    if not all(type(text) is str or text is None for text in payload["items"]):
        raise TypeError("its text is invalid")
    return pd.array(payload["items"], dtype=dtype)


def _build_labels(payload: dict[str, Any], store: dict[int, Any]) -> Any:
    labels = build_index(payload, store)
    if len(labels) > _MAX_LABELS:
        raise ValueError("it has more levels or categories than are read")
    return labels
