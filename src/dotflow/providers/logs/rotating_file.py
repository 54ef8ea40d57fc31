"""A log file that several processes write to, and that is rotated when it is full."""

import contextlib
import os
import stat
import time
from collections.abc import Callable
from typing import Final

from dotflow import clock
from dotflow.atomic_file import FILES, Files

try:
    import fcntl
except ImportError:  # not POSIX: an open file can't be renamed there, so the file just grows
    fcntl = None  # type: ignore[assignment]

APPEND: Final = os.O_WRONLY | os.O_APPEND | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
CHECK_INTERVAL: Final = 0.01  # seconds between two checks of the path; a check costs as much as a write


class _OpenFile:
    """An open file. It is closed when it is collected, since a thread may still write to it after a rotation."""

    __slots__ = ("descriptor", "is_plain", "status")

    def __init__(self, path: str, files: Files = FILES) -> None:
        self.descriptor = files.open_private(path, APPEND)
        self.status = os.fstat(self.descriptor)
        self.is_plain = stat.S_ISREG(self.status.st_mode)

    def __del__(
        self,
        close: Callable[[int], None] = os.close,  # at the end of the program, the modules may be gone
        suppress: type[contextlib.suppress] = contextlib.suppress,
    ) -> None:
        if hasattr(self, "descriptor"):
            with suppress(OSError):  # each line was written, or its write has raised
                close(self.descriptor)


class RotatingFile:
    """Appends lines to a file. A full file is renamed to `<path>.1`, `<path>.1` to `<path>.2`, and so on.

    Threads and processes, forked or not, may write and rotate at the same time: no line is lost, torn or written
    twice. That rests on four rules. One write to a file opened for appending has whole lines. Every 10 ms, before one,
    the writer checks that the path still leads to the open file. After each write it checks that the file was not
    deleted. A rotation locks the file that it is about to rename, and renames it last; lines written meanwhile are in
    that file.

    Args:
        path: The absolute path of the file.
        max_bytes: The largest size of the file, in bytes; 0 for no limit.
        backups: How many older files are kept; with 0 a full file is deleted.
        warn: Called once, with a message, when the file can't be rotated.
        files: Makes the file.
    """

    def __init__(
        self, path: str, max_bytes: int, backups: int, warn: Callable[[str], None], files: Files = FILES
    ) -> None:
        self._path = path
        self._max_bytes = max_bytes if fcntl is not None else 0
        self._backups = backups
        self._warn = warn
        self._files = files
        self._file: _OpenFile | None = None
        self._incomplete = False
        self._size = 0
        self._checked_at = -CHECK_INTERVAL

    def append(self, line: bytes) -> None:
        """Writes a line, or several. After an OSError, the next line begins on a line of its own."""
        file = self._current(len(line))
        if self._incomplete:
            line = b"\n" + line
        try:
            written = os.write(file.descriptor, line)
            while written < len(line):  # what a full disk did not take; raises the reason if it still does not
                self._incomplete = True
                written += os.write(file.descriptor, line[written:])
        except OSError:
            self._incomplete = self._incomplete or _ends_incomplete(self._path)
            raise
        self._incomplete = False
        if not file.is_plain:  # a device or a pipe has no size and can't be lost
            return
        status = os.fstat(file.descriptor)
        self._size = status.st_size
        if not status.st_nlink and self._is_gone(file):
            os.write(self._open().descriptor, line)  # the file was deleted before this write

    def _current(self, length: int) -> _OpenFile:
        file = self._file
        if file is None:
            return self._open()
        now = clock.ticks()
        if not 0 <= now - self._checked_at < CHECK_INTERVAL:
            self._checked_at = now
            if self._is_gone(file):
                return self._open()
        if self._max_bytes and self._size and self._size + length > self._max_bytes:
            self._rotate(length)
            return self._open()
        return file

    def _open(self) -> _OpenFile:
        self._files.check_private(os.path.dirname(self._path), is_named=True)
        try:
            file = _OpenFile(self._path, self._files)
        except FileNotFoundError:
            self._files.make_folder(os.path.dirname(self._path), synced=False)
            file = _OpenFile(self._path, self._files)
        if self._file is None:  # in a newer file, another process is writing the missing line end
            self._incomplete = _ends_incomplete(self._path)
        self._size = os.fstat(file.descriptor).st_size
        self._file = file
        return file

    def _is_gone(self, file: _OpenFile) -> bool:
        try:
            return not os.path.samestat(file.status, os.stat(self._path))  # on some file systems st_nlink is always 0
        except FileNotFoundError:
            return True

    def _rotate(self, length: int) -> None:
        try:
            if stat.S_ISREG(os.lstat(self._path).st_mode):
                self._rotate_locked(length)
            else:
                self._max_bytes = 0  # a device, or a link that was set on purpose
        except FileNotFoundError:
            return  # it was deleted just now
        except OSError as error:
            self._max_bytes = 0
            self._warn(
                f"the log file {self._path} is full and can't be renamed ({error.strerror}), so it goes on growing."
            )

    def _rotate_locked(self, length: int) -> None:
        """Rotates, unless another writer does or just did. While the lock is taken, the full file just grows."""
        # Opened again: a lock belongs to an open file description, and forked processes share the earlier ones.
        descriptor = os.open(self._path, APPEND)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            status, current = os.fstat(descriptor), os.lstat(self._path)
            if os.path.samestat(status, current) and status.st_size + length > self._max_bytes:
                rotate(self._path, self._backups)
        except BlockingIOError:
            return
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # a process forked meanwhile has a copy of the descriptor
            os.close(descriptor)


def rotate(path: str, backups: int) -> None:
    """Moves the file at *path* out of the way. No file is lost if the process is killed between two steps.

    The files move up to the first free number, such as one that a killed process left. Only if there is none, the
    oldest file is replaced.
    """
    if not backups:
        os.unlink(path)
        return
    last = next((number for number in range(1, backups) if not os.path.lexists(f"{path}.{number}")), backups)
    for number in range(last, 1, -1):
        with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
            os.replace(f"{path}.{number - 1}", f"{path}.{number}")
    os.replace(path, f"{path}.1")


def _ends_incomplete(path: str) -> bool:
    """Returns whether the last line has no end, as after a full disk or a power cut."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
        with open(path, "rb") as file:
            for seconds in (0.0, *[0.005] * 20):  # a line that is being written gets its end meanwhile
                time.sleep(seconds)
                length = file.seek(0, os.SEEK_END)
                if length:
                    file.seek(length - 1)
                if file.read(1) in (b"", b"\n"):
                    return False
            return True
    except OSError:  # it may be writable, but not readable
        return False
