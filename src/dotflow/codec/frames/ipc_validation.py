"""What an Arrow IPC stream claims, checked before a library believes it.

Readers take counts and lengths in a stream for true: of a crafted one, Polars tries to reserve as much memory as it
claims, and the process is aborted where it can't be had. Arrow itself had such a gap until 2026 (its issue 48900). So
each message is walked through here first. What is let pass is as large as the bytes that it stands in, whoever reads
it; whether its values are sound is for the reader to check. Compressed streams are not let pass: they may claim to be
any size, and none is ever written.

The layout: arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc, with the
tables of format/Message.fbs and format/Schema.fbs there; flatbuffers.dev/internals for how a table lies in the bytes.
"""

import struct
from typing import Final

_CONTINUATION: Final = b"\xff\xff\xff\xff"
_SCHEMA, _DICTIONARY, _RECORDS = 1, 2, 3  # MessageHeader in Message.fbs
_TIMESTAMP, _UNION = 10, 14  # Type in Schema.fbs

#: Fields inside fields. Arrow's own limit is about this; Polars has none, and overflows its stack.
_DEEPEST: Final = 60

#: Rows that may have no bytes at all: nulls, runs. Polars reserves a bit for each.
_UNBACKED: Final = 2**32

#: To read an extension type, a library asks the class that the program has registered for its name, which may do with
#: the bytes from the file as it likes. Only those that Arrow and pandas define themselves are let pass, but for the one
#: that pyarrow unpickles, if a program has told it to (PyExtensionType.set_auto_load).
_EXTENSION: Final = b"ARROW:extension:name"
_KNOWN: Final = (b"arrow.", b"pandas.")
_PICKLED: Final = b"arrow.py_extension_type"

_SHORT, _INT, _UINT, _LONG = (struct.Struct(form) for form in ("<H", "<i", "<I", "<q"))


def check(data: bytes | memoryview) -> None:
    """Raises ValueError if *data* is no whole stream, is compressed, or claims more than there is in it."""
    place = 0
    kinds: list[int] = []
    try:
        while data[place : place + 4] == _CONTINUATION:
            size = _INT.unpack_from(data, place + 4)[0]
            start = place + 8
            if size == 0:
                if start != len(data) or kinds[:1] != [_SCHEMA] or _SCHEMA in kinds[1:]:
                    raise ValueError("an Arrow stream in it is not in order")
                return
            if size < 0 or start + size > len(data):
                raise ValueError("an Arrow stream in it is cut off")
            message = _Message(bytes(data[start : start + size]))
            kinds.append(message.kind)
            place = start + size + message.body_length
    except struct.error as error:
        raise ValueError("an Arrow stream in it is damaged") from error
    raise ValueError("an Arrow stream in it is cut off, or is none")


class _Message:
    """The head of one message: a schema, or where the values of the columns lie in the body that follows it."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._left = len(data)  # bytes that it may still claim: nothing in it may be claimed twice
        self._dictionaries: set[int] = set()
        root = self._follow(0)
        kind = self._field(root, 1)
        length = self._field(root, 3)
        self.kind = data[kind] if kind is not None else 0
        self.body_length: int = self._number(_LONG, length) if length is not None else 0
        header = self._field(root, 2)
        if self.body_length < 0 or header is None:
            raise ValueError("an Arrow stream in it is damaged")
        self._key_values(root, 4)
        header = self._follow(header)
        if self.kind == _SCHEMA:
            self._key_values(header, 2)
            self._fields(header, 1, _DEEPEST)
        elif self.kind == _RECORDS:
            self._records(header)
        elif self.kind == _DICTIONARY:
            inner = self._field(header, 1)
            if inner is None:
                raise ValueError("an Arrow stream in it is damaged")
            self._records(self._follow(inner))
        else:
            raise ValueError("it has Arrow messages of a kind that is never written")

    def _records(self, table: int) -> None:
        """A record batch: the buffers have room in the body, and no more buffers are claimed than there are."""
        if self._field(table, 3) is not None:
            raise ValueError("it is compressed")
        rows = self._field(table, 0)
        nodes, count = self._vector(table, 1, 16)
        for node in (*([] if rows is None else [rows]), *range(nodes, nodes + 16 * count, 16)):
            if self._at_least_zero(node) > 8 * self.body_length + _UNBACKED:
                raise ValueError("it claims more rows than there are in it")
        buffers, count = self._vector(table, 2, 16)
        total = 0
        for buffer in range(buffers, buffers + 16 * count, 16):
            offset, length = self._at_least_zero(buffer), self._at_least_zero(buffer + 8)
            total += length
            if offset + length > self.body_length or total > self.body_length:
                raise ValueError("it claims more values than there are in it")
        more, views = self._vector(table, 4, 8)
        if sum(self._at_least_zero(view) for view in range(more, more + 8 * views, 8)) > count:
            raise ValueError("it claims more buffers than there are in it")

    def _fields(self, table: int, number: int, levels: int) -> None:
        if levels == 0:
            raise ValueError("its fields are nested too deep")
        start, count = self._vector(table, number, 4)
        for place in range(start, start + 4 * count, 4):
            field = self._follow(place)
            self._text(field, 0)
            self._key_values(field, 6)
            kind, details = self._field(field, 2), self._field(field, 3)
            if kind is not None and details is not None:
                if self._data[kind] == _TIMESTAMP:
                    self._text(self._follow(details), 1)
                elif self._data[kind] == _UNION:
                    self._vector(self._follow(details), 1, 4)
            self._dictionary(self._field(field, 4))
            self._fields(field, 5, levels - 1)

    def _dictionary(self, place: int | None) -> None:
        """Each field has a dictionary of its own, so that none is unfolded more often than it is there."""
        if place is not None:
            number = self._field(self._follow(place), 0)
            name = 0 if number is None else self._number(_LONG, number)
            if name in self._dictionaries:
                raise ValueError("it claims a dictionary twice")
            self._dictionaries.add(name)

    def _key_values(self, table: int, number: int) -> None:
        start, count = self._vector(table, number, 4)
        for place in range(start, start + 4 * count, 4):
            pair = self._follow(place)
            key, name = self._text(pair, 0), self._text(pair, 1)
            if key == _EXTENSION and (name == _PICKLED or not name.startswith(_KNOWN)):
                raise ValueError(
                    f"its extension type {name.decode(errors='replace')!r} is none of Arrow's or pandas' own"
                )

    def _text(self, table: int, number: int) -> bytes:
        start, length = self._vector(table, number, 1)
        return self._data[start : start + length]

    def _vector(self, table: int, number: int, size: int) -> tuple[int, int]:
        """Where the items of a vector begin, and how many there are; each may be claimed once only."""
        place = self._field(table, number)
        if place is None:
            return 0, 0
        place = self._follow(place)
        count = self._number(_UINT, place)
        self._left -= 4 + count * size
        if self._left < 0 or place + 4 + count * size > len(self._data):
            raise ValueError("it claims more than there is in it")
        return place + 4, count

    def _field(self, table: int, number: int) -> int | None:
        """Where a field of a table lies; None if it has its default."""
        layout = table - self._number(_INT, table)
        slot = 4 + 2 * number
        if layout < 0 or slot + 2 > self._number(_SHORT, layout):
            return None
        offset = self._number(_SHORT, layout + slot)
        if table + offset >= len(self._data):
            raise ValueError("an Arrow stream in it is damaged")
        return table + offset if offset else None

    def _follow(self, place: int) -> int:
        return place + self._number(_UINT, place)

    def _at_least_zero(self, place: int) -> int:
        number = self._number(_LONG, place)
        if number < 0:
            raise ValueError("it claims less than nothing")
        return number

    def _number(self, form: struct.Struct, place: int) -> int:
        number: int = form.unpack_from(self._data, place)[0]
        return number
