"""Arrow's own values: `{"kind": "Table", "ipc": ...}`.

The kind is Table, RecordBatch, ChunkedArray, Array or Scalar. An array is a record batch of one column, a chunked array
one batch for each chunk, and a scalar an array of one. A table keeps its values. Its chunks may change, if its columns
have different ones.
"""

from typing import Any

from dotflow.codec.frames.ipc import load_pyarrow, read_stream, write_stream
from dotflow.codec.frames.pending import Blob, Description
from dotflow.codec.parts import STREAM_SUFFIX
from dotflow.codec.types.classes import NotEncodable


def describe(value: Any) -> Description:
    """Describes a value of Arrow as JSON. Raises NotEncodable."""
    kind = _kind_of(value)
    schema, batches = _batches_of(kind, value)
    stream = write_stream(schema, batches)
    again = build({"kind": kind, "ipc": stream})
    other, others = _batches_of(kind, again)
    is_same = type(again) is type(value) and schema.equals(other, check_metadata=True)
    if kind in ("Table", "RecordBatch"):
        is_same = is_same and again.num_rows == value.num_rows
    if not is_same or not (again.equals(value) or write_stream(other, others) == stream):  # a nan equals nothing
        raise NotEncodable("Arrow reads another value than it wrote")
    return {"kind": kind, "ipc": Blob(stream, STREAM_SUFFIX)}


def build(payload: Description) -> Any:
    """Builds what `describe` described. Raises ValueError, TypeError or KeyError."""
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
        raise ValueError("it is of an unknown kind")
    return array[0]


def _kind_of(value: Any) -> str:
    pa = load_pyarrow()
    for kind in ("Table", "RecordBatch", "ChunkedArray", "Array", "Scalar"):
        if isinstance(value, getattr(pa, kind)):
            return kind
    raise NotEncodable("of Arrow, tables, record batches, arrays and scalars are kept")


def _batches_of(kind: str, value: Any) -> tuple[Any, list[Any]]:
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
