"""Retention: forgets old runs, a few at a time."""

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any, Final, NamedTuple

from dotflow import clock
from dotflow.core.limit_rules import RUN
from dotflow.errors import InvalidArgument
from dotflow.providers.histories.sql.database import Connection
from dotflow.providers.histories.sql.tables import MICRO

#: Which runs are kept: those of a time, a number of the last ones, or all.
Keep = timedelta | int | None

TEXT: Final = re.compile(r"\s*(\d{1,8})\s*(minute|hour|day|week|run)s?\s*")
ACCEPTED: Final = 'a text such as "30 days" or "200 runs", a timedelta, or None to keep all'

BATCH: Final = 20  # runs that one look finds, with the others of their chains
ROWS: Final = 1000  # that one statement deletes, and a transaction before it ends
INTERVAL: Final = 3600  # seconds between two sweeps of a history

#: Calls a function in a transaction; runs a statement that only reads.
Transact = Callable[[Callable[[Connection], Any]], Any]
Run = Callable[[str, Sequence[int]], Sequence[Any]]

IS_DUE: Final = "SELECT 1 FROM meta WHERE swept < ?"
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
ENDED_AT: Final = "SELECT ended FROM runs WHERE run = ?"
NTH: Final = "SELECT began FROM runs WHERE begun ORDER BY began DESC LIMIT 1 OFFSET ?"
ENDED: Final = f"SELECT old.run FROM {CHAINS} WHERE NOT {GOES_ON} AND last.ended <= ? ORDER BY old.run LIMIT {BATCH}"
#: Whether a run, or the last one of its chain, goes on: that one, and its state.
GOING_ON: Final = f"SELECT last.run_id, last.state FROM {CHAINS} WHERE old.run = ? AND {GOES_ON}"
CHAIN: Final = """SELECT run FROM runs WHERE run = :run OR origin = (SELECT origin FROM runs WHERE run = :run)
    ORDER BY run"""
SURPLUS: Final = f"{FORGETTABLE} AND last.began < ({NTH}) ORDER BY old.began LIMIT {BATCH}"


def _rows_of(table: str, key: str) -> str:
    """Returns the statement that deletes some rows of a run."""
    found = f"SELECT {key} FROM {table} WHERE run = :run ORDER BY {key} LIMIT {ROWS}"
    return f"DELETE FROM {table} WHERE run = :run AND ({key}) IN ({found})"


#: What belongs to a run, a few rows at a time; of notes and orders there are few.
FORGET_ROWS: Final = (
    _rows_of("output", "task, item, attempt, seq"),
    _rows_of("copies", "task, item, attempt, role"),
    _rows_of("errors", "task, item, attempt, nth"),
    _rows_of("task_notes", "task, item, attempt, name"),
    _rows_of("calls", "task, item, attempt, slot"),
    _rows_of("attempts", "task, item, attempt"),
    "DELETE FROM notes WHERE run = :run",
    "DELETE FROM orders WHERE run = :run",
)
#: What several runs may share: the numbers of a plan and of an environment.
FIND_SHARED: Final = "SELECT plan, environment FROM runs WHERE run = ?"
FORGET_SHARED: Final = (
    "DELETE FROM plans WHERE plan = :plan AND NOT EXISTS (SELECT 1 FROM runs WHERE plan = :plan)",
    "DELETE FROM steps WHERE plan = :plan AND NOT EXISTS (SELECT 1 FROM runs WHERE plan = :plan)",
    """DELETE FROM environments WHERE environment = :environment
        AND NOT EXISTS (SELECT 1 FROM runs WHERE environment = :environment)""",
)
_IS_LAST: Final = """NOT EXISTS (SELECT 1 FROM runs AS forgotten JOIN runs AS other USING (origin)
    WHERE forgotten.run = :run AND other.run <> :run)"""
#: The run itself, with its place in the queue. The questions of a chain, and its budget, go with its last run.
FORGET_RUN: Final = (
    f"DELETE FROM questions WHERE origin = (SELECT origin FROM runs WHERE run = :run) AND {_IS_LAST}",
    *(
        f"""DELETE FROM {rows} AND SUBSTR(unit, INSTR(unit, ' ') + 1)
            = (SELECT COALESCE(NULLIF(origin, ''), run_id) FROM runs WHERE run = :run) AND {_IS_LAST}"""
        for rows in (f"slots WHERE period = {RUN}", "told WHERE until IS NULL")
    ),
    "DELETE FROM wanted WHERE run = :run",
    "DELETE FROM runs WHERE run = :run",
)


def as_keep(value: object) -> Keep:
    """Returns the value of the argument `keep`. Raises InvalidArgument if it is invalid."""
    if value is None or (isinstance(value, timedelta) and value > timedelta(0)):
        return value
    match = TEXT.fullmatch(value) if isinstance(value, str) else None
    if match is None or not int(match[1]):
        raise InvalidArgument("keep", value, ACCEPTED)
    count, unit = int(match[1]), match[2]
    return count if unit == "run" else timedelta(**{f"{unit}s": count})


class Forgotten(NamedTuple):
    """What a transaction has deleted: the number of runs that are gone, and whether none is left."""

    runs: int
    is_done: bool


def sweep(run: Run, transact: Transact, keep: Keep, seconds: float, now: int) -> bool:
    """Forgets runs that are no longer kept, for some seconds: once an hour a history, or to go on with that.

    Killed between two transactions, it leaves a run with fewer rows, which the next sweep deletes.

    Args:
        run: Runs a statement that only reads.
        transact: Calls a function in a transaction.
        keep: Which runs are kept.
        seconds: How long it may take; the rest is left to the next sweep.
        now: The moment by the clock of the database, in microseconds since 1970.

    Returns:
        Whether it was time for it.
    """
    now //= MICRO
    if keep is None or not run(IS_DUE, (now - INTERVAL,)):
        return False
    if not transact(lambda connection: connection.execute(CLAIM, (now, now - INTERVAL)).rowcount):
        return False  # another process was faster
    until, is_done = clock.ticks() + seconds, False
    while not is_done and clock.ticks() < until:
        is_done = transact(lambda connection: forget_some(connection, keep)).is_done
    if not is_done:
        transact(lambda connection: connection.execute(RESUME))
    return True


def overdue(run: Run, keep: Keep, now: int) -> float:
    """Returns for how many seconds the oldest run that is to be forgotten is over its time; 0 where there is none."""
    if not isinstance(keep, timedelta):
        return 0.0
    before = _before(keep, now)
    for oldest in run(OLD, (before, before)):
        return float(before - run(ENDED_AT, oldest)[0][0]) / MICRO
    return 0.0


def forget_all(transact: Transact, work: Callable[[Connection], Forgotten]) -> int:
    """Calls *work* in a transaction until nothing is left. Returns how many runs are gone."""
    count, is_done = 0, False
    while not is_done:
        runs, is_done = transact(work)
        count += runs
    return count


def forget_some(connection: Connection, keep: timedelta | int) -> Forgotten:
    """Deletes a few rows of runs that are no longer kept, within a transaction."""
    if isinstance(keep, int):
        return forget_found(connection, SURPLUS, [keep - 1])
    return forget_found(connection, OLD, [_before(keep, connection.now)] * 2)


def _before(keep: timedelta, now: int) -> int:
    """Returns the moment before which runs are forgotten that ended then."""
    return max(0, now - round(keep.total_seconds() * MICRO))


def forget_found(connection: Connection, statement: str, values: Sequence[int]) -> Forgotten:
    """Deletes a few rows of the runs that a statement finds, and of their chains, within a transaction."""
    found = [run for (run,) in connection.execute(statement, values).fetchall()]
    return Forgotten(forget(connection, chains_of(connection, found)).runs, not found)


def chains_of(connection: Connection, runs: Iterable[int]) -> list[int]:
    """Returns runs with the others of their chains, the last one of a chain after the others: it decides for them."""
    chains = (connection.execute(CHAIN, {"run": run}).fetchall() for run in runs)
    return list(dict.fromkeys(run for chain in chains for (run,) in chain))


def forget(connection: Connection, runs: Iterable[int]) -> Forgotten:
    """Deletes a few rows of runs, within a transaction: first what belongs to a run, then the run itself.

    What goes on meanwhile is left.
    """
    left, count = ROWS, 0
    for run in runs:
        shared = connection.execute(FIND_SHARED, (run,)).fetchall()
        if not shared or connection.execute(GOING_ON, (run,)).fetchall():
            continue
        for statement in FORGET_ROWS:
            left -= connection.execute(statement, {"run": run}).rowcount
            if left <= 0:
                return Forgotten(count, False)
        for statement in FORGET_RUN:
            connection.execute(statement, {"run": run})
        for statement in FORGET_SHARED:
            connection.executemany(statement, [{"plan": plan, "environment": number} for plan, number in shared])
        count += 1
    return Forgotten(count, True)
