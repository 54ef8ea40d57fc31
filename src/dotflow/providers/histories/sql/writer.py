"""Writes runs and their rows, within a transaction."""

import functools
import hashlib
import json
import marshal
import zlib
from collections.abc import Sequence
from typing import Any, Final

from dotflow.core.attempt_id import ID_LENGTH
from dotflow.core.events import Planned, RunStarted
from dotflow.core.files import FileRecord
from dotflow.core.masks import Masks
from dotflow.core.policy import Policy
from dotflow.core.text import escape_surrogates
from dotflow.providers.histories.sql.call_rows import SAVE_CALL
from dotflow.providers.histories.sql.crashed import MARK_ATTEMPTS
from dotflow.providers.histories.sql.database import Connection
from dotflow.providers.histories.sql.output_rows import save_output
from dotflow.providers.histories.sql.rows import RunRows, widened
from dotflow.providers.histories.sql.tables import (
    ATTEMPT_COLUMNS,
    ATTEMPT_KEY,
    COMPLETED,
    FAILED,
    FIND_RUN,
    OPEN,
    RESTORED,
    SKIPPED,
    UNKNOWN,
    micro,
    upsert,
)
from dotflow.records.environment import process_name, read_environment

FIND_PLAN: Final = "SELECT plan FROM plans WHERE digest = ?"
FIND_ENVIRONMENT: Final = "SELECT environment FROM environments WHERE digest = ?"
SAVE_PLAN: Final = "INSERT INTO plans (digest) VALUES (?)"
SAVE_STEP: Final = """INSERT INTO steps (plan, task, name, identity, code, task_group, lane, needs, policy)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""
SAVE_ENVIRONMENT: Final = "INSERT INTO environments (digest, document) VALUES (?, ?)"
SAVE_RUN: Final = f"""INSERT INTO runs (run_id, workflow_id, name, state, mode, resumed, trigger, began, tasks,
    parent_run, parent_task, parent_attempt, parent_item, lock, process, plan, environment, storage, is_named,
    workflow, params, origin, continues, inputs, begun) VALUES ({", ".join("?" * 24)}, TRUE)"""
IS_OWNED: Final = "SELECT 1 FROM runs WHERE run = ? AND lock IS NOT NULL"
BEGIN_CLAIMED: Final = """UPDATE runs SET mode = ?, resumed = ?, began = ?, tasks = ?, plan = ?, environment = ?,
    storage = ?, inputs = ?, params = COALESCE(?, params) WHERE run = ?"""
#: The last run of a name whose chain has begun and can go on.
LAST_OPEN: Final = f"""SELECT run_id, COALESCE(origin, run_id) FROM runs AS last WHERE workflow_id = ? AND {OPEN}
    AND state <> 'Queued' AND NOT EXISTS (SELECT 1 FROM runs WHERE continues = last.run_id)
    AND EXISTS (SELECT 1 FROM runs WHERE begun AND (run = last.run OR origin = last.origin))
    ORDER BY run DESC LIMIT 1"""
SET_ORIGIN: Final = "UPDATE runs SET origin = ? WHERE run_id = ?"
#: The newest runs of the other chains of a name that had begun, unless they have completed.
OTHERS: Final = f"""SELECT run, run_id, state FROM runs WHERE workflow_id = :name AND {OPEN}
    AND COALESCE(origin, run_id) <> :origin AND EXISTS (SELECT 1 FROM runs AS of_chain
        WHERE of_chain.begun AND (of_chain.run = runs.run OR of_chain.origin = runs.origin))
    AND NOT EXISTS (SELECT 1 FROM runs AS newer WHERE newer.origin = runs.origin AND newer.run > runs.run)"""
SUPERSEDE: Final = "UPDATE runs SET superseded = ? WHERE run = ?"
CANCEL: Final = "UPDATE runs SET state = 'Cancelled', ended = ?, reason = ?, error = ?, waits = NULL WHERE run = ?"
DEQUEUE: Final = "UPDATE wanted SET queued = FALSE WHERE run = ?"


class RunGone(Exception):
    """A claimed run is not there, since it is another history now; or another process has taken it over."""


def register(connection: Connection, started: RunStarted, lock: int | None) -> int:
    """Writes a run that begins, unless it is there, with the offset of its lock. Returns its number."""
    plan, environment = _plan(connection, started.steps), _environment(connection, started.masks)
    files = FileRecord(taken=started.files).as_text(started.masks) if started.files else None
    for (run,) in connection.execute(FIND_RUN, (_as_text(started.run_id),)):
        if started.is_claimed:
            values = (started.mode, started.resumed, micro(started.at), started.tasks, plan, environment)
            of_run = (_as_text(started.storage), files, _as_text(started.params), run)
            connection.execute(BEGIN_CLAIMED, (*values, *of_run))
        return int(run)
    if started.is_claimed:
        raise RunGone
    name, origin, continues = _as_text(started.workflow_id), None, None
    if started.is_named and (started.resumed or started.goes_on):
        origin = started.origin or None
        for last, of_last in connection.execute(LAST_OPEN, (name,)).fetchall():
            if origin in (None, of_last):
                continues, origin = last, of_last
                connection.execute(SET_ORIGIN, (origin, continues))
    elif started.is_named:
        end_others(connection, name, started.run_id, started.run_id, micro(started.at))
    values = (
        started.run_id,
        started.workflow_id,
        started.name,
        "Running",
        started.mode,
        started.resumed,
        started.trigger or None,
        micro(started.at),
        started.tasks,
        *(started.parent or (None,) * 4),
        lock,
        process_name(),
        plan,
        environment,
        started.storage,
        started.is_named,
        started.workflow,
        started.params,
        origin or (started.run_id if started.is_named else None),
        continues,
        files,
    )
    row = tuple(map(_as_text, values))
    connection.execute(SAVE_RUN, row)
    return int(connection.execute(FIND_RUN, row[:1]).fetchone()[0])


def end_others(connection: Connection, name: str, origin: str, by: str, now: int) -> list[str]:
    """Ends the other chains of a name that had begun, within a transaction: their values are void.

    Returns the ids of their runs that were to go on.
    """
    ended = []
    for run, run_id, state in connection.execute(OTHERS, {"name": name, "origin": origin}).fetchall():
        connection.execute(SUPERSEDE, (by, run))
        if state in ("Queued", "Paused"):
            reason = f"superseded by {by[:ID_LENGTH]}"
            connection.execute(CANCEL, (now, reason, reason, run))  # in place of why it was paused
            connection.execute(DEQUEUE, (run,))
            ended.append(run_id)
    return ended


def _as_text(value: Any) -> Any:
    """Returns a value for a column: ids, names and paths may have lone surrogates."""
    return escape_surrogates(value) if isinstance(value, str) else value


def _plan(connection: Connection, steps: Sequence[Planned]) -> int:
    """Returns the number of the plan in the file. By columns, since a run of thousands of steps looks for it, too."""
    fields: list[Any] = [*zip(*steps, strict=True)] or [()] * len(Planned._fields)
    names, groups, lanes, identities, needs, policies, codes, _, rounds, levels = fields
    described = {key: _describe(policy) for key, policy in {id(policy): policy for policy in policies}.items()}
    of_step = zip(policies, rounds, levels, strict=True)  # many steps share one
    texts = [_describe(*of) if of[1] or of[2] else described[id(of[0])] for of in of_step]
    columns = [*map(str, names)], identities, codes, [*map(str, groups)], lanes, [*map(tuple, needs)], texts
    digest = _digest(marshal.dumps(columns, 0))  # the version without references, so that equal ones are equal bytes
    for (plan,) in connection.execute(FIND_PLAN, (digest,)):
        return int(plan)
    connection.execute(SAVE_PLAN, (digest,))
    ((plan,),) = connection.execute(FIND_PLAN, (digest,)).fetchall()
    rows = []
    for task, (name, identity, code, group, lane, need, text) in enumerate(zip(*columns, strict=True)):
        values = (name, identity, code or None, group, lane, json.dumps(need) if need else None, text)
        rows.append((plan, task, *map(_as_text, values)))
    connection.executemany(SAVE_STEP, rows)
    return int(plan)


def _describe(policy: Policy | None, rounds: int = 0, levels: Sequence[str] = ()) -> str | None:
    """Returns what differs from the default policy as JSON; None if nothing does."""
    changed = None if policy is None else policy.changed(rounds, levels)
    return json.dumps(changed) if changed else None


def _environment(connection: Connection, masks: Masks) -> int:
    text = read_environment(masks)
    digest = _digest(text)
    for (number,) in connection.execute(FIND_ENVIRONMENT, (digest,)):
        return int(number)
    connection.execute(SAVE_ENVIRONMENT, (digest, zlib.compress(text)))
    return int(connection.execute(FIND_ENVIRONMENT, (digest,)).fetchone()[0])


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


SAVE_ATTEMPT: Final = upsert("attempts", ATTEMPT_KEY, ATTEMPT_COLUMNS[3:])
SAVE_ERROR: Final = upsert(
    "errors", (*ATTEMPT_KEY, "nth"), ("exception", "message", "traceback", "retry_in", "refusal")
)
SAVE_COPY: Final = upsert("copies", (*ATTEMPT_KEY, "role"), ("size", "digest", "document", "why"))
SAVE_NOTE: Final = upsert("task_notes", (*ATTEMPT_KEY, "name"), ("at", "value"))
TRACE_RUN: Final = "UPDATE runs SET trace = ? WHERE run = ?"
END_CLAIMED: Final = """UPDATE runs SET completed = ?, failed = ?, restored = ?, skipped = ?, error = ? WHERE run = ?"""
END_RUN: Final = """UPDATE runs SET state = ?, reason = ?, waits = ?, ended = ?, completed = ?, failed = ?,
    restored = ?, skipped = ?, error = ? WHERE run = ?"""


def write_rows(connection: Connection, run: int, rows: RunRows, *, has_lost: bool) -> None:
    """Writes the rows of a run, within a transaction. With *has_lost*, rows are missing: what is Running is unknown."""
    for statement, values in (
        (SAVE_ATTEMPT, [*map(widened, rows.attempts.values())]),
        (SAVE_ERROR, rows.errors),
        (SAVE_COPY, rows.copies),
        (SAVE_NOTE, rows.notes),
        (SAVE_CALL, rows.calls.rows.values()),
    ):
        if values:
            connection.executemany(statement, [(run, *row) for row in values])
    if rows.trace is not None:
        connection.execute(TRACE_RUN, (rows.trace, run))
    if rows.output.rows:
        save_output(connection, run, rows.output)
    if rows.ended is not None:
        if has_lost:
            connection.execute(MARK_ATTEMPTS, (UNKNOWN, run))
        ending = _ending(rows)
        if rows.started.is_claimed:  # the queue writes its state
            connection.execute(END_CLAIMED, (*ending[4:], run))
        else:
            connection.execute(END_RUN, (*ending, run))


@functools.lru_cache
def save_few(widths: tuple[int, ...]) -> str:
    """Returns the statement for rows with values in so many columns. NULL in it takes less time than a None for it."""
    rows = [f"(?{', ?' * width}{', NULL' * (len(ATTEMPT_COLUMNS) - width)})" for width in widths]
    return upsert("attempts", ATTEMPT_KEY, ATTEMPT_COLUMNS[3:], ", ".join(rows))


def _ending(rows: RunRows) -> tuple[Any, ...]:
    ended, counts = rows.ended, rows.counts
    assert ended is not None
    numbers = (counts[COMPLETED], counts[FAILED], counts[RESTORED], counts[SKIPPED])
    reason = escape_surrogates(ended.reason) or None
    return (str(ended.state), reason, ended.waits, micro(ended.at), *numbers, rows.error)
