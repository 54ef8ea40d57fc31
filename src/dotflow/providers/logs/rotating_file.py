"""A file that several processes write lines to, and that begins anew when it is full."""

import contextlib
import os
import stat
import time
from collections.abc import Callable
from typing import BinaryIO, Final

from dotflow import clock

try:
    import fcntl
except ImportError:  # not POSIX: there an open file can't be renamed either, so the file just grows
    fcntl = None  # type: ignore[assignment]

APPEND: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
CHECK_INTERVAL: Final = 0.01  # seconds; a look costs as much as the write


class _OpenFile:
    """A file that is open until nobody uses it any more: a thread may still write when another one has moved on."""

    __slots__ = ("descriptor", "device", "inode", "is_plain")

    def __init__(self, path: str) -> None:
        self.descriptor = os.open(path, APPEND, 0o644)
        status = os.fstat(self.descriptor)
        self.inode, self.device = status.st_ino, status.st_dev
        self.is_plain = stat.S_ISREG(status.st_mode)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        if hasattr(self, "descriptor"):
            close(self.descriptor)

    def is_at(self, status: os.stat_result) -> bool:
        """Whether *found*, what a path leads to, is this file."""
        return status.st_ino == self.inode and status.st_dev == self.device


class RotatingFile:
    """Appends lines to a file. A full one becomes `<path>.1`, the one that was there `<path>.2`, and so on.

    Threads, forked processes and processes that know nothing of each other may write to it and rotate it at the same
    time: no line is lost, torn or written twice. That rests on four things. A line is one write to a file opened for
    appending. Every 10 ms, before a line, the path is looked at: is it still the file that is open? After each
    line, the file is: was it deleted? And who rotates holds a lock on the very file that is about to be renamed, and
    renames it last. So a line that comes while somebody else rotates is in the older file.

    Args:
        path: The file. It is found again by its absolute path, whatever folder becomes the current one.
        max_bytes: A line that would make the file longer goes into a new one; 0 for never.
        backups: How many older files are kept; with 0 a full file is deleted.
        tell: Called once, with a sentence, when the file can't be rotated.
    """

    def __init__(self, path: str, max_bytes: int, backups: int, warn: Callable[[str], None]) -> None:
        self._path = path
        self._max_bytes = max_bytes if fcntl is not None else 0
        self._backups = backups
        self._warn = warn
        self._file: _OpenFile | None = None
        self._torn = False
        self._size = 0
        self._checked_at = -CHECK_INTERVAL

    def append(self, line: bytes) -> None:
        """Writes a line. What the system raises goes through; what comes after that begins on a line of its own."""
        file = self._current(len(line))
        if self._torn:
            line = b"\n" + line
        try:
            written = os.write(file.descriptor, line)
            if written < len(line):
                self._write_rest(file, line[written:])
        except OSError:
            self._torn = self._torn or _ends_torn(self._path)
            raise
        self._torn = False
        if not file.is_plain:  # a device or a pipe has no length, and is there as long as it is open
            return
        status = os.fstat(file.descriptor)
        self._size = status.st_size
        if not status.st_nlink and self._is_gone(file):
            os.write(self._open().descriptor, line)  # deleted before it was written: nobody will ever read it there

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
        try:
            file = _OpenFile(self._path)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(self._path), exist_ok=True)
            file = _OpenFile(self._path)
        if self._file is None:  # in a file that was begun since, an end that is missing is just being written
            self._torn = _ends_torn(self._path)
        self._size = os.fstat(file.descriptor).st_size
        self._file = file
        return file

    def _write_rest(self, file: _OpenFile, rest: bytes) -> None:
        """A full disk takes what still fits. The rest, or the reason, comes now."""
        self._torn = True
        while rest:
            rest = rest[os.write(file.descriptor, rest) :]

    def _is_gone(self, file: _OpenFile) -> bool:
        try:
            return not file.is_at(os.stat(self._path))  # some file systems count no names: then it is still there
        except FileNotFoundError:
            return True

    def _rotate(self, length: int) -> None:
        try:
            if stat.S_ISREG(os.lstat(self._path).st_mode):
                self._rotate_locked(length)
            else:
                self._max_bytes = 0  # a device, or a link that somebody set on purpose: it is theirs
        except FileNotFoundError:
            return  # somebody deletes it all, just now
        except OSError as error:
            self._max_bytes = 0
            self._warn(
                f"the log file {self._path} is full and can't be renamed ({error.strerror}), so it goes on growing."
            )

    def _rotate_locked(self, length: int) -> None:
        """Rotates, unless somebody else does or just did. Whoever finds the lock taken writes on into the full file."""
        # Opened anew: a lock belongs to an opening, and forked processes share those that were there before.
        descriptor = os.open(self._path, APPEND & ~os.O_CREAT)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            status, current = os.fstat(descriptor), os.lstat(self._path)
            if os.path.samestat(status, current) and status.st_size + length > self._max_bytes:
                rotate(self._path, self._backups)
        except BlockingIOError:
            return
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # a process that was forked just now has a copy, which would keep it
            os.close(descriptor)


def rotate(path: str, backups: int) -> None:
    """Takes the file away from *path*. Each step leaves all files there, so that it may end between any two.

    The files move up as far as the first number that is free, such as one that a killed process left free; only where
    there is none, the oldest is given up.
    """
    if not backups:
        os.unlink(path)
        return
    last = next((number for number in range(1, backups) if not os.path.lexists(f"{path}.{number}")), backups)
    for number in range(last, 1, -1):
        with contextlib.suppress(FileNotFoundError):  # deleted by hand
            os.replace(f"{path}.{number - 1}", f"{path}.{number}")
    os.replace(path, f"{path}.1")


def _ends_torn(path: str) -> bool:
    """Whether the last line was cut off, when the disk was full or a machine lost its power."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
        with open(path, "rb") as file:
            return all(_is_cut_off(file, seconds) for seconds in (0.0, *[0.005] * 20))
    except OSError:  # we may write to it, and not read it
        return False


def _is_cut_off(file: BinaryIO, seconds: float) -> bool:
    """Whether the last line has no end after *wait* seconds: one that is just being written has none at first."""
    time.sleep(seconds)
    length = file.seek(0, os.SEEK_END)
    if length:
        file.seek(length - 1)
    return file.read(1) not in (b"", b"\n")
