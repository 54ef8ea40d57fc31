"""The files of a log, the current one and the older ones beside it, and following them as they grow."""

import os
import select
import stat
import sys
import time
from collections import deque
from collections.abc import Iterator
from itertools import dropwhile
from pathlib import Path
from typing import BinaryIO, Final

import click

from dotflow import clock
from dotflow.cli.log.records import Filter, Pieces, Record, RecordAssembler, begins_record, parse_records

BLOCK_SIZE: Final = 65_536  # bytes
GROWTH: Final = 4  # of the end of a file that is read, where it has too few records
MAX_TRIES: Final = 20  # to open all files, while they are being renamed


class LineSplitter:
    """Splits blocks into lines as they arrive."""

    def __init__(self) -> None:
        self._parts = Pieces()  # of an incomplete line

    def add(self, block: bytes) -> list[bytes]:
        """Returns the lines that a block completes, with their line ends."""
        first, *others = block.split(b"\n")
        self._parts.append(first)
        if not others:
            return []
        lines = [b"".join(self._parts), *others]
        self._parts = Pieces()
        self._parts.append(lines.pop())
        return [line + b"\n" for line in lines]

    def end(self) -> list[bytes]:
        """Returns the incomplete line, if any, with a line end."""
        return self.add(b"\n") if any(self._parts) else []


def open_all(path: Path) -> list[BinaryIO]:
    """Opens every file of a log, newest first. Raises a ClickException for one that can't be read."""
    for _ in range(MAX_TRIES):
        files = [file for file in map(_open, _paths(path)) if file is not None]
        if [identity(file) for file in files] == _identities(path):
            return files
        for file in files:  # during a rotation, one would be missing or twice in the list
            file.close()
    return [file for file in map(_open, _paths(path)) if file is not None]


def absolute_path(path: Path) -> Path:
    """Returns an absolute path. Raises a ClickException if the current folder was deleted."""
    try:
        return path.absolute()
    except FileNotFoundError:
        message = "the current folder no longer exists. Change to one that does, or pass an absolute path: --path FILE."
        raise click.ClickException(message) from None


def identity(file: BinaryIO) -> tuple[int, int]:
    """Returns the device and inode of a file, which stay the same when it is renamed."""
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino


def identity_at(path: Path) -> tuple[int, int] | None:
    """Returns the identity of the file at a path, if there is one."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino


def end_of_lines(file: BinaryIO) -> int:
    """Returns the position after the last line end."""
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - BLOCK_SIZE)
        file.seek(start)
        block = file.read(end - start)
        index = block.rfind(b"\n")
        if index >= 0:
            return start + index + 1
        end = start if block else 0  # the file was truncated meanwhile
    return 0


def last_records(files: list[tuple[BinaryIO, int]], count: int, record_filter: Filter) -> list[Record]:
    """Returns the last records that match, oldest first. It reads little more than they need.

    Args:
        files: The files, newest first, with the position up to which each is read.
        count: How many records.
        record_filter: Which records count.
    """
    records: deque[Record] = deque()
    for file, end in files:
        if len(records) >= count:
            break
        records.extendleft(reversed(_last_of(file, end, count - len(records), record_filter)))
    return list(records)


def _last_of(file: BinaryIO, end: int, count: int, record_filter: Filter) -> deque[Record]:
    """Returns the last records of one file. It reads the end of the file, and more of it until that has enough."""
    size = BLOCK_SIZE
    while True:
        begin = max(0, end - size)
        lines = _lines(file, begin, end)
        if begin:  # in the middle of a line, and of a record
            next(lines, None)
            lines = dropwhile(lambda line: not begins_record(line), lines)
        found = deque(filter(record_filter.matches, parse_records(lines)), maxlen=count)
        if not begin or len(found) == count:
            return found
        size *= GROWTH


def all_records(files: list[tuple[BinaryIO, int]], record_filter: Filter) -> Iterator[Record]:
    """Yields every record that matches, oldest first, with one at a time in memory. *files* are as above."""
    for file, end in reversed(files):
        for record in parse_records(_lines(file, 0, end)):
            if record_filter.matches(record):
                yield record


def _paths(path: Path) -> list[Path]:
    """Returns the paths of the file and its older ones, by number; numbers may be missing."""
    try:
        beside = [file.name.removeprefix(f"{path.name}.") for file in path.parent.iterdir() if file.name != path.name]
    except OSError:  # the folder is missing, or can't be listed
        beside = []
    numbers = sorted(int(name) for name in beside if name.isascii() and name.isdigit() and name == str(int(name)))
    older = [path.with_name(f"{path.name}.{number}") for number in numbers]
    return [path, *(file for file in older if file.is_file())]


def _identities(path: Path) -> list[tuple[int, int]]:
    return [identity for identity in map(identity_at, _paths(path)) if identity is not None]


def _open(path: Path) -> BinaryIO | None:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise click.ClickException(
                f"{path} is no file. Pass the file that LogDefault(path=...) writes: --path FILE."
            )
        return path.open("rb", buffering=0)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise click.ClickException(f"{path} can't be read: {error.strerror}.") from error


def _lines(file: BinaryIO, begin: int, end: int) -> Iterator[bytes]:
    file.seek(begin)
    lines, remaining = LineSplitter(), end - begin
    while remaining > 0 and (block := file.read(min(BLOCK_SIZE, remaining))):
        remaining -= len(block)
        yield from lines.add(block)
    yield from lines.end()


POLL_INTERVAL: Final = 0.25  # seconds
RECORD_DELAY: Final = 0.05  # seconds without a new line after which a record is complete
LATE: Final = 5.0  # seconds after a rotation in which a writer may still add to the renamed file; it looks each 0.01
MAX_LATE: Final = 64  # renamed files that are open at most


class Tail:
    """A file that is read as it grows.

    Args:
        file: The open file.
        position: Where to begin.
    """

    def __init__(self, file: BinaryIO, position: int = 0) -> None:
        self.file = file
        self.identity = identity(file)
        self.renamed_at: float | None = None  # when a newer file was found
        self._position = position
        self._lines = LineSplitter()
        self._assembler = RecordAssembler()

    @property
    def is_at_rest(self) -> bool:
        """Whether every line that was read belongs to a record that was yielded."""
        return not self._assembler.is_open

    def size(self) -> int:
        """Returns how long the file is now."""
        return os.fstat(self.file.fileno()).st_size

    def records(self, end: int) -> Iterator[Record]:
        """Yields the new records up to *end*. The last one is held back until the file has stopped growing.

        A renamed file holds none back: its lines come before those of newer files.
        """
        if end < self._position:
            self._position, self._lines = 0, LineSplitter()  # it was truncated
            yield from self._assembler.end()
        has_grown = False
        self.file.seek(self._position)
        while block := self.file.read(min(BLOCK_SIZE, end - self._position)):
            has_grown = True
            self._position += len(block)
            for line in self._lines.add(block):
                yield from self._assembler.add(line)
        if not has_grown or self.renamed_at is not None:
            yield from self._assembler.end()

    def last_records(self) -> Iterator[Record]:
        """Yields the records that are left, and closes the file."""
        yield from self.records(self.size())
        for line in self._lines.end():
            yield from self._assembler.add(line)
        yield from self._assembler.end()
        self.file.close()


class Follower:
    """Follows a log across rotations.

    Files that were renamed stay open for a while: a process that has not noticed it yet writes to them. While they are
    open, no other file can get their inodes, so each is found again under its new name.

    Args:
        path: The path of the log.
        files: Its open files, newest first, with the positions after which records are new; none if there is no log.
    """

    def __init__(self, path: Path, files: list[tuple[BinaryIO, int]]) -> None:
        self._path = path
        self._tails: list[Tail] = []  # oldest first
        for file, position in reversed(files[: MAX_LATE + 1]):
            self._add(Tail(file, position))
        for file, _ in files[MAX_LATE + 1 :]:
            file.close()

    @property
    def is_at_rest(self) -> bool:
        """Whether no record is held back."""
        return all(tail.is_at_rest for tail in self._tails)

    def records(self) -> Iterator[Record]:
        """Yields the new records, oldest first."""
        current = identity_at(self._path)
        if current is not None and (not self._tails or current != self._tails[-1].identity):
            for file in self._newer_files():
                self._add(Tail(file))
        # The newest first: what is in a file was written after what its writer has added to an older one.
        sizes = [tail.size() for tail in reversed(self._tails)]
        for tail, size in zip(self._tails, reversed(sizes), strict=True):
            yield from tail.records(size)
        while self._is_over():
            yield from self._tails.pop(0).last_records()

    def close(self) -> None:
        """Closes the files."""
        for tail in self._tails:
            tail.file.close()

    def _add(self, tail: Tail) -> None:
        if self._tails:
            self._tails[-1].renamed_at = clock.ticks()
        self._tails.append(tail)

    def _is_over(self) -> bool:
        """Whether nothing comes to the oldest file any more. The one before the newest stays."""
        if len(self._tails) < 3 or (renamed_at := self._tails[0].renamed_at) is None:
            return False
        return len(self._tails) > MAX_LATE + 1 or clock.ticks() - renamed_at > LATE

    def _newer_files(self) -> list[BinaryIO]:
        """Opens the files that are newer than those that are followed, oldest first."""
        files = open_all(self._path)
        known = [identity(file) for file in files]
        for tail in reversed(self._tails):
            if tail.identity in known:
                index = known.index(tail.identity)
                for file in files[index:]:
                    file.close()
                return files[:index][::-1]
        return files[::-1]  # those that were followed are gone


def pause(seconds: float) -> None:
    """Waits. Raises BrokenPipeError as soon as the reader of stdout is gone."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
    except (AttributeError, OSError, ValueError):  # not POSIX, or no file
        time.sleep(seconds)
        return
    if poll.poll(seconds * 1000):
        raise BrokenPipeError
