"""RemoteCall and Reply: an attempt for a worker of a cluster, and its result.

Each is sent as a list of bytes-like objects. The first is pickled plain data, so a scheduler or an object store
forwards it without dotflow, and without a copy. The values of users are pickled in `parts`, and only the step's process
loads them.
"""

import pickle
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Self

#: The kinds of Reply.
ANSWERED: Final = "answered"  # parts: the outcome, pickled
DIED: Final = "died"  # detail: the exit code of the step's process
LATE: Final = "late"  # it exceeded its timeout and was killed
STOPPED: Final = "stopped"  # the run was cancelled, or its process is gone
MISSING: Final = "missing"  # the worker no longer has the value: nothing was run
REPEATED: Final = "repeated"  # the cluster sent it to a second worker: nothing was run there
NOT_STARTED: Final = "not started"  # detail: the reason why no process started


class RemoteCall(NamedTuple):
    """One attempt for a worker of a cluster.

    Attributes:
        run: The name of the run. Runs share no processes.
        lane: As in Call.
        timeout: The timeout in seconds; 0 for none.
        isolate: Whether the attempt needs a new process.
        process: The process whose last value the call refers to; "" if all values are in the parts.
        number: The call's number.
        shared: The number of its shared arguments, which travel beside it; None without them.
        captured: Whether all output of its process is captured, and not only what Python prints.
        parts: The pickled call message and its buffers.
    """

    run: str
    lane: int
    timeout: float
    isolate: bool
    process: str
    number: int
    shared: int | None
    captured: bool
    parts: Sequence[Any]

    def pack(self) -> list[Any]:
        """Returns the list of bytes-like objects to send."""
        return [pickle.dumps(tuple(self[:-1])), *self.parts]

    @classmethod
    def unpack(cls, packed: Sequence[Any]) -> Self:
        """Returns what `pack` packed."""
        return cls._make([*pickle.loads(packed[0]), packed[1:]])


class Reply(NamedTuple):
    """The result of a remote call.

    Attributes:
        kind: One of the constants above.
        process: The process that made the attempt, and has its value. It gets another name with each attempt.
        output: The output of the step: pairs of STDOUT or STDERR and bytes, in order.
        detail: The exit code or the reason, by kind.
        worker: The name of the cluster's worker.
        usage: What a process that has died, or was killed, has used: the fields of Usage.
        last_lines: The last lines that it has written to stderr, where output is captured.
        parts: The pickled outcome and its buffers.
    """

    kind: str
    process: str = ""
    output: Sequence[tuple[int, bytes]] = ()
    detail: Any = None
    worker: str = ""
    usage: Sequence[Any] = ()
    last_lines: str = ""
    parts: Sequence[Any] = ()

    def pack(self) -> list[Any]:
        """Returns the list of bytes-like objects to send."""
        return [pickle.dumps(tuple(self[:-1])), *self.parts]

    @classmethod
    def unpack(cls, packed: Sequence[Any]) -> Self:
        """Returns what `pack` packed."""
        return cls._make([*pickle.loads(packed[0]), packed[1:]])


def size_of(parts: Sequence[Any]) -> int:
    """Returns the total number of bytes."""
    return sum(memoryview(part).nbytes for part in parts)


def writable(parts: Sequence[Any]) -> list[Any]:
    """Returns the parts, with copies of the read-only ones: arrays in them could not be changed."""
    views = [memoryview(part) for part in parts]
    return [bytearray(view) if view.readonly and place else view for place, view in enumerate(views)]
