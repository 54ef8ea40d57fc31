"""What a run and a worker of a cluster send each other: an attempt, its result, and the versions that they have.

A call and its reply are sent as lists of bytes-like objects. The first is pickled plain data (the fields of a Placement
or a Reply), so a scheduler or an object store forwards it without dotflow and without a copy. The others are parts of
a call message or an outcome, and only the step's process loads them.
"""

import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Self

#: The kinds of Reply.
ANSWERED: Final = "answered"  # parts: the outcome, pickled
DIED: Final = "died"  # detail: the exit code of the step's process
LATE: Final = "late"  # it exceeded its timeout and was killed
STOPPED: Final = "stopped"  # the run was cancelled, or its process is gone
MISSING: Final = "missing"  # the worker no longer has the value: nothing was run
REPEATED: Final = "repeated"  # the cluster sent it to a second worker: nothing was run there
NOT_STARTED: Final = "not started"  # detail: the reason why no process started


class Placement(NamedTuple):
    """Which process of a worker makes an attempt. It is the first item of a packed call.

    Attributes:
        lane: The call's lane.
        isolate: Whether the attempt needs a new process.
        process: The process whose last value the call refers to; "" if all values are sent.
        shared: The number of the call's shared arguments, which travel beside it; None without them.
    """

    lane: int
    isolate: bool
    process: str = ""
    shared: int | None = None


class Reply(NamedTuple):
    """The result of an attempt.

    Attributes:
        kind: One of the constants above.
        process: The process that made the attempt, and has its value. It gets another name with each attempt.
        output: The output of the step: pairs of STDOUT or STDERR and bytes, in order.
        detail: The exit code or the reason, by kind.
        worker: The name of the cluster's worker.
        usage: What a process that has died, or was killed, has used: the fields of Usage.
        last_lines: The last lines that it has written to stderr.
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


def pack_call(place: Placement, parts: Sequence[Any]) -> list[Any]:
    """Returns the list of bytes-like objects to send."""
    return [pickle.dumps(tuple(place)), *parts]


def size_of(parts: Sequence[Any]) -> int:
    """Returns the total number of bytes."""
    return sum(memoryview(part).nbytes for part in parts)


def writable(parts: Sequence[Any]) -> list[Any]:
    """Returns the parts, with copies of the read-only ones: arrays in them could not be changed."""
    views = [memoryview(part) for part in parts]
    return [bytearray(view) if view.readonly and place else view for place, view in enumerate(views)]


Versions = Mapping[str, str]


def make_describe(engine: str) -> Callable[[], Versions]:
    """Returns a function that reports the versions where it runs, pickled by value: dotflow may be missing there."""

    def describe() -> Versions:
        import platform
        from importlib import metadata

        versions_here: dict[str, Any] = {"Python": ".".join(platform.python_version_tuple()[:2])}
        for package in ("dotflow", "cloudpickle", engine):
            try:
                versions_here[package] = metadata.version(package)
            except metadata.PackageNotFoundError:
                versions_here[package] = "not installed"
        return versions_here

    return describe


def differences(here: Versions, there: Mapping[str, Versions]) -> list[str]:
    """Returns a sentence for each set of versions that differs from the ones here."""
    workers: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for worker, versions in there.items():
        different = tuple((name, version) for name, version in versions.items() if version != here.get(name, version))
        if different:
            workers.setdefault(different, []).append(worker)
    return [
        f"Versions differ: {', '.join(f'{name} {version} (here {here[name]})' for name, version in different)} on "
        f"{_join_names(names)}. Steps and values travel as pickles and may not be understood there: install the same."
        for different, names in workers.items()
    ]


def _join_names(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
