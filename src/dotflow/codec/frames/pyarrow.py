"""Arrow's own values: `{"kind": "Table", "ipc": ...}`.

The kind is Table, RecordBatch, ChunkedArray, Array or Scalar: an array is a record batch of one column, a chunked
array as many of them as it has chunks, and a scalar an array of one. A table keeps its values, but not where one of its
chunks ends and the next begins, if its columns don't agree about this.
"""

from typing import Any

from dotflow.codec.frames.ipc import load_pyarrow, read_stream, write_stream
from dotflow.codec.frames.pending import Blob
from dotflow.codec.parts import STREAM
from dotflow.codec.types.classes import NotEncodable


def describe(value: Any) -> dict[str, Any]:
    """A value of Arrow's, as JSON. Raises NotEncodable."""
    kind = _kind_of(value)
    schema, batches = _take_apart(kind, value)
    stream = write_stream(schema, batches)
    again = build({"kind": kind, "ipc": stream})
    if type(again) is not type(value) or not _agree(kind, again, value):
        raise NotEncodable("Arrow reads something else than it wrote")
    if not again.equals(value) and write_stream(*_take_apart(kind, again)) != stream:  # a nan equals nothing
        raise NotEncodable("Arrow reads something else than it wrote")
    return {"kind": kind, "ipc": Blob(stream, STREAM)}


def build(payload: dict[str, Any]) -> Any:
    """The opposite of `describe`. Raises ValueError, TypeError or KeyError."""
    pa = load_pyarrow()
    kind = payload["kind"]
    schema, batches = read_stream(payload["ipc"])
    if kind == "Table":
        return pa.Table.from_batches(batches, schema)
    if kind == "ChunkedArray":
        (field,) = schema
        return pa.chunked_array([batch.column(0) for batch in batches], type=field.type)
    (batch,) = batches
    if kind == "RecordBatch":
        return batch
    (array,) = batch.columns
    if kind == "Array":
        return array
    if kind != "Scalar" or len(array) != 1:
        raise ValueError("it is of a kind that is none")
    return array[0]


def _kind_of(value: Any) -> str:
    pa = load_pyarrow()
    for kind in ("Table", "RecordBatch", "ChunkedArray"):
        if type(value) is getattr(pa, kind):
            return kind
    for kind in ("Array", "Scalar"):
        if isinstance(value, getattr(pa, kind)):
            return kind
    raise NotEncodable("of Arrow, tables, record batches, arrays and scalars are kept")


def _take_apart(kind: str, value: Any) -> tuple[Any, list[Any]]:
    pa = load_pyarrow()
    if kind == "Table":
        return value.schema, value.to_batches()
    if kind == "RecordBatch":
        return value.schema, [value]
    if kind == "Scalar":
        value = pa.array([value], type=value.type)
    schema = pa.schema([pa.field("", value.type)])
    chunks = value.chunks if kind == "ChunkedArray" else [value]
    return schema, [pa.RecordBatch.from_arrays([chunk], schema=schema) for chunk in chunks]


def _agree(kind: str, again: Any, value: Any) -> bool:
    if kind in ("Table", "RecordBatch"):
        return bool(again.schema.equals(value.schema, check_metadata=True)) and again.num_rows == value.num_rows
    return bool(again.type.equals(value.type, check_metadata=True))
