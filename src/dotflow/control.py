"""Control: the runs and schedules of a history, from any process: submit, look, cancel, pause, resume."""

import getpass
import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from dotflow import clock
from dotflow.abc.history import HISTORY_VARIABLE, History
from dotflow.abc.operations import (
    LongQueued,
    Operations,
    Order,
    ScheduleSummary,
    ServedSchedule,
    Submission,
    TypeOrder,
    WorkflowPause,
)
from dotflow.abc.workflow import ServedWorkflow
from dotflow.core.approval import Question
from dotflow.core.durations import Duration, as_seconds
from dotflow.core.files import EPOCH
from dotflow.core.masks import NO_MASKS, Masks, environment_masks
from dotflow.core.schedule_rules import MAX_FIRINGS, Fired, find_late
from dotflow.core.text import escape_surrogates
from dotflow.core.types.run_state import TypeRunState
from dotflow.errors import InvalidArgument, InvalidSchedule, NotServable, ValueNotStorable
from dotflow.providers.histories.default import history_at, history_of

if TYPE_CHECKING:
    import psycopg

    from dotflow.records.record import RunSummary

WHAT: Final = "There are no runs to control"
POLL: Final = 0.1  # seconds between two looks of wait()
LOOKED_AT: Final = 50  # firings of a schedule, the last ones, among which the late ones are found
LONG_WAIT: Final = timedelta(minutes=10)  # of a queued run that is due


class Control:
    """Submits, cancels, pauses and resumes runs, of workflows that this process may be unable to import.

    Ids are whole. The id of any run of a chain, a run and those that continue it, stands for the newest one.

    Args:
        of: A workflow, a history, or the path of one; by default the path in DOTFLOW_HISTORY.

    Raises:
        NotServable: There is no history, or it has no queue.
    """

    def __init__(self, of: ServedWorkflow | History | str | os.PathLike[str] | None = None) -> None:
        self._queue = _queue(of)
        self._masks: Masks = NO_MASKS if of is None or not hasattr(of, "masks") else of.masks()

    def _user(self, by: str | None) -> str:
        return self._mask(user_of(by))

    def _comment(self, comment: str) -> str:
        if not isinstance(comment, str):
            raise InvalidArgument("comment", comment, "a text")
        return self._mask(escape_surrogates(comment))

    def _mask(self, text: str) -> str:
        """Returns a text of a person, which the history keeps, without the secrets that this process knows."""
        return (self._masks | environment_masks()).mask(text)

    def submit(
        self,
        workflow_id: str,
        params: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        priority: int = 0,
        at: datetime | Duration | timedelta | None = None,
        replace: bool = False,
        debounce: Duration | None = None,
        within: Duration | None = None,
        by: str | None = None,
        connection: "psycopg.Connection[Any] | None" = None,
    ) -> str:
        """Queues a run of a workflow by its id, as `DotFlow.submit` does, and returns its id.

        The names, defaults and types of its parameters are those that a server, or a submission of the workflow itself,
        has written. Without these, a server checks the parameters, and fails the run if they are wrong. Who submits it,
        *by*, is a note of the run.

        Raises:
            InvalidArgument, UnknownParam, MissingParam: A parameter is wrong.
            NotServable: With `replace` or `debounce`, only a server can tell the name of the run.
            OrderRefused: The key was used with other parameters.
            HistoryError: The history can't be written.
        """
        from dotflow.engine import submission

        submission.check_id(workflow_id)
        declared = self._queue.declared(workflow_id)
        submission.check_submission(key, priority, self._masks | submission.known_masks(declared))
        name, text = submission.named_by(workflow_id, declared, params or {}, key, self._masks)
        submission.check_names(workflow_id, key, name)
        due = submission.due_at(at)
        who = "" if by is None else self._user(by)
        wanted = submission.as_newest(
            Submission(workflow_id, text, name, key, priority, due, by=who),
            replace=replace,
            debounce=debounce,
            within=within,
            by=lambda: self._user(by),
            at=at,
            connection=connection,
        )
        return self._queue.submit(wanted) if connection is None else self._queue.submit_within(connection, wanted)

    def params(self, workflow_id: str) -> dict[str, Any]:
        """Returns the parameters of a workflow that are no secrets, with their defaults; `...` where there is none.

        They are those that a server, or a submission of the workflow itself, has written last.
        """
        from dotflow.engine import submission

        submission.check_id(workflow_id)
        return submission.defaults_of(self._queue.declared(workflow_id))

    def is_served(self, workflow_id: str) -> bool:
        """Returns whether a living process serves a workflow."""
        return self._queue.is_served(workflow_id)

    def pause_workflow(self, workflow_id: str, *, by: str | None = None, comment: str = "") -> WorkflowPause:
        """Pauses a workflow: its queued runs wait, and servers drop its scheduled runs. What has begun goes on.

        `DotFlow.schedule` and `dotflow schedule` need no server, and fire as before.

        Args:
            workflow_id: The workflow.
            by: Who wants it; by default the user of the system.
            comment: Why.

        Returns:
            Its pause. Where it is paused already, that pause remains.

        Raises:
            NotInHistory: The history does not know the workflow.
        """
        from dotflow.engine.submission import check_id

        check_id(workflow_id)
        return self._queue.pause_workflow(workflow_id, self._user(by), self._comment(comment))

    def resume_workflow(self, workflow_id: str, *, by: str | None = None, comment: str = "") -> WorkflowPause | None:
        """Ends the pause of a workflow, and returns it; None where it was not paused. Nothing is caught up.

        Args:
            workflow_id: The workflow.
            by: Who wants it; by default the user of the system.
            comment: Why. Servers log both.

        Raises:
            NotInHistory: The history does not know the workflow.
        """
        from dotflow.engine.submission import check_id

        check_id(workflow_id)
        return self._queue.resume_workflow(workflow_id, self._user(by), self._comment(comment))

    def pause_of(self, workflow_id: str) -> WorkflowPause | None:
        """Returns the pause of a workflow; None where it is not paused."""
        return self._queue.pauses().get(workflow_id)

    def schedules(self) -> list[ScheduleSummary]:
        """Returns the schedules that living processes serve; of a workflow that none serves, that of the last one.

        What should have run by now is computed here: a scheduled run is late where no process lives, too.

        Raises:
            HistoryError: The history can't be read.
            MissingExtra: CronSim is not installed.
        """
        now = self._queue.now()
        found = sorted(self._queue.schedules(), key=lambda one: one.schedule.schedule)
        return [self._summary_of(one, now) for one in found]

    def _summary_of(self, found: ServedSchedule, now: datetime) -> ScheduleSummary:
        from dotflow.providers.schedulers.cron_times import CronTimes  # most programs need no CronSim

        schedule, settled = found.schedule, found.settled
        known = ScheduleSummary(schedule, None, None, found.dropped, found.drops, found.is_served, found.pause, [])
        try:
            times = CronTimes(schedule.cron, schedule.timezone)
        except InvalidSchedule as error:  # of another dotflow, or a zone that this machine does not have
            return known._replace(error=str(error))
        zone = times.zone
        fired = [one.in_zone(zone) for one in self._queue.fired(schedule.schedule, EPOCH, now, LOOKED_AT)]
        unfired = times.between(settled, now, MAX_FIRINGS)[::-1]
        if len(unfired) == MAX_FIRINGS:  # of more, the newest ones
            unfired = times.before(now, MAX_FIRINGS)
        firings = [*map(Fired, unfired), *fired]
        late = find_late(firings, settled, now, schedule.late_after, times.after, is_served=found.is_served)
        drops = [drop._replace(planned=drop.planned.astimezone(zone)) for drop in found.drops]
        return known._replace(
            next=times.after(now),
            last=next((one for one in firings if not one.is_left_out), None),
            drops=drops,
            late=late,
        )

    def long_queued(self) -> list[LongQueued]:
        """Returns what waits in the queue for over ten minutes, by workflow."""
        return list(self._queue.long_queued(self._queue.now() - LONG_WAIT))

    def run(self, run: str) -> "RunSummary":
        """Returns a run. Raises NotInHistory."""
        return self._queue.newest(run)

    def wait(self, run: str, timeout: Duration | None = None) -> "RunSummary":
        """Waits until a run has ended or is paused, and returns it; after *timeout* as it is.

        Args:
            run: The run.
            timeout: The maximum time, in seconds or as a text such as "90s"; None for no limit.

        Raises:
            NotInHistory: There is no such run.
        """
        until = None if timeout is None else clock.ticks() + as_seconds("timeout", timeout)
        while self._may_end(found := self.run(run)) and (until is None or clock.ticks() < until):
            clock.sleep(POLL)
        return found

    def _may_end(self, run: "RunSummary") -> bool:
        """Returns whether a run is still to end: a server continues one whose process was killed."""
        if run.state is TypeRunState.CRASHED:
            return not run.is_over and self._queue.is_served(run.workflow_id)
        return run.is_open

    def cancel(
        self, run: str, *, by: str | None = None, comment: str = "", seen: TypeRunState | str | None = None
    ) -> "RunSummary":
        """Cancels a run. What is queued or paused is cancelled at once; a running run within about a second.

        A step in a process of its own is ended. A step in the program's own thread ends by itself first.

        Args:
            run: The run.
            by: Who wants it; by default the user of the system.
            comment: Why.
            seen: The state in which the caller saw this very run. In another one, or where a newer run goes on with it,
                it is left as it is.

        Returns:
            The run afterwards: `ordered` is "cancel" while a running one has not heeded it.

        Raises:
            NotInHistory: There is no such run.
            OrderRefused: It has ended, or is not as it was seen.
        """
        return self._queue.order(run, Order(TypeOrder.CANCEL, self._user(by), self._comment(comment)), _state(seen))

    def seconds_to_look(self, run: str) -> float:
        """Returns for how long `cancel`, `pause` and `resume` would watch whether the process of a run has ended.

        With a history in Postgres, these are 12 seconds where it gave no sign of life for a minute; mostly 0.

        Raises:
            NotInHistory: There is no such run.
        """
        return self._queue.seconds_to_look(run)

    def pause(
        self, run: str, *, by: str | None = None, comment: str = "", seen: TypeRunState | str | None = None
    ) -> "RunSummary":
        """Pauses a run: its running steps end and are saved, and nothing new begins. As `cancel` otherwise."""
        return self._queue.order(run, Order(TypeOrder.PAUSE, self._user(by), self._comment(comment)), _state(seen))

    def questions(self) -> list[Question]:
        """Returns the questions of tasks that wait for an approval and can be answered now, the oldest first."""
        return list(self._queue.questions())

    def approve(
        self,
        run: str,
        step: str | None = None,
        value: Any = None,
        *,
        by: str | None = None,
        comment: str = "",
        seen: TypeRunState | str | None = None,
        nth: int | None = None,
    ) -> "RunSummary":
        """Answers yes to the question of a run. Where the run is paused, a run that continues it is queued.

        Args:
            run: The run.
            step: The task that waits, by its name, or an item such as `page[3].check`; None if there is one only.
            value: Plain data that the step takes as `approval.value`.
            by: Who approves; by default the user of the system.
            comment: Why: the step takes it as `approval.comment`.
            seen: As in `cancel`.
            nth: The `id.nth` of the question that the caller saw; a later one of the step is left open then.

        Returns:
            The newest run of the chain.

        Raises:
            InvalidArgument: The codec can't keep the value.
            NotInHistory: There is no such run.
            OrderRefused: No task of it waits for an answer, or the question has one.
        """
        from dotflow.codec.json import encode

        try:
            text = None if value is None else encode(value)
        except (ValueNotStorable, RecursionError) as error:
            raise InvalidArgument("value", value, "plain data, such as text, numbers or dates") from error
        if text is not None and self._mask(text) != text:
            raise InvalidArgument("value", "***", "no secret, since the history keeps it as clear text")
        return self._queue.answer(run, step, True, self._user(by), self._comment(comment), text, _state(seen), nth)

    def reject(
        self,
        run: str,
        step: str | None = None,
        *,
        by: str | None = None,
        comment: str = "",
        seen: TypeRunState | str | None = None,
        nth: int | None = None,
    ) -> "RunSummary":
        """Answers no to the question of a run: its task fails with Rejected. As `approve` otherwise."""
        return self._queue.answer(run, step, False, self._user(by), self._comment(comment), seen=_state(seen), nth=nth)

    def resume(
        self,
        run: str,
        rerun: str | Sequence[str] = (),
        *,
        by: str | None = None,
        comment: str = "",
        seen: TypeRunState | str | None = None,
    ) -> "RunSummary":
        """Queues a run that continues one that ended before its completion. Finished steps are not run again.

        Args:
            run: The run.
            rerun: Tasks that run again, by name, with those that take their values. A completed run needs one.
            by: Who wants it; by default the user of the system.
            comment: Why.
            seen: As in `cancel`.

        Returns:
            The queued run.

        Raises:
            NotInHistory: There is no such run.
            OrderRefused: It can't be continued.
        """
        steps = [rerun] if isinstance(rerun, str) else list(rerun)
        return self._queue.resume(run, steps, self._user(by), self._comment(comment), seen=_state(seen))


def user_of(by: str | None = None) -> str:
    """Returns who gives an order; by default the user of the system. Raises InvalidArgument."""
    if by is not None:
        if not isinstance(by, str) or not by:
            raise InvalidArgument("by", by, "a name")
        return escape_surrogates(by)
    try:
        return escape_surrogates(getpass.getuser())
    except (OSError, KeyError):  # a container's user without a name
        return f"user {os.getuid()}" if hasattr(os, "getuid") else "unknown"


def _state(seen: TypeRunState | str | None) -> TypeRunState | None:
    try:
        return None if seen is None else TypeRunState(seen)
    except ValueError:
        raise InvalidArgument("seen", seen, f"a state of a run: {', '.join(TypeRunState)}") from None


def _queue(of: ServedWorkflow | History | str | os.PathLike[str] | None) -> Operations:
    from dotflow.engine.submission import queue_of

    history: object = getattr(getattr(of, "config", None), "history", of)
    if of is None:
        history = history_of(None)
        if history is None:
            raise NotServable(WHAT, f"{HISTORY_VARIABLE} is not set. Pass a workflow, a history, its path or its DSN")
    elif isinstance(of, str | os.PathLike):
        history = history_at(os.fspath(of))
    if history is not None and not isinstance(history, History):
        raise InvalidArgument("of", of, "a workflow, a history, or the path or DSN of one")
    return queue_of(WHAT, history)
