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

from dotflow.atomic_file import FILES, Files, open_plain
from dotflow.own_descriptor import FileId, file_of
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


def hold(history: Path, offset: int | None = None, files: Files = FILES) -> int | None:
    """Locks a byte of the live file for a run, and returns its offset; None where the file can't be used.

    With *offset*, it locks that one again, for a run of a process that has forked itself, or has closed the file.
    """
    with _lock, contextlib.suppress(OSError):
        if history.exists() and not history.is_file():  # a device: no file is made beside it
            return None
        files.make_folder(str(history.parent), synced=False)
        files.check_private(str(history.parent), is_named=True)
        for path in (str(history), f"{os.path.realpath(history)}{SUFFIX}"):
            files.check_private(path)
        opened = _open(history, files)
        if opened is None:
            return None
        file, descriptor = opened
        if offset is None:
            offset = int.from_bytes(os.urandom(OFFSET_SIZE), "big")
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)
        _held.add((os.getpid(), file, offset))
        return offset
    return None


def release(history: Path, offset: int) -> None:
    """Releases the byte of a run of this process."""
    with _lock:
        for process, file, other in tuple(_held):
            if process == os.getpid() and other == offset:
                _held.discard((process, file, other))
                with contextlib.suppress(OSError):
                    fcntl.lockf(_opened[file], fcntl.LOCK_UN, 1, offset)


def is_held(history: Path, offset: int) -> bool:
    """Returns whether a run holds the byte; also True where that can't be found out."""
    with _lock:
        try:
            opened = _open(history)
        except FileNotFoundError:
            return any(process == os.getpid() and other == offset for process, _, other in _held)
        except OSError:
            return True
        if opened is None:
            return True
        file, descriptor = opened
        if (os.getpid(), file, offset) in _held:
            return True
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, offset)  # shared: readers do not see each other
        except OSError:
            return True
        with contextlib.suppress(OSError):  # the byte of a run that is gone
            fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, offset)
        return False


def file_id(history: Path) -> FileId | None:
    """Returns the identity of the live file; None if there is none."""
    try:
        return _id_of(Path(f"{os.path.realpath(history)}{SUFFIX}").stat())
    except OSError:
        return None


def note_end(history: Path, offset: int, files: Files) -> None:
    """Notes that a run has ended whose end could not be written: it has not crashed."""
    with contextlib.suppress(OSError):
        os.close(files.open_private(str(_note_of(history, offset)), os.O_WRONLY))


def has_noted_end(history: Path, offset: int) -> bool:
    """Returns whether there is such a note."""
    return _note_of(history, offset).exists()


def forget_ends(history: Path, offsets: Iterable[int]) -> None:
    """Removes notes, once the history says how the runs have ended."""
    for offset in offsets:
        with contextlib.suppress(OSError):
            _note_of(history, offset).unlink()


def _note_of(history: Path, offset: int) -> Path:
    return Path(f"{os.path.realpath(history)}-ended-{offset:x}")


def _open(history: Path, files: Files | None = None) -> tuple[FileId, int] | None:
    """Returns the live file and this process's descriptor of it. With *files*, a missing one is made."""
    if fcntl is None:
        return None
    path = Path(f"{os.path.realpath(history)}{SUFFIX}")  # of a link, that of its target
    try:
        file = _id_of(path.stat())
    except FileNotFoundError:
        if files is None:
            raise
        file = None
    if file is None or file not in _opened or file_of(_opened[file]) != file:  # a step may have closed the descriptor
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
