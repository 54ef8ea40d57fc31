"""FileLock: one process of this machine at a time works on a workflow. The lock ends with its process."""

import contextlib
import errno
import json
import os
import socket
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dotflow import clock
from dotflow.abc.shared_lock import SharedLock
from dotflow.atomic_file import FILES, Files, NotPrivate, close, open_plain
from dotflow.core.text import shorten
from dotflow.cpython import never_free
from dotflow.errors import StorageError, WorkflowBusy
from dotflow.own_descriptor import file_of, open_files
from dotflow.providers.storages.safe_name import safe_name
from dotflow.worker.interrupts import interrupts_held

if TYPE_CHECKING:
    from filelock import BaseFileLock

#: Errors of a folder that can't be written to. A run that only reads checkpoints goes on without a lock there.
UNWRITABLE: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT})
MAX_HOLDER: Final = 4096  # bytes
FORBIDDEN: Final = frozenset({errno.EACCES, errno.EPERM})

#: Locks that could not be released, by process and key. The process still holds them, so its next run takes them over.
_unreleased: "Final[dict[tuple[int, Hashable], BaseFileLock]]" = {}


class FileLock(SharedLock["BaseFileLock"]):
    """Locks a workflow against other processes of this machine.

    Entering raises WorkflowBusy if another process holds the lock, and StorageError if another user owns it.

    Args:
        folder: The folder of the lock file, made if it is missing.
        workflow_id: The workflow.
        data_folder: The folder of the values.
        files: Makes the folder and the file.
        on_acquired: Called when this process has acquired the lock, before any of its runs continues.
    """

    def __init__(
        self,
        folder: Path,
        workflow_id: str,
        *,
        data_folder: Path,
        files: Files = FILES,
        on_acquired: Callable[[], None] = lambda: None,
    ) -> None:
        self._path = folder / f".{safe_name(workflow_id)}.lock"
        super().__init__(os.path.realpath(self._path))
        self._workflow_id = workflow_id
        self._data_folder = data_folder
        self._files = files
        self._on_acquired = on_acquired

    def make(self) -> "BaseFileLock":
        from filelock import FileLock  # slow to import, and only named workflows need it

        with interrupts_held():  # after one within filelock, this process could neither lock nor fork
            # A background run releases it in another thread.
            return _unreleased.pop((os.getpid(), self.key), None) or FileLock(self._path, timeout=0, thread_local=False)

    def acquire(self, resource: "BaseFileLock") -> None:
        """Acquires the lock, or goes on without one if the folder can't be written to."""
        from filelock import Timeout

        try:
            self._make_file()
            with interrupts_held():  # as in `make`
                if resource.is_locked:  # by an earlier run, which could not release it
                    with contextlib.suppress(OSError):
                        resource.release()
                if not resource.is_locked:
                    with contextlib.suppress(InterruptedError):  # of a close, which is done all the same
                        resource.acquire()
                if not resource.is_locked:
                    resource.acquire()
        except Timeout:
            raise WorkflowBusy(self._workflow_id, str(self._path), *_read_holder(self._path)) from None
        except NotPrivate:
            raise
        except OSError as error:
            if error.errno in FORBIDDEN and self._path.exists() and os.access(self._data_folder, os.W_OK):
                owner = f"it belongs to another user ({error.strerror})"
                advice = "Let its group write to it, or use a folder of your own"
                raise StorageError(f"The lock {self._path} can't be acquired", f"{owner}. {advice}") from error
            if error.errno not in UNWRITABLE:
                raise OSError(error.errno, error.strerror, str(self._path)) from error
            return
        with contextlib.suppress(OSError):  # without room on the disk, an error does not name the holder
            _write_holder(self._path, self._files)
        self._on_acquired()

    def _make_file(self) -> None:
        """Makes the lock file, since filelock makes it as the umask has it."""
        folder = self._path.parent
        self._files.make_folder(str(folder), synced=False)
        self._files.check_private(str(folder), is_named=folder == self._data_folder)
        if self._path.exists() and not self._path.is_file():  # opening a FIFO waits for its other end
            raise OSError(errno.EINVAL, "it is no file")
        close(self._files.open_private(str(self._path), os.O_WRONLY))

    def release(self, resource: "BaseFileLock") -> None:
        if resource.is_locked and not self._is_open():  # a step has closed it, and filelock would close what it opened
            never_free(resource)
            return
        with interrupts_held():
            try:
                resource.release()
            except OSError as error:
                _unreleased[os.getpid(), self.key] = resource
                raise OSError(error.errno, error.strerror, str(self._path)) from error

    def _is_open(self) -> bool:
        files, file = dict(open_files()), file_of(str(self._path))
        return file is None or not files or file in files.values()


def _write_holder(path: Path, files: Files) -> None:
    """Writes the holder into the lock file, for the errors of other processes."""
    holder = {"host": socket.gethostname(), "process": os.getpid(), "since": clock.now().isoformat(timespec="seconds")}
    with os.fdopen(files.open_private(str(path), os.O_WRONLY | os.O_TRUNC), "w") as file:
        file.write(json.dumps(holder))


def _read_holder(path: Path) -> tuple[str, str]:
    try:
        with open(str(path), "rb", opener=open_plain) as file:
            holder = json.loads(file.read(MAX_HOLDER))
        return shorten(f"process {holder['process']} on host {holder['host']}"), shorten(str(holder["since"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # being written, locked, or another user's text
        return "another process", ""
