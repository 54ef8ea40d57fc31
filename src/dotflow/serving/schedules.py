"""Schedules: decides which firings of the served workflows get a run, and reports those that get none."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import wraps
from typing import TypeVar

from dotflow import clock
from dotflow.abc.operations import Dropped, Firing, QueueServer, Schedule
from dotflow.abc.workflow import ServedWorkflow
from dotflow.core.masks import Masks
from dotflow.core.schedule_rules import KEPT_DROPPED, MAX_FIRINGS, Due
from dotflow.core.types.overlap import TypeOverlap
from dotflow.errors import DotflowError
from dotflow.providers.schedulers.cron import SchedulerCron
from dotflow.providers.schedulers.cron_times import CronTimes
from dotflow.providers.schedulers.firings import Firings, count_of, describe_dropped
from dotflow.providers.schedulers.none import SchedulerDefault
from dotflow.providers.schedulers.runs import ShutdownSignals
from dotflow.serving.reports import Reports

T = TypeVar("T")


class _Served(Firings):
    """A schedule that this process serves, with what it needs to fire it.

    Attributes:
        schedule: As others know it.
    """

    def __init__(self, workflow: ServedWorkflow, scheduler: SchedulerCron, signals: ShutdownSignals) -> None:
        self.schedule = scheduler.as_schedule(workflow.declared().workflow)
        only = None if scheduler.only is None else self._guarded(scheduler.only)
        super().__init__(CronTimes(self.schedule.cron, self.schedule.timezone), clock.now(), only)
        self._workflow = workflow
        self._masks: Masks = workflow.masks()
        self._scheduler = scheduler
        self._signals = signals
        #: The next firing, if it would be dropped. What can't be right on any day is raised.
        self.problem = self._firing(Due(next((fire.at for fire in scheduler.preview(1)), self.next)), is_first=True)

    def look(self, server: QueueServer) -> None:
        """Reads what other processes have settled, and what the one that began last has made of the schedule."""
        self.schedule, settled = server.settled(self.schedule)
        self.settle(settled)

    def _guarded(self, function: Callable[[datetime], T]) -> Callable[[datetime], T]:
        """Returns a function of the user, which may hang: the second signal ends a call of it."""

        @wraps(function)
        def call(planned: datetime) -> T:
            try:
                self._signals.interrupts = True
                return function(planned)
            finally:
                self._signals.interrupts = False

        return call

    def firings(self, now: datetime) -> tuple[list[Firing], datetime]:
        """Returns the firings that have come due, and until when that are all of them."""
        due, until = self.due(now, self.schedule.catch_up)
        kept = len(due) - KEPT_DROPPED - 1  # the last one may have a run
        firings = [
            self._firing(one)
            if number >= kept or not one.dropped or one.is_left_out
            else Firing(one.planned, None, dropped=one.dropped)
            for number, one in enumerate(due)
        ]
        return firings, until

    def _firing(self, due: Due, *, is_first: bool = False) -> Firing:
        """Returns a firing with its run. The first one is not to be queued: it raises what is wrong on all days."""
        planned, is_made_up, dropped, is_left_out, has_raised = due
        if is_left_out or has_raised:
            return Firing(planned, None, False, self._masks.mask(dropped), has_raised, is_left_out)
        is_named = self.schedule.overlap is TypeOverlap.PARALLEL and not callable(self._scheduler.params)
        key = f"{planned.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if is_named else None
        try:
            params = self._guarded(self._scheduler.params_at)(planned)
            wanted = self._workflow.make_submission(params, key)
        except (Exception, SystemExit) as error:  # of the user's function, or of what it returns for this day
            if is_first and not callable(self._scheduler.params):
                raise
            raised = self._masks.mask(f"its params raised {type(error).__name__}: {error}")
            return Firing(planned, None, is_made_up, dropped or raised, has_raised=not dropped)
        return Firing(planned, wanted._replace(key=None, due=planned.astimezone(UTC)), is_made_up, dropped)


class Schedules:
    """The schedules of served workflows, from their `Config(scheduler=...)`.

    Args:
        workflows: The workflows.
        reports: What people should know: a firing whose parameters can't be made is an alert.
        signals: The second one raises KeyboardInterrupt in a function that makes parameters.
        now: Returns the moment by the clock of the history.
        once: Whether it decides only about what has come due until `register`.

    Raises:
        InvalidArgument, MissingParam, UnknownParam: The parameters of a firing can't be those of its workflow.
    """

    def __init__(
        self,
        workflows: Iterable[ServedWorkflow],
        reports: Reports,
        signals: ShutdownSignals,
        now: Callable[[], datetime],
        *,
        once: bool = False,
    ) -> None:
        self._served: list[_Served] = []
        self._report, self._alert = reports.report, reports.alert
        self._signals = signals
        self._once = once
        self._now = now
        self._until: datetime | None = None
        for workflow in workflows:
            scheduler = workflow.config.scheduler
            if isinstance(scheduler, SchedulerCron):
                served = _Served(workflow, scheduler, signals)
                self._served.append(served)
                if served.problem.wanted is None:
                    moment = f"{served.problem.planned:%Y-%m-%d %H:%M:%S %Z}"
                    name = _name(served.schedule)
                    self._report(
                        f"The next scheduled run of {name}, {moment}, would be dropped: {served.problem.dropped}."
                    )
            elif not isinstance(scheduler, SchedulerDefault):
                name = type(scheduler).__name__
                self._report(f"{workflow.workflow_id!r} is not fired here: serve takes a SchedulerCron, not a {name}.")

    def register(self, server: QueueServer) -> None:
        """Writes that this process serves them. Reports those that are new, and those that none serves any more."""
        known = server.known_schedules()
        for schedule, settled in server.serve_schedules([one.schedule for one in self._served]):
            try:
                left = CronTimes(schedule.cron, schedule.timezone).between(settled, self._now(), MAX_FIRINGS)
            except DotflowError as error:  # of another dotflow, or this machine lacks its zone, or CronSim
                since_then = f"its scheduled runs since {settled:%Y-%m-%d %H:%M:%S %Z} can't be computed here"
                self._report(f"No process serves {_name(schedule)} any more, and {since_then}: {error}")
                continue
            if left:
                least = "at least " if len(left) == MAX_FIRINGS else ""
                left_over = f"{least}{count_of(left)} since {left[0]:%Y-%m-%d %H:%M:%S %Z}"
                self._report(f"No process serves {_name(schedule)} any more. A server that has it gets {left_over}.")
        for one in self._served:
            one.look(server)
            if one.schedule.schedule not in known:
                since = one.settled.astimezone(one.times.zone)
                self._report(f"Nothing is known of {_name(one.schedule)} before {since:%Y-%m-%d %H:%M:%S %Z}.")
        self._until = self._now() if self._once else None

    def next(self) -> datetime | None:
        """Returns the next firing; None without a schedule."""
        until = self._until
        return min((one.next for one in self._served if until is None or one.next <= until), default=None)

    def is_due(self) -> bool:
        """Returns whether there is something to decide."""
        now = self._moment()
        return any(one.is_due(now) for one in self._served)

    def look(self, server: QueueServer) -> None:
        """Queues the runs of the firings that have come due; of very many the first."""
        try:
            for one in self._served:
                if one.is_due(self._moment()):
                    self._fire(server, one)
        except KeyboardInterrupt:  # the second signal has ended a function that hangs: its firing remains undecided
            if self._signals.count < 2:
                raise

    def _moment(self) -> datetime:
        """Returns the moment until which it decides."""
        return self._now() if self._until is None else min(self._now(), self._until)

    def _fire(self, server: QueueServer, one: _Served) -> None:
        now = self._moment()
        one.look(server)  # another process may have been faster
        if back := one.went_back(now):
            self._report(f"The wall clock went back by {back}; {_name(one.schedule)} follows the new time.")
            firings, until = list[Firing](), now
        elif now < one.next:
            return
        else:
            firings, until = one.firings(now)
        dropped = server.fire(one.schedule, one.settled, until, firings)
        if dropped is not None:
            one.settle(until)
            self._report_dropped(one.schedule, firings, dropped)

    def _report_dropped(self, schedule: Schedule, firings: Sequence[Firing], dropped: Sequence[Dropped]) -> None:
        drops = {one.planned.astimezone(UTC): (one.reason, one.name is None) for one in dropped}
        decided = [(one.planned, *drops.get(one.planned.astimezone(UTC), ("", False))) for one in firings]
        for text, has_raised in describe_dropped(decided, _name(schedule)):
            if has_raised:  # the alarm of late ones leaves them out
                self._alert(schedule.workflow, text)
            else:
                self._report(text)


def _name(schedule: Schedule) -> str:
    zone = f" {schedule.timezone}" if schedule.timezone else ""
    return f"{schedule.workflow!r} ({schedule.cron}{zone})"
