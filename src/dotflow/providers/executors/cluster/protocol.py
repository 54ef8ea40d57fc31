"""RemoteCall and Reply: an attempt on its way to a worker of a cluster, and what comes back.

They travel as a list of bytes-like objects, the first of which is plain data, pickled: what stands between here and
there (a scheduler, an object store) needs nothing of ours to pass them on, and need not copy. What users' code takes
and gives is in `parts`, pickled, and only the step's own process opens it there.
"""

import pickle
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Self

#: What a Reply tells.
ANSWERED: Final = "answered"  # parts: the outcome, pickled
DIED: Final = "died"  # detail: the exit code of the step's process
LATE: Final = "late"  # it did not stop by itself when its time was up, and was killed
STOPPED: Final = "stopped"  # nobody wants it any more
MISSING: Final = "missing"  # the value that it builds on is not here: nothing was run
REPEATED: Final = "repeated"  # the cluster gave it to a second worker: nothing was run there
NOT_STARTED: Final = "not started"  # detail: why no process could be started


class RemoteCall(NamedTuple):
    """One attempt, for a worker of a cluster to have made.

    Attributes:
        run: The run's name; one run's processes are not shared with another's.
        lane: As in Call.
        timeout: Seconds the step has, 0 for no limit.
        isolate: Whether it gets a process of its own.
        process: The process that has its previous value; empty where the value is in the parts.
        number: The task's id.
        parts: The pickled order, and the buffers that belong to it.
    """

    run: str
    lane: int
    timeout: float
    isolate: bool
    process: str
    number: int
    parts: Sequence[Any]

    def pack(self) -> list[Any]:
        """As it travels."""
        return [pickle.dumps(tuple(self[:-1])), *self.parts]

    @classmethod
    def unpack(cls, packed: Sequence[Any]) -> Self:
        """As it was."""
        return cls._make([*pickle.loads(packed[0]), packed[1:]])


class Reply(NamedTuple):
    """What came of a remote call.

    Attributes:
        kind: ANSWERED, or one of the others above.
        process: The process that made the attempt.
        output: What it wrote: the kind of message (stdout or stderr) and the bytes, in order.
        detail: What there is to say beside.
        worker: The cluster's worker, as the cluster calls it.
        parts: The pickled outcome, and the buffers that belong to it.
    """

    kind: str
    process: str = ""
    output: Sequence[tuple[int, bytes]] = ()
    detail: Any = None
    worker: str = ""
    parts: Sequence[Any] = ()

    def pack(self) -> list[Any]:
        """As it travels."""
        return [pickle.dumps(tuple(self[:-1])), *self.parts]

    @classmethod
    def unpack(cls, packed: Sequence[Any]) -> Self:
        """As it was."""
        return cls._make([*pickle.loads(packed[0]), packed[1:]])


def size_of(parts: Sequence[Any]) -> int:
    """How many bytes they are together."""
    return sum(memoryview(part).nbytes for part in parts)


def writable(parts: Sequence[Any]) -> list[Any]:
    """The parts in memory of our own where they are not: arrays made of them would refuse to be changed."""
    views = [memoryview(part) for part in parts]
    return [bytearray(view) if view.readonly and place else view for place, view in enumerate(views)]
