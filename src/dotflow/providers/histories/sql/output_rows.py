"""OutputRows: the output of a run's attempts as rows, of each the beginning and the end."""

from collections import deque
from typing import Any, Final

from dotflow.core.events import AttemptOutput
from dotflow.providers.histories.sql.database import Connection
from dotflow.providers.histories.sql.tables import ATTEMPT_KEY, NO_ITEM, micro, upsert

#: The first number of a row that comes after the end of its attempt, of a thread that the step has left behind.
LATE: Final = 1_000_000_000

#: The text in place of what was dropped, with its bytes and the limit.
GAP: Final = b"[... %d bytes were dropped to keep %b ...]\n"
PIECES: Final = 8  # rows of the last half: whole rows are dropped, so that at least seven eighths of it stay
MIN_PIECE: Final = 4096  # bytes of them

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
        self._limit = limit
        self._half = limit // 2
        self.attempts: dict[AttemptKey, _Kept] = {}
        self._late: dict[AttemptKey, _Kept] = {}

    def add(self, event: AttemptOutput, *, is_open: bool) -> None:
        """Adds a part of the output of an attempt, which may have ended."""
        key = (event.task_id, NO_ITEM if event.item is None else event.item, event.attempt)
        kept = (self.attempts if is_open else self._late).setdefault(key, _Kept(0 if is_open else LATE))
        at, data, skipped = micro(event.at), event.data, event.skipped
        if kept.head < self._half:
            kept.head += len(data)
            self._add_row(key, kept, [at, event.stream, data, skipped])
            return
        size = max(MIN_PIECE, self._half // PIECES)
        for piece in [data[begin : begin + size] for begin in range(0, len(data), size)] or [data]:
            kept.tail.append((kept.next_seq, len(piece), skipped))
            kept.tail_size += len(piece)
            self._add_row(key, kept, [at, event.stream, piece, skipped])
            skipped = 0
        while kept.tail_size > self._half and len(kept.tail) > 1:
            self._drop(key, kept, at)

    def _add_row(self, key: AttemptKey, kept: "_Kept", values: list[Any]) -> None:
        seq = kept.next_seq
        kept.next_seq += 1
        self.rows[*key, seq] = [*key, seq, *values]
        self.size += len(values[2])

    def _drop(self, key: AttemptKey, kept: "_Kept", at: int) -> None:
        """Drops the oldest row after the beginning."""
        from dotflow.report.text import size_text  # here, since few runs print as much

        seq, size, skipped = kept.tail.popleft()
        kept.tail_size -= size
        if (*key, seq) in self.rows:
            self.size -= size
        self.rows[*key, seq] = None
        if kept.gap is None:
            kept.gap = seq
        kept.missing += size + skipped
        gap = GAP % (kept.missing, size_text(self._limit).encode())
        self.rows[*key, kept.gap] = [*key, kept.gap, at, 0, gap, kept.missing]

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


SAVE_OUTPUT: Final = upsert("output", (*ATTEMPT_KEY, "seq"), ("at", "stream", "data", "skipped"))
DROP_OUTPUT: Final = "DELETE FROM output WHERE run = ? AND task = ? AND item = ? AND attempt = ? AND seq = ?"


def save_output(connection: Connection, run: int, rows: OutputRows) -> None:
    """Writes rows of output, and deletes those that are dropped."""
    kept = [(run, *row) for row in rows.rows.values() if row is not None]
    dropped = [(run, *key) for key, row in rows.rows.items() if row is None]
    for statement, values in ((SAVE_OUTPUT, kept), (DROP_OUTPUT, dropped)):
        if values:
            connection.executemany(statement, values)
