"""A run with its tasks, attempts, errors and environment: RunRecord from the tables."""

import json
import sqlite3
import zlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

from dotflow.abc.archive import TaskState
from dotflow.core.types.attempt_state import TypeAttemptState
from dotflow.core.types.run_state import TypeRunState
from dotflow.providers.histories.sqlite.reading import Reader
from dotflow.providers.histories.sqlite.summaries import FIELDS, checked_id, moment, summary_fields
from dotflow.providers.histories.sqlite.tables import FORMAT, MICRO, NO_ITEM, RUNNING, SHARED_ATTEMPT, STATES
from dotflow.records.record import AttemptRecord, ErrorRecord, RunRecord, TaskRecord, ValueRecord, find_step, no_item

RUN: Final = f"SELECT process, storage, trace, plan, environment, {FIELDS} FROM runs WHERE run = ?"
STEPS: Final = """SELECT task, name AS step, task_group, lane, identity, code, needs, policy FROM steps WHERE plan = ?
    ORDER BY task"""
ENVIRONMENT: Final = "SELECT document FROM environments WHERE environment = ?"
#: A file of the first format has neither inputs nor refusals until a run is written to it.
ATTEMPTS: Final = """SELECT task, item, attempt, state, began, took, cpu, peak, worker, glimpse, fallback, items, span,
    {input} FROM attempts WHERE run = ? ORDER BY task, item, attempt"""
ERRORS: Final = """SELECT task, item, attempt, exception, message, traceback, retry_in, {refusal}
    FROM errors WHERE run = ?"""
NOTES: Final = "SELECT at, text FROM notes WHERE run = ? ORDER BY at"
CHILDREN: Final = "SELECT run_id FROM runs WHERE parent_run = ? ORDER BY began"
COPIES: Final = """SELECT task, role, item, attempt, size, digest, {document}, why FROM copies
    WHERE run = ?{where} ORDER BY task, item, attempt, role"""
MAPS: Final = f"SELECT task, items FROM attempts WHERE run = ? AND item = {NO_ITEM} AND items IS NOT NULL"
HAS_ITEM: Final = "SELECT 1 FROM attempts WHERE run = ? AND task = ? AND item = ? LIMIT 1"

TASK_STATES: Final = f"""SELECT steps.task, steps.name AS step, attempts.state, attempts.began, took
    FROM runs JOIN steps USING (plan) LEFT JOIN attempts
        ON attempts.run = runs.run AND attempts.task = steps.task AND item = {NO_ITEM}
    WHERE runs.run = ? ORDER BY steps.task, attempt"""

MANY: Final = 8  # documents of the maximum size that one call returns
MAX_ENVIRONMENT: Final = 16_000_000  # bytes; Linux has 2 MB for the arguments of a program
MAX_AHEAD: Final = 100_000  # items that may run beside the first one that has no rows

new: Final = tuple.__new__  # makes a named tuple in half the time: there may be one for each of 100,000 items


def load_run(reader: Reader, run: int) -> RunRecord:
    """Returns a run by its number."""
    connection = reader.connection
    ((process, storage, trace, plan, environment, *row),) = connection.execute(RUN, (run,))
    steps = connection.execute(STEPS, (plan,)).fetchall()
    if any(number != task for number, (task, *_) in enumerate(steps)):
        raise ValueError("its tasks are not numbered from 0")
    fields = summary_fields(reader, row)
    attempts, counts = _attempts(connection, run, _unended(fields["state"]))
    is_known = _is_known(fields["state"])
    return RunRecord(
        **fields,
        process=process or "",
        storage=storage or "",
        trace=trace or "",
        environment=_environment(connection, environment),
        steps=[_task(step, attempts, counts, is_known) for step in steps],
        notes=[(moment(at), text) for at, text in connection.execute(NOTES, (run,))],
        children=[checked_id(run_id) for (run_id,) in connection.execute(CHILDREN, (fields["run_id"],))],
    )


def task_states(reader: Reader, run: int) -> list[TaskState]:
    """Returns the tasks of a run without their items."""
    ((of_run,),) = reader.connection.execute("SELECT state FROM runs WHERE run = ?", (run,))
    of_run = reader.ended.get(run, TypeRunState(of_run))
    names = dict(enumerate(STATES)) | {RUNNING: _unended(of_run)}
    missing = None if _is_known(of_run) else TypeAttemptState.UNKNOWN
    states: dict[int, TaskState] = {}
    first: dict[int, int] = {}
    for task, name, state, began, took in reader.connection.execute(TASK_STATES, (run,)):
        start = began if began is None else first.setdefault(task, began)
        duration = None if start is None or took is None else _seconds(began - start + took)
        states[task] = TaskState(task, name, missing if state is None else names[state], duration)
    return list(states.values())


def find_task(reader: Reader, run: int, step: str) -> tuple[int, int | None]:
    """Returns the numbers of the task and the item that *step* names; None for the task itself. Raises NotInHistory."""
    connection = reader.connection
    ((_, _, _, plan, _, _, run_id, *_),) = connection.execute(RUN, (run,))
    counts = dict(connection.execute(MAPS, (run,)))
    task, item = find_step(run_id, [_task(row, {}, counts, True) for row in connection.execute(STEPS, (plan,))], step)
    if item is not None and not connection.execute(HAS_ITEM, (run, task.task_id, item)).fetchall():
        raise no_item(task, item)
    return task.task_id, item


def copies_of(
    connection: sqlite3.Connection, run: int, of: tuple[int | None, int | None, int | None], limit: int | None
) -> list[ValueRecord]:
    """Returns the copies of values of a run, or of a task or an item, of the last attempt of each.

    Args:
        connection: The file.
        run: The run.
        of: A task, an item and an attempt; None for all of them, and for the last attempt.
        limit: The maximum size of a document, and of all together MANY times that. None leaves them out.
    """
    task, item, attempt = of
    where, values = "", [run]
    if task is not None:
        where = f" AND task = ? AND (item = ? OR attempt = {SHARED_ATTEMPT})"
        values = [run, task, NO_ITEM if item is None else item]
    # Without the documents, whether there is one.
    column = "document" if limit is not None else "IIF(document IS NULL, NULL, x'') AS document"
    rows = connection.execute(COPIES.format(document=column, where=where), values).fetchall()
    last = {(task, item): number for task, _, item, number, *_ in rows}  # the attempts are in order
    chosen = {key: (attempt or number, SHARED_ATTEMPT) for key, number in last.items()}
    left = (limit or 0) * MANY
    copies = []
    for task, role, item, number, size, digest, document, why in rows:
        if number not in chosen[task, item]:
            continue
        if document:
            document = unzip(document, min(limit or 0, left))
            left -= len(document)
        item = None if item == NO_ITEM else item
        copies.append(ValueRecord(task, role, item, number, size, digest or "", document, why or ""))
    return copies


def unzip(data: bytes, limit: int) -> bytes:
    """Returns what was compressed, unless it is longer than the limit. Raises ValueError or zlib.error."""
    unzipper = zlib.decompressobj()
    document = unzipper.decompress(data, limit + 1)
    if len(document) > limit:
        raise ValueError(f"a document has more than {limit} bytes")
    if not unzipper.eof:
        raise ValueError("a document was cut off")
    return document


def _task(
    step: tuple[Any, ...],
    attempts: dict[int, dict[int, list[AttemptRecord]]],
    counts: dict[int, int],
    is_known: bool,
) -> TaskRecord:
    task, name, group, lane, identity, code, needs, policy = step
    items = attempts.get(task, {})
    own: Sequence[AttemptRecord] = items.pop(NO_ITEM, ())
    if max(items, default=0) > len(items) + MAX_AHEAD:  # each item up to the last one has a place in a report
        raise ValueError(f"the task {task} has the item {max(items)}, but not those before it")
    return TaskRecord(
        task_id=task,
        name=name,
        group=group or "default",
        lane=lane or 0,
        identity=identity or "",
        code=code or "",
        needs=[range(task)[need] for need in json.loads(needs)] if needs else (),
        policy=dict(json.loads(policy)) if policy else {},
        attempts=own,
        items=items,
        count=counts.get(task),
        is_known=is_known,
    )


def _unended(of_run: TypeRunState) -> TypeAttemptState:
    """Returns the state of an attempt that is Running in the file, by the state of its run."""
    known = {TypeRunState.RUNNING: TypeAttemptState.RUNNING, TypeRunState.CRASHED: TypeAttemptState.CRASHED}
    return known.get(of_run, TypeAttemptState.UNKNOWN)


def _is_known(of_run: TypeRunState) -> bool:
    """Returns whether a task without attempts has not begun: after a run that completed, its rows are missing."""
    return of_run not in (TypeRunState.COMPLETED, TypeRunState.UNKNOWN)


def _attempts(
    connection: sqlite3.Connection, run: int, unended: TypeAttemptState
) -> tuple[dict[int, dict[int, list[AttemptRecord]]], dict[int, int]]:
    """Returns the attempts by task and item, and the numbers of the items of maps by task."""
    errors: dict[tuple[int, int, int], list[ErrorRecord]] = defaultdict(list)
    ((version,),) = connection.execute("PRAGMA user_version")
    own = {name: "NULL" if version < FORMAT.version else name for name in ("refusal", "input")}
    for task, item, attempt, exception, message, traceback, retry_in, refusal in connection.execute(
        ERRORS.format(**own), (run,)
    ):
        error = ErrorRecord(exception, message, traceback, _seconds(retry_in), refusal or "")
        errors[task, item, attempt].append(error)
    states: dict[int, TypeAttemptState] = dict(enumerate(STATES)) | {RUNNING: unended}
    attempts: dict[int, dict[int, list[AttemptRecord]]] = defaultdict(dict)
    counts: dict[int, int] = {}
    rows = connection.execute(ATTEMPTS.format(**own), (run,))
    for task, item, attempt, state, began, took, cpu, peak, worker, glimpse, fallback, items, span, given in rows:
        values = (
            None if item == NO_ITEM else item,
            attempt,
            states[state],
            None if began is None else moment(began),
            None if took is None else took / MICRO,
            None if cpu is None else cpu / MICRO,
            peak,
            worker,
            glimpse or "",
            fallback or "",
            errors.get((task, item, attempt), ()) if errors else (),
            span or "",
            given or "",
        )
        attempts[task].setdefault(item, []).append(new(AttemptRecord, values))
        if items is not None:
            counts[task] = items
    return attempts, counts


def _environment(connection: sqlite3.Connection, environment: int | None) -> dict[str, Any]:
    for (document,) in connection.execute(ENVIRONMENT, (environment,)):
        described = json.loads(unzip(document, MAX_ENVIRONMENT))
        facts = {name: described.pop(name, default) for name, default in (("argv", []), ("packages", {}))}
        texts = [*facts["argv"], *facts["packages"], *facts["packages"].values(), *filter(None, described.values())]
        if not isinstance(facts["argv"], list) or not all(isinstance(text, str) for text in texts):
            raise TypeError("an environment has other values than texts")
        return {**described, **facts}
    return {}


def _seconds(micro: int | None) -> float | None:
    return None if micro is None else micro / MICRO
