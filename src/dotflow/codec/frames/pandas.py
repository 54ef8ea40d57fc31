"""pandas' frames, series, indexes, arrays and scalars.

    {"kind": "DataFrame", "columns": <index>, "index": <index>, "data": [<array>, ...], "ipc": ...}
    {"kind": "Series", "index": <index>, "values": <array>, "name": ..., "ipc": ...}
    {"kind": "Index", "index": <index>, "ipc": ...}
    {"kind": "array", "array": <array>, "ipc": ...}
    {"kind": "Timestamp", "utc": "2024-05-01T10:00:00", "unit": "us", "zone": ...}    the zone where there is one
    {"kind": "Timedelta", "count": 1000, "unit": "us"}
    {"kind": "Period", "freq": "M", "ordinal": 600}
    {"kind": "Interval", "left": 0, "right": 1, "closed": "right"}
    {"kind": "NaT"}, {"kind": "NA"}

One IPC stream holds the Arrow arrays. Attrs and flags are written where they are not the default.

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

pandas' own way through Arrow changes values silently, and evaluates text from the file when it reads. So each value is
described, built again and described again. Where the two descriptions differ, it is refused.
"""

import sys
from datetime import datetime, tzinfo
from typing import Any, Final

from dotflow.codec.frames.ipc import load_pyarrow, pack, same_arrays, unpack
from dotflow.codec.frames.numpy import build_array as build_numpy
from dotflow.codec.frames.numpy import build_dtype, bytes_of, describe_dtype
from dotflow.codec.frames.pending import Blob, Description, Pending, decoded, same
from dotflow.codec.parts import STREAM_SUFFIX
from dotflow.codec.types.classes import NotEncodable, module_of
from dotflow.codec.types.value_path import step_to
from dotflow.core.failure import name_of

_MAX_READABLE: Final = 64  # texts of an array that is readable in the JSON

#: pandas looks at each level and category, and a range takes no room in a file.
_MAX_LABELS: Final = 10_000_000

_MASKED: Final = (
    "boolean",
    "Float32",
    "Float64",
    *(f"{kind}{bits}" for kind in ("Int", "UInt") for bits in (8, 16, 32, 64)),
)


def describe_array(array: Any, path: str, store: list[Any]) -> Description:
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


def build_array(payload: Description, store: dict[int, Any]) -> Any:
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


def describe_index(index: Any, path: str, store: list[Any]) -> Description:
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


def build_index(payload: Description, store: dict[int, Any]) -> Any:
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


def _take(store: dict[int, Any], payload: Description, *types: Any) -> Any:
    """Takes an Arrow array that needs no conversion. Runs or views could unfold to a million times their size."""
    array = store.pop(payload["at"])
    if array.type not in types or (array.type == load_pyarrow().uint8() and array.null_count):
        raise TypeError("its values are of another type than its dtype")
    return array


def _build_text(payload: Description, store: dict[int, Any]) -> Any:
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


def _build_labels(payload: Description, store: dict[int, Any]) -> Any:
    labels = build_index(payload, store)
    if len(labels) > _MAX_LABELS:
        raise ValueError("it has more levels or categories than are read")
    return labels


_SCALARS: Final = ("Timestamp", "Timedelta", "Period", "Interval", "NaT", "NA")


def describe(value: Any) -> Description:
    """Describes a value of pandas as JSON. Raises NotEncodable."""
    kind = _kind_of(value)
    store: list[Any] = []
    description = _describe(kind, value, store)
    payload = {**description, "ipc": Blob(pack(store), STREAM_SUFFIX)} if store else description
    again = _build(kind, decoded(payload))
    if type(again) is not type(value):
        raise NotEncodable(f"pandas builds a {name_of(type(again))} from its parts")
    others: list[Any] = []
    second = _describe(kind, again, others)
    for part in {**description, **second}:
        if not same(description.get(part), second.get(part)):
            raise NotEncodable(f"pandas builds another value from its {part}")
    if not all(map(same_arrays, store, others)):
        raise NotEncodable("pandas builds another value from its parts")
    return {"kind": kind, **payload}


def build(payload: Description) -> Any:
    """Builds what `describe` described. Raises ValueError, TypeError or KeyError."""
    kind = payload["kind"]
    if kind not in (*_SCALARS, "DataFrame", "Series", "Index", "array"):
        raise ValueError("it is of an unknown kind")
    return _build(kind, payload)


def _kind_of(value: Any) -> str:
    import pandas as pd

    for kind in ("DataFrame", "Series", *_SCALARS):
        if getattr(pd, kind) is type(value) or getattr(pd, kind) is value:
            return kind
    if isinstance(value, pd.Index):
        return "Index"
    if isinstance(value, pd.api.extensions.ExtensionArray):
        return "array"
    raise NotEncodable("of pandas, plain frames, series, indexes, arrays and scalars are kept")


def _describe(kind: str, value: Any, store: list[Any]) -> Description:
    if kind in _SCALARS:
        return _describe_scalar(kind, value)
    if kind == "Index":
        return {"index": describe_index(value, "", store)}
    if kind == "array":
        return {"array": describe_array(value, "", store)}
    if kind == "DataFrame":
        description: Description = {"columns": describe_index(value.columns, ".columns", store)}
        description["index"] = describe_index(value.index, ".index", store)
        description["data"] = [_describe_column(value, number, store) for number in range(value.shape[1])]
    else:
        description = {"index": describe_index(value.index, ".index", store)}
        description["values"] = describe_array(values_of(value), "", store)
        description["name"] = Pending(value.name, ".name")
    if value.attrs:
        description["attrs"] = Pending(dict(value.attrs), ".attrs")
    if not value.flags.allows_duplicate_labels:
        description["unique_labels"] = True
    return description


def _describe_column(frame: Any, number: int, store: list[Any]) -> Description:
    step = step_to(frame.columns[number], number)
    try:
        return describe_array(values_of(frame.iloc[:, number]), step, store)
    except (NotEncodable, ValueError, TypeError, NotImplementedError) as error:  # dotflow's, or Arrow's
        raise NotEncodable(f"column {step[1:-1]}: {error}") from error


def _build(kind: str, payload: Description) -> Any:
    import pandas as pd

    if kind in _SCALARS:
        return _build_scalar(kind, payload)
    store = dict(enumerate(unpack(payload["ipc"]))) if "ipc" in payload else {}
    if kind == "array":
        return build_array(payload["array"], store)
    index = build_index(payload["index"], store)
    if kind == "Index":
        return index
    if kind == "Series":
        values = build_array(payload["values"], store)
        holder = pd.Series(values, index, values.dtype, payload["name"], copy=False)
    else:
        columns = build_index(payload["columns"], store)
        arrays = [build_array(array, store) for array in payload["data"]]
        # Each as a Series with its dtype, since pandas would look into plain objects and convert them.
        data = {number: pd.Series(array, index, array.dtype, copy=False) for number, array in enumerate(arrays)}
        holder = pd.DataFrame(data, index)
        holder.columns = columns
    if "attrs" in payload:
        holder.attrs = payload["attrs"]
    if payload.get("unique_labels") is True:
        holder.flags.allows_duplicate_labels = False
    return holder


def _describe_scalar(kind: str, value: Any) -> Description:
    import pandas as pd

    if kind == "Timestamp":
        description = {"utc": str(value.asm8), "unit": value.unit}
        if value.tz is not None:
            description["zone"] = describe_zone(value.tz, ".tz")
        # With a zone, the moment determines the fold. Without one, it is lost, and so the value is refused.
        return {**description, "fold": 1} if value.fold else description
    if kind == "Timedelta":
        return {"count": int(value.asm8.astype("int64")), "unit": value.unit}
    if kind == "Period":
        return {"freq": pd.PeriodDtype(value.freq).name[len("period[") : -1], "ordinal": value.ordinal}
    if kind == "Interval":
        return {"left": Pending(value.left, ".left"), "right": Pending(value.right, ".right"), "closed": value.closed}
    return {}


def _build_scalar(kind: str, payload: Description) -> Any:
    import numpy as np
    import pandas as pd

    if payload.get("unit", "s") not in ("s", "ms", "us", "ns"):
        raise ValueError("its unit is unknown")
    if any(type(payload.get(part, 0)) is not int for part in ("count", "ordinal")):
        raise TypeError("its number is invalid")
    if kind == "Timestamp":
        moment = np.datetime64(payload["utc"], payload["unit"])
        if str(moment) != payload["utc"]:  # NumPy reads more, such as "now"
            raise ValueError("its moment is invalid")
        stamp = pd.Timestamp(moment)
        return stamp.tz_localize("UTC").tz_convert(build_zone(payload["zone"])) if "zone" in payload else stamp
    if kind == "Timedelta":
        return pd.Timedelta(np.timedelta64(payload["count"], payload["unit"]))
    if kind == "Period":
        return pd.Period(ordinal=payload["ordinal"], freq=payload["freq"])
    if kind == "Interval":
        return pd.Interval(payload["left"], payload["right"], payload["closed"])
    return getattr(pd, kind)
