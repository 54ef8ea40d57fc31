"""pandas' frames, series, indexes, arrays and scalars.

    {"kind": "DataFrame", "columns": <index>, "index": <index>, "data": [<array>, ...], "ipc": ...}
    {"kind": "Series", "index": <index>, "values": <array>, "name": ..., "ipc": ...}
    {"kind": "Index", "index": <index>, "ipc": ...}
    {"kind": "array", "array": <array>, "ipc": ...}

`pandas_indexes`, `pandas_arrays` and `pandas_scalars` say what the parts are, and how a scalar is written. The Arrow
arrays that they refer to by number are in the one IPC stream. Names, attrs and flags are there where they are not the
default.

pandas' own way through Arrow isn't taken: it changes much of what a frame is without a word, and reading it back
evaluates text from the file. Everything is built again as soon as it is described, and described again; where the two
descriptions differ, pandas makes something else of it, and it is refused.
"""

from typing import Any, Final

from dotflow.codec.frames.ipc import pack, unpack
from dotflow.codec.frames.pandas.arrays import values_of
from dotflow.codec.frames.pandas.indexes import build_array, build_index, describe_array, describe_index
from dotflow.codec.frames.pandas.scalars import KINDS, build_scalar, describe_scalar
from dotflow.codec.frames.pending import Blob, Inner, decoded, number, same
from dotflow.codec.parts import STREAM
from dotflow.codec.types.classes import NotEncodable
from dotflow.core.failure import name_of

_SHOWN: Final = 80  # characters of a label


def describe(value: Any) -> dict[str, Any]:
    """A value of pandas', as JSON with what is to be encoded in it. Raises NotEncodable."""
    kind = _kind_of(value)
    found = _describe(kind, value)
    store: list[Any] = []
    numbered = number(found, store)
    if store:
        numbered["ipc"] = Blob(pack(store), STREAM)
    again = _build(kind, decoded(numbered))
    if type(again) is not type(value):
        raise NotEncodable(f"pandas makes a {name_of(type(again))} of it")
    _compare(found, _describe(kind, again), value)
    return {"kind": kind, **numbered}


def build(payload: dict[str, Any]) -> Any:
    """The opposite of `describe`, from what has been decoded. Raises ValueError, TypeError or KeyError."""
    kind = payload["kind"]
    if kind not in (*KINDS, "DataFrame", "Series", "Index", "array"):
        raise ValueError("it is of a kind that is none")
    return _build(kind, payload)


def _kind_of(value: Any) -> str:
    import pandas as pd

    cls = type(value)
    for kind in ("DataFrame", "Series", "Timestamp", "Timedelta", "Period", "Interval"):
        if cls is getattr(pd, kind):
            return kind
    if value is pd.NaT or value is pd.NA:
        return "NaT" if value is pd.NaT else "NA"
    if isinstance(value, pd.Index):
        return "Index"
    if isinstance(value, pd.api.extensions.ExtensionArray):
        return "array"
    for known in (pd.DataFrame, pd.Series):
        if isinstance(value, known):
            raise NotEncodable(f"it is more than a {name_of(known)}; return a plain one")
    raise NotEncodable("of pandas, frames, series, indexes, arrays and scalars are kept")


def _describe(kind: str, value: Any) -> dict[str, Any]:
    if kind in KINDS:
        return describe_scalar(kind, value)
    if kind == "DataFrame":
        return _describe_frame(value)
    if kind == "Series":
        found = {"index": describe_index(value.index, ".index"), "values": describe_array(values_of(value), "")}
        return {**found, "name": Inner(value.name, ".name"), **_more(value)}
    if kind == "Index":
        return {"index": describe_index(value, "")}
    return {"array": describe_array(value, "")}


def _build(kind: str, payload: dict[str, Any]) -> Any:
    import pandas as pd

    if kind in KINDS:
        return build_scalar(kind, payload)
    store = unpack(payload["ipc"]) if "ipc" in payload else []
    if kind == "array":
        return build_array(payload["array"], store)
    index = build_index(payload["index"], store)
    if kind == "Index":
        return index
    if kind == "Series":
        values = build_array(payload["values"], store)
        return _with_more(pd.Series(values, index, values.dtype, payload["name"], copy=False), payload)
    columns = build_index(payload["columns"], store)
    arrays = [build_array(array, store) for array in payload["data"]]
    # Each as a Series with its dtype: pandas would look into plain objects, and make what it likes of them.
    data = {place: pd.Series(array, index, array.dtype, copy=False) for place, array in enumerate(arrays)}
    frame = pd.DataFrame(data, index)
    frame.columns = columns
    return _with_more(frame, payload)


def _describe_frame(frame: Any) -> dict[str, Any]:
    data = []
    for place, label in enumerate(frame.columns):
        shown = _shown(label, place)
        try:
            data.append(describe_array(values_of(frame.iloc[:, place]), f"[{shown}]"))
        except (NotEncodable, ValueError, TypeError, NotImplementedError) as error:  # ours, or Arrow's
            raise NotEncodable(f"column {shown}: {error}") from error
    index, columns = describe_index(frame.index, ".index"), describe_index(frame.columns, ".columns")
    return {"columns": columns, "index": index, "data": data, **_more(frame)}


def _more(holder: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if holder.attrs:
        found["attrs"] = Inner(dict(holder.attrs), ".attrs")
    if not holder.flags.allows_duplicate_labels:
        found["unique_labels"] = True
    return found


def _with_more(holder: Any, payload: dict[str, Any]) -> Any:
    if "attrs" in payload:
        holder.attrs = payload["attrs"]
    if payload.get("unique_labels") is True:
        holder.flags.allows_duplicate_labels = False
    return holder


def _compare(found: dict[str, Any], again: dict[str, Any], value: Any) -> None:
    """Raises NotEncodable if the value that was built again is described otherwise, or holds other values."""
    for part in found:
        if part == "data":
            for place, (one, other) in enumerate(zip(found[part], again[part], strict=True)):
                if not same(one, other):
                    raise NotEncodable(
                        f"pandas makes something else of its column {_shown(value.columns[place], place)}"
                    )
        elif not same(found[part], again.get(part)):
            raise NotEncodable(f"pandas makes something else of its {part}")
    if found.keys() != again.keys():
        raise NotEncodable("pandas makes something else of it")


def _shown(label: Any, place: int) -> str:
    """A column's label; its number, where the label's text would be a user's own or too long."""
    shown = repr(label) if type(label) in (int, str) else ""
    return shown if 0 < len(shown) <= _SHOWN else f"number {place}"
