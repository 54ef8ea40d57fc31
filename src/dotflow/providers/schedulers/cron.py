"""SchedulerCron: runs a workflow at the times of a cron expression."""

import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Never

from dotflow import clock
from dotflow.abc.operations import Schedule
from dotflow.abc.scheduler import Scheduler
from dotflow.abc.workflow import Workflow
from dotflow.core.durations import TEXTS, Duration, as_seconds, to_seconds
from dotflow.core.hints import CRON, refuse_unknown
from dotflow.core.schedule_rules import CATCH_UPS, MAX_FIRINGS, Active, CatchUp, Due, why_blocked
from dotflow.core.types.overlap import TypeOverlap
from dotflow.core.types.run_state import TypeRunState
from dotflow.errors import AlreadyScheduled, InvalidArgument, InvalidSchedule
from dotflow.providers.schedulers.cron_times import CronTimes, FireTime, local_name
from dotflow.providers.schedulers.firings import Firings, Only, mark
from dotflow.providers.schedulers.runs import ScheduledRuns, ShutdownSignals, report
from dotflow.worker.waiting import WakeupEvent

#: Seconds between two checks of the wall clock during a wait, and so the longest delay after the clock was set or the
#: machine slept. The wait itself uses the monotonic clock, which stops in a suspend.
RECHECK: Final = 30.0
MAX_LOOKED_AT: Final = 10_000  # moments, for a preview


Params = Mapping[str, Any] | Callable[[datetime], Mapping[str, Any]]


class SchedulerCron(Scheduler):
    """Runs a workflow at the times of a cron expression, until SIGINT, SIGTERM or `stop`.

    Args:
        cron: Five fields (minute, hour, day, month, weekday), six with seconds first, or "@hourly", "@daily",
            "@weekly", "@monthly", "@yearly".
        overlap: What becomes of a run that is due during another one: "skip" drops it, "queue" keeps one until the
            end of the other, "parallel" runs it at the same time.
        timezone: The zone's name, such as "Europe/Berlin"; None for the machine's own, or that of the variable TZ.
        max_parallel: The largest number of active runs with "parallel"; further ones are dropped.
        catch_up: Which missed runs are caught up, by `serve` or after a suspend: "latest" the last one,
            "all" each in order, "none" none, a span such as "6h" the last one if it is not older than that.
        late_after: `serve` raises an alarm if a scheduled run has not completed after this time; None for none.
        params: The run parameters of each scheduled run: a mapping, or a function that returns it for the planned
            moment, a datetime in the zone: `lambda planned: {"day": planned.date() - timedelta(days=1)}`. A run for
            which it raises is dropped and reported.
        only: Returns whether a planned moment, a datetime in the zone, gets a run: `is_workday`. The others are
            dropped and reported, and are neither caught up nor late; so is one for which it raises.
        unknown: Refused with a hint.

    Raises:
        InvalidSchedule: cron or timezone is not valid, or the expression never fires; or with catch_up="all" the runs
            would have one name: that takes a function as params, or overlap="parallel".
        InvalidArgument: Another argument is not accepted.
        UnknownArgument: There is no such argument.
        MissingExtra: CronSim is not installed.
    """

    def __init__(
        self,
        cron: str,
        overlap: str | TypeOverlap = "skip",
        timezone: str | None = None,
        max_parallel: int = 10,
        catch_up: Duration = "latest",
        late_after: Duration | None = None,
        params: Params | None = None,
        only: Only | None = None,
        **unknown: Never,
    ) -> None:
        refuse_unknown("SchedulerCron", unknown, SchedulerCron, CRON)
        self.cron = cron
        self.overlap: TypeOverlap = _checked_overlap(overlap)
        self.timezone = timezone
        if type(max_parallel) is not int or max_parallel < 1:
            raise InvalidArgument("max_parallel", max_parallel, "a whole number of runs from 1")
        self.max_parallel: int = max_parallel
        self.catch_up: CatchUp = _checked_catch_up(catch_up)
        self.late_after: float | None = None if late_after is None else as_seconds("late_after", late_after, above=0)
        if params is not None and not isinstance(params, Mapping) and not callable(params):
            raise InvalidArgument("params", params, "a mapping, or a function of the planned moment that returns one")
        self.params = params
        if only is not None and not callable(only):
            raise InvalidArgument("only", only, "a function of the planned moment that returns whether it gets a run")
        self.only = only
        if self.catch_up == "all" and not callable(params) and self.overlap is not TypeOverlap.PARALLEL:
            raise InvalidSchedule("catch_up", catch_up, ONE_NAME)
        self.times = CronTimes(cron, timezone)
        self._lock = threading.Lock()  # held while a schedule is active
        self._wakeup = WakeupEvent()
        self._is_stopped = False
        self._waiting: tuple[Firings, Sequence[datetime]] | None = None  # during a run in this thread
        self._runs: ScheduledRuns | None = None  # while a schedule is active

    @property
    def is_ending(self) -> bool:
        """Whether no further run begins: from `stop` or the first signal until `start` has returned."""
        runs = self._runs
        return runs is not None and (self._is_stopped or runs.signals.count > 0)

    @property
    def has_queued(self) -> bool:
        """Whether another run begins right after the active one, since it is queued."""
        if self._waiting is None or self.is_ending:
            return False
        firings, chosen = self._waiting
        return bool(chosen) or (self.overlap is TypeOverlap.QUEUE and firings.has_next(clock.now()))

    def preview(self, count: int = 5, after: datetime | None = None) -> list[FireTime]:
        """Returns the next scheduled runs, with a note on days with a clock change.

        Args:
            count: How many. There are fewer at the end of the calendar, the year 9999, and where `only` leaves out
                10,000 moments or more.
            after: The moment that they follow, with a time zone; now by default.

        Raises:
            InvalidArgument: One of them is not accepted.
        """
        if type(count) is not int or count < 0:
            raise InvalidArgument("count", count, "a whole number from 0")
        if after is not None and (not isinstance(after, datetime) or after.utcoffset() is None):
            raise InvalidArgument("after", after, "a datetime with a time zone")
        moment, found, looked_at = (after or clock.now()).astimezone(UTC), list[FireTime](), 0
        while len(found) < count and looked_at < MAX_LOOKED_AT:
            fires = self.times.firings(count - len(found), moment)
            due = mark([fire.at for fire in fires], self.only)
            found += [fire for fire, one in zip(fires, due, strict=True) if not one.is_left_out]
            looked_at += len(fires)
            if self.only is None or not fires:
                break
            moment = fires[-1].at.astimezone(UTC)
        return found

    def params_at(self, planned: datetime) -> Mapping[str, Any] | None:
        """Returns the run parameters of a scheduled run. Raises what a function of the user raises."""
        return self.params if self.params is None or isinstance(self.params, Mapping) else self.params(planned)

    def as_schedule(self, workflow_id: str) -> Schedule:
        """Returns the schedule of a workflow, as others know it: the machine's zone by its name."""
        cron, timezone = " ".join(self.cron.split()), self.timezone or local_name()
        return Schedule(
            json.dumps([workflow_id, cron, timezone]),
            workflow_id,
            cron,
            timezone,
            self.overlap,
            self.max_parallel,
            self.catch_up,
            self.late_after,
        )

    def start(self, workflow: Workflow, **kwargs: Any) -> None:
        """Runs the workflow when it is due, as `workflow.start(**kwargs)`; returns after `stop` or a signal.

        With `resume=True` an unfinished run is finished before the scheduled run of its name. Where that fails again,
        the scheduled run replaces it, and the log names it.

        A run that raises is reported in the workflow's log, and the schedule goes on. With "skip" and "queue" the
        calling thread runs the workflow; with "parallel" each run has its own thread.

        After the first SIGINT or SIGTERM the active run ends and no other begins. The second stops the run and has its
        earlier effect. Outside of the main thread only `stop` ends the schedule.

        Raises:
            UnknownArgument: `workflow.start` takes no such argument.
            InvalidArgument: `workflow.start` does not take such a value; or both have params.
            AlreadyScheduled: This scheduler is active already.
            KeyboardInterrupt: A second SIGINT came.
        """
        kwargs = self._checked(workflow, kwargs)
        if not self._lock.acquire(blocking=False):
            raise AlreadyScheduled(f"SchedulerCron({self.cron!r})")
        signals = ShutdownSignals(self._wake)
        try:
            self._is_stopped = False
            with signals, clock.join():
                runs = ScheduledRuns(
                    workflow,
                    kwargs,
                    signals,
                    self._wakeup,
                    self._wake,
                    lambda: self.is_ending,
                    self.params if callable(self.params) else None,
                )
                self._runs = runs
                try:
                    self._serve(runs)
                finally:
                    runs.close()
        except KeyboardInterrupt:
            if signals.count < 2:  # raised by a step or by a handler of the program
                raise
        finally:
            self._runs = None
            self._lock.release()
        signals.pass_on()

    def _checked(self, workflow: Workflow, arguments: dict[str, Any]) -> dict[str, Any]:
        """Returns the arguments of `workflow.start`. Raises what the run of the next firing would raise about them."""
        if self.params is not None and arguments.get("params"):
            raise InvalidArgument("params", arguments["params"], "them in one place, as SchedulerCron has params, too")
        try:
            params = self.params_at(self.times.after(clock.now()))
        except Exception:  # of the user's function, which may refuse some days: those firings are reported
            return arguments
        checked = arguments if params is None else {**arguments, "params": params}
        workflow.check_start(**checked)
        return arguments if callable(self.params) else checked

    def stop(self) -> None:
        """Makes `start` return after the active run. It returns at once, and does nothing without a schedule.

        It may be called from anywhere, including a step and a signal handler.
        """
        self._is_stopped = True
        self._wake()

    def _wake(self) -> None:
        clock.about_to_wake(self._wakeup.set)
        self._wakeup.set()

    def _serve(self, runs: ScheduledRuns) -> None:
        firings = Firings(self.times, clock.now(), self.only)
        while not self.is_ending:
            runs.count()  # a parallel run may have finished an earlier one
            now = clock.now()
            if back := firings.went_back(now):
                report(runs.workflow, f"The wall clock went back by {back}; the schedule follows the new time.")
                firings.settle(now)
            seconds = (firings.next.astimezone(UTC) - now).total_seconds()
            if seconds > 0:
                firings.settled = max(firings.settled, now)
                clock.wait(self._wakeup.wait, seconds, self._wakeup.set, recheck=RECHECK)
                continue
            due, until = firings.due(now, self.catch_up)
            firings.settle(until)
            chosen = self._decide(runs, due, runs.active(), now)
            if self.overlap is TypeOverlap.PARALLEL:
                for planned in chosen:
                    runs.start(planned)
            else:
                self._run_here(runs, firings, chosen)

    def _decide(
        self, runs: ScheduledRuns, due: Iterable[Due], active: Sequence[Active], now: datetime
    ) -> list[datetime]:
        """Returns the moments of which a run begins. Reports the others."""
        local, known, decided = now.astimezone(self.times.zone), [*active], list[tuple[datetime, str, bool]]()
        for planned, is_made_up, dropped, _, has_raised in due:
            reason = dropped or why_blocked(known, self.overlap, self.max_parallel, local, is_made_up=is_made_up)
            decided.append((planned, reason, has_raised))
            if not reason:
                known.append(Active("", TypeRunState.QUEUED, planned, is_made_up=is_made_up))
        runs.report_dropped(decided)
        return [planned for planned, reason, _ in decided if not reason]

    def _run_here(self, runs: ScheduledRuns, firings: Firings, chosen: list[datetime]) -> None:
        """Runs the workflow at these moments, then what was queued meanwhile, and so on.

        What comes due during a run is decided after it, as if at its moment.
        """
        try:
            while chosen and not self.is_ending:
                began, self._waiting = clock.now(), (firings, chosen[1:])
                run = None
                try:
                    run = runs.run_here(chosen.pop(0))
                finally:  # a second signal raises in the run
                    self._waiting = None
                    now = max(firings.settled, clock.now())
                    due = firings.marked(self.times.between(firings.settled, now, MAX_FIRINGS))
                    active = [Active("" if run is None else run.run_id, TypeRunState.RUNNING, began)]
                    active += [Active("", TypeRunState.QUEUED, planned) for planned in chosen]
                    firings.settle(now)
                    chosen += self._decide(runs, due, active, now)
        finally:
            runs.report_ending(chosen)

    def __repr__(self) -> str:
        zone = "" if self.timezone is None else f", timezone={self.timezone!r}"
        return f"SchedulerCron({self.cron!r}, overlap={str(self.overlap)!r}{zone})"


def _checked_overlap(overlap: object) -> TypeOverlap:
    try:
        return TypeOverlap(overlap)  # type: ignore[arg-type]
    except ValueError:
        accepted = f"one of {', '.join(repr(str(value)) for value in TypeOverlap)}"
        raise InvalidArgument("overlap", overlap, accepted) from None


ONE_NAME: Final = (
    "its runs would have one name, so that only one of them can be queued. "
    "Pass params=lambda planned: {...}, or overlap='parallel'."
)


def _checked_catch_up(catch_up: object) -> CatchUp:
    if isinstance(catch_up, str) and catch_up in CATCH_UPS:
        return catch_up
    seconds = to_seconds(catch_up)
    if seconds is None:
        raise InvalidArgument("catch_up", catch_up, f"'latest', 'all', 'none', or a span: seconds, {TEXTS}")
    return seconds
