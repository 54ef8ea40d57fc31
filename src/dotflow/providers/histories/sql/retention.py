"""Retention: forgets old runs, a few at a time."""

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from dotflow import clock
from dotflow.errors import InvalidArgument
from dotflow.providers.histories.sql.database import Connection
from dotflow.providers.histories.sql.tables import MICRO, OF_RUN

#: Which runs are kept: those of a time, a number of the last ones, or all.
Keep = timedelta | int | None

TEXT: Final = re.compile(r"\s*(\d{1,8})\s*(minute|hour|day|week|run)s?\s*")
ACCEPTED: Final = 'a text such as "30 days" or "200 runs", a timedelta, or None to keep all'

BATCH: Final = 20  # runs that one transaction deletes

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
FORGET_QUESTIONS: Final = """DELETE FROM questions WHERE origin = (SELECT origin FROM runs WHERE run = :run)
    AND NOT EXISTS (SELECT 1 FROM runs AS forgotten JOIN runs AS other USING (origin)
        WHERE forgotten.run = :run AND other.run <> :run)"""


def as_keep(value: object) -> Keep:
    """Returns the value of the argument `keep`. Raises InvalidArgument if it is invalid."""
    if value is None or (isinstance(value, timedelta) and value > timedelta(0)):
        return value
    match = TEXT.fullmatch(value) if isinstance(value, str) else None
    if match is None or not int(match[1]):
        raise InvalidArgument("keep", value, ACCEPTED)
    count, unit = int(match[1]), match[2]
    return count if unit == "run" else timedelta(**{f"{unit}s": count})


def forget_some(connection: Connection, keep: timedelta | int) -> int:
    """Deletes a few runs that are no longer kept, within a transaction. Returns how many there were."""
    if isinstance(keep, int):
        return forget_found(connection, SURPLUS, [keep - 1])
    before = max(0, int((clock.now().timestamp() - keep.total_seconds()) * MICRO))
    return forget_found(connection, OLD, [before, before])


def forget_found(connection: Connection, statement: str, values: Sequence[int]) -> int:
    """Deletes the runs that a statement finds, within a transaction. Returns how many there were."""
    return forget(connection, [run for (run,) in connection.execute(statement, values)])


def forget(connection: Connection, runs: list[int]) -> int:
    """Deletes runs by their numbers, within a transaction. Returns how many there were."""
    rows = {row for run in runs for row in connection.execute(FIND_SHARED, (run,))}
    for run in runs:
        connection.execute(FORGET_QUESTIONS, {"run": run})
        for table in (*OF_RUN, "runs"):
            connection.execute(f"DELETE FROM {table} WHERE run = ?", (run,))
    for statement in FORGET_SHARED:
        connection.executemany(statement, [{"plan": plan, "environment": environment} for plan, environment in rows])
    return len(runs)
