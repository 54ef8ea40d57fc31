"""A log's files: the one that is written to, and the older ones beside it."""

import os
import stat
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

import click

from dotflow.cli.log.filter import Filter
from dotflow.cli.log.records import Record, parse_records, parse_records_backwards

BLOCK_SIZE: Final = 65_536  # bytes that are read at a time
MAX_TRIES: Final = 20  # how often the files are looked at again, while they are being renamed


class LineSplitter:
    """Puts blocks together to lines, as they come."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []  # of a line that has no end yet

    def add(self, block: bytes) -> list[bytes]:
        """The lines that are whole now, with their ends."""
        first, *others = block.split(b"\n")
        self._parts.append(first)
        if not others:
            return []
        lines = [b"".join(self._parts), *others]
        self._parts = [lines.pop()]
        return [line + b"\n" for line in lines]

    def end(self) -> list[bytes]:
        """The one that has no end; it gets one."""
        return self.add(b"\n") if any(self._parts) else []


def open_all(path: Path) -> list[BinaryIO]:
    """Every file of a log that is there, newest first, open. Raises a ClickException for one that can't be read."""
    for _ in range(MAX_TRIES):
        files = [file for file in map(_open, _paths(path)) if file is not None]
        if [identity(file) for file in files] == _identities(path):
            return files
        for file in files:  # somebody rotates it just now: one would be missing, or there twice
            file.close()
    return [file for file in map(_open, _paths(path)) if file is not None]


def absolute_path(path: Path) -> Path:
    """The path from the root on. Raises a ClickException where there is no current folder that it could begin in."""
    try:
        return path.absolute()
    except FileNotFoundError:
        message = "the current folder no longer exists. Change to one that does, or pass an absolute path: --path FILE."
        raise click.ClickException(message) from None


def identity(file: BinaryIO) -> tuple[int, int]:
    """What a file stays the same by, whatever its name becomes."""
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino


def identity_at(path: Path) -> tuple[int, int] | None:
    """That of the file at a path, if there is one."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino


def end_of_lines(file: BinaryIO) -> int:
    """Where the last line ends that has an end."""
    for start, block in _blocks_backwards(file, file.seek(0, os.SEEK_END)):
        index = block.rfind(b"\n")
        if index >= 0:
            return start + index + 1
    return 0


def settled_length(file: BinaryIO) -> int:
    """Its length, after a moment in which a line that is just being written comes to its end."""
    length = file.seek(0, os.SEEK_END)
    if length and end_of_lines(file) < length:
        time.sleep(0.02)
    return file.seek(0, os.SEEK_END)


def last_records(files: list[BinaryIO], end: int, count: int, record_filter: Filter) -> list[Record]:
    """The last records that are wanted, oldest first. No more is read than they take.

    Args:
        files: Newest first.
        end: Up to where the first of them is read.
        count: How many.
        wanted: Which of them count.
    """
    records: deque[Record] = deque()
    for index, file in enumerate(files):
        if len(records) >= count:
            break
        for record in parse_records_backwards(_lines_backwards(file, file.seek(0, os.SEEK_END) if index else end)):
            if record_filter.matches(record):
                records.appendleft(record)
                if len(records) >= count:
                    break
    return list(records)


def all_records(files: list[BinaryIO], end: int, record_filter: Filter) -> Iterator[Record]:
    """Every record that is wanted, oldest first; one at a time is in memory."""
    for file in reversed(files):
        for record in parse_records(_lines(file, end if file is files[0] else file.seek(0, os.SEEK_END))):
            if record_filter.matches(record):
                yield record


def _paths(path: Path) -> list[Path]:
    """The file's and its older ones', by number; there may be gaps between them."""
    try:
        beside = [each.name.removeprefix(f"{path.name}.") for each in path.parent.iterdir() if each.name != path.name]
    except OSError:  # there is no such folder, or it may be passed through and not listed
        beside = []
    numbers = sorted(int(name) for name in beside if name.isascii() and name.isdigit() and name == str(int(name)))
    older = [path.with_name(f"{path.name}.{number}") for number in numbers]
    return [path, *(file for file in older if file.is_file())]


def _identities(path: Path) -> list[tuple[int, int]]:
    return [each for each in map(identity_at, _paths(path)) if each is not None]


def _open(path: Path) -> BinaryIO | None:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise click.ClickException(f"{path} is no file. --path takes the file that a LogDefault(path=...) writes.")
        return path.open("rb", buffering=0)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise click.ClickException(f"{path} can't be read: {error.strerror}.") from error


def _lines(file: BinaryIO, end: int) -> Iterator[bytes]:
    file.seek(0)
    lines, remaining = LineSplitter(), end
    while remaining > 0 and (block := file.read(min(BLOCK_SIZE, remaining))):
        remaining -= len(block)
        yield from lines.add(block)
    yield from lines.end()


def _lines_backwards(file: BinaryIO, end: int) -> Iterator[bytes]:
    """Its lines, the last first. The one without an end gets one."""
    parts: list[bytes] = []  # of a line whose beginning hasn't been reached, the last first
    for _, block in _blocks_backwards(file, end):
        first, *lines = block.split(b"\n")
        if lines:
            parts.append(lines.pop())
            yield from _join(parts)
            parts = [b"\n"]
            for line in reversed(lines):
                yield line + b"\n"
        parts.append(first)
    yield from _join(parts)


def _join(parts: list[bytes]) -> Iterator[bytes]:
    line = b"".join(reversed(parts))
    if line:
        yield line if line.endswith(b"\n") else line + b"\n"


def _blocks_backwards(file: BinaryIO, end: int) -> Iterator[tuple[int, bytes]]:
    while end > 0:
        start = max(0, end - BLOCK_SIZE)
        file.seek(start)
        block = file.read(end - start)
        if not block:  # it was cut off just now
            return
        yield start, block
        end = start
