"""Retention: forgets old runs, a few at a time, and shrinks the file."""

import contextlib
import re
import sqlite3
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from dotflow import clock
from dotflow.errors import InvalidArgument
from dotflow.providers.histories.sqlite.tables import MICRO, OF_RUN
from dotflow.providers.sqlite_file import SQLiteFile

#: Which runs are kept: those of a time, a number of the last ones, or all.
Keep = timedelta | int | None

INTERVAL: Final = 3600  # seconds between two sweeps of a file
BUDGET: Final = 0.02  # seconds of a sweep at the end of a run; the rest follows at the end of the next one
TEXT: Final = re.compile(r"\s*(\d{1,8})\s*(minute|hour|day|week|run)s?\s*")
ACCEPTED: Final = 'a text such as "30 days" or "200 runs", a timedelta, or None to keep all'

PAGES: Final = 500  # that a sweep gives back to the system, at most
BATCH: Final = 20  # runs that one transaction deletes

CLAIM: Final = "UPDATE meta SET swept = ? WHERE swept < ?"
RESUME: Final = "UPDATE meta SET swept = 0"
#: A run with the last one of its chain, which decides for all of them. What is queued or running or paused goes on, and
#: so does a claimed run that an earlier dotflow has called Crashed.
CHAINS: Final = """runs AS old JOIN runs AS last
    ON last.run = COALESCE((SELECT MAX(run) FROM runs WHERE origin = old.origin), old.run)"""
GOES_ON: Final = """(last.state IN ('Queued', 'Running', 'Paused')
    OR EXISTS (SELECT 1 FROM wanted WHERE wanted.run = last.run AND server IS NOT NULL))"""
#: Later runs of its workflow, with all parameters and keys; those of before there was a queue have them in the id.
LATER: Final = """(EXISTS (SELECT 1 FROM runs WHERE workflow = last.workflow AND began > last.began AND begun{state})
    OR last.workflow IS NULL
    AND EXISTS (SELECT 1 FROM runs WHERE workflow_id = last.workflow_id AND began > last.began{state}))"""
#: Ended runs that are neither the last run nor the last failed one of their workflow. One with a generated id has no
#: other run.
FORGETTABLE: Final = f"""SELECT old.run FROM {CHAINS} WHERE NOT {GOES_ON} AND last.ended IS NOT NULL
    AND (NOT last.is_named OR {LATER.format(state="")} AND (last.state NOT IN ('Failed', 'Crashed')
        OR {LATER.format(state=" AND state IN ('Failed', 'Crashed')")}))"""
OLD: Final = f"{FORGETTABLE} AND old.began < ? AND last.ended < ? ORDER BY old.began LIMIT {BATCH}"
NTH: Final = "SELECT began FROM runs WHERE begun ORDER BY began DESC LIMIT 1 OFFSET ?"
SURPLUS: Final = f"{FORGETTABLE} AND last.began < ({NTH}) ORDER BY old.began LIMIT {BATCH}"
#: What several runs may share: the numbers of a plan and of an environment.
FIND_SHARED: Final = "SELECT plan, environment FROM runs WHERE run = ?"
FORGET_SHARED: Final = (
    "DELETE FROM plans WHERE plan = :plan AND NOT EXISTS (SELECT 1 FROM runs WHERE plan = :plan)",
    "DELETE FROM steps WHERE plan = :plan AND NOT EXISTS (SELECT 1 FROM runs WHERE plan = :plan)",
    """DELETE FROM environments WHERE environment = :environment
        AND NOT EXISTS (SELECT 1 FROM runs WHERE environment = :environment)""",
)
#: The questions of a chain go with its last run.
FORGET_QUESTIONS: Final = """DELETE FROM questions WHERE origin = (SELECT origin FROM runs WHERE run = ?1)
    AND NOT EXISTS (SELECT 1 FROM runs AS forgotten JOIN runs AS other USING (origin)
        WHERE forgotten.run = ?1 AND other.run <> ?1)"""


def as_keep(value: object) -> Keep:
    """Returns the value of the argument `keep`. Raises InvalidArgument if it is invalid."""
    if value is None or (isinstance(value, timedelta) and value > timedelta(0)):
        return value
    match = TEXT.fullmatch(value) if isinstance(value, str) else None
    if match is None or not int(match[1]):
        raise InvalidArgument("keep", value, ACCEPTED)
    count, unit = int(match[1]), match[2]
    return count if unit == "run" else timedelta(**{f"{unit}s": count})


def sweep(file: SQLiteFile, keep: Keep) -> None:
    """Forgets runs that are no longer kept, once an hour for each file, or goes on with that. Errors are ignored."""
    if keep is None:
        return
    with contextlib.suppress(sqlite3.Error, OSError):  # busy, full, read-only: another run tries again
        now = int(clock.now().timestamp())
        if not file.transact(lambda connection: connection.execute(CLAIM, (now, now - INTERVAL)).rowcount, patience=0):
            return
        until = clock.ticks() + BUDGET
        is_done = False
        while not is_done and clock.ticks() < until:
            is_done = not _forget_some(file, keep)
        shrink(file, PAGES, patience=0)
        if not is_done or file.run("PRAGMA freelist_count", ()) != [(0,)]:
            file.run(RESUME, (), patience=0)


def shrink(file: SQLiteFile, pages: int | None = None, *, patience: float | None = None) -> None:
    """Gives free pages back to the system; all of them for None. *patience* is that of `SQLiteFile.use`."""
    statement = "PRAGMA incremental_vacuum" if pages is None else f"PRAGMA incremental_vacuum({pages})"
    # executescript, since execute() would free one page only.
    file.use(lambda connection: connection.executescript(statement), None, False, patience)


def _forget_some(file: SQLiteFile, keep: timedelta | int) -> int:
    if isinstance(keep, int):
        statement, values = SURPLUS, [keep - 1]
    else:
        statement, values = OLD, [max(0, int((clock.now().timestamp() - keep.total_seconds()) * MICRO))] * 2
    return file.transact(lambda connection: forget_found(connection, statement, values), patience=0)


def forget_found(connection: sqlite3.Connection, statement: str, values: Sequence[int]) -> int:
    """Deletes the runs that a statement finds, within a transaction. Returns how many there were."""
    return forget(connection, [run for (run,) in connection.execute(statement, values)])


def forget(connection: sqlite3.Connection, runs: list[int]) -> int:
    """Deletes runs by their numbers, within a transaction. Returns how many there were."""
    rows = {row for run in runs for row in connection.execute(FIND_SHARED, (run,))}
    for run in runs:
        connection.execute(FORGET_QUESTIONS, (run,))
        for table in (*OF_RUN, "runs"):
            connection.execute(f"DELETE FROM {table} WHERE run = ?", (run,))
    for statement in FORGET_SHARED:
        connection.executemany(statement, [{"plan": plan, "environment": environment} for plan, environment in rows])
    return len(runs)
