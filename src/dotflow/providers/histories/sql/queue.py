"""The queue of a history: submissions, claims, ends and orders, each of them one transaction."""

import heapq
import json
import time
import uuid
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from dotflow import clock
from dotflow.abc.operations import (
    Claim,
    Declared,
    Dropped,
    Ending,
    Firing,
    LeftRun,
    LongQueued,
    Neighbour,
    Operations,
    Order,
    QueueServer,
    RunLost,
    Schedule,
    ServedSchedule,
    Submission,
    TakenOver,
    TypeOrder,
    WorkflowPause,
)
from dotflow.abc.workflow import Superseded
from dotflow.core.approval import Question, QuestionId
from dotflow.core.attempt_id import ID_LENGTH
from dotflow.core.outcome import CALLS_GIVEN, CALLS_KEPT
from dotflow.core.schedule_rules import Fired
from dotflow.core.text import escape_surrogates
from dotflow.core.types.run_state import TypeRunState
from dotflow.errors import HistoryError, NotInHistory, OrderRefused, close_match
from dotflow.graph.params import SETTINGS, given_in
from dotflow.providers.histories.sql import questions, rules, schedules
from dotflow.providers.histories.sql.crashed import (
    FIND_PLAIN,
    MARK_ATTEMPTS,
    MARK_RUN,
    counts_of,
    end_of,
    ended_of,
    mark_ended,
)
from dotflow.providers.histories.sql.database import CLAIMS, AnswerLost, Connection, Cursor, Database, Statements
from dotflow.providers.histories.sql.reading import (
    LATEST,
    PAUSES,
    SERVED,
    pauses_of,
    reading,
    served_of,
)
from dotflow.providers.histories.sql.rules import Candidate, Effect, Fate, Firings, FoundRun
from dotflow.providers.histories.sql.tables import (
    COMPLETED,
    CRASHED,
    FIND_RUN,
    MICRO,
    OPEN,
    RESTORED,
    micro,
    moment,
    moment_or_none,
)
from dotflow.providers.histories.sql.writer import end_others
from dotflow.records.environment import process_name

if TYPE_CHECKING:
    from dotflow.records.record import RunSummary

T = TypeVar("T")

MAX_LEFT: Final = 100
MAX_CANDIDATES: Final = 1000  # rows that a claim reads at once
LOOK: Final = 0.9  # seconds between two looks whether its runs are its own, each of which asks once a second
REST: Final = 30.0  # seconds without news after which a server looks all the same

BY_KEY: Final = """SELECT run, run_id, params, queued AND NOT resume FROM wanted JOIN runs USING (run)
    WHERE wanted.workflow = ? AND key = ?"""
#: What is queued of a name, with the moment until which it is put off where it is debounced: no firing is.
FRESH: Final = """SELECT run, run_id, priority, due, CASE WHEN planned IS NULL THEN looked_at END
    FROM wanted JOIN runs USING (run) WHERE wanted.name = ? AND queued AND NOT resume"""
SET_PARAMS: Final = "UPDATE runs SET params = ? WHERE run = ?"  # those that do not name it may differ
MERGE: Final = """UPDATE wanted SET priority = ?, due = ?,
    looked_at = CASE WHEN planned IS NULL THEN ? ELSE looked_at END, key = COALESCE(key, ?) WHERE run = ?"""
#: The newer run of a key has it from now on.
GIVE_UP_KEY: Final = "UPDATE wanted SET key = NULL WHERE run = ?"
ADD_RUN: Final = """INSERT INTO runs (run_id, workflow_id, name, state, trigger, began, submitted, is_named, workflow,
    params, origin, continues) VALUES (?, ?, ?, 'Queued', ?, ?, ?, TRUE, ?, ?, ?, ?)"""
ADD_WANTED: Final = """INSERT INTO wanted (run, workflow, name, key, priority, due, resume, rerun, tries, schedule,
    made_up, looked_at, queued) SELECT run, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, TRUE FROM runs WHERE run_id = ?"""
#: Where another transaction has written the key, this one waits for its end.
ADD_KEYED: Final = f"{ADD_WANTED} ON CONFLICT (workflow, key) WHERE key IS NOT NULL DO NOTHING"
LEAVE: Final = "UPDATE wanted SET queued = FALSE, server = NULL WHERE run = ?"
UNNAMED: Final = """SELECT run_id, wanted.workflow, params, key, priority, due FROM wanted JOIN runs USING (run)
    WHERE queued AND wanted.name IS NULL ORDER BY run"""
CONCEAL: Final = """UPDATE wanted SET name = CASE WHEN name IS NOT NULL THEN :name END, key = NULL
    WHERE run = (SELECT run FROM runs WHERE run_id = :run)"""
SET_NAME: Final = "UPDATE wanted SET name = ? WHERE run = ?"

DECLARE: Final = """INSERT INTO workflows (workflow, params, seen) VALUES (?, ?, ?)
    ON CONFLICT (workflow) DO UPDATE SET params = excluded.params, seen = excluded.seen"""
DECLARED: Final = "SELECT params FROM workflows WHERE workflow = ?"
STOPPED: Final = "SELECT workflow FROM workflows WHERE paused_at IS NOT NULL"
#: The known workflows: those that were declared, or of which a run was submitted by their id alone.
KNOWN: Final = """SELECT workflow FROM workflows UNION SELECT workflow FROM runs WHERE workflow IS NOT NULL"""
STOP: Final = """INSERT INTO workflows (workflow, seen, paused_by, paused_at, paused_comment) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (workflow) DO UPDATE SET (paused_by, paused_at, paused_comment) = (excluded.paused_by,
    excluded.paused_at, excluded.paused_comment)"""
GO_ON: Final = """UPDATE workflows SET (paused_by, paused_at, paused_comment, paused_from, resumed_at, resumed_by,
    resumed_comment) = (NULL, NULL, NULL, paused_at, ?, ?, ?) WHERE workflow = ?"""
RESUMED: Final = "SELECT resumed_by, resumed_comment FROM workflows WHERE workflow = ? AND resumed_by IS NOT NULL"
SERVERS: Final = "SELECT server, lock FROM servers WHERE server <> ?"
NEIGHBOURS: Final = "SELECT process, lock, workflows FROM servers WHERE server <> ?"
ADD_SERVER: Final = "INSERT INTO servers (server, process, lock, workflows, since) VALUES (?, ?, ?, ?, ?)"
REMOVE_SERVER: Final = "DELETE FROM servers WHERE server = ?"
IS_REGISTERED: Final = "SELECT 1 FROM servers WHERE server = ?"

#: The runs of a name that have not ended: those that run, and the last one of each chain that waits.
RUNNING_OF: Final = "SELECT run FROM runs WHERE workflow_id = ? AND state = 'Running'"
WAITING_OF: Final = f"""SELECT run FROM runs LEFT JOIN wanted USING (run) WHERE workflow_id = :name AND {OPEN}
    AND (state = 'Paused' OR state = 'Queued' AND wanted.name = :name)
    AND NOT EXISTS (SELECT 1 FROM runs AS newer WHERE newer.continues = runs.run_id)"""
#: A chain of which nothing has begun has no values, and so the newer run stands for it at once.
REPLACE: Final = """UPDATE runs SET superseded = ? WHERE run = ?
    AND NOT EXISTS (SELECT 1 FROM runs AS other WHERE other.begun AND other.origin = runs.origin)"""
RUNNING_NOW: Final = "SELECT COUNT(*) FROM runs WHERE state = 'Running' AND workflow = ?"
SCHEDULED: Final = """SELECT workflow FROM runs WHERE state = 'Running' AND trigger = 'schedule'
    AND run NOT IN (SELECT run FROM wanted)"""
#: The priorities of what is queued of a workflow, the highest first: each is found by a step through the index.
_PRIORITIES: Final = """WITH RECURSIVE priorities (priority) AS (
    SELECT MAX(priority) FROM wanted WHERE queued AND workflow = :workflow
    UNION ALL SELECT (SELECT MAX(priority) FROM wanted
        WHERE queued AND workflow = :workflow AND priority < priorities.priority)
    FROM priorities WHERE priority IS NOT NULL)"""
IS_DUE: Final = f"""{_PRIORITIES} SELECT 1 FROM priorities CROSS JOIN wanted
    WHERE wanted.priority = priorities.priority AND queued AND workflow = :workflow AND due <= :now LIMIT 1"""
NEXT_DUE: Final = "SELECT MIN(due) FROM wanted WHERE queued AND workflow = ? AND due > ?"
#: What waits for nothing but the clock, which was set back since: it was due when it was written. It begins in that
#: order, now. The index of the moments finds no row while the clock is right.
AHEAD: Final = """SELECT run FROM runs JOIN wanted USING (run)
    WHERE began > :now AND queued AND due > :now AND due <= submitted"""
BEGIN_NOW: Final = f"UPDATE wanted SET due = :now WHERE run IN ({AHEAD})"
PRIORITIES: Final = f"{_PRIORITIES} SELECT priority FROM priorities WHERE priority IS NOT NULL"
#: The queued runs of a priority that may begin, unless their schedule forbids it: of a name no run is active, and a
#: continuation comes first, even if it is not due. It is one range of an index, from behind a row on.
_MAY_BEGIN: Final = """queued AND due <= :now AND wanted.name IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM runs AS active WHERE active.workflow_id = wanted.name AND active.state = 'Running')
    AND NOT EXISTS (SELECT 1 FROM wanted AS other
        WHERE other.name = wanted.name AND other.queued AND other.resume AND NOT wanted.resume)"""
CANDIDATES: Final = f"""SELECT run, workflow, name, priority, due, schedule, planned, resume FROM wanted
    WHERE workflow = :workflow AND priority = :priority AND (due, run) > (:due, :run) AND {_MAY_BEGIN}
    ORDER BY due, run LIMIT :room"""
#: What decides whether a run of a schedule may begin, as in Firings.
FIRINGS: Final = """SELECT MIN(planned), COUNT(CASE WHEN resume THEN 1 END),
    COALESCE((SELECT CAST(at_once AS BIGINT) FROM schedules WHERE schedule = :schedule), 1),
    (SELECT COUNT(*) FROM runs JOIN wanted AS begun USING (run) WHERE state = 'Running' AND begun.schedule = :schedule)
    FROM wanted WHERE queued AND schedule = :schedule"""
#: What is due and queued, with the run of its name that is active, and whether no server has taken that.
LEFT: Final = """SELECT runs.run_id, COALESCE(wanted.name, wanted.workflow), active.run_id,
    active.run NOT IN (SELECT run FROM wanted)
    FROM wanted JOIN runs USING (run)
    LEFT JOIN runs AS active ON active.workflow_id = wanted.name AND active.state = 'Running'
    WHERE queued AND wanted.workflow = ? AND due <= ? ORDER BY due, runs.run LIMIT 100"""
CONTINUATION: Final = """SELECT run FROM wanted WHERE name = :name AND queued AND resume
    AND NOT EXISTS (SELECT 1 FROM runs WHERE workflow_id = :name AND state = 'Running')"""
TAKE: Final = "UPDATE runs SET state = 'Running', lock = ?, process = ? WHERE run = ?"
DEQUEUE: Final = "UPDATE wanted SET queued = FALSE, server = ? WHERE run = ?"
#: A queued run that may begin, and its place. A row without a run has no id.
QUEUED: Final = f"""SELECT run, priority, due, run_id, wanted.workflow, wanted.name, params, origin,
    continues IS NOT NULL, EXISTS (SELECT 1 FROM runs AS other WHERE other.begun AND other.origin = runs.origin), rerun
    FROM wanted LEFT JOIN runs USING (run) WHERE run = :run AND {_MAY_BEGIN}"""
MINE: Final = "SELECT run FROM runs JOIN wanted USING (run) WHERE run_id = ? AND state = 'Running' AND server = ?"
PUT_BACK: Final = "UPDATE runs SET state = 'Queued', lock = NULL, process = NULL WHERE run = ?"
#: With no moment before which it does not begin, it keeps its place.
ENQUEUE: Final = """UPDATE wanted SET queued = TRUE, server = NULL,
    due = COALESCE(:first, CASE WHEN due < :now THEN due ELSE :now END),
    resume = resume OR :is_double WHERE run = :run"""
BEGIN: Final = "UPDATE runs SET begun = TRUE WHERE run = ?"
END: Final = "UPDATE runs SET state = ?, ended = ?, reason = ?, error = COALESCE(?, error), waits = ? WHERE run = ?"
#: Claimed runs; those that an earlier dotflow has called Crashed included.
TAKEN: Final = """SELECT run, workflow_id, lock FROM wanted JOIN runs USING (run)
    WHERE server IS NOT NULL AND server <> ? AND state IN ('Running', 'Crashed')"""
#: The runs that the history has as those of a server.
OWN: Final = "SELECT run_id, workflow_id FROM runs JOIN wanted USING (run) WHERE server = ? AND state = 'Running'"
IS_TAKEN: Final = """SELECT lock FROM wanted JOIN runs USING (run)
    WHERE run = ? AND server IS NOT NULL AND state IN ('Running', 'Crashed')"""
#: What its process still writes of a run that was taken over is refused.
DISOWN: Final = "UPDATE runs SET lock = NULL WHERE run = ?"
STATE_OF: Final = "SELECT state FROM runs WHERE run_id = ?"
NEWER: Final = "SELECT run_id FROM runs WHERE origin = ? AND run > ? ORDER BY run DESC LIMIT 1"
#: Whether a run has completed a task or an item, or kept a call of one.
HAS_SAVED: Final = f"""SELECT 1 FROM attempts WHERE run = :run AND state = {COMPLETED} UNION ALL
    SELECT 1 FROM task_notes WHERE run = :run AND name = '{CALLS_KEPT}' AND value <> '0' LIMIT 1"""
BEFORE: Final = """SELECT runs.run, CAST(tries AS BIGINT) FROM runs JOIN wanted USING (run)
    WHERE run_id = (SELECT continues FROM runs WHERE run = ?)"""
#: How many tasks and items a run has restored, with the calls that it was given back; how many rows it has at all.
RESTORED_ROWS: Final = f"""SELECT COUNT(CASE WHEN state = {RESTORED} THEN 1 END) + (SELECT
    COALESCE(MAX(CAST(value AS BIGINT)), 0) FROM task_notes WHERE run = :run AND name = '{CALLS_GIVEN}'), COUNT(*)
    FROM attempts WHERE run = :run"""
#: The casts are for rows that no dotflow has written: what has begun goes on.
OF_RUN: Final = """SELECT run_id, workflow_id, runs.name, runs.workflow, params, schedule,
    COALESCE(made_up, FALSE), origin, COALESCE(CAST(priority AS BIGINT), 0), COALESCE(CAST(tries AS BIGINT), 0),
    CAST(due AS BIGINT), process
    FROM runs LEFT JOIN wanted USING (run) WHERE run = ?"""

#: Queued runs that no claim finds, since no dotflow has written their rows: SQLite sorts other types after numbers.
_STRAY: Final = """SELECT run FROM priorities CROSS JOIN wanted
    WHERE wanted.priority = priorities.priority AND queued AND workflow = :workflow AND due"""
STRAY: Final = f"""{_PRIORITIES} {_STRAY} > {LATEST} UNION ALL {_STRAY} <= -{LATEST}
    UNION ALL SELECT run FROM wanted WHERE queued AND workflow = :workflow AND priority > {2**63 - 1}"""
OPEN_ORDERS: Final = "SELECT what, by_whom, comment FROM orders WHERE done IS NULL AND run = ? ORDER BY rowid"
DO_ORDERS: Final = "UPDATE orders SET done = ? WHERE done IS NULL AND run = ?"
ALL_ORDERS: Final = """SELECT run_id, what, by_whom, comment FROM orders JOIN runs USING (run) WHERE done IS NULL
    ORDER BY orders.run, orders.rowid"""
ADD_ORDER: Final = "INSERT INTO orders (run, what, by_whom, at, comment, done, id) VALUES (?, ?, ?, ?, ?, ?, ?)"
ADD_SUBMIT: Final = """INSERT INTO orders (run, what, by_whom, at, comment, done, id)
    SELECT run, 'submit', ?, ?, '', ?, ? FROM runs WHERE run_id = ?"""
HAS_ORDER: Final = "SELECT 1 FROM orders WHERE id = ?"
NEWEST: Final = """SELECT run, run_id, workflow_id, state, origin, superseded, ended, is_named, workflow, lock, params,
    run IN (SELECT run FROM wanted)
    FROM runs WHERE run_id = :run OR origin = (SELECT origin FROM runs WHERE run_id = :run) ORDER BY run DESC LIMIT 1"""

#: What wakes the servers of this process, by their history: in virtual time they don't look again and again.
_wakes: Final[dict[Hashable, list[Callable[[], None]]]] = {}


class SQLQueue(Operations):
    """The queue of a history."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._presence = database.presence

    def transact(
        self,
        work: Callable[[Connection], T],
        lock: str | None = CLAIMS,
        *,
        durable: bool = True,
        is_done: Callable[[Connection, T], object] | None = None,
    ) -> T:
        """Calls *work* in a transaction, and wakes the servers of this process in virtual time.

        Where the answer is lost, it may be done.

        Args:
            work: What is done.
            lock: As for the database.
            durable: As for the database.
            is_done: Whether what *work* returned is there, after a lost answer; else that is repeated. Without it,
                *work* is always repeated, and returns nothing where nothing is left to do.
        """
        sent: list[T] = []

        def send(connection: Connection) -> T:
            sent[:] = [work(connection)]
            return sent[0]

        def repeat(connection: Connection) -> T:
            if is_done is None:
                return work(connection) or sent[0]
            return sent[0] if is_done(connection, sent[0]) else work(connection)

        try:
            result = self.database.transact(send, lock, durable=durable)
        except AnswerLost:
            result = self.database.transact(repeat, lock, durable=durable)
        for wake in tuple(_wakes.get(self.database.store, ())) if clock.source is not None else ():
            clock.about_to_wake(wake)
            wake()
        return result

    def transact_with(
        self,
        run: str,
        work: Callable[[Connection, FoundRun], T],
        *,
        is_done: Callable[[Connection, T], object] | None = None,
    ) -> T:
        """Calls *work* in a transaction with the lock of a run's name, and the newest run of its chain.

        A name changes only while its run has none, or has a secret for one.

        Args:
            run: The run.
            work: What is done.
            is_done: As in `transact`.
        """

        def named(connection: Connection, name: str) -> tuple[T] | None:
            found = self.find_newest(connection, run)
            return (work(connection, found),) if found.name == name else None

        def is_there(connection: Connection, sent: tuple[T] | None) -> object:
            return sent is not None and is_done is not None and is_done(connection, sent[0])

        while True:
            name = self._look_for(run).name
            if (done := self.transact(partial(named, name=name), name, is_done=is_there)) is not None:
                return done[0]

    def now(self) -> datetime:
        return moment(self.database.now())

    def submit(self, submission: Submission) -> str:
        own, order = _new_id(), _new_id()

        def work(connection: Connection) -> str:
            run_id, now = _submit(connection, submission, own), connection.now
            if submission.by:
                connection.execute(ADD_SUBMIT, (submission.by, now, now, order, run_id))
            return run_id

        def is_done(connection: Connection, _: str) -> object:
            is_queued = connection.execute(FIND_RUN, (own,)).fetchone()
            return is_queued or connection.execute(HAS_ORDER, (order,)).fetchone()

        return self.transact(work, submission.name or submission.workflow, is_done=is_done)

    def submit_within(self, connection: object, submission: Submission) -> str:
        joined = self.database.join(connection)
        if joined is None:
            return self.submit(submission)
        run_id, now = _submit_unnamed(joined, submission), joined.now
        if submission.by:
            joined.execute(ADD_SUBMIT, (submission.by, now, now, _new_id(), run_id))
        return run_id

    def declare(self, workflows: Sequence[Declared]) -> None:
        def work(connection: Connection) -> None:
            connection.executemany(DECLARE, [(*declared, connection.now) for declared in sorted(workflows)])

        self.transact(work, None)

    def declared(self, workflow: str) -> str | None:
        rows = self.database.run(DECLARED, (workflow,))
        return rows[0][0] if rows else None

    def is_served(self, name: str) -> bool:
        served = served_of(self.database.run(SERVED), self._presence)
        return any(name == one or name.startswith((f"{one}@", f"{one}#")) for one in served)

    def pause_workflow(self, workflow: str, by: str, comment: str) -> WorkflowPause:
        def work(connection: Connection) -> WorkflowPause:
            found = pauses_of(connection.execute(PAUSES)).get(workflow)
            if found is None:
                now = connection.now
                connection.execute(STOP, (workflow, now, by, now, comment))
                found = WorkflowPause(by, moment(now), comment)
            return found

        self._check_known(workflow, "pause")
        return self.transact(work)

    def resume_workflow(self, workflow: str, by: str, comment: str) -> WorkflowPause | None:
        def work(connection: Connection) -> WorkflowPause | None:
            found = pauses_of(connection.execute(PAUSES)).get(workflow)
            if found is not None:
                connection.execute(GO_ON, (connection.now, by, comment, workflow))
            return found

        self._check_known(workflow, "resume")
        return self.transact(work)

    def resumed_by(self, workflow: str) -> str:
        rows = self.database.run(RESUMED, (workflow,))
        return next((f"{by}{comment and f': {comment}'}" for by, comment in rows), "")

    def _check_known(self, workflow: str, verb: str) -> None:
        """Raises NotInHistory. It looks before a transaction would make a file that does not exist."""
        known = [name for (name,) in self.database.run(KNOWN)]
        if workflow not in known:
            reason = f"{self.database.place} knows no workflow with this id. {close_match(workflow, known)}"
            raise NotInHistory(f"Can't {verb} the workflow {workflow!r}", reason.rstrip(" ."))

    def pauses(self) -> Mapping[str, WorkflowPause]:
        return pauses_of(self.database.run(PAUSES))

    def waiting(self, name: str) -> tuple[str, str] | None:
        found = self.database.run(schedules.IS_PAUSED, (name,)) and self.database.run(schedules.PAUSED, (name,))
        return next(((run_id, task) for run_id, _, task in found if task), None)

    def schedules(self) -> Sequence[ServedSchedule]:
        with reading(self.database) as reader:
            return list(schedules.find_schedules(reader))

    def fired(self, schedule: str, since: datetime, until: datetime, limit: int) -> Sequence[Fired]:
        with reading(self.database) as reader:
            return schedules.find_fired(reader, schedule, micro(since), micro(until), limit)

    def move_alarm(self, schedule: str, alarmed: datetime | None, until: datetime) -> bool:
        def work(connection: Connection) -> bool:
            before = schedules.NEVER if alarmed is None else micro(alarmed)
            if not connection.execute(schedules.MOVE_ALARM, (micro(until), schedule, before)).rowcount:
                return False
            if alarmed is not None and until < alarmed:
                connection.execute(schedules.LOOKED_AT, (schedule, micro(until), before))
            return True

        return self.transact(work)

    def long_queued(self, before: datetime) -> Sequence[LongQueued]:
        with reading(self.database) as reader:
            rows = reader.connection.execute(schedules.LONG_QUEUED, {"before": micro(before)})
            return [LongQueued(workflow, count, moment(due)) for workflow, count, due in rows]

    def order(self, run: str, order: Order, seen: TypeRunState | None = None) -> "RunSummary":
        was_dead, order_id = self._was_dead(run), _new_id()

        def work(connection: Connection, found: FoundRun) -> str:
            now = self._check_seen(connection, found, run, seen, order.what)
            in_orders = (found.run, order.what, order.by, now, order.comment)
            is_dead = was_dead and found.state is TypeRunState.RUNNING and self._is_dead(found, connection)
            waiting = _open_orders(connection, found.run) if found.state is TypeRunState.RUNNING else ()
            match rules.effect_of(order, found, waiting, is_dead=is_dead):
                case Effect.IS_TAKEN_OVER:
                    connection.execute(ADD_ORDER, (*in_orders, None, order_id))
                    _take_over(connection, found.run)
                case Effect.WAITS:
                    connection.execute(ADD_ORDER, (*in_orders, None, order_id))
                case Effect.ENDS:
                    _end(connection, found.run, Fate(rules.STATES[order.what], rules.reason_of(order)))
                    connection.execute(ADD_ORDER, (*in_orders, now, order_id))
                case Effect.IS_REFUSED:
                    raise OrderRefused(order.what, found.run_id, rules.since(found, now))
            return found.run_id

        return self.newest(self.transact_with(run, work, is_done=_has(order_id)))

    def resume(
        self,
        run: str,
        rerun: Sequence[str],
        by: str,
        comment: str,
        priority: int | None = None,
        seen: TypeRunState | None = None,
        settings: str | None = None,
    ) -> "RunSummary":
        was_dead, order_id = self._was_dead(run), _new_id()

        def work(connection: Connection, found: FoundRun) -> str:
            now = self._check_seen(connection, found, run, seen, "resume")
            if found.state is TypeRunState.RUNNING and was_dead and self._is_dead(found, connection):
                taken_over = _take_over(connection, found.run, settings=settings)
                if taken_over.continued_by is not None:
                    connection.execute(ADD_ORDER, (found.run, "resume", by, now, comment, now, order_id))
                    return taken_over.continued_by
                found = self.find_newest(connection, run)
            ordered = None
            if found.state is TypeRunState.RUNNING:
                ordered = rules.counting(_open_orders(connection, found.run))
            reason = rules.why_not_resumed(found, rerun, ordered, now)
            if reason and found.state is TypeRunState.RUNNING and ordered is None:
                silence = self._presence.silences(connection).get(found.run)
                reason = rules.why_still(silence, was_dead=was_dead) or reason
            if reason:
                is_done = found.can_go_on and found.state is TypeRunState.COMPLETED
                raise OrderRefused("resume", found.run_id, reason, is_done and not rerun)
            connection.execute(ADD_ORDER, (found.run, "resume", by, now, comment, now, order_id))
            return _continue(
                connection, found.run, now, trigger=rules.RESUME, rerun=rerun, priority=priority, settings=settings
            )

        return self.newest(self.transact_with(run, work, is_done=_has(order_id)))

    def newest(self, run: str) -> "RunSummary":
        from dotflow.providers.histories.sql.records import Records

        with reading(self.database) as reader:
            for number, *_ in reader.connection.execute(NEWEST, {"run": run}).fetchall():
                return Records(*reader).summary(number)
        raise self._unknown(run)

    def find_newest(self, connection: Connection, run: str) -> FoundRun:
        """Returns the newest run of a chain, within a transaction. Raises NotInHistory."""
        row = connection.execute(NEWEST, {"run": run}).fetchone()
        if row is None:
            raise self._unknown(run)
        found = FoundRun(*row)
        if found.state == TypeRunState.RUNNING and not found.is_wanted:
            mark_ended(connection, self._presence)
            ((state,),) = connection.execute("SELECT state FROM runs WHERE run = ?", (found.run,))
            found = found._replace(state=state)
        return found._replace(state=TypeRunState(found.state))

    def _check_seen(
        self, connection: Connection, found: FoundRun, run: str, seen: TypeRunState | None, verb: str
    ) -> int:
        """Returns the moment. Raises OrderRefused if the newest run is not what the caller of an order saw."""
        now = connection.now
        if seen is not None:
            is_dead = found.state is TypeRunState.RUNNING and self._is_dead(found)
            state = TypeRunState.CRASHED if is_dead else found.state
            if reason := rules.why_unlike(found._replace(state=state), run, seen, now):
                raise OrderRefused(verb, run, reason)
        return now

    def seconds_to_look(self, run: str) -> float:
        found = self._look_for(run)
        return self._presence.patience if found.state == TypeRunState.RUNNING and self._is_dead(found) else 0.0

    def _was_dead(self, run: str) -> bool:
        """Returns whether the process of a running run seems to have ended. If so, it waits until the second look."""
        seconds = self.seconds_to_look(run)
        time.sleep(seconds)  # a step may have closed the live file: its process locks its byte again
        return seconds > 0

    def name_of(self, run: str) -> str:
        """Returns the name of the newest run of a chain."""
        return self._look_for(run).name

    def _look_for(self, run: str) -> FoundRun:
        """Returns the newest run of a chain as the file has it, which a transaction would make where it is missing."""
        for row in self.database.run(NEWEST, {"run": run}):
            return FoundRun._make(row)
        raise self._unknown(run)

    def _is_dead(self, found: FoundRun, connection: Connection | None = None) -> bool:
        """Returns whether the process of a running run has ended; with a transaction, to take it over."""
        if found.lock is None or connection is None:
            return found.lock is not None and not self._presence.is_held(found.lock)
        return self._presence.is_dead(connection, found.lock)

    def _unknown(self, run: str) -> NotInHistory:
        return NotInHistory(f"Can't find the run '{run}'", f"{self.database.place} has no run with this id")

    def ask(self, asked: QuestionId, text: str, about: str, within: float | None, item: int | None = None) -> Question:
        # Without the lock, since a run that waits asks again.
        known = questions.find_same(self.database.run(questions.LAST, questions.key_of(asked)), asked, text, about)
        work = partial(questions.ask, asked=asked, text=text, about=about, within=within, item=item)
        return known if known and known.item == item else self.transact(work, None)

    def withdraw(self, asked: QuestionId, calls: Collection[str]) -> None:
        moves = questions.withdrawn(self.database.run(questions.WITHOUT_ANSWER, (asked.origin,)), asked, calls)
        if moves:
            self.transact(lambda connection: connection.executemany(questions.MOVE, moves), None)

    def note_sent(self, question: Question) -> None:
        values = (*questions.key_of(question.id), question.id.nth, questions.index_of(question.item))
        self.transact(lambda connection: connection.execute(questions.NOTE_SENT, (connection.now, *values)), None)

    def place(self, origin: str, task: str, items: Mapping[str, int]) -> None:
        moves = questions.moved(self.database.run(questions.WITHOUT_ANSWER, (origin,)), task, items)
        if moves:
            self.transact(lambda connection: connection.executemany(questions.MOVE, moves), None)

    def answered(self, origin: str) -> Collection[QuestionId]:
        rows = self.database.run(questions.ANSWERED, (origin, self.database.now()))
        return {questions.question_of(row).id for row in rows}

    def questions(self) -> Sequence[Question]:
        with reading(self.database) as reader:
            return list(questions.find_open(reader))

    def answer(
        self,
        run: str,
        step: str | None,
        is_yes: bool,
        by: str,
        comment: str,
        value: str | None = None,
        seen: TypeRunState | None = None,
        nth: int | None = None,
    ) -> "RunSummary":
        verb, order_id = "approve" if is_yes else "reject", _new_id()

        def work(connection: Connection, newest: FoundRun) -> str:
            now = self._check_seen(connection, newest, run, seen, verb)
            found = questions.of_chain(connection, newest.origin or "")
            question = questions.chosen(found, step, newest.run_id, rules.since(newest, now), verb, moment(now))
            if reason := rules.why_unanswered(newest, question, nth, now):
                raise OrderRefused(verb, newest.run_id, reason)
            answered = (is_yes, by, now, comment, value, *questions.key_of(question.id), question.id.nth)
            connection.execute(questions.ANSWER, answered)
            about = f"{question.step}{comment and f': {comment}'}"
            connection.execute(ADD_ORDER, (newest.run, verb, by, now, about, now, order_id))
            if newest.state is TypeRunState.PAUSED:
                return self.go_on(connection, newest) or newest.run_id
            return newest.run_id

        return self.newest(self.transact_with(run, work, is_done=_has(order_id)))

    def settle(self, run: str, asked: Sequence[QuestionId]) -> None:
        def work(connection: Connection, newest: FoundRun) -> None:
            if newest.run_id == run and newest.state is TypeRunState.PAUSED and questions.is_settled(connection, asked):
                self.go_on(connection, newest)

        self.transact_with(run, work)

    def go_on(self, connection: Connection, paused: FoundRun) -> str | None:
        """Queues a run that continues a paused one, and returns its id; None where only `start` can go on."""
        if not paused.can_go_on:
            return None
        return _continue(connection, paused.run, connection.now, trigger=rules.ANSWER)

    def orders(self) -> Mapping[str, Sequence[Order]]:
        orders: dict[str, list[Order]] = {}
        for run_id, *order in self.database.glance(ALL_ORDERS):
            orders.setdefault(run_id, []).extend(rules.known_orders([order]))
        return orders

    def open_server(self, workflows: Sequence[str], wake: Callable[[], None] | None = None) -> "SQLQueueServer":
        return SQLQueueServer(self, workflows, wake)

    def take_continuation(self, name: str) -> tuple[QueueServer, Claim] | None:
        if not self.database.run(CONTINUATION, {"name": name}):
            return None
        server = SQLQueueServer(self, ())
        claim = server.take_continuation(name)
        if claim is None:
            server.close()
            return None
        return server, claim


class SQLQueueServer(QueueServer):
    """A process that takes runs from a history: it holds a lock, which ends with it.

    Args:
        queue: The queue.
        workflows: The ids of its workflows; none for a process that takes a single run.
        wake: As in `open_server`.
    """

    def __init__(self, queue: SQLQueue, workflows: Sequence[str], wake: Callable[[], None] | None = None) -> None:
        self._queue = queue
        self._database = queue.database
        self._presence = self._database.presence
        self._workflows = workflows
        self.location = self._database.place
        self._server = self.server_id = _new_id()
        self._is_unknown = False  # whether the database has lost this server
        self._dead: dict[tuple[int, str], float] = {}  # runs whose process was found dead, their names, and when
        self._gone: dict[str, float] = {}  # the same of servers
        self._watch = self._database.watch()
        self._registered = 0  # the lock that the others know
        self._looked_at, self._own = -LOOK, set[str]()  # when its runs in the history were looked for, and their ids
        queue.transact(self._register, None)
        self._watch.begin()
        self._wake = wake
        if wake is not None:
            _wakes.setdefault(self._database.store, []).append(wake)

    def _register(self, connection: Connection) -> None:
        self._registered = self._watch.lock
        if self._workflows:
            connection.execute(REMOVE_SERVER, (self._server,))
            values = (self._server, process_name(), self._registered, json.dumps(list(self._workflows)), connection.now)
            connection.execute(ADD_SERVER, values)

    def check(self) -> None:
        self._watch.check()
        if self._is_unknown:
            reason = "it was emptied, or another server has taken this one for dead, so the runs of other processes are"
            reason += " unknown. Start the server again"
            raise HistoryError(f"The history {self._database.place} can't be used", reason)

    def neighbours(self) -> Sequence[Neighbour] | None:
        if not self._watch.goes_on:
            return None
        rows = self._database.run(NEIGHBOURS, (self._server,))
        return [
            Neighbour(process.rpartition(":")[0], served_of([(lock, workflows)], self._presence))
            for process, lock, workflows in rows
            if self._presence.is_held(lock)
        ]

    def knows(self, server_id: str) -> bool:
        return bool(self._database.run(IS_REGISTERED, (server_id,)))

    def has_news(self, *, at_once: bool = False) -> bool:
        return self._watch.has_news(at_once=at_once)

    def rest(self) -> float:
        if not self._watch.goes_on:
            return 0.0
        due = self.next_due()
        return REST if due is None else max(0.0, min(REST, (due - self._queue.now()).total_seconds()))

    def next_due(self) -> datetime | None:
        now = self._database.now()
        moments = [due for workflow in self._workflows for (due,) in self._database.run(NEXT_DUE, (workflow, now))]
        moments += [until for (until,) in self._database.run(questions.NEXT_LATE, (now,))]
        first = min((due for due in moments if due is not None), default=None)
        return moment_or_none(first)

    def serve_schedules(self, served: Sequence[Schedule]) -> Sequence[tuple[Schedule, datetime]]:
        return self._queue.transact(
            lambda connection: schedules.register(connection, self._presence, self._server, self._workflows, served)
        )

    def known_schedules(self) -> Collection[str]:
        return {schedule for (schedule,) in self._database.run(schedules.ALL)}

    def settled(self, schedule: Schedule) -> tuple[Schedule, datetime]:
        ((spec, settled),) = self._database.run(schedules.SETTLED, (self._database.now(), schedule.schedule))
        try:
            return schedules.as_written(schedule, spec), moment(settled)
        except (ValueError, TypeError) as error:
            reason = f"no dotflow has written {settled!r}, until when it is caught up. Start the server again"
            raise HistoryError(f"The schedule of {schedule.workflow!r} can't be used", reason) from error

    def fire(
        self, schedule: Schedule, settled: datetime, until: datetime, firings: Sequence[Firing]
    ) -> Sequence[Dropped] | None:
        def work(connection: Connection) -> Sequence[Dropped] | None:
            submit = partial(_submit, trigger="schedule")
            return schedules.fire(connection, schedule, settled, until, firings, submit)

        def is_done(connection: Connection, _: object) -> bool:
            ((_, known),) = connection.execute(schedules.SETTLED, (connection.now, schedule.schedule)).fetchall()
            return bool(known == micro(until))

        return self._queue.transact(work, is_done=is_done)

    def unnamed(self) -> Sequence[tuple[str, Submission]]:
        found = []
        for run_id, workflow, params, key, priority, due in self._database.run(UNNAMED):
            if workflow in self._workflows:
                if rules.is_place(priority, due):
                    found.append((run_id, Submission(workflow, params, None, key, priority, moment(max(due, 0)))))
                else:
                    self.name(run_id, None, error=rules.FORGED)
        return found

    def name(self, run: str, name: str | None, params: str = "", error: str = "") -> None:
        if name is not None and self._database.run(FRESH, (name,)):
            return  # it waits until that one has begun

        def work(connection: Connection) -> None:
            found = self._queue.find_newest(connection, run)
            connection.lock((found.name, found.name if name is None else name))
            found = self._queue.find_newest(connection, run)
            if found.state is not TypeRunState.QUEUED:
                return
            if name is None:
                _end(connection, found.run, Fate(TypeRunState.FAILED, error=error))
            elif not connection.execute(FRESH, (name,)).fetchall():
                connection.execute(SET_NAME, (name, found.run))
                connection.execute(
                    "UPDATE runs SET workflow_id = ?, params = ? WHERE run = ?", (name, params, found.run)
                )

        self._queue.transact(work)

    def conceal(self, run: str, name: str) -> None:
        def work(connection: Connection) -> None:
            values = {"run": run, "name": name}
            connection.execute("UPDATE runs SET workflow_id = :name, params = NULL WHERE run_id = :run", values)
            connection.execute(CONCEAL, values)

        self._database.erase(work, self._queue.name_of(run))

    def end_waits(self) -> Sequence[str]:
        def go_on(connection: Connection, newest: FoundRun, run: str) -> str | None:
            is_still = newest.run_id == run and newest.state is TypeRunState.PAUSED
            return self._queue.go_on(connection, newest) if is_still else None

        over = self._database.run(questions.OVER, (self._database.now(),))
        runs = [run for run, workflow in over if workflow in self._workflows]
        on = [self._queue.transact_with(run, partial(go_on, run=run), is_done=self._is_newest) for run in runs]
        return [run for run in on if run]

    def _is_newest(self, connection: Connection, run: str | None) -> object:
        return run and connection.execute(NEWEST, {"run": run}).fetchone()

    def may_begin(self) -> bool:
        return self._presence.may_begin()

    def take_over(self, held: Callable[[], Collection[str]] | None = None) -> Sequence[TakenOver]:
        if self._workflows and self._database.run(AHEAD, {"now": self._database.now()}):
            self._queue.transact(lambda connection: connection.execute(BEGIN_NOW, {"now": connection.now}))
        self._fail_strays()
        self._watch.renew()
        if self._workflows:  # SQLite makes a new database in a file that was emptied
            is_unknown = not self._database.run(IS_REGISTERED, (self._server,))
            if self._watch.goes_on and (is_unknown or self._registered != self._watch.lock):
                self._queue.transact(self._register, None)
            else:
                self._is_unknown = is_unknown
        if ended_of(self._database.run(FIND_PLAIN), self._presence):  # they are in the way of others of their name
            self._queue.transact(lambda connection: mark_ended(connection, self._presence))
        gone, self._gone = self._presence.find_dead(self._database.run(SERVERS, (self._server,)), self._gone)
        if gone:
            self._queue.transact(partial(self._remove, gone))
        holders = [((run, name), lock) for run, name, lock in self._database.run(TAKEN, (self._server,))]
        dead, self._dead = self._presence.find_dead(holders, self._dead)
        self.may_take_over = bool(self._dead)
        taken = [self._queue.transact(partial(self._take_over, run), name) for run, name in dead]
        if held is not None:
            taken += self._reconcile(held)
        self._presence.bury()
        return [one for one in taken if one is not None]

    def _reconcile(self, held: Callable[[], Collection[str]]) -> list[TakenOver]:
        """Takes over from itself what it does not know to have: an answer was lost, or a failover has lost an end."""
        rows = self._database.run(OWN, (self._server,))  # before the others are asked for: one may end meanwhile

        def work(connection: Connection, run_id: str) -> TakenOver | None:
            for (run,) in connection.execute(MINE, (run_id, self._server)).fetchall():
                return _take_over(connection, run)._replace(is_own=True)
            return None

        known = held() if rows else ()
        found = [self._queue.transact(partial(work, run_id=one), name) for one, name in rows if one not in known]
        return [one for one in found if one is not None]

    def _remove(self, gone: Sequence[str], connection: Connection) -> None:
        """Removes servers whose process is dead."""
        for server, lock in connection.execute(SERVERS, (self._server,)).fetchall():
            if server in gone and self._presence.is_dead(connection, lock):
                connection.execute(REMOVE_SERVER, (server,))

    def _fail_strays(self) -> None:
        def work(connection: Connection) -> None:
            for workflow in self._workflows:
                for (run,) in connection.execute(STRAY, {"workflow": workflow}).fetchall():
                    _end(connection, run, Fate(TypeRunState.FAILED, error=rules.FORGED))

        if any(self._database.run(STRAY, {"workflow": workflow}) for workflow in self._workflows):
            self._queue.transact(work)

    def _take_over(self, run: int, connection: Connection) -> TakenOver | None:
        """Takes a run over, unless another server has been faster."""
        for (lock,) in connection.execute(IS_TAKEN, (run,)).fetchall():
            if self._presence.is_dead(connection, lock):
                return _take_over(connection, run)._replace(silence=self._presence.silence(lock))
        return None

    def scheduled_elsewhere(self) -> Collection[str]:
        return {workflow for (workflow,) in self._database.run(SCHEDULED)} & {*self._workflows}

    def claim(
        self,
        workflows: Mapping[str, int | None],
        busy: Collection[str],
        room: int,
        names: Collection[str] | None = None,
    ) -> Sequence[Claim]:
        if not self.may_begin():
            return ()
        before = self._database.now()
        due = [one for one in workflows if self._database.run(IS_DUE, {"workflow": one, "now": before})]

        def work(connection: Connection) -> list[Claim]:
            now = connection.now
            pauses = connection.execute(STOPPED)
            counts = {one: connection.execute(RUNNING_NOW, (one,)) for one in due if workflows[one] is not None}
            found = {one: connection.execute(PRIORITIES, {"workflow": one}) for one in due}
            stopped = {workflow for (workflow,) in pauses.fetchall()}
            active = {one: count.fetchone()[0] for one, count in counts.items()}
            priorities = {one: [priority for (priority,) in rows.fetchall()] for one, rows in found.items()}
            rooms = {}
            for one in (one for one in due if one not in stopped):
                most = workflows[one]
                rooms[one] = room if most is None else min(room, most - active[one])
            claims, passed = list[Claim](), {*busy}
            while True:
                chosen = _choose(connection, now, dict(rooms), priorities, room - len(claims), passed, names)
                locks = [connection.try_lock(found.name) for found in chosen]
                queued = _look_at(connection, [found.run for found in chosen], now)  # once it has the locks
                if chosen and not (claims or self._presence.may_claim(connection)):
                    return []  # it was taken over, and finds out with its next beat
                free = [rows for lock, rows in zip(locks, queued, strict=True) if lock.fetchone()[0]]
                taken = self._take(connection, free)
                claims += taken
                if len(taken) == len(chosen):
                    return claims
                passed.update(found.name for found in chosen)  # others have them, or had them until now
                for claim in taken:
                    rooms[claim.workflow] -= 1

        # Nothing of them begins before `begin`. Where the answer is lost, the server takes them over from itself.
        claims = self._database.transact(work, durable=False) if due else ()
        if claims:
            self._watch.hurry()
        return claims

    def left(self, workflows: Mapping[str, int | None]) -> Sequence[LeftRun]:
        pauses, left = self._queue.pauses(), list[LeftRun]()
        for workflow, most in workflows.items():
            rows = self._database.run(LEFT, (workflow, self._database.now()))
            active = self._database.run(RUNNING_NOW, (workflow,))[0][0] if rows else 0
            for run_id, name, other, is_by_hand in rows:
                why = rules.why_left(pauses.get(workflow), other, active, most, is_by_hand=bool(is_by_hand))
                left.append(LeftRun(run_id, name, why, bool(is_by_hand) and workflow not in pauses))
        return left[:MAX_LEFT]

    def take_continuation(self, name: str) -> Claim | None:
        """Takes the queued run of a name that continues another one."""

        def work(connection: Connection) -> Claim | None:
            rows = connection.execute(CONTINUATION, {"name": name}).fetchall()
            return next(iter(self._take(connection, _look_at(connection, [run for (run,) in rows], LATEST))), None)

        def is_done(connection: Connection, sent: Claim | None) -> object:
            return sent and connection.execute(MINE, (sent.run_id, self._server)).fetchone()

        return self._queue.transact(work, name, is_done=is_done)

    def _take(self, connection: Connection, found: Iterable[Cursor]) -> list[Claim]:
        """Takes those queued runs that still may begin, once it has the locks of their names.

        One with a row that no dotflow has written fails, and a row without a run is removed.
        """
        taken: dict[int, Claim] = {}
        for row in [row for rows in found for row in rows.fetchall()]:
            run, priority, due, *first, continues, has_begun, rerun = row
            run_id, _, name, *_ = first
            if run_id is None:
                connection.execute("DELETE FROM wanted WHERE run = ?", (run,))
                continue
            try:
                steps = json.loads(rerun or "[]")
            except (ValueError, TypeError, RecursionError):
                steps = None
            is_ours = rules.is_place(priority, due) and isinstance(name, str)
            if is_ours and isinstance(steps, list) and all(isinstance(step, str) for step in steps):
                taken[run] = Claim._make((*first, bool(continues), bool(has_begun), steps, priority))
            else:
                _end(connection, run, Fate(TypeRunState.FAILED, error=rules.FORGED))
        if taken:
            connection.executemany(TAKE, [(self._watch.lock, process_name(), run) for run in taken])
            connection.executemany(DEQUEUE, [(self._server, run) for run in taken])
        return [*taken.values()]

    def put_back(self, claim: Claim, delay: float) -> None:
        def work(connection: Connection) -> None:
            run = self._mine(connection, claim)
            ordered = rules.counting(_open_orders(connection, run))
            if ordered is not None:
                _end(connection, run, Fate(rules.STATES[ordered.what], rules.reason_of(ordered)))
                return
            is_double = bool(connection.execute(FRESH, (claim.name,)).fetchall())  # submitted since
            connection.execute(PUT_BACK, (run,))
            now = connection.now
            first = now + round(delay * MICRO) if delay else None
            connection.execute(ENQUEUE, {"now": now, "first": first, "is_double": is_double, "run": run})

        def is_done(connection: Connection, _: None) -> bool:
            return connection.execute(MINE, (claim.run_id, self._server)).fetchone() is None

        self._queue.transact(work, claim.name, is_done=is_done)

    def supersede(self, claim: Claim) -> Sequence[str]:
        def work(connection: Connection) -> list[str]:
            run = self._mine(connection, claim)
            for (newer,) in connection.execute(NEWER, (claim.origin, run)):
                raise Superseded(newer)  # a program has gone on with the chain
            return end_others(connection, claim.name, claim.origin, claim.run_id, connection.now)

        return self._queue.transact(work, claim.name)

    def is_mine(self, claim: Claim) -> bool:
        at = clock.ticks()
        if at - self._looked_at >= LOOK or claim.run_id not in self._own or clock.source is not None:
            rows = self._database.glance(OWN, (self._server,))
            self._looked_at, self._own = at, {run_id for run_id, _ in rows}
        return claim.run_id in self._own

    def was_taken_over(self, claim: Claim) -> bool:
        return self._database.glance(STATE_OF, (claim.run_id,)) == [(TypeRunState.CRASHED,)]

    def begin(self, claim: Claim) -> None:
        self._queue.transact(lambda connection: connection.execute(BEGIN, (self._mine(connection, claim),)), claim.name)

    def _mine(self, connection: Connection, claim: Claim) -> int:
        for (run,) in connection.execute(MINE, (claim.run_id, self._server)):
            return int(run)
        reason = "another process has it, or has ended it"
        raise RunLost(f"The run {claim.run_id} is not this process's any more", reason)

    def end(self, claim: Claim, ending: Ending) -> TypeRunState | None:
        def work(connection: Connection) -> TypeRunState | None:
            for (run,) in connection.execute(MINE, (claim.run_id, self._server)).fetchall():
                if ending.is_lost:
                    fate = _fate_of_dead(connection, run, ending.error, rules.LOST)
                else:
                    is_settled = questions.is_settled(connection, ending.asked)
                    fate = rules.fate_at_end(ending, _open_orders(connection, run), is_settled=is_settled)
                _end(connection, run, fate)
                if fate.continued:
                    _continue(connection, run, connection.now, trigger=fate.continued, tries=fate.tries)
                return fate.state
            return None

        def is_done(connection: Connection, sent: TypeRunState | None) -> bool:
            return (sent,) in connection.execute(STATE_OF, (claim.run_id,)).fetchall()

        return self._queue.transact(work, claim.name, is_done=is_done)

    def close(self) -> None:
        if self._wake is not None:
            _wakes[self._database.store].remove(self._wake)
        try:
            if self._workflows:
                self._queue.transact(lambda connection: connection.execute(REMOVE_SERVER, (self._server,)), None)
        finally:
            self._watch.close()


def _look_at(connection: Connection, runs: Iterable[int], until: int) -> list[Cursor]:
    """Returns the row of each queued run that still may begin."""
    return [connection.execute(QUEUED, {"run": run, "now": until}) for run in runs]


def _choose(
    connection: Connection,
    now: int,
    rooms: dict[str, int],
    priorities: Mapping[str, Sequence[int]],
    room: int,
    busy: Collection[str],
    names: Collection[str] | None,
) -> list[Candidate]:
    """Returns the first queued runs that may begin, of several names that are not *busy*, while there is room."""
    chosen, firings = dict[str, Candidate](), dict[str, Firings]()
    ways = [_candidates(connection, workflow, priorities[workflow], now, rooms) for workflow in rooms]
    for found in heapq.merge(*ways, key=lambda found: found.turn) if room else ():
        if found.name in busy or found.name in chosen or (names is not None and found.name not in names):
            continue
        if (schedule := found.schedule) is not None:
            if schedule not in firings:
                row = connection.execute(FIRINGS, {"schedule": schedule}).fetchone()
                firings[schedule] = Firings._make(row)
            if not firings[schedule].may_begin(found):
                continue
            firings[schedule] = firings[schedule].with_one_more()
        chosen[found.name] = found
        rooms[found.workflow] -= 1
        if len(chosen) == room:
            break
    return [*chosen.values()]


def _candidates(
    connection: Connection, workflow: str, priorities: Sequence[int], now: int, rooms: Mapping[str, int]
) -> Iterator[Candidate]:
    """Yields the queued runs of a workflow that may begin, in their turn, while there is room for one of it."""
    for priority in priorities:
        due, run, size, is_last = -LATEST, -1, max(rooms[workflow], 0), False
        while size and not is_last:
            values = {"workflow": workflow, "priority": priority, "now": now, "due": due, "run": run, "room": size}
            rows = [Candidate._make(row) for row in connection.execute(CANDIDATES, values).fetchall()]
            for found in rows:
                if rooms[workflow] <= 0:
                    return
                yield found
                due, run = found.due, found.run
            is_last, size = len(rows) < size, min(2 * size, MAX_CANDIDATES)


def _submit(connection: Connection, wanted: Submission, own: str | None = None, trigger: str = "submit") -> str:
    """Queues a run, with an id of its own if it gets one. Returns the id of the run that waits now."""
    due, run_id = _due(wanted.due, connection.now), own or _new_id()
    latest = None if wanted.latest is None else _due(wanted.latest, connection.now)
    if wanted.replaced_by:
        _cancel_older(connection, wanted, run_id)
    if latest is not None or wanted.replaced_by:
        _take_key(connection, wanted)
    elif wanted.key is not None:
        for run, known_id, params, waits in _of_key(connection, wanted):
            stored, given = json.loads(params), json.loads(wanted.params)
            if waits and SETTINGS in given:
                newest = {**stored, **{name: given[name] for name in given[SETTINGS]}}
                connection.execute(SET_PARAMS, (json.dumps(newest), run))
            return str(known_id)
    if wanted.name is not None:
        for run, queued, priority, known, until in connection.execute(FRESH, (wanted.name,)).fetchall():
            if rules.is_place(priority, known):
                place = rules.place_after(known, until, due, latest)
                connection.execute(MERGE, (max(priority, wanted.priority), *place, wanted.key, run))
                connection.execute(SET_PARAMS, (wanted.params, run))
                return str(queued)
            _end(connection, run, Fate(TypeRunState.FAILED, error=rules.FORGED))
    _add(connection, wanted, run_id, trigger)
    return run_id


def _cancel_older(connection: Connection, wanted: Submission, newer: str) -> None:
    """Cancels the runs of a name that another one replaces: what waits at once, and what runs as by an order."""
    order = Order(TypeOrder.CANCEL, wanted.replaced_by, f"the run {newer[:ID_LENGTH]} replaces it")
    waiting = connection.execute(WAITING_OF, {"name": wanted.name}).fetchall()
    if wanted.key is not None:  # one that no server has named yet
        waiting += [(run,) for run, _, _, waits in connection.execute(BY_KEY, (wanted.workflow, wanted.key)) if waits]
    running = connection.execute(RUNNING_OF, (wanted.name,)).fetchall()
    for run in sorted({run for (run,) in waiting}):
        _end(connection, run, Fate(TypeRunState.CANCELLED, rules.reason_of(order)))
        connection.execute(REPLACE, (newer, run))
        _add_order(connection, run, order, connection.now)
    for (run,) in running:
        if not any(other.what is order.what for other in _open_orders(connection, run)):
            _add_order(connection, run, order, None)


def _add_order(connection: Connection, run: int, order: Order, done: int | None) -> None:
    connection.execute(ADD_ORDER, (run, order.what, order.by, connection.now, order.comment, done, _new_id()))


def _take_key(connection: Connection, wanted: Submission) -> None:
    """Takes the key of a submission, whose parameters may be others, from a run that is not the queued one of its name.

    A queued one that no server has named yet gets its name: what it merges with is found by that.
    """
    queued = [run for run, *_ in connection.execute(FRESH, (wanted.name,)).fetchall()]
    for run, _, _, waits in connection.execute(BY_KEY, (wanted.workflow, wanted.key)).fetchall():
        if waits and not queued:
            connection.execute(SET_NAME, (wanted.name, run))
            connection.execute("UPDATE runs SET workflow_id = ? WHERE run = ?", (wanted.name, run))
        elif run not in queued:
            connection.execute(GIVE_UP_KEY, (run,))


def _submit_unnamed(connection: Statements, wanted: Submission) -> str:
    """Queues a run without a name in the transaction of a program, which waits for no lock of others."""
    wanted, run_id = wanted._replace(name=None), _new_id()
    if wanted.key is None:
        _add(connection, wanted, run_id)
        return run_id
    if known := _of_key(connection, wanted):
        return str(known[0][1])
    if not _add(connection, wanted, run_id, statement=ADD_KEYED).rowcount:  # another transaction was first
        connection.execute("DELETE FROM runs WHERE run_id = ?", (run_id,))
        return str(_of_key(connection, wanted)[0][1])
    return run_id


def _of_key(connection: Statements, wanted: Submission) -> list[Any]:
    """Returns the row of BY_KEY of a key. Raises OrderRefused if its run has other parameters."""
    rows = connection.execute(BY_KEY, (wanted.workflow, wanted.key)).fetchall()
    for _, run_id, params, _ in rows:
        if _compared(json.loads(params)) != _compared(json.loads(wanted.params)):
            raise OrderRefused("submit", run_id, f"the key {wanted.key!r} was used with other parameters")
    return rows


def _add(
    connection: Statements, wanted: Submission, run_id: str, trigger: str = "submit", statement: str = ADD_WANTED
) -> Cursor:
    """Writes a queued run, and returns how many rows the queue has taken."""
    now, title = connection.now, wanted.title and escape_surrogates(wanted.title)
    name = wanted.workflow if wanted.name is None else wanted.name
    values = (run_id, name, title, trigger, now, now, wanted.workflow, wanted.params, run_id, None)
    connection.execute(ADD_RUN, values)
    place = (wanted.priority, _due(wanted.due, now))
    latest = None if wanted.latest is None else _due(wanted.latest, now)
    return connection.execute(
        statement, (wanted.workflow, wanted.name, wanted.key, *place, False, None, 0, None, False, latest, run_id)
    )


def _due(due: datetime | timedelta | None, now: int) -> int:
    """Returns the moment from which a submission is due."""
    if isinstance(due, timedelta):
        return now + round(due.total_seconds() * MICRO)
    return now if due is None else micro(due)


def _compared(params: dict[str, Any]) -> str:
    """Returns the parameters that a submission has given, without Settings, as a text: equal ones are equal texts."""
    given = {name: value for name, value in given_in(params).items() if name not in params.get(SETTINGS, ())}
    return json.dumps(given, sort_keys=True)


def _continue(
    connection: Connection,
    run: int,
    now: int,
    *,
    trigger: str,
    rerun: Sequence[str] = (),
    tries: int = 0,
    priority: int | None = None,
    settings: str | None = None,
) -> str:
    """Queues a run that continues another one, and returns its id. What people resume is in the way of no firing."""
    (found,) = connection.execute(OF_RUN, (run,))
    before, name, title, workflow, params, schedule, made_up, origin, same, _, was_due, _ = found
    due = rules.due_after(trigger, was_due, now)
    if trigger == rules.RESUME:
        schedule = None
    if settings is not None:
        params = json.dumps({**json.loads(params), **json.loads(settings)})
    if origin is None:
        origin = before
        connection.execute("UPDATE runs SET origin = ? WHERE run = ?", (origin, run))
    run_id = _new_id()
    connection.execute(ADD_RUN, (run_id, name, title, trigger, now, now, workflow, params, origin, before))
    steps = json.dumps(list(rerun)) if rerun else None
    priority = same if priority is None else priority
    in_queue = (workflow, name, None, priority, due, True, steps, tries, schedule, made_up, None, run_id)
    connection.execute(ADD_WANTED, in_queue)
    return run_id


def _end(connection: Connection, run: int, fate: Fate) -> None:
    """Ends a run that is queued or claimed, or paused; its orders are done."""
    now = connection.now
    why = (fate.reason or None, fate.error or fate.reason or None, fate.waits)
    connection.execute(END, (fate.state, now, *why, run))
    connection.execute(LEAVE, (run,))
    connection.execute(DO_ORDERS, (now, run))


def _take_over(connection: Connection, run: int, settings: str | None = None) -> TakenOver:
    """Ends a claimed run whose process has ended: as its orders say, or by a run that continues it."""
    now = connection.now
    ((run_id, name, title, workflow, *_, process),) = connection.execute(OF_RUN, (run,))
    ended, error = end_of(connection, run, TypeRunState.CRASHED)
    fate = _fate_of_dead(connection, run, error, rules.DIED)
    counts = counts_of(connection, run)
    connection.execute(MARK_ATTEMPTS, (CRASHED, run))
    connection.execute(MARK_RUN, (fate.state, ended, fate.error, *counts, run))
    if fate.reason:
        connection.execute("UPDATE runs SET reason = ? WHERE run = ?", (fate.reason, run))
    connection.execute(DISOWN, (run,))
    connection.execute(LEAVE, (run,))
    connection.execute(DO_ORDERS, (now, run))
    continued_by = None
    if fate.continued:
        continued_by = _continue(connection, run, now, trigger=fate.continued, tries=fate.tries, settings=settings)
    return TakenOver(run_id, workflow, fate.state, continued_by, title or name, process or "")


def _fate_of_dead(connection: Connection, run: int, error: str, what: str) -> Fate:
    """Returns how a claimed run ends that was cut off from its steps."""
    ((*_, origin, _, tries, _, _),) = connection.execute(OF_RUN, (run,))
    return rules.fate_of_dead(
        rules.counting(_open_orders(connection, run)),
        error,
        _tries(connection, run, tries),
        has_saved=bool(connection.execute(HAS_SAVED, {"run": run}).fetchall()),
        is_newest=not connection.execute(NEWER, (origin, run)).fetchall(),
        what=what,
    )


def _tries(connection: Connection, run: int, known: int) -> int:
    """Returns how many processes have ended in a row before a run without saving anything, and writes it."""
    tries = known
    for before, tries_before in connection.execute(BEFORE, (run,)).fetchall():
        restored, of_all = connection.execute(RESTORED_ROWS, {"run": run}).fetchone()
        (restored_before, _) = connection.execute(RESTORED_ROWS, {"run": before}).fetchone()
        tries = rules.tries_of(tries, tries_before, restored, of_all, restored_before)
    if tries != known:
        connection.execute("UPDATE wanted SET tries = ? WHERE run = ?", (tries, run))
    return tries


def _has(order_id: str) -> Callable[[Connection, object], object]:
    """Returns what finds whether an order was written, in a transaction."""
    return lambda connection, _: connection.execute(HAS_ORDER, (order_id,)).fetchone()


def _open_orders(connection: Connection, run: int) -> list[Order]:
    return rules.known_orders(connection.execute(OPEN_ORDERS, (run,)))


def _new_id() -> str:
    return str(uuid.uuid4())
