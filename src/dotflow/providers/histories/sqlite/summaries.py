"""Runs as rows of a list: RunSummary from the table `runs`."""

import re
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from dotflow.core.attempt_id import AttemptId
from dotflow.core.types.run_state import TypeRunState
from dotflow.providers.histories.sqlite.crashed import counts_of, end_of
from dotflow.providers.histories.sqlite.reading import Reader, in_list
from dotflow.providers.histories.sqlite.tables import FAILED, MICRO, NO_ITEM
from dotflow.records.record import RunSummary

COLUMNS: Final = (
    *("run", "run_id", "workflow_id", "name", "state", "reason", "mode", "resumed", "trigger", "began", "ended"),
    *("tasks", "completed", "failed", "restored", "skipped", "error"),
    *("parent_run", "parent_task", "parent_attempt", "parent_item"),
)
FIELDS: Final = ", ".join(COLUMNS)
#: The errors of tasks of a run that has not ended, in the order of the tasks.
FIRST_ERROR: Final = f"""SELECT steps.name, exception, message
    FROM errors JOIN attempts USING (run, task, item, attempt) JOIN runs USING (run) LEFT JOIN steps USING (plan, task)
    WHERE errors.run = ? AND item = {NO_ITEM} AND attempts.state = {FAILED} ORDER BY attempts.began LIMIT 1"""

ORDER: Final = "ORDER BY began DESC, run DESC LIMIT ?"
#: A new line is between them, so that a text of one line is in one of them.
SEARCH: Final = r"""AND (run_id || char(10) || workflow_id || char(10) || IFNULL(name, '') || char(10)
    || IFNULL(error, '')) LIKE ? ESCAPE '\'"""
MANY: Final = 2000  # runs
COUNT_PARAMS: Final = f"""SELECT COUNT(*) FROM
    (SELECT 1 FROM runs WHERE workflow_id >= ? AND workflow_id < ? LIMIT {MANY})"""

Condition = tuple[str, tuple[Any, ...]]

RUN_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")
LAST_MOMENT: Final = 9_000_000_000 * MICRO  # in the year 2255

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def moment(micro: int) -> datetime:
    """Returns the moment of the microseconds since 1970."""
    if not 0 <= micro < LAST_MOMENT:
        raise ValueError(f"{micro} is no moment")
    return datetime.fromtimestamp(micro / MICRO, UTC)  # exact: the error is below half of one


def checked_id(run_id: str) -> str:
    """Returns the id of a run, which is in names of files, commands and addresses. Raises ValueError."""
    if not RUN_ID.fullmatch(run_id):
        raise ValueError(f"{run_id!r} is no id of a run")
    return run_id


class RunFilter(NamedTuple):
    """Which runs are listed, and how many at most.

    Attributes:
        states: Runs in one of these states; empty for all.
        workflow: Those of this workflow: its id, that without parameters, or its name.
        since, before: Those that began at this moment or later, and before that one, in microseconds since 1970.
        search: Those with this text in their id, workflow, name or error.
        limit: The maximum number; -1 for all.
    """

    states: Sequence[TypeRunState] = ()
    workflow: str | None = None
    since: int = 0
    before: int = 2**63 - 1
    search: str = ""
    limit: int = -1


def find_runs(reader: Reader, wanted: RunFilter) -> Iterator[RunSummary]:
    """Yields runs, the newest first.

    Each combination of conditions is a query of its own with the limit, so that it follows an index in order.
    """
    matches: list[list[Condition]] = [[]]
    workflow = wanted.workflow
    if workflow is not None:
        by_id = [("workflow_id = ?", (workflow,)), *_with_params(reader, workflow)]
        matches = [by_id, [("name = ?", (workflow,))]]
    for conditions in matches:
        rows = _query(reader, list(_with_states(conditions, wanted.states, reader)), wanted)
        for row in rows:
            yield RunSummary(**summary_fields(reader, row))
        if rows:
            return


def _with_params(reader: Reader, workflow: str) -> Iterator[Condition]:
    """Yields the condition for the ids with parameters; none if there are no such runs.

    No index has them in the order of their beginnings. So few are sorted, and many are found among all runs.
    """
    ids = (f"{workflow}@", f"{workflow}A")  # A is the next character
    ((count,),) = reader.connection.execute(COUNT_PARAMS, ids)
    if count:
        plus = "+" if count == MANY else ""  # keeps SQLite from the index
        yield f"{plus}workflow_id >= ? AND {plus}workflow_id < ?", ids


def _with_states(
    conditions: Sequence[Condition], states: Sequence[TypeRunState], reader: Reader
) -> Iterator[Condition]:
    for sql, values in conditions or [("1", ())]:
        if not states:
            yield sql, values
        for state in states:
            is_running = state is TypeRunState.RUNNING
            dead = f" AND run NOT IN ({in_list(reader.ended)})" if is_running and reader.ended else ""
            # The plus keeps SQLite from the index of states where there is one of workflows.
            yield f"{sql} AND {'+' if values else ''}state = ?{dead}", (*values, str(state))
            if ended := reader.ended_as(state):
                yield f"{sql} AND run IN ({in_list(ended)})", values


def _query(reader: Reader, conditions: Sequence[Condition], wanted: RunFilter) -> list[tuple[Any, ...]]:
    more: list[Any] = [wanted.since, wanted.before]
    if wanted.search:
        more.append("%" + re.sub(r"([%_\\])", r"\\\1", wanted.search) + "%")
    parts = [f"SELECT * FROM ({_part(sql, SEARCH if wanted.search else '')})" for sql, _ in conditions]
    values = [value for _, parameters in conditions for value in (*parameters, *more, wanted.limit)]
    return reader.connection.execute(f"{' UNION ALL '.join(parts)} {ORDER}", (*values, wanted.limit)).fetchall()


def _part(sql: str, search: str) -> str:
    # The plus keeps SQLite from the index of beginnings where the one of workflows is better.
    began = "+began" if sql.startswith("workflow_id >") else "began"
    return f"SELECT {FIELDS} FROM runs WHERE {sql} AND {began} >= ? AND {began} < ? {search} {ORDER}"


def load_summary(reader: Reader, run: int) -> RunSummary:
    """Returns a run by its number."""
    (row,) = reader.connection.execute(f"SELECT {FIELDS} FROM runs WHERE run = ?", (run,))
    return RunSummary(**summary_fields(reader, row))


def summary_fields(reader: Reader, row: Sequence[Any]) -> dict[str, Any]:
    """Returns the fields of a RunSummary. Those that are written at the end of a run are computed before."""
    fields = dict(zip(COLUMNS, row, strict=True))
    run, state = fields.pop("run"), TypeRunState(fields["state"])
    if run in reader.ended:
        state = reader.ended[run]
        last, error = end_of(reader.connection, run, state)
        fields.update(ended=fields["began"] if last is None else last, error=error)
    names = ("completed", "failed", "restored", "skipped")
    if any(fields[name] is None for name in names):
        fields.update(zip(names, counts_of(reader.connection, run), strict=True))
        fields["error"] = fields["error"] or _first_error(reader.connection, run)
    parent = AttemptId(*(fields.pop(f"parent_{name}") for name in ("run", "task", "attempt", "item")))
    if parent.item == NO_ITEM:
        parent = parent._replace(item=None)
    checked_id(fields["run_id"])
    texts = {name: fields[name] or "" for name in ("reason", "mode", "trigger", "error")}
    return (
        fields
        | texts
        | {
            "state": state,
            "resumed": bool(fields["resumed"]),
            "began": moment(fields["began"]),
            "ended": None if fields["ended"] is None else moment(fields["ended"]),
            "tasks": fields["tasks"] or 0,
            "parent": None if parent.run_id is None else parent,
        }
    )


def _first_error(connection: sqlite3.Connection, run: int) -> str:
    for name, exception, message in connection.execute(FIRST_ERROR, (run,)):
        return f"{name}: {exception}: {message}"
    return ""
