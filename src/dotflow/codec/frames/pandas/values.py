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

`arrays` describes arrays and indexes. One IPC stream holds their Arrow arrays. Attrs and flags are written where they
are not the default.

pandas' own way through Arrow changes values silently, and evaluates text from the file when it reads. So each value is
described, built again and described again. Where the two descriptions differ, it is refused.
"""

from typing import Any, Final

from dotflow.codec.frames.ipc import pack, same_arrays, unpack
from dotflow.codec.frames.pandas.arrays import (
    build_array,
    build_index,
    build_zone,
    describe_array,
    describe_index,
    describe_zone,
    values_of,
)
from dotflow.codec.frames.pending import Blob, Pending, decoded, same
from dotflow.codec.parts import STREAM_SUFFIX
from dotflow.codec.types.classes import NotEncodable
from dotflow.codec.types.value_path import step_to
from dotflow.core.failure import name_of

_SCALARS: Final = ("Timestamp", "Timedelta", "Period", "Interval", "NaT", "NA")


def describe(value: Any) -> dict[str, Any]:
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


def build(payload: dict[str, Any]) -> Any:
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


def _describe(kind: str, value: Any, store: list[Any]) -> dict[str, Any]:
    if kind in _SCALARS:
        return _describe_scalar(kind, value)
    if kind == "Index":
        return {"index": describe_index(value, "", store)}
    if kind == "array":
        return {"array": describe_array(value, "", store)}
    if kind == "DataFrame":
        description: dict[str, Any] = {"columns": describe_index(value.columns, ".columns", store)}
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


def _describe_column(frame: Any, number: int, store: list[Any]) -> dict[str, Any]:
    step = step_to(frame.columns[number], number)
    try:
        return describe_array(values_of(frame.iloc[:, number]), step, store)
    except (NotEncodable, ValueError, TypeError, NotImplementedError) as error:  # dotflow's, or Arrow's
        raise NotEncodable(f"column {step[1:-1]}: {error}") from error


def _build(kind: str, payload: dict[str, Any]) -> Any:
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


def _describe_scalar(kind: str, value: Any) -> dict[str, Any]:
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


def _build_scalar(kind: str, payload: dict[str, Any]) -> Any:
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
