"""One process at a time works on a workflow: a lock that dies with its process."""

import contextlib
import errno
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dotflow import clock
from dotflow.errors import WorkflowBusy
from dotflow.providers.safe_name import safe_name
from dotflow.providers.whole_file import make_folder

if TYPE_CHECKING:
    from filelock import BaseFileLock

#: Where not even a lock can be made, nothing can be written either, so nobody is disturbed: what follows from that is
#: said by the first checkpoint that can't be saved, and what can be read is still read.
UNWRITABLE: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT})

_guard: Final = threading.Lock()
_held: Final[dict[tuple[int, str], "_Held"]] = {}


class _Held:
    """A lock that this process has, for all of its runs that are going on."""

    def __init__(self, lock: "BaseFileLock | None") -> None:
        self.lock = lock
        self.runs = 0


@contextlib.contextmanager
def hold(folder: Path, workflow_id: str, at_first: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Keeps other processes off a workflow until it is left; other runs of this process may join.

    Args:
        folder: Where the lock is kept; made if it is missing.
        workflow_id: The workflow.
        at_first: Called when this process has just got the lock, before any of its runs goes on.

    Raises:
        WorkflowBusy: Another process has it.
    """
    path = folder / f".{safe_name(workflow_id)}.lock"
    name = (os.getpid(), os.path.realpath(path))  # the process too: what a forked one finds here is its parent's
    with _guard:
        held = _held.get(name)
        if held is None:
            held = _Held(_acquire(path, workflow_id))
            _held[name] = held
            try:
                if held.lock is not None:
                    at_first()
            except BaseException:  # the storage's own, or Ctrl-C: nobody works here, then
                _give_back(name, held)
                raise
        held.runs += 1
    try:
        yield
    finally:
        with _guard:
            held.runs -= 1
            if not held.runs:
                _give_back(name, held)


def _give_back(name: tuple[int, str], held: _Held) -> None:
    del _held[name]
    if held.lock is not None:
        held.lock.release()


def _acquire(path: Path, workflow_id: str) -> "BaseFileLock | None":
    """The lock, taken; None where none can be made."""
    from filelock import FileLock, Timeout  # here, since it loads asyncio, and only named workflows need it

    # A lock of our own, which any thread may release: a background run ends in another one than it began in.
    lock = FileLock(path, timeout=0, thread_local=False)
    try:
        make_folder(str(path.parent), synced=False)
        lock.acquire()
    except Timeout:
        raise WorkflowBusy(workflow_id, str(path), *_holder(path)) from None
    except OSError as error:
        if error.errno in UNWRITABLE:
            return None
        raise
    with contextlib.suppress(OSError):  # no room for it: then nobody is told who has it
        _sign(path)
    return lock


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
