"""A checkpoint is readable to people, and a damaged or misplaced one is never read as a value."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from fractions import Fraction
from hashlib import sha256
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dotflow.codec.document import key_at, pack, unpack
from dotflow.codec.parts import LARGE, Blob
from dotflow.core.context import Context
from dotflow.errors import CheckpointUnreadable, ValueNotStorable
from tests.unit import codec_samples as samples
from tests.unit.codec_samples import same

#: The same examples each time, however busy the machine is.
WHEN = datetime(2024, 5, 1, 2, 3, 4, 5, UTC)
CONTEXT = Context({"rows": [1, 2], "name": "é"}, 3, "nightly", WHEN, "app.steps:total")


def reason_of(data: bytes, key: str = "nightly/3") -> str:
    with pytest.raises(CheckpointUnreadable) as caught:
        unpack(data, key)
    return caught.value.reason


def signed(body: bytes) -> bytes:
    """A document of any content with the right checksum."""
    return b'{"sha256": "%s",\n' % sha256(body).hexdigest().encode() + body


def body_of(**fields: Any) -> bytes:
    """The lines after the first, one field a line."""
    whole = {
        "dotflow": 1,
        "key": "nightly/3",
        "task_id": 3,
        "workflow_id": "nightly",
        "step": "app.steps:total",
        "time": WHEN.isoformat(),
        "value": 1,
    } | fields
    lines = [f'"{name}": {json.dumps(value)}' for name, value in whole.items() if value is not ...]
    return (",\n".join(lines) + "}\n").encode()


def test_a_person_can_read_it() -> None:
    """It is plain JSON in a few lines, with the value last."""
    data = pack("nightly/3", CONTEXT)
    first, rest = data.split(b"\n", 1)

    assert rest.decode() == (
        '"dotflow": 1,\n'
        '"key": "nightly/3",\n'
        '"task_id": 3,\n'
        '"workflow_id": "nightly",\n'
        '"step": "app.steps:total",\n'
        '"time": "2024-05-01T02:03:04.000005+00:00",\n'
        '"value": {"rows": [1, 2], "name": "é"}}\n'
    )
    assert first == f'{{"sha256": "{sha256(rest).hexdigest()}",'.encode()
    assert json.loads(data)["value"] == CONTEXT.storage


def test_it_comes_back() -> None:
    """All five fields of the context."""
    assert same(unpack(pack("nightly/3", CONTEXT), "nightly/3"), CONTEXT)


@given(
    samples.texts,
    samples.values(),
    st.none() | st.integers(0, 10**6),
    st.none() | samples.texts,
    st.none() | samples.texts,
)
def test_every_context_comes_back(key: str, value: Any, task_id: int, workflow_id: str, step: str) -> None:
    """With any value, and any text as a key, a workflow or a step, the document is UTF-8 JSON."""
    context = Context(None, task_id, workflow_id, WHEN, step)
    context.storage = value

    data = pack(key, context)

    assert same(unpack(data, key), context)
    assert json.loads(data.decode())["dotflow"] == 1
    assert data.endswith(b"}\n")
    assert data.count(b"\n") == 8


@pytest.mark.parametrize(
    "time",
    [
        WHEN,
        WHEN.replace(tzinfo=timezone(timedelta(hours=-3))),
        WHEN.replace(tzinfo=timezone(timedelta(hours=1), "here")),
        datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
        WHEN.replace(fold=1),
    ],
    ids=str,
)
def test_the_time_keeps_its_zone(time: datetime) -> None:
    """It is usually UTC, and another zone comes back as well."""
    assert same(unpack(pack("k", Context(1, time=time)), "k").time, time)


class OtherZone(tzinfo):
    def utcoffset(self, moment: datetime | None) -> timedelta:
        return timedelta(hours=1)

    def dst(self, moment: datetime | None) -> timedelta:
        return timedelta(0)


class FrozenTime(datetime):
    """A datetime as libraries make it that stop the clock in tests."""


@pytest.mark.parametrize(
    "time",
    [
        WHEN.replace(tzinfo=OtherZone()),
        FrozenTime(2024, 1, 1, tzinfo=UTC),
        FrozenTime(2024, 1, 1, tzinfo=OtherZone()),
        datetime(2024, 1, 1),
    ],
    ids=["another zone", "another class", "both", "no zone"],
)
def test_a_strange_time_is_no_reason_to_lose_a_value(time: datetime) -> None:
    """Only the moment is kept, in UTC."""
    found = unpack(pack("k", Context(1, time=time)), "k").time

    assert type(found) is datetime
    assert found == time.astimezone(UTC)


def test_unstorable_values_and_fields_are_refused() -> None:
    """A refused value is named with its path, and so is an invalid field of the context."""
    with pytest.raises(ValueNotStorable) as caught:
        pack("k", Context([1, object()]))
    assert caught.value.place == "[1]"
    with pytest.raises(ValueNotStorable, match="workflow_id"):
        pack("k", Context(1, workflow_id=5))  # type: ignore[arg-type]
    with pytest.raises(ValueNotStorable, match="task_id"):
        pack("k", Context(1, task_id=True))


def test_pickles_are_marked() -> None:
    """A pickled value is loaded only where this was chosen."""
    data = pack("k", Context([Fraction(1, 3)]), pickle=True)

    assert unpack(data, "k", pickle=True).storage == [Fraction(1, 3)]
    with pytest.raises(CheckpointUnreadable, match="pickle=True"):
        unpack(data, "k")
    assert json.loads(data)["value"].keys() == {"$pickle"}


def test_a_value_that_can_not_be_read_has_a_time() -> None:
    """A pickle that must not be loaded and a missing part leave the rest of the document readable."""
    pickled = pack("k", Context([Fraction(1, 3)], time=WHEN), pickle=True)
    large = pack("k", Context(bytes(LARGE + 1), time=WHEN), put=lambda raw: Blob("1", raw.data.nbytes, "0" * 64))

    for document in (pickled, large):
        with pytest.raises(CheckpointUnreadable) as caught:
            unpack(document, "k", fetch=lambda part, before: None)
        assert caught.value.time == WHEN
    with pytest.raises(CheckpointUnreadable) as caught:
        unpack(pickled[:-1], "k")
    assert caught.value.time is None


def test_every_damaged_byte_is_noticed() -> None:
    """Each bit of each byte, and each length of a file that was cut off."""
    data = pack("nightly/3", CONTEXT)

    for place in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[place] ^= 1 << bit
            reason_of(bytes(damaged))
        reason_of(data[:place])
        reason_of(data[:place] + data[place + 1 :])
        reason_of(data[:place] + b"\0" * (len(data) - place))
    reason_of(data + b"\n")
    reason_of(data + data)


@given(samples.values(), st.data())
def test_damage_is_never_another_value(value: Any, data: st.DataObject) -> None:
    """A document with changed bytes is unreadable, or still the same."""
    context = Context(None, 3, "w", WHEN, "m:f")
    context.storage = value
    packed = pack("w/3", context)
    place = data.draw(st.integers(0, len(packed)))
    end = data.draw(st.integers(place, min(len(packed), place + 40)))
    damaged = packed[:place] + data.draw(st.binary(max_size=40)) + packed[end:]
    try:
        found = unpack(damaged, "w/3")
    except CheckpointUnreadable:
        return
    assert damaged == packed
    assert same(found, context)


@given(st.binary(max_size=200))
def test_garbage_is_unreadable(data: bytes) -> None:
    """Random bytes raise CheckpointUnreadable."""
    reason_of(data)
    reason_of(signed(data))


def test_each_damage_has_its_own_reason() -> None:
    """The reason distinguishes an empty file, another file, a damaged one, another format and another key."""
    data = pack("nightly/3", CONTEXT)

    assert reason_of(b"") == "it is empty"
    assert reason_of(b"PK\x03\x04 something else") == "it doesn't begin as a checkpoint does"
    assert reason_of(b"\xef\xbb\xbf" + data) == "it doesn't begin as a checkpoint does"
    assert reason_of(data[:-5]) == "its checksum is wrong: it was cut off, damaged or changed"
    assert reason_of(data.replace(b"[1, 2]", b"[1, 3]")) == "its checksum is wrong: it was cut off, damaged or changed"
    assert reason_of(data, "nightly/4") == "it was renamed or copied: it belongs to the key 'nightly/3'"
    later = signed(body_of(dotflow=2, value={"$new": 1}))
    assert reason_of(later) == "it was written by a later dotflow (format 2; this one reads 1); upgrade dotflow"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"}\n",
        b"null",
        b'"value": 1}\n',
        b'\n"value": 1}\n',
        b'"$int": "0x1",\n"value": 1}\n',
        body_of(dotflow="1"),
        body_of(dotflow=0),
        body_of(dotflow=None),
        body_of(dotflow=...),
        body_of(key=...),
        body_of(key=5),
        body_of(task_id=...),
        body_of(task_id="3"),
        body_of(task_id=True),
        body_of(workflow_id=...),
        body_of(workflow_id=["nightly"]),
        body_of(step=...),
        body_of(step={"a": 1}),
        body_of(time=...),
        body_of(time=None),
        body_of(time="yesterday"),
        body_of(time="2024-05-01T02:03:04"),
        body_of(time={"$date": "2024-05-01"}),
        body_of(value=...),
        body_of(value={"$nonsense": 1}),
        body_of(value={"$pickle": "AAAA"}),
        body_of(more=1),
        body_of(key={"$dataclass": ["os:system", {}]}),
        body_of()[:-2],
        body_of()[:-1],
        body_of() + b"\n",
        body_of() + b"{}\n",
        b"\xff" + body_of(),
        body_of() + body_of(),
        b'"key": "nightly/3",\n' + body_of(),
    ],
)
def test_crafted_documents_are_unreadable(body: bytes) -> None:
    """A right checksum doesn't make a document valid."""
    reason_of(signed(body))


def test_a_valid_document_is_readable() -> None:
    """Without a change, the documents of the test above are readable."""
    assert same(unpack(signed(body_of()), "nightly/3"), Context(1, 3, "nightly", WHEN, "app.steps:total"))


@pytest.mark.parametrize("key", ["nightly/3", "a\nb", 'é"\\', "\ud800/3", "", "x" * 10_000], ids=ascii)
def test_the_key_of_a_beginning(key: str) -> None:
    """The key is read without the value."""
    assert key_at(pack(key, CONTEXT)[:-10]) == key


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"\n\n\n", signed(b"\n\n"), pack("k", CONTEXT)[:100], pack("k", CONTEXT).replace(b'"k"', b"5")],
)
def test_a_file_that_is_no_checkpoint_has_no_key(data: bytes) -> None:
    """Files of other programs are unreadable, too."""
    with pytest.raises(CheckpointUnreadable):
        key_at(data)


def test_the_codec_loads_nothing_heavy() -> None:
    """Modules that only some values need are loaded with these."""
    program = (
        "import sys\n"
        "from dotflow.codec import decode, encode\n"
        "from dotflow.codec.document import pack, unpack\n"
        "from dotflow import Context\n"
        "unpack(pack('k', Context({'a': [1, (2.5, None)]})), 'k')\n"
        "heavy = {'pydantic', 'numpy', 'pandas', 'pyarrow', 'zoneinfo', 'pickle', 'decimal', 'base64', 'asyncio'}\n"
        "sys.exit(' '.join(sorted(heavy & set(sys.modules))) or None)"
    )
    path = [entry for entry in sys.path if entry]
    subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path[:] = {path!r}\n{program}"], check=True, capture_output=True
    )


@pytest.mark.parametrize("moment", [datetime.min, datetime.max], ids=["min", "max"])
def test_the_ends_of_the_calendar_are_no_obstacle(moment: datetime) -> None:
    """No zone can be applied there, and the value is still kept."""
    found = unpack(pack("w/0", Context(1, 0, "w", moment)), "w/0")

    assert (found.storage, found.time) == (1, moment.replace(tzinfo=UTC))
