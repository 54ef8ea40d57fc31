"""Packed calls and replies: how an attempt travels to a cluster's worker and back."""

import pickle

import pytest

from dotflow.providers.executors.cluster.protocol import ANSWERED, DIED, Placement, Reply, pack_call, size_of, writable

PARTS = [b"pickle", bytearray(b"one buffer"), memoryview(bytearray(5))]


def test_a_packed_call_is_bytes_that_need_no_dotflow() -> None:
    """A scheduler that passes it on may not have dotflow."""
    place = Placement(3, isolate=True, process="holder", shared=2)
    packed = pack_call(place, PARTS)

    assert all(isinstance(part, bytes | bytearray | memoryview) for part in packed)
    assert b"dotflow" not in packed[0]
    assert Placement(*pickle.loads(packed[0])) == place


@pytest.mark.parametrize(
    "reply",
    [Reply(ANSWERED, "holder", [(4, b"out"), (5, b"err")], parts=PARTS), Reply(DIED, detail=-9, worker="there")],
)
def test_so_does_a_reply(reply: Reply) -> None:
    """With what was printed, in order."""
    assert Reply.unpack(reply.pack())._replace(parts=list(reply.parts)) == reply._replace(parts=list(reply.parts))


def test_buffers_are_not_copied() -> None:
    """A value of many megabytes stays where it is until something sends it."""
    packed = pack_call(Placement(0, isolate=False), PARTS)

    assert packed[2] is PARTS[1]


def test_size() -> None:
    """That of the pickle and of all buffers, in bytes."""
    assert size_of([*PARTS, memoryview(b"12345678").cast("Q")]) == 6 + 10 + 5 + 8


def test_read_only_buffers_become_writable() -> None:
    """An array that was made of one would refuse to be changed; where it can be written to, nothing is copied."""
    mine = bytearray(4)
    value, other = writable([pickle.dumps(1), b"1234"]), writable([b"", mine])

    assert not memoryview(value[1]).readonly
    assert other[1].obj is mine
