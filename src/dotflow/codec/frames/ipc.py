"""Arrow IPC streams, written and read with pyarrow.

What a stream claims to hold is checked first, before pyarrow sees it, and then each value in it, before it is used.
Reading one runs nothing of the file's own: extension types are the only way to make pyarrow do so, and `ipc_claims`
lets only the harmless ones pass. A pyarrow before 14.0.1 is not used, since it unpickled unasked (CVE-2023-47248).
"""

import re
from collections.abc import Iterator
from typing import Any, Final

from dotflow.codec.frames.ipc_validation import check
from dotflow.codec.types.scalars import read_buffer

_SAFE: Final = (14, 0, 1)
_EXTENSION: Final = b"ARROW:extension:name"  # arrow.apache.org/docs/format/Columnar.html#extension-types


def load_pyarrow() -> Any:
    """pyarrow, imported on first use. Raises ImportError if there is none that is safe."""
    import pyarrow

    if pyarrow.__spec__.origin is None:
        raise ImportError("pyarrow is not installed: what was found is a folder of that name", name="pyarrow")
    version = tuple(map(int, re.findall(r"\d+", pyarrow.__version__)[:3]))
    if version < _SAFE:
        raise ImportError(f"pyarrow {pyarrow.__version__} may run code when it reads", name="pyarrow")
    return pyarrow


def write_stream(schema: Any, batches: list[Any]) -> memoryview:
    """A stream of record batches, uncompressed."""
    pa = load_pyarrow()
    sink = pa.BufferOutputStream()
    # Arrays of more than 2**31 values are refused without allow_64bit, for the sake of Java.
    with pa.ipc.new_stream(sink, schema, options=pa.ipc.IpcWriteOptions(allow_64bit=True)) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return memoryview(sink.getvalue()).cast("B")


def read_stream(text: object) -> tuple[Any, list[Any]]:
    """The schema and the record batches, checked through and through. Raises ValueError or TypeError."""
    pa = load_pyarrow()
    data = read_buffer(text)
    check(data)
    with pa.ipc.open_stream(pa.py_buffer(data)) as reader:
        for field in reader.schema:
            _check_known(field)
        batches = list(reader)
        for batch in batches:
            batch.validate(full=True)
        return reader.schema, batches


def pack(arrays: list[Any]) -> memoryview:
    """Arrow arrays of any lengths, as a stream of one row in which each column is a list."""
    pa = load_pyarrow()
    lists = [pa.LargeListArray.from_arrays(pa.array([0, len(array)], pa.int64()), array) for array in arrays]
    batch = pa.RecordBatch.from_arrays(lists, names=[str(number) for number in range(len(lists))])
    return write_stream(batch.schema, [batch])


def unpack(text: object) -> list[Any]:
    """The opposite of `pack`. Raises ValueError or TypeError."""
    pa = load_pyarrow()
    _, batches = read_stream(text)
    if len(batches) != 1 or (batches[0].num_rows != 1 and batches[0].num_columns):
        raise ValueError("its values are not in order")
    columns = batches[0].columns
    if not all(pa.types.is_large_list(column.type) and column.null_count == 0 for column in columns):
        raise TypeError("its values are not in order")
    return [column.flatten() for column in columns]


def pack_bytes(values: Any) -> Any:
    """An Arrow array of the bytes of a buffer, without copying them."""
    pa = load_pyarrow()
    buffer = pa.py_buffer(values)
    return pa.Array.from_buffers(pa.uint8(), buffer.size, [None, buffer])


def unpack_bytes(array: Any) -> memoryview:
    """The opposite of `pack_bytes`: a view, which can't be written to. Raises TypeError."""
    pa = load_pyarrow()
    if array.type != pa.uint8() or array.null_count:
        raise TypeError("its bytes are not bytes")
    buffer = array.buffers()[1]
    return memoryview(b"" if buffer is None else buffer)[array.offset : array.offset + len(array)]


def same_arrays(one: Any, other: Any) -> bool:
    """Whether two Arrow arrays are the same; by their bytes where they hold a nan, which equals nothing."""
    return one.type == other.type and (one.equals(other) or pack([one]) == pack([other]))


def _check_known(field: Any) -> None:
    """An extension type that is not registered is read as what it is made of, and so would not come back as it was."""
    if field.metadata and _EXTENSION in field.metadata:
        name = field.metadata[_EXTENSION].decode("utf-8", "backslashreplace")
        raise ValueError(f"this program knows no Arrow extension type {name!r}; import the package that it is from")
    for inner in _fields_of(field.type):
        _check_known(inner)


def _fields_of(kind: Any) -> Iterator[Any]:
    pa = load_pyarrow()
    if isinstance(kind, pa.BaseExtensionType):
        yield pa.field("", kind.storage_type)
    elif pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        yield pa.field("", kind.value_type)
    elif pa.types.is_map(kind):
        yield from (kind.key_field, kind.item_field)
    elif pa.types.is_struct(kind) or pa.types.is_union(kind):
        yield from (kind.field(number) for number in range(kind.num_fields))
    elif hasattr(kind, "value_field"):
        yield kind.value_field
