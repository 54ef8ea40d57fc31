"""SchedulerCron: runs a workflow when a cron expression says so."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from dotflow import clock
from dotflow.abc.scheduler import Scheduler
from dotflow.abc.workflow import Workflow
from dotflow.core.types.overlap import TypeOverlap
from dotflow.errors import AlreadyScheduled, InvalidArgument
from dotflow.processes.wakeup import WakeupEvent
from dotflow.providers.schedulers.cron_times import CronTimes, FireTime
from dotflow.providers.schedulers.overlap import Decision, check_max_parallel, check_overlap, decide
from dotflow.providers.schedulers.runs import ScheduledRuns, report
from dotflow.providers.schedulers.signals import ShutdownSignals

#: Seconds. The monotonic clock, by which is waited, stands still in a suspend, and nobody tells of a wall clock that is
#: set: only a look at it now and then shows that a moment has come early. A job is late by no more than this.
RECHECK: Final = 30.0
#: Beyond this a wall clock that goes back was wrong before, and its time is taken as it is now; until this it is one
#: that is put right by hand, and what has fired does not fire again. The three hours are those of Debian's cron.
MAX_CORRECTION: Final = timedelta(hours=3)
MAX_COUNTED: Final = 1000  # missed firings; nobody needs to know more exactly


class SchedulerCron(Scheduler):
    """Runs a workflow at the times of a cron expression, until SIGINT, SIGTERM or `stop`.

    Args:
        cron: Five fields (minute, hour, day, month, weekday), six with seconds first, or "@hourly", "@daily",
            "@weekly", "@monthly", "@yearly".
        overlap: When it fires while a run is active: "skip" drops the new run, "queue" keeps one until the run is over,
            "parallel" runs them side by side.
        timezone: The zone's name, such as "Europe/Berlin"; None for the machine's own, or that of the variable TZ.
        max_parallel: How many runs there may be at once with "parallel"; beyond that they are dropped.

    Raises:
        InvalidSchedule: cron or timezone means nothing, or the expression never fires.
        InvalidArgument: overlap or max_parallel is not accepted.
        MissingExtra: CronSim is not installed.
    """

    def __init__(
        self, cron: str, overlap: str | TypeOverlap = "skip", timezone: str | None = None, max_parallel: int = 10
    ) -> None:
        self.cron = cron
        self.overlap: TypeOverlap = check_overlap(overlap)
        self.timezone = timezone
        self.max_parallel: int = check_max_parallel(max_parallel)
        self._times = CronTimes(cron, timezone)
        self._lock = threading.Lock()  # taken while it is running
        self._wakeup = WakeupEvent()
        self._is_stopped = False
        self._signals: ShutdownSignals | None = None  # while it is running
        self._settled: datetime | None = None  # while a run is made here: until when all is settled

    @property
    def is_ending(self) -> bool:
        """Whether no other run begins: from `stop` or the first signal on, until `start` has returned."""
        signals = self._signals
        return signals is not None and (self._is_stopped or signals.count > 0)

    @property
    def has_queued(self) -> bool:
        """Whether a run waits for the one that is active, and begins right after it: only with "queue"."""
        settled = self._settled
        if settled is None or self.overlap is not TypeOverlap.QUEUE or self.is_ending:
            return False
        return self._times.after(settled) <= clock.now()

    def preview(self, count: int = 5, after: datetime | None = None) -> list[FireTime]:
        """The next firings, each with a note where the clocks are set on that day.

        Args:
            count: How many; fewer are given where the calendar ends, with the year 9999.
            after: Those later than this moment, which has a time zone; than now unless given.

        Raises:
            InvalidArgument: One of them is not accepted.
        """
        if type(count) is not int or count < 0:
            raise InvalidArgument("count", count, "a whole number from 0")
        if after is not None and (not isinstance(after, datetime) or after.utcoffset() is None):
            raise InvalidArgument("after", after, "a datetime with a time zone")
        return self._times.firings(count, (after or clock.now()).astimezone(UTC))

    def start(self, workflow: Workflow, **kwargs: Any) -> None:
        """Runs the workflow when it is due, as `workflow.start(**kwargs)`; returns after `stop` or a signal.

        With `resume=True` each firing finishes the last run, if that is unfinished, and otherwise begins a new one.

        A run that raises is reported in the workflow's log, and the schedule goes on. With "skip" and "queue" runs are
        made in the calling thread, with "parallel" each in a thread of its own.

        The first SIGINT or SIGTERM lets the running run end, and no other begins; the second stops it, and goes on to
        whoever had the signal before. In a thread that is not the main one there is only `stop`.

        Raises:
            UnknownArgument: `workflow.start` takes no such argument.
            InvalidArgument: It does not take such a value.
            AlreadyScheduled: It is running already.
            KeyboardInterrupt: A second SIGINT came.
        """
        workflow.check_start(**kwargs)
        if kwargs.get("resume") is True:
            kwargs["resume"] = "unfinished"
        if not self._lock.acquire(blocking=False):
            raise AlreadyScheduled(f"SchedulerCron({self.cron!r})")
        signals = ShutdownSignals(self._wake)
        try:
            self._is_stopped = False
            self._signals = signals
            with signals, clock.join():
                runs = ScheduledRuns(workflow, kwargs, signals, self._wakeup, self._wake)
                try:
                    self._serve(runs)
                finally:
                    runs.close()
        except KeyboardInterrupt:
            if signals.count < 2:  # nobody's signal: a step, or a handler of the program's, meant it
                raise
        finally:
            self._signals = None
            self._lock.release()
        signals.pass_on()

    def stop(self) -> None:
        """Lets `start` return once the run that is active is over. Returns at once, and may be called from anywhere, a
        step and a signal handler included; where nothing is running it does nothing."""
        self._is_stopped = True
        self._wake()

    def _wake(self) -> None:
        clock.about_to_wake(self._wakeup.set)
        self._wakeup.set()

    def _serve(self, runs: ScheduledRuns) -> None:
        seen = clock.now()  # the latest that the wall clock has shown: until then all is settled
        while not self.is_ending:
            now = clock.now()
            if now < seen - MAX_CORRECTION:
                report(runs.workflow, f"The wall clock went back by {seen - now}; the schedule goes by its new time.")
                seen = now
            due = self._times.after(seen)
            seconds = (due.astimezone(UTC) - now).total_seconds()
            if seconds > 0:
                seen = max(seen, now)
                clock.wait(self._wakeup.wait, seconds, self._wakeup.set, recheck=RECHECK)
                continue
            missed = self._times.between(seen, now, MAX_COUNTED) - 1
            seen = now
            if missed:
                reason = "the machine slept, or its clock was set"
                text = f"{_count(missed)} after {due} dropped, since they came due together with it: {reason}."
                report(runs.workflow, text)
            if self.overlap is TypeOverlap.PARALLEL:
                self._run_parallel(runs, due)
            else:
                seen = self._run_here(runs, due, seen)

    def _run_parallel(self, runs: ScheduledRuns, due: datetime) -> None:
        active = runs.count()
        if self._decide(active, 0) is Decision.RUN:
            runs.start(due)
        else:
            reason = f"since {active} are active (max_parallel={self.max_parallel})"
            report(runs.workflow, f"1 run of {due} dropped, {reason}.")

    def _run_here(self, runs: ScheduledRuns, due: datetime, seen: datetime) -> datetime:
        """Makes a run, then the one that was queued meanwhile, and so on; returns until when all is settled then.

        What came due while a run was active is looked at when it is over: nobody had to watch, and that is the same.
        """
        is_queued = True
        try:
            while is_queued and not self.is_ending:
                self._settled = seen
                try:
                    runs.run_here(due)
                finally:  # a second signal ends the run by an exception
                    self._settled = None
                    due, seen, is_queued = self._settle(runs.workflow, seen)
        finally:
            if is_queued:
                report(runs.workflow, f"1 run of {due} dropped, since the schedule ends.")
        return seen

    def _settle(self, workflow: Workflow, seen: datetime) -> tuple[datetime, datetime, bool]:
        """After a run: the first firing since it began, until when all is settled, and whether it is queued."""
        now = max(seen, clock.now())
        came_due = self._times.between(seen, now, MAX_COUNTED)
        due = self._times.after(seen)
        queued = int(came_due > 0 and self._decide(1, 0) is Decision.QUEUE)
        if dropped := came_due - queued:
            share = f"of {came_due} " if queued else ""
            reason = f"since one was active (overlap={self.overlap})"
            report(workflow, f"{_count(dropped)} {share}from {due} on dropped, {reason}.")
        return due, now, bool(queued)

    def _decide(self, active: int, pending: int) -> Decision:
        return decide(self.overlap, active=active, pending=pending, max_parallel=self.max_parallel)

    def __repr__(self) -> str:
        zone = "" if self.timezone is None else f", timezone={self.timezone!r}"
        return f"SchedulerCron({self.cron!r}, overlap={str(self.overlap)!r}{zone})"


def _count(runs: int) -> str:
    more = "more than " if runs >= MAX_COUNTED else ""
    return f"{more}{runs} runs" if runs > 1 else "1 run"
