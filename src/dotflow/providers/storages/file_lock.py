"""One process at a time works on a workflow: a lock that dies with its process."""

import contextlib
import errno
import json
import os
import socket
import threading
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dotflow import clock
from dotflow.errors import StorageError, WorkflowBusy
from dotflow.providers.storages.atomic_file import make_folder
from dotflow.providers.storages.safe_name import safe_name

if TYPE_CHECKING:
    from filelock import BaseFileLock

#: Where no lock can be made since the place can't be written to, nobody is disturbed: what follows from that is said by
#: the first checkpoint that can't be saved, and what can be read is still read.
UNWRITABLE: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT})
FORBIDDEN: Final = frozenset({errno.EACCES, errno.EPERM})

_guard: Final = threading.Lock()
_held: Final[dict[tuple[int, str], "_Held"]] = {}


class _Held:
    """A lock that this process has, for all of its runs that are going on. None where none can be made."""

    def __init__(self, lock: "BaseFileLock | None") -> None:
        self.lock = lock
        self.runs: set[FileLock] = set()

    def is_given_back(self) -> bool:
        """Whether it is, though it is still listed: an interrupt may come in the middle of that."""
        return not self.runs and (self.lock is None or not self.lock.is_locked)


class FileLock:
    """Keeps other processes off a workflow until it is left; other runs of this process may join.

    Entered, it gives the name of the lock, by which other runs of this process know that they share it. Leaving may be
    done again, where an interrupt came into the middle of it.

    Args:
        folder: Where the lock is kept; made if it is missing.
        workflow_id: The workflow.
        values_in: The folder that values are written to.
        at_first: Called when this process has just got the lock, before any of its runs goes on.

    Entering raises WorkflowBusy where another process has it, and StorageError where nobody can tell, since the lock is
    another user's.
    """

    def __init__(
        self, folder: Path, workflow_id: str, *, values_in: Path, at_first: Callable[[], None] = lambda: None
    ) -> None:
        self._path = folder / f".{safe_name(workflow_id)}.lock"
        self._workflow_id = workflow_id
        self._values_in = values_in
        self._at_first = at_first
        self._name = (0, "")

    def __enter__(self) -> Hashable:
        # The process belongs to the name: what a forked one finds in the list is its parent's.
        self._name = (os.getpid(), os.path.realpath(self._path))
        try:
            self._join()
        except BaseException:  # Ctrl-C on its way in or out: who can't go on holds nothing
            self.__exit__()
            raise
        return self._name

    def __exit__(self, *_: object) -> None:
        with _guard:
            held = _held.get(self._name)
            if held is not None:
                held.runs.discard(self)
                if not held.runs:
                    _give_back(self._name, held)

    def _join(self) -> None:
        with _guard:
            held = _held.get(self._name)
            if held is None or held.is_given_back():
                held = _held[self._name] = _Held(_lock_at(self._path))  # listed first, so that it is not lost
                try:
                    self._take(held)
                except BaseException:  # before anybody else can join it
                    _give_back(self._name, held)
                    raise
            held.runs.add(self)

    def _take(self, held: _Held) -> None:
        """Takes the lock, or does without where none can be made."""
        from filelock import Timeout

        assert held.lock is not None
        try:
            make_folder(str(self._path.parent), synced=False)
            held.lock.acquire()
        except Timeout:
            raise WorkflowBusy(self._workflow_id, str(self._path), *_holder(self._path)) from None
        except OSError as error:
            if error.errno in FORBIDDEN and self._path.exists() and os.access(self._values_in, os.W_OK):
                what = f"The lock {self._path} belongs to another user, so nobody can tell whether the workflow is run"
                cure = f"{error.strerror}; let its group write to it, or use a folder of your own"
                raise StorageError(what, cure) from error
            if error.errno not in UNWRITABLE:
                raise
            held.lock = None
            return
        with contextlib.suppress(OSError):  # no room for it: then nobody is told who has it
            _sign(self._path)
        self._at_first()


def _give_back(name: tuple[int, str], held: _Held) -> None:
    if held.lock is not None:
        held.lock.release()
    _held.pop(name, None)


def _lock_at(path: Path) -> "BaseFileLock":
    from filelock import FileLock  # here, since it loads asyncio, and only named workflows need it

    # Of our own, and any thread may release it: a background run ends in another one than it began in.
    return FileLock(path, timeout=0, thread_local=False)


def _sign(path: Path) -> None:
    """Writes down who has it, for those who are refused."""
    holder = {"host": socket.gethostname(), "process": os.getpid(), "since": clock.now().isoformat(timespec="seconds")}
    path.write_text(json.dumps(holder))


def _holder(path: Path) -> tuple[str, str]:
    try:
        holder = json.loads(path.read_text())
        return f"process {holder['process']} on host {holder['host']}", str(holder["since"])
    except (OSError, ValueError, KeyError, TypeError):  # it is just being written, or the system keeps us from reading
        return "another process", ""
