"""The moments of a run at which its process can be killed, and the switch that does it at one of them."""

import contextlib
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Final, NamedTuple

from dotflow.testing.crash.journal import Journal

BEFORE: Final = 0  # the number of the moment before a piece of work begins
AFTER: Final = -1  # that of the moment after it has ended; between them its I/O calls are counted from 1

#: Functions of the system that change what outlives the process.
OS_CALLS: Final = frozenset({
    "chmod", "close", "copy_file_range", "fdatasync", "fsync", "ftruncate", "link", "mkdir", "open", "posix_fallocate",
    "pwrite", "pwritev", "remove", "rename", "replace", "rmdir", "sendfile", "symlink", "truncate", "unlink", "utime",
    "write", "writev",
})  # fmt: skip
#: Methods, written in C, of files, databases and connections that do.
CALLS: Final = frozenset({
    "close", "commit", "connect", "delete", "exec", "execute", "executemany", "executescript", "fcntl", "flock",
    "flush", "lockf", "msync", "open", "put", "recv", "recv_into", "rollback", "send", "sendall", "sendmsg", "sendto",
    "truncate", "write", "writelines",
})  # fmt: skip
#: In the standard library those names mean such a thing in these modules only.
MODULES: Final = frozenset({"_io", "io", "_socket", "socket", "_ssl", "ssl", "sqlite3", "_sqlite3", "fcntl", "mmap"})
IN_MEMORY: Final = frozenset({"BytesIO", "StringIO"})

#: The same for audit events: of storages that work in threads of their own, or in code that can't be looked into.
EVENTS: Final = frozenset({
    "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.truncate", "socket.connect",
    "socket.sendmsg", "socket.sendto", "sqlite3.connect", "subprocess.Popen",
})  # fmt: skip
WRITING: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class KillPoint(NamedTuple):
    """A moment of a run.

    Attributes:
        what: The piece of work, for readers: "the post of task 2 (load)".
        time: Which time it is done in the run, from 1.
        number: BEFORE, AFTER, or the number of the I/O call in it that is about to be made, from 1.
        call: The name of that call, for readers.
    """

    what: str
    time: int
    number: int
    call: str = ""

    @property
    def name(self) -> tuple[str, int, int]:
        """What makes it the same moment in another run."""
        return self.what, self.time, self.number

    def __str__(self) -> str:
        again = f", time {self.time}" if self.time > 1 else ""
        if self.number == BEFORE:
            return f"before {self.what}{again}"
        if self.number == AFTER:
            return f"after {self.what}{again}"
        return f"in {self.what}{again}, before its I/O call {self.number} ({self.call})"


class KillSwitch:
    """Counts the moments that a run passes, and kills its process at one of them.

    Args:
        journal: Is told before.
        kill_at: The moment; None lets the run pass them all.
        discover: Whether all of them are to be found, those inside of what is written too.

    Attributes:
        passed: The moments so far.
    """

    def __init__(self, journal: Journal, kill_at: KillPoint | None, discover: bool) -> None:
        self.passed: list[KillPoint] = []
        self._journal = journal
        self._kill_at = None if kill_at is None else kill_at.name
        self._process = os.getpid()
        self._times: Counter[str] = Counter()
        self._work: KillPoint | None = None
        self._call: Any = None  # the one that is being made
        self._sees_calls = discover or (kill_at is not None and kill_at.number > 0)
        if self._sees_calls:
            sys.addaudithook(self._audit)  # it can't be taken away again, but the process lives for one run

    def boundary(self, what: str) -> None:
        """A moment between two pieces of work."""
        self._times[what] += 1
        self._pass(KillPoint(what, self._times[what], AFTER))

    @contextlib.contextmanager
    def writing(self, what: str, then: Callable[[], None]) -> Iterator[None]:
        """A piece of work that changes the storage; *then* is called when it is done, before the moment after it."""
        self._times[what] += 1
        start = KillPoint(what, self._times[what], BEFORE)
        self._pass(start)
        with self._profiling(start) if self._sees_calls else contextlib.nullcontext():
            yield
        then()
        self._pass(start._replace(number=AFTER))

    @contextlib.contextmanager
    def _profiling(self, work: KillPoint) -> Iterator[None]:
        before = sys.getprofile()
        self._work = work
        sys.setprofile(self._profile)
        try:
            yield
        finally:
            sys.setprofile(before)
            self._work = None
            self._call = None

    def _pass(self, point: KillPoint) -> None:
        self.passed.append(point)
        if point.name == self._kill_at and os.getpid() == self._process:
            self._journal.write("killed", str(point))
            os.kill(self._process, signal.SIGKILL)

    def _pass_call(self, call: str) -> None:
        work = self._work
        if work is not None:
            self._work = work._replace(number=work.number + 1)
            self._pass(self._work._replace(call=call))

    def _profile(self, frame: FrameType, event: str, function: Any) -> None:
        """Python calls this around each function written in C."""
        if event == "c_call":
            call = io_call(function)
            if call:
                self._call = function
                self._pass_call(call)
        elif event in ("c_return", "c_exception") and function == self._call:
            self._call = None

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Python calls this for each audit event, in any thread."""
        if self._work is None or self._call is not None:  # what a call does itself has been counted with it
            return
        if event in EVENTS or (event == "open" and _is_writing(*arguments)):
            self._pass_call(event)


def io_call(function: Any) -> str:
    """The name of a function written in C that changes what outlives the process; empty for any other one."""
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


def _is_writing(path: object = None, mode: object = None, flags: object = 0) -> bool:
    if isinstance(mode, str) and set(mode) & set("wax+"):
        return True
    return isinstance(flags, int) and bool(flags & WRITING)
