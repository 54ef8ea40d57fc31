"""Alarms: find the firings that have not completed in time, each once over all processes."""

import contextlib
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from dotflow import clock
from dotflow.abc.operations import Operations, ServedSchedule
from dotflow.core.attempt_id import ID_LENGTH
from dotflow.core.schedule_rules import MAX_CORRECTION, MAX_FIRINGS, Fired, Late, late_ones
from dotflow.errors import DotflowError, HistoryError
from dotflow.providers.schedulers.cron_times import CronTimes
from dotflow.serving.reports import Reports

LOOK: Final = 10.0  # seconds between two looks for schedules
MAX_NAMED: Final = 10  # late firings in a message
#: Of a firing that is no longer among the last ones of its schedule that were dropped.
DROPPED: Final = "the log of the server that decided it has the reason"


class Alarms:
    """Looks for late firings of all schedules of a history, also of those that other processes serve.

    Args:
        queue: The queue of the history.
        reports: Receives them.

    Attributes:
        next: The next moment at which a firing may be late; None if there is none.
    """

    def __init__(self, queue: Operations, reports: Reports) -> None:
        self._queue = queue
        self._reports = reports
        self._look_at = 0.0
        self._has_news = True
        self.next: datetime | None = None
        self._unusable: set[str] = set()  # schedules that were reported

    def note_news(self) -> None:
        """Notes that another process may have changed the schedules."""
        self._has_news = True

    def look(self) -> None:
        """Raises the alarms that are due. Raises HistoryError where the history can't be used."""
        now = self._queue.now()
        is_over = clock.monotonic() >= self._look_at and self._has_news
        if not is_over and (self.next is None or now < self.next):
            return
        self._has_news = False
        self.next = None
        for found in self._queue.schedules():
            try:
                self._look_at_schedule(found, now)
            except HistoryError:
                raise
            except DotflowError as error:  # this machine lacks its time zone, or CronSim
                if found.schedule.schedule not in self._unusable:
                    self._unusable.add(found.schedule.schedule)
                    name = f"{found.schedule.workflow!r} ({found.schedule.cron})"
                    self._reports.report(f"No alarm for the schedule of {name} from here: {error}")
        self._look_at = clock.monotonic() + LOOK

    def _look_at_schedule(self, found: ServedSchedule, now: datetime) -> None:
        schedule, alarmed = found.schedule, found.alarmed
        if schedule.late_after is None:
            return
        times, span = _times(schedule.cron, schedule.timezone), timedelta(seconds=schedule.late_after)
        until = now - span
        if alarmed is None or alarmed > now + MAX_CORRECTION:  # from an earlier dotflow, or the clock went back
            first = min(found.settled, now)  # nothing is known of what came due before
            self._queue.move_alarm(schedule.schedule, alarmed, first)
            alarmed = first
        if times.after(alarmed) <= until:
            # In UTC, since a local time that is repeated equals no moment of another zone.
            planned = [at.astimezone(UTC) for at in times.between(alarmed, until, MAX_FIRINGS)]
            if len(planned) == MAX_FIRINGS:
                until = planned[-1]  # the next look has the others
            fired = self._queue.fired(schedule.schedule, alarmed, planned[-1], MAX_FIRINGS)
            known = {one.planned: one for one in fired}
            firings = [known.get(moment, _unknown(moment, found.settled)) for moment in planned]
            unsaid = [one for one in firings if not (one.was_looked_at or one.has_raised)]
            late = late_ones([one.in_zone(times.zone) for one in unsaid], found.settled)
            if self._queue.move_alarm(schedule.schedule, alarmed, until) and late:
                self._reports.alert(schedule.workflow, _message(schedule.workflow, late))
        with contextlib.suppress(StopIteration, OverflowError):  # the end of the calendar
            due = times.after(max(alarmed, until)) + span
            self.next = due if self.next is None else min(due, self.next)


@lru_cache(maxsize=256)
def _times(cron: str, timezone: str | None) -> CronTimes:
    return CronTimes(cron, timezone)


def _unknown(planned: datetime, settled: datetime) -> Fired:
    """Returns a firing of which the history has no run."""
    return Fired(planned, None, DROPPED if planned <= settled else "")


def _message(workflow: str, late: list[Late]) -> str:
    """Returns the message about late firings of a workflow."""
    many = f"{len(late)} scheduled runs of {workflow!r} are late."
    lines = [f"A scheduled run of {workflow!r} is late." if len(late) == 1 else many]
    for planned, run_id, why in late[:MAX_NAMED]:
        run = f" (run {run_id[:ID_LENGTH]})" if run_id else ""
        lines.append(f"That of {planned:%Y-%m-%d %H:%M:%S %Z}{run} {why}.")
    if len(late) > MAX_NAMED:
        lines.append(f"`dotflow schedules` shows the last ones of the other {len(late) - MAX_NAMED}.")
    return " ".join(lines)
