"""Polars' frames and series: `{"kind": "DataFrame", "ipc": ...}`, `{"kind": "Series", "ipc": ...}`.

Polars writes and reads Arrow IPC streams itself. A stream that would be read as something else is refused.
"""

import contextlib
import io
from collections.abc import Iterator
from typing import Any

from dotflow.codec.frames.ipc import check_stream
from dotflow.codec.frames.pending import Blob, Description
from dotflow.codec.parts import STREAM_SUFFIX
from dotflow.codec.types.classes import NotEncodable
from dotflow.codec.types.scalars import read_buffer


def describe(value: Any) -> Description:
    """Describes a frame or a series as JSON. Raises NotEncodable."""
    import polars as pl

    if isinstance(value, pl.LazyFrame):
        raise NotEncodable("it has not been computed yet; return .collect()")
    if type(value) not in (pl.DataFrame, pl.Series):
        raise NotEncodable("of Polars, plain frames and series are kept")
    frame = value.to_frame() if type(value) is pl.Series else value
    for name, dtype in frame.schema.items():
        if dtype == pl.Object:  # Polars would write the objects' addresses in memory
            raise NotEncodable(f"column {name!r} holds Python objects; use a dtype of Polars, or return a list")
    sink = io.BytesIO()
    with _without_panic():
        frame.write_ipc_stream(sink, compression="uncompressed")
    stream = memoryview(sink.getvalue())
    again = _read(stream)
    if again.schema != frame.schema or again.shape != frame.shape or not again.equals(frame, null_equal=True):
        raise NotEncodable("Polars reads another value than it wrote")
    return {"kind": type(value).__name__, "ipc": Blob(stream, STREAM_SUFFIX)}


def build(payload: Description) -> Any:
    """Builds what `describe` described. Raises ValueError, TypeError or KeyError."""
    frame = _read(payload["ipc"])
    if payload["kind"] == "DataFrame":
        return frame
    if payload["kind"] != "Series" or frame.width != 1:
        raise ValueError("it is neither a frame nor a series")
    return frame.to_series()


def _read(payload: object) -> Any:
    import polars as pl

    data = read_buffer(payload)
    check_stream(data)
    with _without_panic():
        return pl.read_ipc_stream(io.BytesIO(data), use_pyarrow=False)


@contextlib.contextmanager
def _without_panic() -> Iterator[None]:
    """Turns a panic of Polars into a ValueError. PanicException is no Exception, and would end the run."""
    import polars as pl

    try:
        yield
    except pl.exceptions.PanicException as error:
        raise ValueError(f"Polars panicked: {error}") from error
