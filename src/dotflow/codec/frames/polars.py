"""Polars' frames and series: `{"kind": "DataFrame", "ipc": ...}`, `{"kind": "Series", "ipc": ...}`.

Polars writes and reads Arrow IPC streams itself, so pyarrow isn't needed. What it wrote is read again at once: where
the two differ, it is refused.
"""

import contextlib
import io
from collections.abc import Iterator
from typing import Any

from dotflow.codec.frames.ipc_validation import check
from dotflow.codec.frames.pending import Blob
from dotflow.codec.parts import STREAM
from dotflow.codec.types.classes import NotEncodable
from dotflow.codec.types.scalars import read_buffer


def describe(value: Any) -> dict[str, Any]:
    """A frame or a series, as JSON. Raises NotEncodable."""
    import polars as pl

    if type(value) is pl.Series:
        kind, frame = "Series", value.to_frame()
    elif type(value) is pl.DataFrame:
        kind, frame = "DataFrame", value
    elif isinstance(value, pl.LazyFrame):
        raise NotEncodable("it has not been computed yet; return .collect()")
    elif isinstance(value, pl.DataFrame | pl.Series):
        raise NotEncodable("it is more than a frame or a series of Polars; return a plain one")
    else:
        raise NotEncodable("of Polars, frames and series are kept")
    for name, dtype in frame.schema.items():
        _check_dtype(name, dtype)
    stream = _write(frame)
    again = _read(stream)
    if again.schema != frame.schema or again.shape != frame.shape or not again.equals(frame, null_equal=True):
        raise NotEncodable(f"Polars reads something else than it wrote of {_differing(frame, again)}")
    return {"kind": kind, "ipc": Blob(stream, STREAM)}


def build(payload: dict[str, Any]) -> Any:
    """The opposite of `describe`. Raises ValueError, TypeError or KeyError."""
    frame = _read(payload["ipc"])
    if payload["kind"] == "DataFrame":
        return frame
    if payload["kind"] != "Series" or frame.width != 1:
        raise ValueError("it is of a kind that is none")
    return frame.to_series()


def _check_dtype(name: str, dtype: Any) -> None:
    """Raises NotEncodable for what Polars writes as something else: objects, as their addresses in memory."""
    import polars as pl

    if dtype == pl.Object:
        raise NotEncodable(f"column {name!r} holds Python objects; use a dtype of Polars, or return a list")
    if hasattr(pl, "BaseExtension") and isinstance(dtype, pl.BaseExtension):
        raise NotEncodable(
            f"column {name!r} has a dtype of its own, which may be unknown where it is read; use .ext.storage()"
        )
    for part in ("inner", "key", "value"):
        if getattr(dtype, part, None) is not None:
            _check_dtype(name, getattr(dtype, part))
    for field in getattr(dtype, "fields", ()):
        _check_dtype(name, field.dtype)


def _write(frame: Any) -> memoryview:
    sink = io.BytesIO()
    with _without_panic():
        frame.write_ipc_stream(sink, compression="uncompressed")
    return sink.getbuffer()


def _read(text: object) -> Any:
    import polars as pl

    data = read_buffer(text)
    check(data)
    with _without_panic():
        return pl.read_ipc_stream(io.BytesIO(data), use_pyarrow=False)


@contextlib.contextmanager
def _without_panic() -> Iterator[None]:
    """A panic of Polars' is a ValueError: by itself it is no Exception, and would end the run."""
    import polars as pl

    try:
        yield
    except pl.exceptions.PanicException as error:
        raise ValueError(f"Polars panicked: {error}") from error


def _differing(frame: Any, again: Any) -> str:
    for name, dtype in frame.schema.items():
        if again.schema.get(name) != dtype:
            return f"column {name!r}, a {dtype}"
        if not frame[name].equals(again[name], null_equal=True):
            return f"column {name!r}"
    return "it"
