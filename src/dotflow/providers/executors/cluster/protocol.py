"""What a run and a worker of a cluster send each other: packs of calls, what came of them, and the versions they have.

A pack and its reply are sent as lists of bytes-like objects. The first is pickled plain data, so a scheduler or an
object store forwards it without dotflow. The others are the large parts of calls and outcomes, which travel without a
copy. Only the step's process loads what is pickled in them.
"""

import pickle
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib import metadata
from typing import Any, Final, NamedTuple, Self

from dotflow.errors import ClusterError
from dotflow.processes.channel import MIN_BESIDE, dump_beside

MIN_KEPT_SIZE: Final = 1 << 16  # bytes of a value that a worker keeps; sending less again costs less than asking for it

#: The kinds of Reply.
ANSWERED: Final = "answered"  # parts: the outcome, pickled
DIED: Final = "died"  # detail: the exit code of the step's process
EXCEEDED: Final = "exceeded"  # detail: the fields of an Excess, of the memory that it was killed for
LATE: Final = "late"  # it exceeded its timeout and was killed
STOPPED: Final = "stopped"  # the run was cancelled, or its process is gone
MISSING: Final = "missing"  # the worker no longer has the value: nothing was run
REPEATED: Final = "repeated"  # of a pack that the cluster sent to a second worker: nothing was run there
LOST: Final = "lost"  # the worker was lost after the attempt had begun
NOT_STARTED: Final = "not started"  # detail: the reason why no process started


class Placement(NamedTuple):
    """Which process of a worker makes an attempt.

    Attributes:
        lane: The call's lane.
        isolate: Whether the attempt needs a new process; False for a thread of the worker.
        step: The number of the step, by which its pickle travels beside the calls.
        process: The process or thread whose last value the call refers to; "" if all values are sent.
        shared: The number of the call's shared arguments, which travel beside it; None without them.
        memory: The bytes that the attempt may use; None for no limit.
    """

    lane: int
    isolate: bool | None
    step: int
    process: str = ""
    shared: int | None = None
    memory: int | None = None


class PackedCall(NamedTuple):
    """A call on its way: its placement, and the parts of its message."""

    placement: Placement
    parts: Sequence[Any]


class Pack(NamedTuple):
    """Calls that are one task of the cluster. A worker makes their attempts one after the other.

    Attributes:
        name: Its name.
        calls: The calls.
        steps: The pickles of their steps, by number.
    """

    name: str
    calls: Sequence[PackedCall]
    steps: Mapping[int, bytes]

    def pack(self) -> list[Any]:
        """Returns the list of bytes-like objects to send."""
        calls = [(tuple(placement), list(map(_beside, parts))) for placement, parts in self.calls]
        return dump_beside((self.name, calls, self.steps))

    @classmethod
    def unpack(cls, packed: Sequence[Any]) -> Self:
        """Returns what `pack` packed."""
        name, calls, steps = _load(packed)
        return cls(name, [PackedCall(Placement(*placement), parts) for placement, parts in calls], steps)


class Reply(NamedTuple):
    """The result of an attempt.

    Attributes:
        kind: One of the constants above.
        process: The process that made the attempt, and has its value. It gets another name with each attempt.
        output: The output of the step: pairs of STDOUT or STDERR and bytes, in order.
        detail: The exit code or the reason, by kind.
        usage: What a process that has died, or was killed, has used: the fields of Usage.
        last_lines: The last lines that it has written to stderr.
        parts: The pickled outcome and its buffers.
        seconds: How long the attempt took on the worker.
        began: When it began, in seconds since 1970 by the worker's clock; 0 if it did not.
    """

    kind: str
    process: str = ""
    output: Sequence[tuple[int, bytes]] = ()
    detail: Any = None
    usage: Sequence[Any] = ()
    last_lines: str = ""
    parts: Sequence[Any] = ()
    seconds: float = 0.0
    began: float = 0.0

    def plain(self) -> tuple[Any, ...]:
        """Returns it as plain data, with large parts that travel beside a pickle."""
        return (*self[:6], list(map(_beside, self.parts)), *self[7:])


class PackReply(NamedTuple):
    """What came of calls of a pack.

    Attributes:
        replies: The replies, by the calls' places in the pack.
        left: The places of the calls that do not begin there.
        running: The place of the call that runs, and when it began, as `Reply.began`; None if none does.
        made: When this was made, in seconds since 1970 by the worker's clock.
        worker: The name of the cluster's worker.
        kind: STOPPED or REPEATED, where the worker refuses the pack; "" otherwise.
    """

    replies: Mapping[int, Reply]
    left: Sequence[int] = ()
    running: tuple[int, float] | None = None
    made: float = 0.0
    worker: str = ""
    kind: str = ""

    def pack(self) -> list[Any]:
        """Returns the list of bytes-like objects to send."""
        replies = {place: reply.plain() for place, reply in self.replies.items()}
        return dump_beside((replies, list(self.left), *self[2:]))

    @classmethod
    def unpack(cls, packed: Sequence[Any]) -> Self:
        """Returns what `pack` packed."""
        replies, *rest = _load(packed)
        return cls({place: Reply(*reply) for place, reply in replies.items()}, *rest)


def _beside(part: Any) -> Any:
    """Returns a part of a message, marked to travel beside the pickle if it is large."""
    view = memoryview(part)
    return pickle.PickleBuffer(view) if view.nbytes >= MIN_BESIDE else bytes(view)


def _load(packed: Sequence[Any]) -> Any:
    return pickle.loads(packed[0], buffers=packed[1:])


def size_of(parts: Sequence[Any]) -> int:
    """Returns the total number of bytes."""
    return sum(memoryview(part).nbytes for part in parts)


def writable(parts: Sequence[Any]) -> list[Any]:
    """Returns the parts, with copies of the read-only ones: arrays in them could not be changed."""
    views = [memoryview(part) for part in parts]
    return [bytearray(view) if view.readonly and place else view for place, view in enumerate(views)]


Versions = Mapping[str, str]
MUST_MATCH: Final = frozenset({"Python", "dotflow"})  # code by value is bytecode, and both ends are dotflow


def versions_here(engine: str) -> Versions:
    """Returns the versions of this process, those of the cluster's package *engine* among them."""
    packages = {name: metadata.version(name) for name in ("dotflow", "cloudpickle", engine)}
    return {"Python": "{}.{}".format(*sys.version_info), **packages}


def check_versions(
    cluster: str, here: Versions, there: Mapping[str, Versions], say: Callable[[str], object], extra: str
) -> None:
    """Refuses another Python or dotflow than that here, and logs what else differs.

    Args:
        cluster: The name of the cluster.
        here: The versions of this process.
        there: The versions of others, by their addresses.
        say: Writes a line into the run's log.
        extra: The extra of dotflow that workers need.

    Raises:
        ClusterError: Some differ in Python or dotflow.
    """
    refused = differences(here, there, MUST_MATCH)
    if refused:
        hint = f"Install the same there as here, dotflow from the same place and with its extra [{extra}]."
        raise ClusterError(cluster, f"has other versions: {'; '.join(refused)}", hint)
    for found in differences(here, there, here.keys() - MUST_MATCH):
        say(
            f"Versions differ: {found}. Steps and values travel as pickles and may not be understood there: "
            f"install the same."
        )


def differences(here: Versions, there: Mapping[str, Versions], names: Collection[str]) -> list[str]:
    """Returns a text for each set of versions that differs from the ones here in what is named."""
    places: dict[str, list[str]] = {}
    for place, versions in there.items():
        different = [(name, version) for name, version in versions.items() if name in names and version != here[name]]
        if different:
            text = ", ".join(f"{name} {version} (here {here[name]})" for name, version in different)
            places.setdefault(text, []).append(place)
    return [f"{text} on {_join_names(found)}" for text, found in places.items()]


def _join_names(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
