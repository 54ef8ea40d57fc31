"""What is read from the tables: RunSummary for lists, RunRecord with tasks and attempts, and output."""

import itertools
import json
import math
import re
import zlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any, Final, NamedTuple

from dotflow.abc.archive import FAILURES, LATEST, NAMES, NotedNumber, TaskState
from dotflow.codec.json import decode_plain
from dotflow.core.attempt_id import AttemptId
from dotflow.core.files import EPOCH, FileRecord
from dotflow.core.outcome import CALLS_GIVEN, CALLS_KEPT, Note
from dotflow.core.text import error_line
from dotflow.core.types.attempt_state import TypeAttemptState
from dotflow.core.types.call_state import TypeCallState
from dotflow.core.types.run_state import TypeRunState
from dotflow.errors import NotInHistory
from dotflow.graph.params import params_in
from dotflow.providers.histories.sql.crashed import counts_of, end_of
from dotflow.providers.histories.sql.questions import of_chain
from dotflow.providers.histories.sql.reading import HOW_TO_RECORD, Reader, in_list
from dotflow.providers.histories.sql.tables import (
    CALL_RUNNING,
    CALL_STATES,
    FAILED,
    FIND_RUN,
    MICRO,
    NO_ITEM,
    RUNNING,
    SHARED_ATTEMPT,
    STATES,
    levels_in,
    moment,
    moment_or_none,
)
from dotflow.records.record import (
    NO_NOTES,
    AttemptRecord,
    CallPage,
    CallRecord,
    ErrorRecord,
    OutputChunk,
    OutputKey,
    RunRecord,
    RunSummary,
    TaskRecord,
    ValueRecord,
    find_step,
    no_item,
    no_item_at,
    no_round,
)
from dotflow.report.run_names import (
    MIN_BEGINNING,
    RunName,
    run_names,
    why_no_run,
    why_none_of,
    why_several,
    why_unknown,
)

COLUMNS: Final = (
    *("run", "run_id", "workflow_id", "name", "state", "reason", "mode", "resumed", "trigger", "began", "ended"),
    *("tasks", "completed", "failed", "restored", "skipped", "error"),
    *("parent_run", "parent_task", "parent_attempt", "parent_item"),
    *("submitted", "origin", "continues", "superseded", "params", "workflow", "begun"),
)
FIELDS: Final = ", ".join(COLUMNS)
RUN_AT, STATE_AT = COLUMNS.index("run"), COLUMNS.index("state")
#: In the order of claims; then what is not due.
NEXT: Final = f"""SELECT {", ".join(f"runs.{name}" for name in COLUMNS)} FROM wanted JOIN runs USING (run) WHERE queued
    ORDER BY due > :now, CASE WHEN due <= :now THEN -priority END, due, run LIMIT :limit"""
#: The errors of tasks of a run that has not ended, in the order of the tasks.
FIRST_ERROR: Final = f"""SELECT steps.name, exception, message
    FROM errors JOIN attempts USING (run, task, item, attempt) JOIN runs USING (run) LEFT JOIN steps USING (plan, task)
    WHERE errors.run = ? AND item = {NO_ITEM} AND attempts.state = {FAILED} ORDER BY attempts.began LIMIT 1"""

DUE: Final = "SELECT run, due FROM wanted WHERE run IN ({runs}) AND queued"
ORDERED: Final = "SELECT what FROM orders WHERE run = ? AND done IS NULL ORDER BY what LIMIT 1"

ORDER: Final = "ORDER BY began DESC, run DESC LIMIT ?"
#: A new line is between them, so that a text of one line is in one of them.
SEARCH: Final = r"""AND LOWER(run_id || '
' || workflow_id || '
' || COALESCE(name, '') || '
' || COALESCE(error, '')) LIKE LOWER(?) ESCAPE '\'"""
#: Neither a step's, nor followed by another one of the same name.
UNMENDED: Final = """AND parent_run IS NULL AND (is_named OR name IS NOT NULL) AND NOT EXISTS
    (SELECT 1 FROM runs AS newer WHERE newer.workflow_id = runs.workflow_id AND newer.began > runs.began) AND
    (is_named OR NOT EXISTS (SELECT 1 FROM runs AS newer WHERE newer.name = runs.name AND newer.began > runs.began))"""
QUEUED: Final = "SELECT COUNT(*) FROM wanted WHERE queued"
ALL: Final = 2**63 - 1  # as a limit
MANY_RUNS: Final = 2000  # runs
COUNT_PARAMS: Final = f"""SELECT COUNT(*) FROM
    (SELECT 1 FROM runs WHERE workflow_id >= ? AND workflow_id < ? LIMIT {MANY_RUNS}) AS named"""

Condition = tuple[str, tuple[Any, ...]]
#: Neither waits in the queue, nor ended there.
BEGUN: Final = " AND (begun OR state = 'Running')"
NO_PARENT: Final = " AND parent_run IS NULL"
#: A paused run that another one has continued waits for nothing.
LAST_OF_CHAIN: Final = " AND NOT EXISTS (SELECT 1 FROM runs AS newer WHERE newer.continues = runs.run_id)"

BY_ID: Final = "SELECT run, run_id FROM runs WHERE run_id >= ? AND run_id < ? ORDER BY run_id LIMIT 9"
END: Final = "\U0010ffff"  # after all other characters
FEW: Final = 20  # runs among which one is looked for first
MANY_NAMED: Final = 1000  # runs of a workflow whose parameters an error is about
WORKFLOWS: Final = """SELECT CASE WHEN is_named THEN COALESCE(NULLIF(workflow, ''), workflow_id) ELSE name END AS id
    FROM runs ORDER BY began DESC LIMIT ?"""
RUN: Final = f"SELECT process, storage, trace, plan, environment, inputs, {FIELDS} FROM runs WHERE run = ?"
STEPS: Final = """SELECT task, name AS step, task_group, lane, identity, code, needs, policy FROM steps WHERE plan = ?
    ORDER BY task"""
ENVIRONMENT: Final = "SELECT document FROM environments WHERE environment = ?"
ATTEMPTS: Final = """SELECT task, item, attempt, state, began, took, cpu, peak, worker, glimpse, fallback, items, span,
    input, files, asked, round, waited FROM attempts WHERE run = ? ORDER BY task, item, attempt"""
ERRORS: Final = """SELECT task, item, attempt, exception, message, traceback, retry_in, refusal
    FROM errors WHERE run = ?"""
NOTES: Final = "SELECT at, text FROM notes WHERE run = ? ORDER BY at"
#: What people have ordered the runs of a chain.
ORDERS: Final = """SELECT orders.at, what, by_whom, comment FROM orders JOIN runs USING (run)
    WHERE runs.run = ? OR runs.origin = ? ORDER BY orders.at, orders.rowid"""
CHAIN: Final = "SELECT run_id FROM runs WHERE origin = ? ORDER BY run"
CHILDREN: Final = "SELECT run_id FROM runs WHERE parent_run = ? ORDER BY began"
#: The numbers of the last attempts, by task and name: of a map the mean of its items.
NUMBERS: Final = f"""SELECT task, note, COUNT(*) AS items, AVG(CAST(noted AS DOUBLE PRECISION)) AS mean FROM
    (SELECT task, item, name AS note, value AS noted FROM task_notes AS last
        WHERE run = ? AND name NOT IN ('{CALLS_KEPT}', '{CALLS_GIVEN}')
        AND NOT EXISTS (SELECT 1 FROM task_notes AS later WHERE later.run = last.run AND later.task = last.task
            AND later.item = last.item AND later.attempt > last.attempt AND later.name = last.name)) AS noted_last
    WHERE SUBSTR(noted, 1, 1) IN ('-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9')
    GROUP BY task, note ORDER BY task, note"""
TASK_NOTES: Final = "SELECT task, item, attempt, name AS note, value AS noted FROM task_notes WHERE run = ?"
CALL_COLUMNS: Final = """task, item, attempt, number, name, arguments, depth, calls.state AS call_state,
    attempts.state AS of_attempt, calls.began AS began, calls.took AS took, calls.glimpse AS glimpse,
    COALESCE(exception, '') AS exception, COALESCE(message, '') AS message, COALESCE(traceback, '') AS traceback,
    COALESCE(calls.input, '') AS input, COALESCE(identity, '') AS identity, call"""
COPIES: Final = """SELECT task, role, item, attempt, size, digest, {document}, why FROM copies
    WHERE run = ?{where} ORDER BY task, item, attempt, role"""
#: The calls of a part of a run, each with the state of its attempt, the last ones first.
CALLS: Final = f"""SELECT {CALL_COLUMNS} FROM calls JOIN attempts USING (run, task, item, attempt)
    WHERE run = ?{{where}} AND number < ? ORDER BY number DESC LIMIT ?"""
#: The last ones of each task and item.
ALL_CALLS: Final = f"""SELECT {CALL_COLUMNS} FROM (SELECT calls.*,
    ROW_NUMBER() OVER (PARTITION BY task, item ORDER BY number DESC) AS nth FROM calls WHERE run = ?{{where}}) AS calls
    JOIN attempts USING (run, task, item, attempt) WHERE nth <= ? ORDER BY task, item, number"""
#: The numbers of an attempt's calls have no gaps, and its first one is kept.
COUNT_CALLS: Final = """SELECT task, item, SUM(made) AS total FROM
    (SELECT task, item, MAX(number) - MIN(number) + 1 AS made FROM calls WHERE run = ?{where}
        GROUP BY task, item, attempt) AS of_attempts
    GROUP BY task, item"""
MAPS: Final = f"SELECT task, items FROM attempts WHERE run = ? AND item = {NO_ITEM} AND items IS NOT NULL"
ITEM_AT: Final = "SELECT item FROM attempts WHERE run = ? AND task = ? AND round = ? AND items = ? LIMIT 1"
HAS_ITEM: Final = "SELECT 1 FROM attempts WHERE run = ? AND task = ? AND item = ? LIMIT 1"
#: The rounds of a map with their first items.
ROUNDS: Final = "SELECT round, MIN(item) FROM attempts WHERE run = ? AND task = ? AND round IS NOT NULL GROUP BY round"
WITH_ROUNDS: Final = "SELECT DISTINCT task FROM attempts WHERE run = ? AND round IS NOT NULL"

TASK_STATES: Final = f"""SELECT steps.task, steps.name AS step, attempts.state, attempts.began, took
    FROM runs JOIN steps USING (plan) LEFT JOIN attempts
        ON attempts.run = runs.run AND attempts.task = steps.task AND item = {NO_ITEM}
    WHERE runs.run = ? ORDER BY steps.task, attempt"""

MANY: Final = 8  # documents of the maximum size that one call returns
MAX_ENVIRONMENT: Final = 16_000_000  # bytes; Linux has 2 MB for the arguments of a program
MAX_AHEAD: Final = 100_000  # items that may run beside the first one that has no rows

new: Final = tuple.__new__  # makes a named tuple in half the time: there may be one for each of 100,000 items

CHUNKS: Final = """SELECT task, item, attempt, seq, at, stream, data, skipped FROM output WHERE run = ?{where}
    ORDER BY task, item, attempt, seq"""
SIZES: Final = """SELECT task, item, attempt, SUM(LENGTH(data)) FROM output WHERE run = ? AND stream > 0
    GROUP BY task, item, attempt"""
TAIL: Final = """SELECT task, item, attempt, seq, at, stream, data, skipped FROM output
    WHERE run = ? AND task = ? AND item = ? AND attempt = ? ORDER BY seq DESC"""
LAST: Final = "SELECT task, item, attempt, MAX(seq) FROM output WHERE run = ?{where} GROUP BY task, item, attempt"
ONE: Final = " AND task = ? AND item = ? AND attempt = ? AND seq > ?"
_ITEMS_OF_ROUND: Final = """SELECT of.item FROM attempts AS of
    WHERE of.run = output.run AND of.task = output.task AND of.round = ?"""

RUN_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")


class RunFilter(NamedTuple):
    """Which runs are listed, and how many at most.

    Attributes:
        states: Runs in one of these states; empty for all.
        workflow: Those of this workflow: its id, that without parameters or key, or its name.
        since, until: Those that began at this moment or later, and not after that one, in microseconds since 1970.
        search: Those with this text in their id, workflow, name or error.
        limit: The maximum number.
        is_unmended: Only those without a newer run of the same name, and none that a step has started.
        is_newest: Only those that no other run continues.
        is_begun: Only those that have begun.
        is_outermost: Only those that no step has started.
    """

    states: Sequence[TypeRunState] = ()
    workflow: str | None = None
    since: int = 0
    until: int = ALL
    search: str = ""
    limit: int = ALL
    is_unmended: bool = False
    is_newest: bool = False
    is_begun: bool = False
    is_outermost: bool = False


class Selection(NamedTuple):
    """A part of a run's output: that of a task, an item, a round or an attempt; all of it if they are None.

    Of a map's round, the *example* is one of its items.
    """

    task: int | None = None
    item: int | None = None
    attempt: int | None = None
    round: int | None = None
    example: str = ""

    def where(self) -> tuple[str, tuple[int, ...]]:
        """Returns its conditions in SQL, and their values."""
        conditions = {
            "task = ?": self.task,
            "item = ?": self.item,
            "attempt = ?": self.attempt,
            f"item IN ({_ITEMS_OF_ROUND})": self.round,
        }
        chosen = {sql: value for sql, value in conditions.items() if value is not None}
        return "".join(f" AND {sql}" for sql in chosen), tuple(chosen.values())


class Records(Reader):
    """Reads records in the transaction of a Reader."""

    def find(self, run: str) -> int:
        """Returns the number of the run that a text names: an id, a beginning of one, or as `Archive` says.

        Raises:
            NotInHistory: It names none, or several ids begin with it.
        """
        what, where = f"Can't find the run '{run}'", self.database.place
        if not self.has_runs:
            raise NotInHistory(what, f"{where} has no runs yet. {HOW_TO_RECORD}")
        if not run:  # of a variable of a script that is not set: no run is meant
            raise NotInHistory(what, "its name is empty. Pass an id, or the name of a workflow")
        beginning, is_long = run.lower(), len(run) >= MIN_BEGINNING
        rows = [] if run in NAMES else self.connection.execute(BY_ID, (beginning, beginning + END)).fetchall()
        if rows and (rows[0][1] == beginning or (is_long and len(rows) == 1)):
            return int(rows[0][0])
        named = self._find_named(run_names(run))
        if rows and is_long:
            ids = [run_id for _, run_id in rows]
            raise NotInHistory(what, why_several(run, ids, is_name=named is not None))
        if named is None:
            raise NotInHistory(what, self._why_none(run_names(run)))
        ((number,),) = self.connection.execute(FIND_RUN, (named.run_id,))
        return int(number)

    def _find_named(self, names: Sequence[RunName]) -> RunSummary | None:
        return next((run for name in names if (run := self._named(name)) is not None), None)

    def _named(self, name: RunName) -> RunSummary | None:
        """Returns the run of a name. A workflow of which none has begun has the newest one in the queue."""
        wanted = RunFilter(FAILURES if name.is_failed else (), name.workflow or None, is_begun=not name.is_failed)
        found = self._matching(wanted._replace(is_outermost=not name.workflow), name)
        newest = next(found, None)
        if name.is_previous and newest is not None:
            return next((run for run in found if (run.origin or run.run_id) != (newest.origin or newest.run_id)), None)
        if newest is None and name.workflow and name.is_last:
            return next(self._matching(wanted._replace(is_begun=False), name), None)
        return newest

    def _matching(self, wanted: RunFilter, name: RunName) -> Iterator[RunSummary]:
        """Yields the runs with the parameters of a name, the newest first: of few ones first, then of all."""
        few = filter(name.has_params_of, self.runs(wanted._replace(limit=FEW)))
        rest = filter(name.has_params_of, itertools.islice(self.runs(wanted), FEW, None))
        yield from itertools.chain(few, rest)

    def _why_none(self, names: Sequence[RunName]) -> str:
        """Returns why no run has one of these names, and what to write."""
        where, name = self.database.place, names[0]
        if not name.workflow:
            return why_no_run(name.word, where)
        for of in names:
            if runs := list(self.runs(RunFilter(workflow=of.workflow, limit=MANY_NAMED))):
                return why_none_of(of, runs)
        return why_unknown(name, where, self.workflows())

    def workflows(self) -> list[str]:
        """Returns the workflows of the latest runs, the last one first: ids without parameters, or names."""
        rows = self.connection.execute(WORKFLOWS, (LATEST,)).fetchall()
        return list(dict.fromkeys(workflow.partition("@")[0] for (workflow,) in rows if workflow is not None))

    def runs(self, wanted: RunFilter) -> Iterator[RunSummary]:
        """Yields runs, the newest first.

        Each combination of conditions is a query of its own with the limit, so that it follows an index in order.
        """
        matches: list[list[Condition]] = [[]]
        workflow = wanted.workflow
        if workflow is not None:
            by_id = [("workflow_id = ?", (workflow,)), *self._with_params(workflow)]
            matches = [by_id, [("name = ?", (workflow,))]]
        for conditions in matches:
            rows = self._query(list(self._with_states(conditions, wanted.states)), wanted)
            if wanted.since and TypeRunState.QUEUED in (wanted.states or TypeRunState):  # what still waits is not past
                earlier = wanted._replace(since=0, until=min(wanted.until, wanted.since - 1))
                rows += self._query(list(self._with_states(conditions, [TypeRunState.QUEUED])), earlier)
                rows = rows[: wanted.limit]
            yield from self._summaries(rows)
            if rows:
                return

    def unmended(self, limit: int) -> list[RunSummary]:
        """Returns the runs that failed or crashed, and that none of their name has followed."""
        return list(self.runs(RunFilter(FAILURES, limit=limit, is_unmended=True)))

    def recent(self, workflows: Sequence[str], limit: int) -> dict[str, list[RunSummary]]:
        """Returns the latest runs of workflows."""
        return {workflow: list(self.runs(RunFilter(workflow=workflow, limit=limit))) for workflow in workflows}

    def _with_params(self, workflow: str) -> Iterator[Condition]:
        """Yields the conditions for the ids with parameters, and with a key; none if there are no such runs.

        No index has them in the order of their beginnings. So few are sorted, and many are found among all runs.
        """
        for sign in "@#":
            ids = (f"{workflow}{sign}", f"{workflow}{chr(ord(sign) + 1)}")
            ((count,),) = self.connection.execute(COUNT_PARAMS, ids)
            if count:
                column = "workflow_id || ''" if count == MANY_RUNS else "workflow_id"  # keeps it from the index
                yield f"{column} >= ? AND {column} < ?", ids

    def _with_states(self, conditions: Sequence[Condition], states: Sequence[TypeRunState]) -> Iterator[Condition]:
        for sql, values in conditions or [("TRUE", ())]:
            if not states:
                yield sql, values
            for state in states:
                is_running = state is TypeRunState.RUNNING
                dead = f" AND run NOT IN ({in_list(self.ended)})" if is_running and self.ended else ""
                # An expression keeps it from the index of states where there is one of workflows.
                dead += LAST_OF_CHAIN if state is TypeRunState.PAUSED else ""
                column = "state || ''" if values else "state"
                yield f"{sql} AND {column} = ?{dead}", (*values, str(state))
                if ended := self.ended_as(state):
                    yield f"{sql} AND run IN ({in_list(ended)})", values

    def _query(self, conditions: Sequence[Condition], wanted: RunFilter) -> list[tuple[Any, ...]]:
        more: list[Any] = [wanted.since, wanted.until]
        if wanted.search:
            more.append("%" + re.sub(r"([%_\\])", r"\\\1", wanted.search) + "%")
        others = (SEARCH if wanted.search else "") + (UNMENDED if wanted.is_unmended else "")
        others += LAST_OF_CHAIN if wanted.is_newest else ""
        others += (BEGUN if wanted.is_begun else "") + (NO_PARENT if wanted.is_outermost else "")
        parts = [f"SELECT * FROM ({_part(sql, others)}) AS part" for sql, _ in conditions]
        values = [value for _, parameters in conditions for value in (*parameters, *more, wanted.limit)]
        return self.connection.execute(f"{' UNION ALL '.join(parts)} {ORDER}", (*values, wanted.limit)).fetchall()

    def next(self, limit: int) -> tuple[list[RunSummary], int]:
        """Returns the runs in the queue that begin next, and how many are in there."""
        rows = self.connection.execute(NEXT, {"now": self.connection.now, "limit": limit}).fetchall()
        ((count,),) = self.connection.execute(QUEUED)
        return [*self._summaries(rows)], count

    def summary(self, run: int) -> RunSummary:
        """Returns a run by its number."""
        (row,) = self.connection.execute(f"SELECT {FIELDS} FROM runs WHERE run = ?", (run,))
        return RunSummary(**self._summary_fields(row, self._due([row]), self._silences([row])))

    def _summaries(self, rows: Sequence[Sequence[Any]]) -> Iterator[RunSummary]:
        due, silences = self._due(rows), self._silences(rows)
        for row in rows:
            yield RunSummary(**self._summary_fields(row, due, silences))

    def _due(self, rows: Iterable[Sequence[Any]]) -> dict[int, int]:
        """Returns when the queued ones of runs are due."""
        queued = [row[RUN_AT] for row in rows if row[STATE_AT] == TypeRunState.QUEUED]
        return dict(self.connection.execute(DUE.format(runs=in_list(queued))).fetchall()) if queued else {}

    def _silences(self, rows: Iterable[Sequence[Any]]) -> Mapping[int, float]:
        """Returns for how many seconds the processes of running ones of runs gave no sign of life, if unusual."""
        is_shown = any(row[STATE_AT] == TypeRunState.RUNNING and row[RUN_AT] not in self.ended for row in rows)
        return self.database.presence.silences(self.connection) if is_shown else {}

    def _summary_fields(
        self, row: Sequence[Any], due: Mapping[int, int], silences: Mapping[int, float]
    ) -> dict[str, Any]:
        """Returns the fields of a RunSummary. Those that are written at the end of a run are computed before.

        Args:
            row: The columns of the run.
            due: When queued runs are due.
            silences: For how many seconds the processes of running runs gave no sign of life.
        """
        fields = dict(zip(COLUMNS, row, strict=True))
        run, state = fields.pop("run"), TypeRunState(fields["state"])
        if run in self.ended:
            state = self.ended[run]
            last, error = end_of(self.connection, run, state)
            fields.update(ended=fields["began"] if last is None else last, error=error)
        names = ("completed", "failed", "restored", "skipped")
        if state is TypeRunState.QUEUED:  # nothing of it has begun
            fields.update(dict.fromkeys(names, 0))
        elif any(fields[name] is None for name in names):
            fields.update(zip(names, counts_of(self.connection, run), strict=True))
            fields["error"] = fields["error"] or self._first_error(run)
        fields["completed"] += fields["restored"]  # the file has them apart
        parent = AttemptId(*(fields.pop(f"parent_{name}") for name in ("run", "task", "attempt", "item")))
        if parent.item == NO_ITEM:
            parent = parent._replace(item=None)
        for name in ("run_id", "origin", "continues", "superseded"):
            checked_id(fields[name] or "none")
        of_text = ("reason", "mode", "trigger", "error", "origin", "continues", "superseded")
        texts = {name: fields[name] or "" for name in of_text}
        base, begun = fields.pop("workflow") or "", fields.pop("begun")
        is_queued, pause = state is TypeRunState.QUEUED, self.pauses.get(base)
        ordered = self.connection.execute(ORDERED, (run,)).fetchall() if state is TypeRunState.RUNNING else []
        return (
            fields
            | texts
            | {
                "state": state,
                "resumed": bool(fields["resumed"]),
                "began": moment(fields["began"]),
                "ended": moment_or_none(fields["ended"]),
                "tasks": fields["tasks"] or 0,
                "submitted": moment_or_none(fields["submitted"]),
                "due": moment(due[run]) if run in due else None,
                "ordered": ordered[0][0] if ordered else "",
                "params": None if fields["params"] is None else _params(fields["params"]),
                "params_text": fields["params"],
                "base": base,
                "has_begun": bool(begun) or state is TypeRunState.RUNNING,
                "is_served": base in self.served,
                "silence": silences.get(run) if state is TypeRunState.RUNNING else None,
                "workflow_paused_by": pause.by if pause and is_queued else "",
                "parent": None if parent.run_id is None else parent,
            }
        )

    def _first_error(self, run: int) -> str:
        for row in self.connection.execute(FIRST_ERROR, (run,)):
            return error_line(*row)
        return ""

    def load(self, run: int) -> RunRecord:
        """Returns a run by its number."""
        ((process, storage, trace, plan, environment, inputs, *row),) = self.connection.execute(RUN, (run,))
        steps = self.connection.execute(STEPS, (plan,)).fetchall()
        if any(number != task for number, (task, *_) in enumerate(steps)):
            raise ValueError("its tasks are not numbered from 0")
        fields = self._summary_fields(row, self._due([row]), self._silences([row]))
        attempts, counts = self._attempts(run, _unended(fields["state"]))
        is_known = _is_known(fields["state"])
        chain = [checked_id(run_id) for (run_id,) in self.connection.execute(CHAIN, (fields["origin"],))]
        return RunRecord(
            **fields,
            process=process or "",
            storage=storage or "",
            trace=trace or "",
            environment=self._environment(environment),
            steps=[_task(step, attempts, counts, is_known) for step in steps],
            notes=self._notes(run, fields["origin"]),
            files=FileRecord.from_text(inputs or ""),
            questions=of_chain(self.connection, fields["origin"]),
            chain=chain if len(chain) > 1 else (),
            children=[checked_id(run_id) for (run_id,) in self.connection.execute(CHILDREN, (fields["run_id"],))],
        )

    def _attempts(
        self, run: int, unended: TypeAttemptState
    ) -> tuple[dict[int, dict[int, list[AttemptRecord]]], dict[int, int]]:
        """Returns the attempts by task and item, and the numbers of the items of maps by task."""
        errors: dict[tuple[int, int, int], list[ErrorRecord]] = defaultdict(list)
        failed = self.connection.execute(ERRORS, (run,))
        for task, item, attempt, exception, message, traceback, retry_in, refusal in failed:
            error = ErrorRecord(exception, message, traceback, _seconds(retry_in), refusal or "")
            errors[task, item, attempt].append(error)
        notes: dict[tuple[int, int, int], dict[str, Note]] = defaultdict(dict)
        for task, item, attempt, name, value in self.connection.execute(TASK_NOTES, (run,)):
            notes[task, item, attempt][name] = _note(value)
        states: dict[int, TypeAttemptState] = dict(enumerate(STATES)) | {RUNNING: unended}
        attempts: dict[int, dict[int, list[AttemptRecord]]] = defaultdict(dict)
        counts: dict[int, int] = {}
        rows = self.connection.execute(ATTEMPTS, (run,))
        for task, item, attempt, state, began, took, cpu, peak, worker, glimpse, fallback, items, *more in rows:
            span, given, files, asked, number, waited = more
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
                files or "",
                asked or 0,
                notes.get((task, item, attempt), NO_NOTES) if notes else NO_NOTES,
                number,
                None if item == NO_ITEM else items,
                None if waited is None else waited / MICRO,
            )
            attempts[task].setdefault(item, []).append(new(AttemptRecord, values))
            if items is not None and item == NO_ITEM:
                counts[task] = items
        return attempts, counts

    def _environment(self, environment: int | None) -> dict[str, Any]:
        for (document,) in self.connection.execute(ENVIRONMENT, (environment,)):
            described = json.loads(unzip(document, MAX_ENVIRONMENT))
            facts = {name: described.pop(name, default) for name, default in (("argv", []), ("packages", {}))}
            texts = [*facts["argv"], *facts["packages"], *facts["packages"].values(), *filter(None, described.values())]
            if not isinstance(facts["argv"], list) or not all(isinstance(text, str) for text in texts):
                raise TypeError("an environment has other values than texts")
            return {**described, **facts}
        return {}

    def _notes(self, run: int, origin: str) -> list[tuple[datetime, str]]:
        """Returns what was noted about a run, and who has ordered its chain what, in the order of time."""
        notes = [(moment(at), text) for at, text in self.connection.execute(NOTES, (run,))]
        for at, what, by, comment in self.connection.execute(ORDERS, (run, origin)):
            notes.append((moment(at), _order_text(what, by, comment)))
        return sorted(notes, key=itemgetter(0))

    def task_states(self, run: int) -> list[TaskState]:
        """Returns the tasks of a run without their items."""
        ((of_run,),) = self.connection.execute("SELECT state FROM runs WHERE run = ?", (run,))
        of_run = self.ended.get(run, TypeRunState(of_run))
        names = dict(enumerate(STATES)) | {RUNNING: _unended(of_run)}
        missing = None if _is_known(of_run) else TypeAttemptState.UNKNOWN
        states: dict[int, TaskState] = {}
        first: dict[int, int] = {}
        for task, name, state, began, took in self.connection.execute(TASK_STATES, (run,)):
            start = began if began is None else first.setdefault(task, began)
            duration = None if start is None or took is None else _seconds(began - start + took)
            states[task] = TaskState(task, name, missing if state is None else names[state], duration)
        return list(states.values())

    def noted_numbers(self, run: int) -> list[NotedNumber]:
        """Returns the numbers that the tasks of a run have noted."""
        return [NotedNumber(*row) for row in self.connection.execute(NUMBERS, (run,))]

    def select(self, name: str, step: str | None, attempt: int | None) -> tuple[int, Selection]:
        """Returns the number of a run, and its part that *step* names; all of it for None. Raises NotInHistory."""
        run = self.find(name)
        if step is None:
            return run, Selection(attempt=attempt)
        ((_, _, _, plan, _, _, _, run_id, *_),) = self.connection.execute(RUN, (run,))
        counts = dict(self.connection.execute(MAPS, (run,)))
        tasks = [_task(row, {}, counts, True) for row in self.connection.execute(STEPS, (plan,))]
        with_rounds = {task for (task,) in self.connection.execute(WITH_ROUNDS, (run,))} if "[" in step else ()
        task, item, number, index = find_step(run_id, tasks, step, with_rounds)
        if index is not None:
            assert number is not None
            rows = self.connection.execute(ITEM_AT, (run, task.task_id, number, index)).fetchall()
            if not rows:
                raise no_item_at(task, (number, index))
            return run, Selection(task.task_id, rows[0][0], attempt)
        if number is not None:
            firsts = dict(self.connection.execute(ROUNDS, (run, task.task_id)))
            if number not in firsts:
                raise no_round(task, step, firsts)
            return run, Selection(task.task_id, None, attempt, number, task.name_of(firsts[number]))
        if item is not None and not self.connection.execute(HAS_ITEM, (run, task.task_id, item)).fetchall():
            raise no_item(task, item)
        return run, Selection(task.task_id, item, attempt)

    def copies(self, run: int, selection: Selection, limit: int | None) -> list[ValueRecord]:
        """Returns the copies of values of a run, or of a task or an item; without an attempt, of the last one of each.

        Args:
            run: The run.
            selection: All of it, a task, an item or an attempt.
            limit: The maximum size of a document, and of all together MANY times that. None leaves them out.
        """
        task, item, attempt, *_ = selection
        where, values = "", [run]
        if task is not None:
            where = f" AND task = ? AND (item = ? OR attempt = {SHARED_ATTEMPT})"
            values = [run, task, NO_ITEM if item is None else item]
        # Without the documents, whether there is one.
        column = "document" if limit is not None else "document IS NOT NULL AS is_kept"
        rows = self.connection.execute(COPIES.format(document=column, where=where), values).fetchall()
        last = {(task, item): number for task, _, item, number, *_ in rows}  # the attempts are in order
        chosen = {key: (attempt or number, SHARED_ATTEMPT) for key, number in last.items()}
        left = (limit or 0) * MANY
        copies = []
        for task, role, item, number, size, digest, document, why in rows:
            if number not in chosen[task, item]:
                continue
            if limit is None:
                document = b"" if document else None
            elif document:
                document = unzip(document, min(limit or 0, left))
                left -= len(document)
            item = None if item == NO_ITEM else item
            copies.append(ValueRecord(task, role, item, number, size, digest or "", document, why or ""))
        return copies

    def calls(self, run: int, selection: Selection, before: int | None, limit: int | None) -> CallPage:
        """Returns the last calls of a task or an item, those of its own if it is a map."""
        where, values = selection._replace(item=NO_ITEM if selection.item is None else selection.item).where()
        window = (ALL if before is None else before, ALL if limit is None else limit)
        rows = self.connection.execute(CALLS.format(where=where), (run, *values, *window)).fetchall()
        counts = self.connection.execute(COUNT_CALLS.format(where=where), (run, *values)).fetchall()
        is_running = self.is_running(run)
        return CallPage([_call(row, is_running) for row in reversed(rows)], sum(int(total) for *_, total in counts))

    def all_calls(
        self, run: int, limit: int, items: Collection[tuple[int, int]] | None
    ) -> dict[tuple[int, int | None], CallPage]:
        """Returns the last calls of each task and item that has any; with *items*, of these items alone."""
        where = ""
        if items is not None:
            chosen = f" OR (task, item) IN (VALUES {', '.join(['(?, ?)'] * len(items))})" if items else ""
            where = f" AND (item = {NO_ITEM}{chosen})"
        values = [number for pair in items or () for number in pair]
        rows = self.connection.execute(ALL_CALLS.format(where=where), (run, *values, limit)).fetchall()
        if not rows:
            return {}
        is_running = self.is_running(run)
        found: dict[tuple[int, int | None], list[CallRecord]] = defaultdict(list)
        for row in rows:
            call = _call(row, is_running)
            found[call.task_id, call.item].append(call)
        totals = {
            (task, None if item == NO_ITEM else item): int(total)
            for task, item, total in self.connection.execute(COUNT_CALLS.format(where=where), (run, *values))
        }
        return {key: CallPage(calls, totals[key]) for key, calls in found.items()}

    def output(self, run: int, selection: Selection) -> list[OutputChunk]:
        """Returns the output in the order of arrival."""
        where, values = selection.where()
        return _by_arrival(self._chunks(where, (run, *values)))

    def new_output(self, run: int, selection: Selection, seen: dict[tuple[int, int, int], int]) -> list[OutputChunk]:
        """Returns what is new since the last call with the same *seen*, which has the last `seq` of each attempt."""
        where, values = selection.where()
        chunks: list[OutputChunk] = []
        for *key, last in self.connection.execute(LAST.format(where=where), (run, *values)).fetchall():
            before = seen.get(attempt := tuple(key), -1)
            if last > before:
                seen[attempt] = last
                chunks += self._chunks(ONE, (run, *attempt, before))
        return _by_arrival(chunks)

    def _chunks(self, where: str, values: tuple[int, ...]) -> list[OutputChunk]:
        rows = self.connection.execute(CHUNKS.format(where=where), values)
        return list(map(_chunk, rows))

    def sizes(self, run: int) -> dict[OutputKey, int]:
        """Returns the bytes of the output of each attempt."""
        return {
            OutputKey(task, None if item == NO_ITEM else item, attempt): size
            for task, item, attempt, size in self.connection.execute(SIZES, (run,))
        }

    def tails(self, run: int, sizes: Mapping[OutputKey, int]) -> list[OutputChunk]:
        """Returns the last bytes of attempts, up to the number of each."""
        chunks: list[OutputChunk] = []
        for (task, item, attempt), size in sizes.items():
            tail: list[OutputChunk] = []
            left = size
            for row in self.connection.execute(TAIL, (run, task, NO_ITEM if item is None else item, attempt)):
                if left <= 0:
                    break
                chunk = _chunk(row)
                tail.append(chunk._replace(data=chunk.data[-left:]) if chunk.stream else chunk)
                left -= len(chunk.data) if chunk.stream else 0
            chunks += reversed(tail)
        return chunks


def checked_id(run_id: str) -> str:
    """Returns the id of a run, which is in names of files, commands and addresses. Raises ValueError."""
    if not RUN_ID.fullmatch(run_id):
        raise ValueError(f"{run_id!r} is no id of a run")
    return run_id


def _part(sql: str, others: str) -> str:
    # An expression keeps it from the index of beginnings where the one of workflows is better.
    began = "began + 0" if sql.startswith("workflow_id >") else "began"
    return f"SELECT {FIELDS} FROM runs WHERE {sql} AND {began} >= ? AND {began} <= ? {others} {ORDER}"


def _params(text: str) -> Mapping[str, Any] | None:
    """Returns the run parameters of a text of the codec, for any process. None where it has none."""
    try:
        stored = params_in(json.loads(text))
        return {name: decode_plain(member) for name, member in stored.items()}
    except (ValueError, AttributeError, RecursionError):
        return None


def _order_text(what: str, by: str, comment: str) -> str:
    if what in ("approve", "reject"):  # the step stands before the comment
        step, _, comment = comment.partition(": ")
        what = f"{'approved' if what == 'approve' else 'rejected'} '{step}'"
    else:
        what = {"resume": "resumed it", "submit": "submitted it"}.get(what, f"ordered it to {what}")
    return f"{by} {what}{comment and f': {comment}'}"


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
    described = dict(json.loads(policy)) if policy else {}
    levels = levels_in(described)
    described.pop("levels", None)
    return TaskRecord(
        task_id=task,
        name=name,
        levels=levels,
        group=group or "default",
        lane=lane or 0,
        identity=identity or "",
        code=code or "",
        needs=[range(task)[need] for need in json.loads(needs)] if needs else (),
        policy=described,
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


def _note(text: str) -> Note:
    value = json.loads(text)
    if not isinstance(value, bool | int | float | str) or value in (math.inf, -math.inf) or value != value:
        raise TypeError("a note has another value than a number or a text")
    return value


def _seconds(micro: int | None) -> float | None:
    return None if micro is None else micro / MICRO


def _chunk(row: tuple[Any, ...]) -> OutputChunk:
    task, item, attempt, seq, at, stream, data, skipped = row
    return OutputChunk(task, None if item == NO_ITEM else item, attempt, seq, moment(at), stream, data, skipped or 0)


def _call(row: Sequence[Any], is_running: bool) -> CallRecord:
    task, item, attempt, number, name, arguments, depth, state, of_attempt, *rest = row
    began, took, glimpse, exception, message, traceback, text, identity, key = rest
    is_cut_off = state == CALL_RUNNING and not (is_running and of_attempt == RUNNING)
    call_state = TypeCallState.CUT_OFF if is_cut_off else CALL_STATES[state]
    of_call = (task, None if item == NO_ITEM else item, attempt, number, name or "", arguments or "", depth)
    end = (call_state, moment(began), _seconds(took), glimpse or "", exception, message, traceback, key or "")
    return CallRecord._make((*of_call, *end, identity, text))


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
