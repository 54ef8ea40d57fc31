"""The points of a run at which its process can be killed, the switch that kills it there, and the journal of both."""

import contextlib
import json
import os
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final, NamedTuple

BEFORE: Final = 0  # the number of the point before an operation; its I/O calls count from 1
AFTER: Final = -1  # the number of the point after it

#: Functions of the system that change what outlives the process.
OS_CALLS: Final = frozenset({
    "chmod", "close", "copy_file_range", "fdatasync", "fsync", "ftruncate", "link", "mkdir", "open", "posix_fallocate",
    "pwrite", "pwritev", "remove", "rename", "replace", "rmdir", "sendfile", "symlink", "truncate", "unlink", "utime",
    "write", "writev",
})  # fmt: skip
#: Methods of files, databases and connections, written in C, that do.
CALLS: Final = frozenset({
    "close", "commit", "connect", "delete", "exec", "execute", "executemany", "executescript", "fcntl", "flock",
    "flush", "lockf", "msync", "open", "put", "recv", "recv_into", "rollback", "send", "sendall", "sendmsg", "sendto",
    "truncate", "write", "writelines",
})  # fmt: skip
#: In the standard library these names mean I/O in these modules only.
MODULES: Final = frozenset({"_io", "io", "_socket", "socket", "_ssl", "ssl", "sqlite3", "_sqlite3", "fcntl", "mmap"})
IN_MEMORY: Final = frozenset({"BytesIO", "StringIO"})


Records = defaultdict[str, list[Any]]

#: A task by its id, or an item of a mapped task by the ids of both.
StepId = tuple[int, int | None]


class KillPoint(NamedTuple):
    """A point of a run."""

    operation: str  # "the post of task 2 (load)"
    occurrence: int  # how often the run has begun that operation, from 1
    number: int  # BEFORE, AFTER, or the number of the I/O call that it is about to make
    call: str = ""  # the name of that call, for readers

    def __str__(self) -> str:
        operation = f"{self.operation}, time {self.occurrence}" if self.occurrence > 1 else self.operation
        if self.number == BEFORE:
            return f"before {operation}"
        if self.number == AFTER:
            return f"after {operation}"
        return f"in {operation}, before its I/O call {self.number} ({self.call})"


class KillSwitch:
    """Kills its process at one of the kill points that a run passes.

    Args:
        journal: The file of its records, which outlive the process.
        kill_at: The point; None for none.

    Attributes:
        passed: The points so far.
    """

    def __init__(self, journal: Path, kill_at: KillPoint | None) -> None:
        self.passed: list[KillPoint] = []
        self._journal = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._kill_at = kill_at and kill_at[:3]  # another run may make another call there
        self._process = os.getpid()
        self._occurrences: Counter[str] = Counter()
        self._write: KillPoint | None = None  # the last point of the write that goes on

    @property
    def is_of_this_process(self) -> bool:
        """Whether it kills this process, and not one that has forked it."""
        return os.getpid() == self._process

    def record(self, word: str, value: object = "") -> None:
        """Appends a record to the journal, in one system call: a kill leaves all of it or nothing.

        The words: `began` (a StepId), `storage` (an operation on it, as the Ledger takes it), `at` (a boundary),
        `killed`.
        """
        os.write(self._journal, json.dumps([word, value]).encode() + b"\n")

    def boundary(self, operation: str) -> None:
        """Passes a point between two operations."""
        self.record("at", operation)
        self._occurrences[operation] += 1
        self._pass(KillPoint(operation, self._occurrences[operation], AFTER))

    @contextlib.contextmanager
    def write(self, operation: str, *, has_points: bool = True) -> Iterator[None]:
        """Passes the points of a write: before it, at each of its I/O calls, and after it.

        Only I/O calls of this thread count. A write inside of another one is a part of it.

        Args:
            operation: What it does, for readers.
            has_points: Whether it has kill points.
        """
        if self._write is not None:
            yield
            return
        self._occurrences[operation] += 1
        start = KillPoint(operation, self._occurrences[operation], BEFORE)
        if has_points:
            self._pass(start)
        profile = sys.getprofile()
        self._write = start
        if has_points:
            sys.setprofile(self._profile)
        try:
            yield
        finally:
            sys.setprofile(profile)
            self._write = None
        if has_points:
            self._pass(start._replace(number=AFTER))

    def _pass(self, point: KillPoint) -> None:
        self.passed.append(point)
        if point[:3] == self._kill_at and self.is_of_this_process:
            self.record("killed", str(point))
            os.kill(self._process, signal.SIGKILL)

    def _profile(self, frame: FrameType, event: str, function: Any) -> None:
        """Python calls this around each function written in C."""
        if event == "c_call" and self._write is not None and frame.f_code is not KillSwitch.record.__code__:
            call = io_call(function)
            if call:
                self._write = self._write._replace(number=self._write.number + 1)
                self._pass(self._write._replace(call=call))


def is_chosen(item: int, count: int) -> bool:
    """Returns whether an item of a map has kill points: the first, second, middle and last one of *count* do."""
    return item in (0, 1, count // 2, count - 1)


def read_journal(path: Path) -> Records:
    """Returns the values of the records by word."""
    records: Records = defaultdict(list)
    for line in path.read_bytes().splitlines():
        word, value = json.loads(line)
        records[word].append(tuple(value) if isinstance(value, list) else value)
    return records


def io_call(function: Any) -> str:
    """Returns the name of a function written in C if it changes what outlives the process, else an empty text."""
    name: str = function.__name__
    owner = getattr(function, "__self__", None)
    if name in OS_CALLS and function.__module__ in ("posix", "nt"):
        return f"os.{name}"
    kind = type(owner)
    module: str = function.__module__ or kind.__module__
    if name == "__exit__" and module in ("_io", "sqlite3"):
        return f"{kind.__name__}.{name}"
    if name not in CALLS or kind.__name__ in IN_MEMORY:
        return ""
    if module not in MODULES and module.partition(".")[0] in sys.stdlib_module_names:
        return ""
    return f"{module if function.__module__ else kind.__name__}.{name}"
