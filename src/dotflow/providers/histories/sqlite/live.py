"""The live file beside a history: each active run holds a lock on one of its bytes, which ends with its process.

The locks are POSIX record locks: the kernel releases them however the process ends, a forked child does not inherit
them, and they are seen across process namespaces. Closing any descriptor of the file would release all locks of the
process on it: so a process opens it once, and never closes it.

A run whose end can't be written, since the disk is full, say, leaves an empty file, for which such a disk has room.
"""

import contextlib
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from dotflow.atomic_file import FILES, Files, close, open_plain
from dotflow.own_descriptor import FileId, file_of
from dotflow.providers.histories.sql.database import Presence
from dotflow.worker.interrupts import in_forked_child

try:
    import fcntl
except ImportError:  # Windows: no run is found to have crashed
    fcntl = None  # type: ignore[assignment]

SUFFIX: Final = "-live"
OFFSET_SIZE: Final = 6  # bytes of a random place: no two runs have the same

_lock = threading.Lock()
_opened: dict[FileId, int] = {}  # descriptors by file; also inherited ones, which work in a child, too
_held: set[tuple[int, FileId, int]] = set()  # process, file, offset: a process can't see its own locks


class Live(Presence):
    """The live file of a history. A lock is the offset of its byte.

    Args:
        history: The path of the history.
        files: Makes the file.
    """

    def __init__(self, history: Path, files: Files = FILES) -> None:
        self._history = history
        self._files = files

    def hold(self, lock: int | None = None) -> int | None:
        """Locks a byte, and returns its offset; None where the file can't be used.

        With *lock*, it locks that one again, for a run of a process that has forked itself, or has closed the file.
        """
        with _lock, contextlib.suppress(OSError):
            if self._history.exists() and not self._history.is_file():  # a device: no file is made beside it
                return None
            self._files.make_folder(str(self._history.parent), synced=False)
            self._files.check_private(str(self._history.parent), is_named=True)
            for path in (str(self._history), str(self._path)):
                self._files.check_private(path)
            opened = self._open(self._files)
            if opened is None:
                return None
            file, descriptor = opened
            if lock is None:
                lock = int.from_bytes(os.urandom(OFFSET_SIZE), "big")
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, lock)
            _held.add((os.getpid(), file, lock))
            return lock
        return None

    def release(self, lock: int) -> None:
        with _lock:
            for process, file, other in tuple(_held):
                if process == os.getpid() and other == lock:
                    _held.discard((process, file, other))
                    with contextlib.suppress(OSError):
                        fcntl.lockf(_opened[file], fcntl.LOCK_UN, 1, lock)

    def is_held(self, lock: int) -> bool:
        if not self.is_lock(lock):
            return False
        with _lock:
            try:
                opened = self._open()
            except FileNotFoundError:
                return any(process == os.getpid() and other == lock for process, _, other in _held)
            except OSError:
                return True
            if opened is None:
                return True
            file, descriptor = opened
            if (os.getpid(), file, lock) in _held:
                return True
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, lock)  # readers do not see each other
            except OSError:
                return True
            with contextlib.suppress(OSError):  # the byte of a run that is gone
                fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, lock)
            return False

    def is_lock(self, value: object) -> bool:
        return type(value) is int and 0 <= value < 256**OFFSET_SIZE

    def file_id(self) -> FileId | None:
        """Returns the identity of the live file; None if there is none."""
        try:
            return _id_of(self._path.stat())
        except OSError:
            return None

    def note_end(self, lock: int) -> None:
        with contextlib.suppress(OSError):
            close(self._files.open_private(str(self._note_of(lock)), os.O_WRONLY))

    def has_noted_end(self, lock: int) -> bool:
        return self._note_of(lock).exists()

    def forget_ends(self, locks: Iterable[int]) -> None:
        for lock in locks:
            with contextlib.suppress(OSError):
                self._note_of(lock).unlink()

    @property
    def _path(self) -> Path:
        return Path(f"{os.path.realpath(self._history)}{SUFFIX}")  # of a link, that of its target

    def _note_of(self, lock: int) -> Path:
        return Path(f"{os.path.realpath(self._history)}-ended-{lock:x}")

    def _open(self, files: Files | None = None) -> tuple[FileId, int] | None:
        """Returns the live file and this process's descriptor of it. With *files*, a missing one is made."""
        if fcntl is None:
            return None
        path = self._path
        try:
            file = _id_of(path.stat())
        except FileNotFoundError:
            if files is None:
                raise
            file = None
        if file is None or file not in _opened or file_of(_opened[file]) != file:  # a step may have closed it
            flags = os.O_RDWR | os.O_CLOEXEC
            try:
                descriptor = open_plain(str(path), flags) if files is None else files.open_private(str(path), flags)
            except PermissionError:
                if files is not None:
                    raise
                descriptor = open_plain(str(path))
            file = _id_of(os.fstat(descriptor))
            _opened[file] = descriptor
        return file, _opened[file]


def _id_of(status: os.stat_result) -> FileId:
    return status[1:3]


@in_forked_child
def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()
