"""Arrow IPC streams, written and read with pyarrow.

A stream from a file is checked before any library reads its values. pyarrow verifies the structure of each message, and
that its body is there. `check_stream` adds what pyarrow lets pass: streams that unfold to more than their own size, and
extension types, whose Python classes would run code. dotflow writes none of these. In a flatbuffer, many tables may
share one part, and a reader copies it for each.

The layout: arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc, with the tables
of format/Message.fbs there. flatbuffers.dev/internals explains how a table lies in the bytes.
"""

import re
import struct
from typing import Any, Final

from dotflow.codec.types.scalars import read_buffer

_MIN_VERSION: Final = (14, 0, 1)  # earlier ones unpickle what they read, unasked: CVE-2023-47248
_END: Final = b"\xff\xff\xff\xff\0\0\0\0"
_EXTENSION: Final = b"ARROW:extension:name"  # arrow.apache.org/docs/format/Columnar.html#extension-types

_OLD_COMPRESSION: Final = b"ARROW:experimental_compression"  # of Arrow 0.17, which pyarrow still reads

_TIMESTAMP, _UNION = 10, 14  # Type in Schema.fbs
_MAX_DEPTH: Final = 60  # fields inside fields; Polars has no limit, and would overflow its stack

#: Rows that may have no bytes at all, such as nulls. Polars reserves a bit for each.
_MAX_EMPTY_ROWS: Final = 2**32


def load_pyarrow() -> Any:
    """Imports pyarrow on first use. Raises ImportError if it is missing, or too old to be safe."""
    import pyarrow

    if pyarrow.__spec__.origin is None:  # Python imports a folder of that name
        raise ImportError("pyarrow is not installed", name="pyarrow")
    version = tuple(map(int, re.findall(r"\d+", pyarrow.__version__)[:3]))
    if version < _MIN_VERSION:
        raise ImportError(f"pyarrow {pyarrow.__version__} may run code when it reads", name="pyarrow")
    return pyarrow


def write_stream(schema: Any, batches: list[Any]) -> memoryview:
    """Writes a stream of record batches, uncompressed."""
    pa = load_pyarrow()
    sink = pa.BufferOutputStream()
    # Arrays of more than 2**31 values are refused without allow_64bit, for the sake of Java.
    with pa.ipc.new_stream(sink, schema, options=pa.ipc.IpcWriteOptions(allow_64bit=True)) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return memoryview(sink.getvalue()).cast("B")


def read_stream(payload: object) -> tuple[Any, list[Any]]:
    """Reads the schema and the record batches, whose values are checked, too. Raises ValueError or TypeError."""
    pa = load_pyarrow()
    data = read_buffer(payload)
    check_stream(data)
    with pa.ipc.open_stream(pa.py_buffer(data)) as reader:
        batches = list(reader)
        for batch in batches:
            batch.validate(full=True)
        return reader.schema, batches


def check_stream(data: bytes | memoryview) -> None:
    """Raises ValueError if a stream is incomplete, or would take more memory than it is large."""
    pa = load_pyarrow()
    source = pa.BufferReader(data)
    kinds = []
    for message in pa.ipc.MessageReader.open_stream(source):
        kinds.append(message.type)
        metadata = message.metadata.to_pybytes()
        _check_sharing(metadata, message.type == "schema")
        if message.type == "schema":
            if _EXTENSION in metadata:
                raise ValueError("it has an Arrow extension type; return its storage instead")
        else:
            _check_batch(metadata, message.body.size, message.type == "dictionary")
    if kinds[:1] != ["schema"] or not {"dictionary", "record batch"}.issuperset(kinds[1:]):
        raise ValueError("its messages are not those of an Arrow stream")
    if source.tell() != len(data) or data[-len(_END) :] != _END:
        raise ValueError("its Arrow stream is cut off, or more follows it")


def pack(arrays: list[Any]) -> memoryview:
    """Writes Arrow arrays of any lengths, as a stream of one row in which each column is a list."""
    pa = load_pyarrow()
    lists = [pa.LargeListArray.from_arrays(pa.array([0, len(array)], pa.int64()), array) for array in arrays]
    batch = pa.RecordBatch.from_arrays(lists, names=[str(number) for number in range(len(lists))])
    return write_stream(batch.schema, [batch])


def unpack(payload: object) -> list[Any]:
    """Reads what `pack` wrote. Raises ValueError or TypeError."""
    pa = load_pyarrow()
    _, (batch,) = read_stream(payload)
    if not all(pa.types.is_large_list(column.type) and len(column) == 1 for column in batch.columns):
        raise TypeError("its Arrow arrays are not in lists")
    return [column.flatten() for column in batch.columns]


def same_arrays(one: Any, other: Any) -> bool:
    """Whether two Arrow arrays are the same: by their bytes where they hold a nan, which equals nothing."""
    return one.type == other.type and (one.equals(other) or pack([one]) == pack([other]))


def _check_sharing(metadata: bytes, is_schema: bool) -> None:
    """Raises ValueError for a message whose names, metadata and fields are larger together than the message."""
    left = len(metadata)

    def vector(table: int, number: int, size: int) -> range:
        nonlocal left
        position = _field(metadata, table, number)
        if not position:
            return range(0)
        start = _follow(metadata, position)
        count = size * struct.unpack_from("<I", metadata, start)[0]
        left -= 4 + count
        if left < 0:
            raise ValueError("it claims more than there is in it")
        return range(start + 4, start + 4 + count, size)

    def key_values(table: int, number: int) -> None:
        for position in vector(table, number, 4):
            pair = _follow(metadata, position)
            vector(pair, 0, 1)
            vector(pair, 1, 1)

    root = _follow(metadata, 0)
    key_values(root, 4)
    if not is_schema:
        return
    schema = _follow(metadata, _field(metadata, root, 2))
    key_values(schema, 2)
    parents = [(schema, 1, 0)]
    while parents:
        parent, number, depth = parents.pop()
        for position in vector(parent, number, 4):
            if depth == _MAX_DEPTH:
                raise ValueError("its fields are nested too deep")
            field = _follow(metadata, position)
            vector(field, 0, 1)
            key_values(field, 6)
            kind, details = _field(metadata, field, 2), _field(metadata, field, 3)
            if kind and details and metadata[kind] in (_TIMESTAMP, _UNION):
                vector(_follow(metadata, details), 1, 1 if metadata[kind] == _TIMESTAMP else 4)
            parents.append((field, 5, depth + 1))


def _check_batch(metadata: bytes, body_size: int, is_dictionary: bool) -> None:
    """Raises ValueError for a record batch that is compressed, or claims more than there is in its body."""
    table = _follow(metadata, _field(metadata, _follow(metadata, 0), 2))  # Message.header
    if is_dictionary:
        delta = _field(metadata, table, 2)
        if delta and metadata[delta]:
            raise ValueError("a dictionary in it grows: each batch would get a copy")
        table = _follow(metadata, _field(metadata, table, 1))  # DictionaryBatch.data
    if _field(metadata, table, 3) or _OLD_COMPRESSION in metadata:
        raise ValueError("it is compressed")
    rows = [length for length, _ in _vector(metadata, table, 1, "<qq")]
    buffers = _vector(metadata, table, 2, "<qq")
    sizes = [size for _, size in buffers]
    views = [count for (count,) in _vector(metadata, table, 4, "<q")]
    if min((0, *rows, *sizes, *views)) < 0:
        raise ValueError("it claims a negative number of rows, bytes or buffers")
    if max(rows, default=0) > 8 * body_size + _MAX_EMPTY_ROWS:
        raise ValueError("it claims more rows than there are in it")
    if sum(sizes) > body_size or sum(views) > len(buffers):
        raise ValueError("it claims more values than there are in it")


def _vector(data: bytes, table: int, number: int, form: str) -> list[tuple[int, ...]]:
    """Returns the items of a vector in a flatbuffer's table."""
    position = _field(data, table, number)
    if not position:
        return []
    start = _follow(data, position)
    (count,) = struct.unpack_from("<I", data, start)
    return list(struct.iter_unpack(form, data[start + 4 : start + 4 + count * struct.calcsize(form)]))


def _field(data: bytes, table: int, number: int) -> int:
    """Returns the position of a field of a table; 0 if it has its default."""
    layout = table - struct.unpack_from("<i", data, table)[0]
    if 4 + 2 * number >= struct.unpack_from("<H", data, layout)[0]:
        return 0
    (offset,) = struct.unpack_from("<H", data, layout + 4 + 2 * number)
    return table + offset if offset else 0


def _follow(data: bytes, position: int) -> int:
    """Returns the position that an offset leads to."""
    return int(position + struct.unpack_from("<I", data, position)[0])
