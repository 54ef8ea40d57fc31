"""Large values lie beside the document as raw bytes, and damaged or crafted ones are unreadable."""

import json
from fractions import Fraction
from hashlib import sha256
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from dotflow.codec.document import pack, unpack
from dotflow.codec.parts import LARGE, Blob, Raw
from dotflow.core.context import Context
from dotflow.errors import CheckpointUnreadable, ValueNotStorable
from tests.unit.codec_samples import Point
from tests.unit.test_codec_frames import same

BYTES = b"0123456789" * (LARGE // 10 + 1)


class Shelf:
    """The parts of one test, in memory."""

    def __init__(self) -> None:
        self.parts: dict[str, bytes] = {}
        self.read: list[str] = []

    def put(self, raw: Raw) -> Blob:
        name, data = f"{len(self.parts)}{raw.suffix}", bytes(raw.data)
        self.parts[name] = data
        return Blob(name, len(data), sha256(data).hexdigest())

    def fetch(self, part: Blob, before: int) -> bytes | None:
        self.read.append(part.name)
        return self.parts.get(part.name)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def kept(shelf: Shelf, value: Any) -> bytes:
    return pack("k", Context(value), put=shelf.put)


def found(shelf: Shelf, document: bytes) -> Any:
    return unpack(document, "k", fetch=shelf.fetch).storage


FLOATS = np.random.default_rng(0).random(20_000)

VALUES: dict[str, tuple[Any, list[str]]] = {
    "bytes": (BYTES, [".bin"]),
    "array": (FLOATS, [".bin"]),
    "array in Fortran's order": (np.asfortranarray(FLOATS.reshape(100, 200)), [".bin"]),
    "array of records": (np.zeros(20_000, [("a", "<i4"), ("b", "S2")]), [".bin"]),
    "every second item": (FLOATS[::2], [".bin"]),
    "pandas": (pd.DataFrame({"a": FLOATS, "b": range(20_000)}), [".arrows"]),
    "Polars": (pl.DataFrame({"a": FLOATS}), [".arrows"]),
    "Arrow": (pa.table({"a": FLOATS}), [".arrows"]),
    "several": ({"a": [BYTES, (BYTES, FLOATS)], "b": {BYTES: 1}, "c": {BYTES}}, [".bin"] * 5),
    "beside a nan": ([float("nan"), BYTES], [".bin"]),
}


@pytest.mark.parametrize(("value", "suffixes"), VALUES.values(), ids=VALUES)
def test_large_values_lie_beside_the_document(shelf: Shelf, value: Any, suffixes: list[str]) -> None:
    """The document stays small, names each part with its size and checksum, and the value is exact."""
    document = kept(shelf, value)

    assert len(document) < 3_000
    assert [name[1:] for name in shelf.parts] == suffixes
    described = json.loads(document)["parts"]
    assert [(part["size"], part["sha256"]) for part in described] == [
        (len(data), sha256(data).hexdigest()) for data in shelf.parts.values()
    ]
    assert same(value, found(shelf, document))


def test_raw_bytes_are_as_they_are(shelf: Shelf) -> None:
    """Any program can read them: bytes, an array's memory, an Arrow IPC stream."""
    kept(shelf, [BYTES, FLOATS, pa.table({"a": FLOATS})])

    raw, memory, stream = shelf.parts.values()
    assert raw == BYTES
    assert np.array_equal(np.frombuffer(memory), FLOATS)
    assert pa.ipc.open_stream(stream).read_all().equals(pa.table({"a": FLOATS}))


@pytest.mark.parametrize("value", [b"x" * LARGE, np.zeros(LARGE // 8), "x" * (2 * LARGE), [0.5] * LARGE], ids=type)
def test_small_values_and_text_stay_in_the_document(shelf: Shelf, value: Any) -> None:
    """One file is enough for them, and readable text stays readable."""
    document = kept(shelf, value)

    assert shelf.parts == {}
    assert b'"parts"' not in document
    assert same(value, found(shelf, document))


@pytest.mark.parametrize("value", [value for value, _ in VALUES.values()], ids=VALUES)
def test_without_a_place_for_parts_the_document_has_everything(value: Any) -> None:
    """`pack` and `unpack` alone keep any value."""
    assert same(value, unpack(pack("k", Context(value)), "k").storage)


def test_a_value_that_is_refused_leaves_no_part(shelf: Shelf) -> None:
    """Parts are written only after the whole value was accepted."""
    with pytest.raises(ValueNotStorable):
        kept(shelf, [BYTES, Fraction(1, 3)])
    with pytest.raises(ValueNotStorable):
        pack("k", Context(BYTES, task_id="one"), put=shelf.put)  # type: ignore[arg-type]

    assert shelf.parts == {}


def test_a_large_pickle_is_one_part(shelf: Shelf) -> None:
    """It has the parts of the value that was refused, too. A small one stays in the document."""
    value = [BYTES, Fraction(1, 3)]
    small = pack("k", Context(Fraction(1, 3)), pickle=True, put=shelf.put)
    assert shelf.parts == {}

    large = pack("k", Context(value), pickle=True, put=shelf.put)

    assert list(shelf.parts) == ["0.pickle"]
    assert len(large) < 1_000
    assert unpack(large, "k", pickle=True, fetch=shelf.fetch).storage == value
    assert unpack(small, "k", pickle=True, fetch=shelf.fetch).storage == Fraction(1, 3)
    shelf.read.clear()
    with pytest.raises(CheckpointUnreadable, match="it is a pickle"):
        found(shelf, large)
    assert shelf.read == []
    shelf.parts["0.pickle"] = b"\x80" + shelf.parts["0.pickle"][:-1]
    with pytest.raises(CheckpointUnreadable, match=r"its part '0\.pickle' was cut off, damaged or changed"):
        unpack(large, "k", pickle=True, fetch=shelf.fetch)


@pytest.mark.parametrize(
    "data", [None, b"", BYTES[:-1], BYTES + b"x", b"X" + BYTES[1:]], ids=lambda data: repr(data)[:9]
)
def test_a_part_that_is_missing_or_damaged_is_named(shelf: Shelf, data: bytes | None) -> None:
    """The error names the part, and no other value is returned."""
    document = kept(shelf, [1, BYTES])
    shelf.parts = {} if data is None else {"0.bin": data}

    with pytest.raises(CheckpointUnreadable, match=r"its part '0\.bin' (is missing|was cut off, damaged or changed)"):
        found(shelf, document)


def test_a_part_that_the_system_can_not_read_is_named(shelf: Shelf) -> None:
    """The error has the system's reason."""

    def fail(part: Blob, before: int) -> bytes:
        raise PermissionError(13, "Permission denied")

    with pytest.raises(CheckpointUnreadable, match=r"its part '0\.bin' can't be read: Permission denied"):
        unpack(kept(shelf, BYTES), "k", fetch=fail)


def test_a_document_without_its_parts_is_no_value(shelf: Shelf) -> None:
    """Without a way to read parts, it is unreadable."""
    with pytest.raises(CheckpointUnreadable, match=r"\$part"):
        unpack(kept(shelf, BYTES), "k")


def crafted(document: bytes, value: str, parts: Any = None) -> bytes:
    """The document with another value or other parts, and a checksum that fits."""
    fields = json.loads(document)
    parts = fields["parts"] if parts is None else parts
    head = document[: document.index(b'"parts"')].split(b"\n", 1)[1].decode()
    rest = f'{head}"parts": {json.dumps(parts)},\n"value": {value}}}\n'.encode()
    return b'{"sha256": "' + sha256(rest).hexdigest().encode() + b'",\n' + rest


@pytest.mark.parametrize(
    "value",
    [
        '[{"$part": 0}, {"$part": 0}]',
        '{"$part": 1}',
        '{"$part": -1}',
        '{"$part": "0"}',
        '{"$part": true}',
        '{"$part": 0, "a": 1}',
        '{"$part": [0]}',
        "null",
        '{"$tuple": {"$part": 0}}',
        '{"$polars": {"kind": "DataFrame", "ipc": {"$part": 0}}}',
        '{"$numpy": {"dtype": "<f8", "shape": [3], "data": {"$part": 0}}}',
    ],
)
def test_a_value_takes_each_part_once(shelf: Shelf, value: str) -> None:
    """So a crafted document takes no more memory than its parts are large."""
    document = kept(shelf, BYTES)
    assert found(shelf, crafted(document, '{"$part": 0}')) == BYTES

    with pytest.raises(CheckpointUnreadable):
        found(shelf, crafted(document, value))
    assert shelf.read.count("0.bin") <= 2


GOOD = {"name": "0.bin", "size": len(BYTES), "sha256": sha256(BYTES).hexdigest()}


@pytest.mark.parametrize(
    "parts",
    [
        *(None, 5, "x", {}, [], [None], [5], [[]], [{}], [GOOD, GOOD], [GOOD | {"more": 1}]),
        *([GOOD | {"name": 5}], [GOOD | {"size": -1}], [GOOD | {"size": "5"}], [GOOD | {"size": True}]),
        *([GOOD | {"sha256": None}], [GOOD | {"sha256": "00"}], [GOOD | {"size": 5}], [GOOD | {"name": "../x"}]),
    ],
    ids=lambda parts: repr(parts)[:40],
)
def test_an_invalid_list_of_parts_is_unreadable(shelf: Shelf, parts: Any) -> None:
    """Of any JSON type, and with any fields."""
    document = crafted(kept(shelf, BYTES), '{"$part": 0}', "none" if parts is None else parts)

    with pytest.raises(CheckpointUnreadable):
        found(shelf, document)


def test_parts_stand_wherever_values_do(shelf: Shelf) -> None:
    """In dataclasses, too, and at any depth."""
    value = Point([{"a": BYTES}], Point(FLOATS.tobytes()))

    assert found(shelf, kept(shelf, value)) == value
