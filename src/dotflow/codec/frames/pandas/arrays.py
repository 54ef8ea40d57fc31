"""The arrays that pandas' columns and indexes are made of.

Each is described by what it is made of; of Arrow arrays it is said at which number they are in the store:

    {"dtype": "<f8", "at": 0}                       what NumPy holds, by its bytes
    {"items": [...]}                                objects, one by one
    {"text": "pyarrow", "missing": "nan", "at": 0}  text; a few of them stand in "items", where one can read them
    {"masked": "Int64", "at": 0}                    numbers and booleans with missing ones
    {"arrow": true, "at": 0}                        pd.ArrowDtype
    {"utc": {...}, "zone": ...}                     moments, and the time zone in which they are shown
    {"period": "M", "ordinals": {...}}
    {"closed": "right", "left": {...}, "right": {...}}

Objects don't go through Arrow: it would make None of nan, lists of tuples, and one type of several.
"""

import sys
from datetime import datetime, tzinfo
from typing import Any, Final

from dotflow.codec.frames.dtypes import build_dtype, describe_dtype
from dotflow.codec.frames.ipc import load_pyarrow
from dotflow.codec.frames.numpy import build_array as build_bytes
from dotflow.codec.frames.numpy import bytes_of
from dotflow.codec.frames.pending import Inner, Stored
from dotflow.codec.types.classes import NotEncodable

_FEW: Final = 64

_MASKED: Final = (
    "boolean",
    "Float32",
    "Float64",
    *(f"{kind}{bits}" for kind in ("Int", "UInt") for bits in (8, 16, 32, 64)),
)


def describe_array(array: Any, place: str) -> dict[str, Any]:
    """An array of NumPy's or pandas', as JSON with what is to be encoded in it. Raises NotEncodable.

    Args:
        array: The array, of one dimension.
        place: Where it stands, as one would write it.
    """
    import numpy as np
    import pandas as pd

    dtype = array.dtype
    if isinstance(array, np.ndarray):
        if dtype.hasobject:
            return {"items": Inner(array.tolist(), place)}
        return {"dtype": describe_dtype(dtype), "at": Stored(bytes_of(array))}
    if type(dtype) is pd.StringDtype:
        return _describe_text(array, place)
    if type(dtype) is pd.ArrowDtype:
        return {"arrow": True, "at": _stored(array)}
    if type(dtype) is pd.DatetimeTZDtype:
        utc = np.asarray(array.tz_convert(None))
        return {"utc": describe_array(utc, place), "zone": describe_zone(dtype.tz, place)}
    if type(dtype) is pd.PeriodDtype:
        return {"period": dtype.name[len("period[") : -1], "ordinals": describe_array(array.asi8, place)}
    if type(dtype) is pd.IntervalDtype:
        ends = {end: describe_array(values_of(getattr(array, end)), place) for end in ("left", "right")}
        return {"closed": dtype.closed, **ends}
    if dtype.name in _MASKED and type(dtype) is _masked(dtype.name):
        return {"masked": dtype.name, "at": _stored(array)}
    if type(dtype) is pd.SparseDtype:
        raise NotEncodable("it is sparse; use .sparse.to_dense()")
    if isinstance(dtype, np.dtype):
        raise NotEncodable("return a Series of it")
    raise NotEncodable(f"its dtype {dtype.name!r} is not one that is kept")


def build_array(payload: dict[str, Any], store: list[Any]) -> Any:
    """The opposite of `describe_array`, from what has been decoded. Raises ValueError, TypeError or KeyError."""
    import numpy as np
    import pandas as pd

    if "dtype" in payload:
        dtype = build_dtype(payload["dtype"])
        return build_bytes(dtype, values := _at(store, payload), (len(values) // (dtype.itemsize or 1),))
    if "text" in payload:
        return _build_text(payload, store)
    if "items" in payload:
        return np.fromiter(payload["items"], object, len(payload["items"]))  # a slice would look into lists and arrays
    if "masked" in payload:
        if payload["masked"] not in _MASKED:
            raise ValueError("it has a dtype that is none")
        kind = _masked(payload["masked"])()
        return kind.__from_arrow__(_of_type(_at(store, payload), load_pyarrow().from_numpy_dtype(kind.numpy_dtype)))
    if "arrow" in payload:
        return pd.arrays.ArrowExtensionArray(_at(store, payload))
    if "utc" in payload:
        utc = pd.DatetimeIndex(build_array(payload["utc"], store))
        shown = utc.tz_localize("UTC").tz_convert(build_zone(payload["zone"]))
        return shown.array.copy()  # an index's own is read-only
    if "period" in payload:
        ordinals = build_array(payload["ordinals"], store)
        return pd.arrays.PeriodArray(ordinals, dtype=pd.PeriodDtype(payload["period"]))
    left, right = build_array(payload["left"], store), build_array(payload["right"], store)
    return pd.arrays.IntervalArray.from_arrays(left, right, closed=payload["closed"])


def values_of(holder: Any) -> Any:
    """The array of a Series or an Index: NumPy's own, where it is one."""
    import numpy as np

    return holder.to_numpy() if isinstance(holder.dtype, np.dtype) else holder.array


def describe_zone(zone: Any, place: str) -> Any:
    """A time zone, as JSON with what is to be encoded in it. pandas before 3 makes those of pytz."""
    if _is_of_pytz(zone):
        return {"pytz": zone.zone}
    return Inner(datetime(1970, 1, 1, tzinfo=zone), place)


def build_zone(payload: Any) -> tzinfo:
    """The opposite of `describe_zone`, from what has been decoded. Raises ValueError, TypeError or KeyError."""
    if type(payload) is dict:
        import pytz

        if payload["pytz"] not in pytz.all_timezones_set:
            raise ValueError("its time zone is none")
        return pytz.timezone(payload["pytz"])  # type: ignore[no-any-return]
    if type(payload) is not datetime or payload.tzinfo is None:
        raise TypeError("its time zone is none")
    return payload.tzinfo


def _is_of_pytz(zone: Any) -> bool:
    """Whether its name leads to it in pytz, where each zone has a class of its own and an instance for each offset."""
    pytz = sys.modules.get("pytz")
    if pytz is None or not isinstance(zone, pytz.tzinfo.BaseTzInfo) or zone.zone not in pytz.all_timezones_set:
        return False
    return type(pytz.timezone(zone.zone)) is type(zone)


def _describe_text(array: Any, place: str) -> dict[str, Any]:
    import pandas as pd

    if array.dtype.storage not in ("pyarrow", "python"):
        raise NotEncodable(f"its dtype {array.dtype!r} is not one that is kept")
    found = {"text": array.dtype.storage, "missing": "NA" if array.dtype.na_value is pd.NA else "nan"}
    if len(array) > _FEW:
        return {**found, "at": _stored(array)}
    return {**found, "items": Inner([None if pd.isna(text) else text for text in array], place)}


def _build_text(payload: dict[str, Any], store: list[Any]) -> Any:
    import numpy as np
    import pandas as pd

    # pandas before 2.3 has no argument for what is missing, and only knows NA.
    other = {"NA": {}, "nan": {"na_value": np.nan}}[payload["missing"]]
    if payload["text"] not in ("pyarrow", "python"):
        raise ValueError("it has a dtype that is none")
    dtype = pd.StringDtype(payload["text"], **other)
    if "items" not in payload:
        pa = load_pyarrow()
        return dtype.__from_arrow__(_of_type(_at(store, payload), pa.string(), pa.large_string()))
    if not all(type(text) is str or text is None for text in payload["items"]):
        raise TypeError("its text is none")
    return pd.array(payload["items"], dtype=dtype)


def _masked(name: str) -> Any:
    import pandas as pd

    return getattr(pd, "BooleanDtype" if name == "boolean" else f"{name}Dtype")


def _stored(array: Any) -> Stored:
    pa = load_pyarrow()
    found = pa.array(array)
    return Stored(found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found)


def _of_type(array: Any, *types: Any) -> Any:
    """The array, if it needs no conversion: what is written as runs or views may unfold to a million times its size."""
    if array.type not in types:
        raise TypeError("its values are of another type than its dtype")
    return array


def _at(store: list[Any], payload: dict[str, Any]) -> Any:
    number = payload["at"]
    if type(number) is not int or not 0 <= number < len(store):
        raise ValueError("a part of it is missing")
    return store[number]
