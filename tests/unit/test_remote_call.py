"""RemoteCall and Reply: how an attempt travels to a cluster's worker and back."""

import pickle

import pytest

from dotflow.providers.executors.cluster.protocol import ANSWERED, DIED, RemoteCall, Reply, size_of, writable

PARTS = [b"pickle", bytearray(b"one buffer"), memoryview(bytearray(5))]


def test_an_errand_arrives_as_it_was() -> None:
    """Whatever carries it passes on bytes, the first of which are plain data."""
    remote_call = RemoteCall("run", 3, 1.5, True, "holder", 7, 2, True, PARTS)
    packed = remote_call.pack()

    assert all(isinstance(part, bytes | bytearray | memoryview) for part in packed)
    assert b"dotflow" not in packed[0], "who passes it on may not have dotflow"
    assert RemoteCall.unpack(packed) == remote_call


@pytest.mark.parametrize(
    "reply",
    [Reply(ANSWERED, "holder", [(4, b"out"), (5, b"err")], parts=PARTS), Reply(DIED, detail=-9, worker="there")],
)
def test_so_does_a_reply(reply: Reply) -> None:
    """With what was printed, in order."""
    assert Reply.unpack(reply.pack())._replace(parts=list(reply.parts)) == reply._replace(parts=list(reply.parts))


def test_buffers_are_not_copied() -> None:
    """A value of many megabytes stays where it is until something sends it."""
    packed = RemoteCall("run", 0, 0, False, "", 0, None, False, PARTS).pack()

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
