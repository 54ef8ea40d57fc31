"""Following a log as it grows, through rotation, truncation and deletion of its files."""

import os
import select
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from dotflow.cli.log.files import BLOCK_SIZE, LineSplitter, identity, identity_at, open_all
from dotflow.cli.log.records import Record, RecordAssembler

POLL_INTERVAL: Final = 0.25  # seconds
RECORD_DELAY: Final = 0.05  # seconds without a new line after which a record is complete


class Tail:
    """A file that is read as it grows.

    Args:
        file: The open file.
        position: Where to begin.
    """

    def __init__(self, file: BinaryIO, position: int = 0) -> None:
        self.file = file
        self.identity = identity(file)
        self._position = position
        self._lines = LineSplitter()
        self._assembler = RecordAssembler()

    @property
    def is_at_rest(self) -> bool:
        """Whether every line that was read belongs to a record that was yielded."""
        return not self._assembler.is_open

    def records(self) -> Iterator[Record]:
        """Yields the new records. The last one is held back until the file has stopped growing."""
        if os.fstat(self.file.fileno()).st_size < self._position:
            self._position, self._lines = 0, LineSplitter()  # it was truncated
            yield from self._assembler.end()
        has_grown = False
        self.file.seek(self._position)
        while block := self.file.read(BLOCK_SIZE):
            has_grown = True
            self._position += len(block)
            for line in self._lines.add(block):
                yield from self._assembler.add(line)
        if not has_grown:
            yield from self._assembler.end()

    def last_records(self) -> Iterator[Record]:
        """Yields the records that are left, and closes the file."""
        yield from self.records()
        for line in self._lines.end():
            yield from self._assembler.add(line)
        yield from self._assembler.end()
        self.file.close()


class Follower:
    """Follows a log across rotations.

    The file before the current one stays open, since a line may reach it after it was renamed. While both are open,
    no other file can get their inodes, so each is found again under its new name.

    Args:
        path: The path of the log.
        files: Its open files, newest first; none if there is no log yet.
        position: The position in the first of them after which records are new.
    """

    def __init__(self, path: Path, files: list[BinaryIO], position: int) -> None:
        self._path = path
        self._tails = [Tail(file, file.seek(0, os.SEEK_END)) for file in files[1:2]]
        self._tails += [Tail(file, position) for file in files[:1]]
        for file in files[2:]:
            file.close()

    @property
    def is_at_rest(self) -> bool:
        """Whether no record is held back."""
        return all(tail.is_at_rest for tail in self._tails)

    def records(self) -> Iterator[Record]:
        """Yields the new records, oldest first."""
        for tail in self._tails:
            yield from tail.records()
        current = identity_at(self._path)
        if current is None or (self._tails and current == self._tails[-1].identity):
            return
        for file in self._newer_files():
            while len(self._tails) > 1:
                yield from self._tails.pop(0).last_records()
            self._tails.append(Tail(file))
            for tail in self._tails:
                yield from tail.records()

    def close(self) -> None:
        """Closes the files."""
        for tail in self._tails:
            tail.file.close()

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
