"""Runs that are Running in the history, but have ended: their process crashed, or could not write their end."""

import json
from collections.abc import Iterable
from typing import Any, Final

from dotflow.core.text import LEVELS, name_at
from dotflow.core.types.run_state import TypeRunState
from dotflow.providers.histories.sql.database import Connection, Presence
from dotflow.providers.histories.sql.tables import (
    CACHED,
    COMPLETED,
    CRASHED,
    FAILED,
    NO_ITEM,
    RESTORED,
    RETRY,
    RUNNING,
    SKIPPED,
    UNKNOWN,
    levels_in,
)

FIND: Final = "SELECT run, lock FROM runs WHERE state = 'Running'"
#: The same without the runs of the queue, which its servers take over.
FIND_PLAIN: Final = f"{FIND} AND run NOT IN (SELECT run FROM wanted)"
STILL: Final = "SELECT 1 FROM runs WHERE run = ? AND state = 'Running'"
LOCK: Final = "SELECT lock FROM runs WHERE run = ?"
#: The moment of its last event, or of its last output.
LAST: Final = """SELECT MAX(at) FROM (SELECT began + COALESCE(took, 0) AS at FROM attempts WHERE run = :run
    UNION ALL SELECT at FROM output WHERE run = :run) AS moments"""
MARK_ATTEMPTS: Final = f"UPDATE attempts SET state = ? WHERE run = ? AND state = {RUNNING}"
#: The states of its tasks that have ended; of several attempts the last one.
COUNT: Final = f"SELECT task, state FROM attempts WHERE run = ? AND item = {NO_ITEM} ORDER BY task, item, attempt"
#: What ran, the items of a map first; or else what waited for its next attempt.
FIRST: Final = f"""SELECT steps.name, policy, item, attempt, attempts.state, attempts.round, items
    FROM attempts JOIN runs USING (run) LEFT JOIN steps USING (plan, task)
    WHERE run = ? AND (attempts.state = {RUNNING} OR attempts.state = {RETRY} AND NOT EXISTS (SELECT 1
        FROM attempts AS later WHERE (later.run, later.task, later.item) = (attempts.run, attempts.task, attempts.item)
        AND later.attempt > attempts.attempt))
    ORDER BY item = {NO_ITEM} AND items IS NOT NULL, attempts.state = {RETRY}, attempts.began LIMIT 1"""
MARK_RUN: Final = """UPDATE runs SET state = ?, ended = COALESCE(?, began), error = ?, completed = ?,
    failed = ?, restored = ?, skipped = ? WHERE run = ?"""

BETWEEN: Final = "the process of the run ended between two steps"
UNWRITTEN: Final = "its end is unknown: the history could not be written"


def ended_of(rows: Iterable[tuple[int, Any]], presence: Presence) -> dict[int, TypeRunState]:
    """Returns which of the runs in rows of FIND have ended: as CRASHED, or UNKNOWN."""
    ended: dict[int, TypeRunState] = {}
    for run, lock in rows:
        if not presence.is_lock(lock):
            continue
        if presence.has_noted_end(lock):
            ended[run] = TypeRunState.UNKNOWN
        elif not presence.is_held(lock):
            ended[run] = TypeRunState.CRASHED
    return ended


def find_ended(connection: Connection, presence: Presence, find: str = FIND) -> dict[int, TypeRunState]:
    """Returns the numbers of the runs that are Running in the file, but have ended: as CRASHED, or UNKNOWN."""
    ended = ended_of(connection.execute(find).fetchall(), presence)
    # Read again: a run ends in the file before it releases its lock.
    return {run: state for run, state in ended.items() if connection.execute(STILL, (run,)).fetchall()}


def end_of(connection: Connection, run: int, state: TypeRunState) -> tuple[int | None, str]:
    """Returns the last moment that is known of such a run, and the error; its attempts are Running in the file."""
    ((last,),) = connection.execute(LAST, {"run": run})
    if state is TypeRunState.UNKNOWN:
        return last, UNWRITTEN
    error = BETWEEN
    for name, policy, item, attempt, reached, outer, nth in connection.execute(FIRST, (run,)):
        levels = levels_in(json.loads(policy) if policy else {})
        step = name if item == NO_ITEM else f"{name}#{item}"
        if item != NO_ITEM and len(levels) == LEVELS and outer is not None and nth is not None:
            step = name_at(name, levels, (outer, nth))
        when = f"between the attempts {attempt} and {attempt + 1}" if reached == RETRY else "during this step"
        error = f"{step}: the process of the run ended {when}"
    return last, error


def counts_of(connection: Connection, run: int) -> tuple[int, ...]:
    """Returns how many tasks of a run have completed, failed, been restored and been skipped by now."""
    counts = dict.fromkeys((COMPLETED, FAILED, RESTORED, SKIPPED), 0)
    for state in dict(connection.execute(COUNT, (run,)).fetchall()).values():
        ended = RESTORED if state == CACHED else state
        if ended in counts:
            counts[ended] += 1
    return tuple(counts.values())


def mark_ended(connection: Connection, presence: Presence) -> list[int]:
    """Writes down which runs have ended, within a transaction. Returns the locks whose notes can be forgotten then.

    It leaves the runs of the queue alone.
    """
    ended = find_ended(connection, presence, FIND_PLAIN)
    for run, state in sorted(ended.items()):  # in the same order in each process
        end, counts = end_of(connection, run, state), counts_of(connection, run)
        connection.execute(MARK_ATTEMPTS, (CRASHED if state is TypeRunState.CRASHED else UNKNOWN, run))
        connection.execute(MARK_RUN, (state, *end, *counts, run))
    unknown = [run for run, state in ended.items() if state is TypeRunState.UNKNOWN]
    return [connection.execute(LOCK, (run,)).fetchone()[0] for run in unknown]
