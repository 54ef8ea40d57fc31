"""OwnDescriptor: a descriptor that dotflow needs. Users' code may close any, and open another file in its place."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from itertools import repeat
from os import SEEK_CUR, SEEK_SET, lseek
from typing import Final

FileId = tuple[int, int]  # inode and device, as in a stat_result

MARK_BITS: Final = 40  # of an offset that a descriptor gets as a mark: up to 2 TB, and ext4 has files of 16


def file_of(place: int | str) -> FileId | None:
    """Returns which file, pipe or socket a descriptor or a path leads to; None if it is closed, or missing."""
    try:
        status = os.stat(place)  # noqa: PTH116 (of a descriptor, too)
    except OSError:
        return None
    return status[1:3]


class OwnDescriptor:
    """A descriptor, and the file, pipe or socket that it leads to.

    A step may lead it elsewhere: a daemon closes all, a test runner exchanges 1 and 2. Whatever has its number then is
    the step's.
    """

    __slots__ = ("file", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.file = file_of(number)

    def is_open(self) -> bool:
        """Returns whether it still leads there."""
        try:
            return os.fstat(self.number)[1:3] == self.file
        except OSError:
            return False

    def close(self) -> None:
        """Closes it, unless a step has done so."""
        if self.is_open():
            os.close(self.number)

    def open_again(self, path: str, flags: int) -> bool:
        """Opens its file with the same number. Returns False where that is another descriptor now, or the file.

        No descriptor of the file is closed: that would release all locks of this process on it.
        """
        if file_of(path) != self.file:
            return False
        lower = []  # numbers, which are taken meanwhile: the system gives the lowest one that is free
        try:
            while (number := os.open(os.devnull, os.O_RDONLY)) < self.number:
                lower.append(number)
            os.close(number)
            return number == self.number and os.open(path, flags) == number and self.is_open()
        finally:
            for descriptor in lower:
                os.close(descriptor)


def mark(number: int) -> int:
    """Gives a descriptor an offset that no other one has, and returns that; -1 where it can't have one.

    It is for files that are read and written at given offsets, as SQLite does.
    """
    offset = int.from_bytes(os.urandom(MARK_BITS // 8), "big") | 1 << MARK_BITS
    with contextlib.suppress(OSError):  # the file system has no files of that size
        if lseek(number, offset, SEEK_SET) == offset:
            return offset
    return -1


def have_marks(numbers: Sequence[int], marks: list[int]) -> bool:
    """Returns whether all descriptors still have their marks, in a fraction of the time of a look at their files."""
    try:
        return [*map(lseek, numbers, repeat(0), repeat(SEEK_CUR))] == marks
    except OSError:  # a step has closed one of them
        return False


def open_files() -> Iterator[tuple[int, FileId]]:
    """Yields the open descriptors of this process, and where they lead; none where the system does not list them."""
    try:
        numbers = sorted(map(int, os.listdir("/dev/fd")))  # noqa: PTH208 (one call, which an interrupt leaves whole)
    except OSError:
        return
    for number in numbers:
        if (file := file_of(number)) is not None:
            yield number, file
