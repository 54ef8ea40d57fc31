"""The memory of attempts, and the end of those that use more than `memory=` allows. On Linux alone.

A thread looks at the processes of all attempts: in the workers themselves, C code would keep it from looking. A first
look is cheap and counts too much: the resident pages, which processes may share and files may fill. What exceeds the
limit by that is counted exactly.
"""

import contextlib
import os
import threading
from typing import Final, NamedTuple

from dotflow.clock import ticks
from dotflow.worker.interrupts import in_forked_child
from dotflow.worker.programs import freeze, kill, tree

PAGE: Final = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
KIB: Final = 1024
FASTEST: Final = 4e9  # bytes a second that a process may use more; filling fresh pages took less
SOONEST: Final = 0.002  # seconds between two looks
LATEST: Final = 0.1
LATEST_TREE: Final = 0.5  # seconds between two searches for child processes
SWAP: Final = 0.5  # seconds between two looks at what is swapped out
SHARE: Final = 10  # an exact look, 23 ms a GB, comes again after so many times what it took, or so much more memory:
STEPS: Final = 100  # what is left of the limit, or this part of it
#: The lines of proc_pid_status(5) that count, and those of smaps_rollup, which divide shared pages among processes.
OWN: Final = (b"RssAnon:", b"RssShmem:", b"VmSwap:")
PROPORTIONAL: Final = (b"Pss_Anon:", b"Pss_Shmem:", b"SwapPss:")


class Excess(NamedTuple):
    """What an attempt has used when it was ended.

    Attributes:
        used: In bytes, that of its child processes included.
        children: How many child processes it had.
        in_children: What these have used, in bytes.
    """

    used: int
    children: int
    in_children: int


class WatchedProcess:
    """A worker process whose attempt may use so many bytes more than the process has now.

    Args:
        pid: The process, which has not begun the attempt.
        limit: The bytes.

    Attributes:
        excess: What it has used, once it was killed for that.
        due: When to look at it, in seconds of the monotonic clock.
    """

    def __init__(self, pid: int, limit: int) -> None:
        self._pid = pid
        self._limit = limit
        self._lock = threading.Lock()
        self._is_over = False
        self._files: dict[int, int] = {}  # descriptors of statm, by process
        self._swapped = 0
        self._tree_due = self._swap_due = self._exact_due = 0.0
        self._free = 0  # what the cheap look counts too much
        self._own = _sum_of(pid, "status", OWN)  # also what it shares with the process that it was forked from
        self._search()
        self._resident = self._count_resident()
        self.excess: Excess | None = None
        self.due = 0.0

    def look(self) -> None:
        """Kills the process, with all that it has started, if it uses too much; else sets when to look again."""
        with self._lock:
            if not self._is_over:
                self._look()

    def end(self) -> None:
        """Ends the looks. The process may be reaped then, and its id be another's."""
        with self._lock:
            self._is_over = True
            for file in self._files.values():
                os.close(file)
            self._files.clear()

    def _look(self) -> None:
        now = ticks()
        if now >= self._tree_due:
            self._search()
        if now >= self._exact_due:
            self._free = 0
        roughly = self._count_resident() - self._resident + self._swapped - self._free
        left = self._limit - roughly
        if left < 0:
            used = self._count(exactly=False)
            # Of pages that they share, one of the processes has all: it alone may be over the limit.
            if self._exceeds(used) and max(used.values()) - self._own <= self._limit:
                used = self._count(exactly=True)
            if self._exceeds(used):
                self._kill(used)
                return
            # Only what is used from now on can exceed the limit, until pages that were shared may have been copied.
            left = max(self._limit - sum(used.values()) + self._own, self._limit // STEPS)
            self._free += roughly + left - self._limit
            self._exact_due = now + SHARE * (ticks() - now)
        pause = left / FASTEST
        self._tree_due = min(self._tree_due, now + pause)
        self.due = now + min(LATEST, max(SOONEST, pause))

    def _exceeds(self, used: dict[int, int]) -> bool:
        return sum(used.values()) - self._own > self._limit

    def _search(self) -> None:
        """Finds the processes that the attempt has started, and at times what of them is swapped out."""
        now = ticks()
        self._tree_due = now + LATEST_TREE
        found = list(tree([self._pid]))
        for pid in [pid for pid in self._files if pid not in found]:
            os.close(self._files.pop(pid))
        for pid in found:
            if pid not in self._files:
                with contextlib.suppress(OSError):  # it has ended
                    self._files[pid] = os.open(f"/proc/{pid}/statm", os.O_RDONLY | os.O_CLOEXEC)
        if now >= self._swap_due:
            self._swap_due = now + SWAP
            self._swapped = sum(_sum_of(pid, "status", OWN[-1:]) for pid in found)

    def _count_resident(self) -> int:
        pages = 0
        for file in self._files.values():
            with contextlib.suppress(OSError):
                pages += int(os.pread(file, 100, 0).split()[1])
        return pages * PAGE

    def _count(self, *, exactly: bool) -> dict[int, int]:
        """Returns the bytes of memory and swap that count, by process."""
        used = {}
        for pid in self._files:
            try:
                used[pid] = _sum_of(pid, "smaps_rollup", PROPORTIONAL) if exactly else _sum_of(pid, "status", OWN)
            except OSError:  # another user's, such as a setuid program, or an old Linux
                used[pid] = _sum_of(pid, "status", OWN)
        return used

    def _kill(self, used: dict[int, int]) -> None:
        in_children = sum(used.values()) - used[self._pid]
        count = sum(size > 0 for pid, size in used.items() if pid != self._pid)
        self.excess = Excess(sum(used.values()) - self._own, count, in_children)
        self.due = float("inf")
        kill(freeze(lambda: [self._pid]))


class MemoryWatch:
    """A thread that looks at the processes of this program's attempts, as long as there are any."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forgets all processes: in a forked child they are its parent's."""
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._watched: set[WatchedProcess] = set()
        self._is_running = False

    def begin(self, pid: int, limit: int) -> WatchedProcess:
        """Watches a worker process from now on."""
        watched = WatchedProcess(pid, limit)
        with self._lock:
            self._watched.add(watched)
            if not self._is_running:
                self._is_running = True
                threading.Thread(target=self._run, name="dotflow-memory", daemon=True).start()
        self._changed.set()
        return watched

    def end(self, watched: WatchedProcess) -> None:
        """Ends the watching of a process, which may be reaped then."""
        watched.end()
        with self._lock:
            self._watched.discard(watched)
        self._changed.set()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._watched:
                    self._is_running = False
                    return
                watched = tuple(self._watched)
            for process in watched:
                if process.due <= ticks():
                    process.look()
            self._changed.wait(min(LATEST, max(0.0, min(process.due for process in watched) - ticks())))
            self._changed.clear()


def _sum_of(pid: int, file: str, fields: tuple[bytes, ...]) -> int:
    """Returns the sum of fields of a process in bytes; 0 once it has ended.

    Raises OSError where another user has the file.
    """
    try:
        with open(f"/proc/{pid}/{file}", "rb") as opened:  # noqa: PTH123
            lines = opened.read().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        if file != "status" and os.path.exists(f"/proc/{pid}"):  # noqa: PTH110
            raise
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith(fields)) * KIB


watch: Final = MemoryWatch()
in_forked_child(watch.reset)
