"""Finding and killing the programs that a thread has started.

Linux lists the children of a thread in `/proc/self/task/TID/children`. On other systems none are found.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Collection, Iterator
from typing import Final

#: Worker processes and fork servers, by process id: their own run ends them.
own_processes: Final[set[int]] = set()

#: The worker process that this code runs in, whose coordinator kills its whole process group; none in others.
_workers: Final[set[int]] = set()


def become_worker() -> None:
    """Notes that this process is a worker."""
    _workers.add(os.getpid())


def is_worker() -> bool:
    """Returns whether this process is a worker: what it starts stays in its process group, and ends with it."""
    return os.getpid() in _workers


GROUP: Final = 2  # in the fields of proc_pid_stat(5) behind the name
START: Final = 19  # in clock ticks since the system has started


class ThreadPrograms:
    """The programs that the calling thread starts from now on."""

    def __init__(self) -> None:
        self._thread = threading.get_native_id()
        self._before = frozenset(_forked_by(self._thread))

    def freeze(self) -> list[int]:
        """Stops them and all that they have started, and returns their process ids."""
        return freeze(self._roots)

    def _roots(self) -> Collection[int]:
        return _forked_by(self._thread) - self._before - own_processes


def freeze(roots: Callable[[], Collection[int]]) -> list[int]:
    """Stops processes and all that they have started, and returns their process ids.

    A stopped process starts no other, and its children's ids stay taken: Linux aborts a fork when a signal is pending
    (copy_process in kernel/fork.c). So all are found when a pass finds no new one.
    """
    frozen: dict[int, None] = {}  # parents first
    while new := [pid for pid in tree(roots()) if pid not in frozen]:
        for pid in new:
            _send(os.kill, pid, signal.SIGSTOP)
            frozen[pid] = None
    return list(frozen)


def members_since(first: int) -> list[int]:
    """Returns the processes of this process's group that have started since a child of it, orphans included."""
    began = _status_of(first)
    if began is None:
        return []
    own = os.getpid(), str(os.getpgrp())
    ids = [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 (names are wanted)
    members = {pid: status for pid in ids if (status := _status_of(pid)) is not None and status[GROUP] == own[1]}
    return [pid for pid, status in members.items() if pid != own[0] and int(status[START]) >= int(began[START])]


def _status_of(pid: int) -> list[str] | None:
    """Returns the fields of proc_pid_stat(5) behind the name; None without such a process, or such a file system."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            return file.read().decode(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None


def kill(frozen: Collection[int]) -> None:
    """Kills processes, and the process groups that they lead: a group may hold orphans."""
    for pid in frozen:
        with contextlib.suppress(OSError):
            if os.getpgid(pid) == pid:
                _send(os.killpg, pid, signal.SIGKILL)
        _send(os.kill, pid, signal.SIGKILL)


def _send(how: Callable[[int, int], None], pid: int, signum: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        how(pid, signum)


def tree(roots: Collection[int]) -> Iterator[int]:
    """Yields the processes and their descendants, parents first."""
    for pid in roots:
        yield pid
        yield from tree(children_of(pid))


def children_of(pid: int) -> set[int]:
    """Returns the children of a process, zombies included."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 (names are wanted)
    except OSError:  # it has ended
        return set()
    return set().union(*(_read_pids(f"/proc/{pid}/task/{thread}/children") for thread in threads))


def _forked_by(thread: int) -> set[int]:
    """Returns the children of one thread of this process, zombies included."""
    return _read_pids(f"/proc/self/task/{thread}/children")


def _read_pids(path: str) -> set[int]:
    """Returns the ids in a file. Each attempt in a thread reads one: Path and file objects would triple the time."""
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:  # the thread has ended, or this system has no such file
        return set()
    pids = b""
    with contextlib.suppress(OSError):  # it has ended meanwhile
        while piece := os.read(file, 4096):
            pids += piece
    os.close(file)
    return {int(pid) for pid in pids.split()}
