"""One process at a time works on a workflow: a lock that dies with its process."""

import contextlib
import errno
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dotflow import clock
from dotflow.abc.shared_lock import SharedLock
from dotflow.errors import StorageError, WorkflowBusy
from dotflow.providers.storages.atomic_file import make_folder
from dotflow.providers.storages.safe_name import safe_name

if TYPE_CHECKING:
    from filelock import BaseFileLock

#: Where no lock can be made since the place can't be written to, nobody is disturbed: what follows from that is said by
#: the first checkpoint that can't be saved, and what can be read is still read.
UNWRITABLE: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT})
FORBIDDEN: Final = frozenset({errno.EACCES, errno.EPERM})


class FileLock(SharedLock["BaseFileLock"]):
    """Keeps other processes off a workflow until it is left; other runs of this process may join.

    Args:
        folder: Where the lock is kept; made if it is missing.
        workflow_id: The workflow.
        values_in: The folder that values are written to.
        at_first: Called when this process has just got the lock, before any of its runs goes on.

    Entering raises WorkflowBusy where another process has it, and StorageError where nobody can tell, since the lock is
    another user's.
    """

    def __init__(
        self, folder: Path, workflow_id: str, *, data_folder: Path, on_acquired: Callable[[], None] = lambda: None
    ) -> None:
        self._path = folder / f".{safe_name(workflow_id)}.lock"
        super().__init__(os.path.realpath(self._path))
        self._workflow_id = workflow_id
        self._data_folder = data_folder
        self._on_acquired = on_acquired

    def make(self) -> "BaseFileLock":
        from filelock import FileLock  # here, since it loads asyncio, and only named workflows need it

        # Of our own, and any thread may release it: a background run ends in another one than it began in.
        return FileLock(self._path, timeout=0, thread_local=False)

    def acquire(self, resource: "BaseFileLock") -> None:
        """Takes the lock, or does without where none can be made."""
        from filelock import Timeout

        try:
            make_folder(str(self._path.parent), synced=False)
            resource.acquire()
        except Timeout:
            raise WorkflowBusy(self._workflow_id, str(self._path), *_read_holder(self._path)) from None
        except OSError as error:
            if error.errno in FORBIDDEN and self._path.exists() and os.access(self._data_folder, os.W_OK):
                raise self._foreign_lock(error) from error
            if error.errno not in UNWRITABLE:
                raise
            return
        with contextlib.suppress(OSError):  # no room for it: then nobody is told who has it
            _write_holder(self._path)
        self._on_acquired()

    def release(self, resource: "BaseFileLock") -> None:
        resource.release()

    def _foreign_lock(self, error: OSError) -> StorageError:
        message = f"The lock {self._path} belongs to another user, so nobody can tell whether the workflow is run"
        return StorageError(message, f"{error.strerror}; let its group write to it, or use a folder of your own")


def _write_holder(path: Path) -> None:
    """Writes down who has it, for those who are refused."""
    holder = {"host": socket.gethostname(), "process": os.getpid(), "since": clock.now().isoformat(timespec="seconds")}
    path.write_text(json.dumps(holder))


def _read_holder(path: Path) -> tuple[str, str]:
    try:
        holder = json.loads(path.read_text())
        return f"process {holder['process']} on host {holder['host']}", str(holder["since"])
    except (OSError, ValueError, KeyError, TypeError):  # it is just being written, or the system keeps us from reading
        return "another process", ""
