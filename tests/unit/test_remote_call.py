"""Packs and their replies: how attempts travel to a cluster's worker and back."""

import pickle
from pathlib import Path

import pytest

from dotflow.providers.executors.cluster.journal import Journal, delete_journals, take_journal, take_journals
from dotflow.providers.executors.cluster.protocol import (
    ANSWERED,
    DIED,
    LOST,
    MIN_BESIDE,
    Pack,
    PackedCall,
    PackReply,
    Placement,
    Reply,
    size_of,
    writable,
)

LARGE = bytearray(MIN_BESIDE)
PARTS = [b"pickle", bytearray(b"one buffer"), memoryview(bytearray(5)), LARGE]


def test_a_pack_is_bytes_that_need_no_dotflow() -> None:
    """A scheduler that passes it on may not have dotflow."""
    place = Placement(3, isolate=True, step=1, process="holder", shared=2)
    packed = Pack("name", [PackedCall(place, PARTS)], {1: b"step"}).pack()

    assert all(isinstance(part, bytes | bytearray | memoryview) for part in packed)
    assert b"dotflow" not in packed[0]
    name, ((found, parts),), steps = Pack.unpack(packed)
    assert (name, found, steps) == ("name", place, {1: b"step"})
    assert list(map(bytes, parts)) == list(map(bytes, PARTS))


@pytest.mark.parametrize(
    "reply", [Reply(ANSWERED, "holder", [(4, b"out"), (5, b"err")], parts=PARTS, began=4.0), Reply(DIED, detail=-9)]
)
def test_so_does_a_reply(reply: Reply) -> None:
    """With what was printed, in order, the calls that have not begun, and the one that runs."""
    unpacked = PackReply.unpack(PackReply({2: reply}, [3, 4], (1, 5.0), 6.0, "there").pack())

    assert unpacked._replace(replies={}) == ({}, [3, 4], (1, 5.0), 6.0, "there", "")
    found = unpacked.replies[2]
    assert list(map(bytes, found.parts)) == list(map(bytes, reply.parts))
    assert found._replace(parts=()) == reply._replace(parts=())


def test_large_buffers_are_not_copied() -> None:
    """A value of many megabytes stays where it is until something sends it."""
    _, large = Pack("name", [PackedCall(Placement(0, False, 0), PARTS)], {}).pack()

    LARGE[0] = 1
    assert large[0] == 1


def test_size() -> None:
    """That of the pickle and of all buffers, in bytes."""
    assert size_of([*PARTS[:3], memoryview(b"12345678").cast("Q")]) == 6 + 10 + 5 + 8


def test_read_only_buffers_become_writable() -> None:
    """An array that was made of one would refuse to be changed; where it can be written to, nothing is copied."""
    mine = bytearray(4)
    value, other = writable([pickle.dumps(1), b"1234"]), writable([b"", mine])

    assert not memoryview(value[1]).readonly
    assert other[1].obj is mine


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the journals."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


class TestJournal:
    def test_it_has_what_has_begun_and_what_has_ended(self, folder: Path) -> None:
        """For the machine's other workers, once; large values only as begun."""
        journal = Journal("run-1")
        for place, parts in enumerate(([b"value"], [bytes(1 << 20)], [])):
            assert journal.begin(place)
            if parts:
                journal.end(place, Reply(ANSWERED, parts=parts))

        found = take_journal("run-1")

        assert found is not None
        assert [reply.kind for reply in PackReply.unpack(found).replies.values()] == [ANSWERED, LOST, LOST]
        assert take_journal("run-1") is None
        journal.close()

    def test_no_call_begins_after_it_was_taken(self, folder: Path) -> None:
        """A worker that was only out of reach must not begin what others begin."""
        journal = Journal("run-2")
        take_journal("run-2")

        assert not journal.begin(0)
        journal.close()

    def test_a_pack_of_which_it_was_taken_before_does_not_begin(self, folder: Path) -> None:
        """A worker that was only out of reach may have it in its queue."""
        assert take_journals(["run-2"]) == {}
        journal = Journal("run-2")

        assert not journal.begin(0)
        journal.close()

    def test_a_record_that_was_cut_off_ends_it(self, folder: Path) -> None:
        """A full disk, or a kill in the middle of a write."""
        journal = Journal("run-3")
        journal.begin(0)
        journal.close()
        (path,) = folder.iterdir()
        path.write_bytes(path.read_bytes() * 2 + b"\x80\x04\x95")

        found = take_journal("run-3")

        assert found is not None
        assert {place: reply.kind for place, reply in PackReply.unpack(found).replies.items()} == {0: LOST}

    def test_the_end_of_a_run_deletes_its_own(self, folder: Path) -> None:
        """Those of other runs stay."""
        for name in ("run-1", "run-2", "other-1"):
            Journal(name).close()
        delete_journals("run")

        assert [path.name.rpartition("other")[2] for path in folder.iterdir()] == ["-1"]
