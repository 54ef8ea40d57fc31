"""Retention: forgets old runs, a few at a time, and shrinks the file."""

import contextlib
import re
import sqlite3
from datetime import timedelta
from typing import Final, NamedTuple

from dotflow import clock
from dotflow.errors import InvalidArgument
from dotflow.providers.histories.sqlite.tables import MICRO, OF_RUN
from dotflow.providers.sqlite_file import SQLiteFile

INTERVAL: Final = 3600  # seconds between two sweeps of a file
BUDGET: Final = 0.02  # seconds of a sweep at the end of a run; the rest follows at the end of the next one
UNITS: Final = {"minute": 60, "hour": 3600, "day": 86_400, "week": 7 * 86_400}
TEXT: Final = re.compile(r"\s*(\d+)\s*(minute|hour|day|week|run)s?\s*")
ACCEPTED: Final = 'a text such as "30 days" or "200 runs", a timedelta, or None to keep all'

CLAIM: Final = "UPDATE meta SET swept = ? WHERE swept < ?"
#: The last run, and the last failed one, of each workflow.
KEPT: Final = """SELECT MAX(run) FROM runs GROUP BY workflow_id
    UNION SELECT MAX(run) FROM runs WHERE state IN ('Failed', 'Crashed') GROUP BY workflow_id"""
OLD: Final = f"SELECT run FROM runs WHERE ended < ? AND run NOT IN ({KEPT}) ORDER BY ended LIMIT 50"
SURPLUS: Final = f"""SELECT run FROM runs WHERE ended IS NOT NULL AND run NOT IN ({KEPT})
    AND run NOT IN (SELECT run FROM runs ORDER BY run DESC LIMIT ?) LIMIT 50"""
UNUSED: Final = (
    "DELETE FROM steps WHERE plan NOT IN (SELECT plan FROM runs WHERE plan IS NOT NULL)",
    "DELETE FROM plans WHERE plan NOT IN (SELECT plan FROM runs WHERE plan IS NOT NULL)",
    "DELETE FROM environments WHERE environment NOT IN (SELECT environment FROM runs WHERE environment IS NOT NULL)",
)


class Keep(NamedTuple):
    """Which runs are kept: those of the last *seconds*, or the last *runs*; both None for all."""

    seconds: float | None = None
    runs: int | None = None


def as_keep(value: object) -> Keep:
    """Returns the value of the argument `keep`. Raises InvalidArgument if it is invalid."""
    if value is None:
        return Keep()
    if isinstance(value, timedelta) and value > timedelta(0):
        return Keep(seconds=value.total_seconds())
    match = TEXT.fullmatch(value) if isinstance(value, str) else None
    if match is None or not int(match[1]):
        raise InvalidArgument("keep", value, ACCEPTED)
    if match[2] == "run":
        return Keep(runs=int(match[1]))
    return Keep(seconds=float(int(match[1]) * UNITS[match[2]]))


def sweep(file: SQLiteFile, keep: Keep) -> None:
    """Forgets runs that are no longer kept, once an hour for each file, or goes on with that. Errors are ignored."""
    if keep.seconds is None and keep.runs is None:
        return
    with contextlib.suppress(sqlite3.Error, OSError):  # busy, full, read-only: the next run tries again
        now = int(clock.now().timestamp())
        if not file.transact(lambda connection: connection.execute(CLAIM, (now, now - INTERVAL)).rowcount, patience=0):
            return
        until = clock.ticks() + BUDGET
        is_done = False
        while not is_done and clock.ticks() < until:
            is_done = not _forget_some(file, keep)
        if not is_done:
            file.run("UPDATE meta SET swept = 0", (), patience=0)
        # executescript, since execute() would free one page only.
        file.use(lambda connection: connection.executescript("PRAGMA incremental_vacuum"), None, False, 0)


def _forget_some(file: SQLiteFile, keep: Keep) -> int:
    def work(connection: sqlite3.Connection) -> int:
        if keep.runs is not None:
            rows = connection.execute(SURPLUS, (keep.runs,))
        else:
            assert keep.seconds is not None
            rows = connection.execute(OLD, (int((clock.now().timestamp() - keep.seconds) * MICRO),))
        return forget(connection, [run for (run,) in rows])

    return file.transact(work, patience=0)


def forget(connection: sqlite3.Connection, runs: list[int]) -> int:
    """Deletes runs by their numbers, within a transaction. Returns how many there were."""
    for run in runs:
        for table in (*OF_RUN, "runs"):
            connection.execute(f"DELETE FROM {table} WHERE run = ?", (run,))
    if runs:
        for statement in UNUSED:
            connection.execute(statement)
    return len(runs)
