"""The output of attempts, from the table `output`."""

import sqlite3
from collections.abc import Mapping
from datetime import datetime
from operator import itemgetter
from typing import Any, Final, NamedTuple

from dotflow.providers.histories.sqlite.summaries import EPOCH, moment
from dotflow.providers.histories.sqlite.tables import NO_ITEM
from dotflow.records.record import OutputChunk, OutputKey

CHUNKS: Final = """SELECT task, item, attempt, seq, at, stream, data, skipped FROM output WHERE run = ?{where}
    ORDER BY task, item, attempt, seq"""
SIZES: Final = """SELECT task, item, attempt, SUM(LENGTH(data)) FROM output WHERE run = ? AND stream > 0
    GROUP BY task, item, attempt"""
TAIL: Final = """SELECT task, item, attempt, seq, at, stream, data, skipped FROM output
    WHERE run = ? AND task = ? AND item = ? AND attempt = ? ORDER BY seq DESC"""
LAST: Final = "SELECT task, item, attempt, MAX(seq) FROM output WHERE run = ?{where} GROUP BY task, item, attempt"
ONE: Final = " AND task = ? AND item = ? AND attempt = ? AND seq > ?"


class Selection(NamedTuple):
    """A part of a run's output: that of a task, an item or an attempt; all of it if they are None."""

    task: int | None = None
    item: int | None = None
    attempt: int | None = None

    def where(self) -> tuple[str, tuple[int, ...]]:
        """Returns its conditions in SQL, and their values."""
        conditions = {name: value for name, value in self._asdict().items() if value is not None}
        return "".join(f" AND {name} = ?" for name in conditions), tuple(conditions.values())


def output_of(connection: sqlite3.Connection, run: int, selection: Selection) -> list[OutputChunk]:
    """Returns the output in the order of arrival."""
    where, values = selection.where()
    return _by_arrival(_chunks(connection, where, (run, *values)))


def sizes_of(connection: sqlite3.Connection, run: int) -> dict[OutputKey, int]:
    """Returns the bytes of the output of each attempt."""
    return {
        OutputKey(task, None if item == NO_ITEM else item, attempt): size
        for task, item, attempt, size in connection.execute(SIZES, (run,))
    }


def tails_of(connection: sqlite3.Connection, run: int, sizes: Mapping[OutputKey, int]) -> list[OutputChunk]:
    """Returns the last bytes of attempts, up to the number of each."""
    chunks: list[OutputChunk] = []
    for (task, item, attempt), size in sizes.items():
        tail: list[OutputChunk] = []
        left = size
        for row in connection.execute(TAIL, (run, task, NO_ITEM if item is None else item, attempt)):
            if left <= 0:
                break
            chunk = _chunk(row)
            tail.append(chunk._replace(data=chunk.data[-left:]) if chunk.stream else chunk)
            left -= len(chunk.data) if chunk.stream else 0
        chunks += reversed(tail)
    return chunks


def new_output(
    connection: sqlite3.Connection, run: int, selection: Selection, seen: dict[tuple[int, int, int], int]
) -> list[OutputChunk]:
    """Returns what is new since the last call with the same *seen*, which has the last `seq` of each attempt."""
    where, values = selection.where()
    chunks: list[OutputChunk] = []
    for *key, last in connection.execute(LAST.format(where=where), (run, *values)).fetchall():
        before = seen.get(attempt := tuple(key), -1)
        if last > before:
            seen[attempt] = last
            chunks += _chunks(connection, ONE, (run, *attempt, before))
    return _by_arrival(chunks)


def _chunks(connection: sqlite3.Connection, where: str, values: tuple[int, ...]) -> list[OutputChunk]:
    rows = connection.execute(CHUNKS.format(where=where), values)
    return list(map(_chunk, rows))


def _chunk(row: tuple[Any, ...]) -> OutputChunk:
    task, item, attempt, seq, at, stream, data, skipped = row
    return OutputChunk(task, None if item == NO_ITEM else item, attempt, seq, moment(at), stream, data, skipped or 0)


def _by_arrival(chunks: list[OutputChunk]) -> list[OutputChunk]:
    """Returns the output of several attempts in the order of arrival, that of each in its own order.

    A row of stream 0 stands between two others, and was written later.
    """
    moments: dict[tuple[int, int | None, int], datetime] = {}
    keyed = []
    for chunk in chunks:
        before = moments.get(chunk[:3], EPOCH)
        moments[chunk[:3]] = at = before if not chunk.stream else max(before, chunk.at)
        keyed.append((at, chunk))
    return [chunk for _, chunk in sorted(keyed, key=itemgetter(0))]
