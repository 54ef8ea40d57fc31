"""OutputRows: the output of a run's attempts as rows, of each the beginning and the end."""

from collections import deque
from typing import Any, Final

from dotflow.core.events import AttemptOutput
from dotflow.providers.histories.sqlite.tables import NO_ITEM, micro

#: The first number of a row that comes after the end of its attempt, of a thread that the step has left behind.
LATE: Final = 1_000_000_000

#: The text in place of what is missing.
GAP: Final = b"[... %d bytes were not kept ...]\n"

AttemptKey = tuple[int, int, int]  # task, item, attempt


class OutputRows:
    """The rows of `output` that are not yet in the file.

    Of each attempt, rows are kept until they have half of *limit* bytes. Of what comes later, the last half stays; one
    row of stream 0 has the number of bytes that are missing.

    Attributes:
        attempts: What is kept of the attempts that have not ended.
        rows: The rows without the run, by their keys; None for a row that is deleted.
        size: The bytes in them.
    """

    def __init__(self, limit: int) -> None:
        self.rows: dict[tuple[int, ...], list[Any] | None] = {}
        self.size = 0
        self._half = limit // 2
        self.attempts: dict[AttemptKey, _Kept] = {}
        self._late: dict[AttemptKey, _Kept] = {}

    def add(self, event: AttemptOutput, *, is_open: bool) -> None:
        """Adds a part of the output of an attempt, which may have ended."""
        key = (event.task_id, NO_ITEM if event.item is None else event.item, event.attempt)
        kept = (self.attempts if is_open else self._late).setdefault(key, _Kept(0 if is_open else LATE))
        seq, size = kept.next_seq, len(event.data)
        kept.next_seq += 1
        at = micro(event.at)
        self.rows[*key, seq] = [*key, seq, at, event.stream, event.data, event.skipped]
        self.size += size
        if kept.head < self._half:
            kept.head += size
            return
        kept.tail.append((seq, size, event.skipped))
        kept.tail_size += size
        while kept.tail_size > self._half and len(kept.tail) > 1:
            self._drop(key, kept, at)

    def _drop(self, key: AttemptKey, kept: "_Kept", at: int) -> None:
        """Drops the oldest row after the beginning."""
        seq, size, skipped = kept.tail.popleft()
        kept.tail_size -= size
        if (*key, seq) in self.rows:
            self.size -= size
        self.rows[*key, seq] = None
        if kept.gap is None:
            kept.gap = seq
        kept.missing += size + skipped
        self.rows[*key, kept.gap] = [*key, kept.gap, at, 0, GAP % kept.missing, kept.missing]

    def clear(self) -> None:
        """Forgets the rows, which are in the file now."""
        self.rows.clear()
        self.size = 0


class _Kept:
    """What is kept of one attempt's output."""

    __slots__ = ("gap", "head", "missing", "next_seq", "tail", "tail_size")

    def __init__(self, first: int) -> None:
        self.next_seq = first
        self.head = 0  # bytes of the beginning
        self.tail: deque[tuple[int, int, int]] = deque()  # number, size and skipped bytes of the rows after it
        self.tail_size = 0
        self.gap: int | None = None  # the number of the row that counts the missing bytes
        self.missing = 0
