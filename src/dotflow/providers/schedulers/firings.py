"""Firings: the moments of a schedule that come due, for `serve` and for a scheduler in one process."""

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from datetime import datetime, timedelta
from itertools import groupby
from typing import Final

from dotflow.core.callables import qualname
from dotflow.core.schedule_rules import MAX_CORRECTION, MAX_FIRINGS, CatchUp, Due, choose
from dotflow.providers.schedulers.cron_times import CronTimes

NAMED: Final = 3  # moments that a message about dropped runs has; more in a row by the first and the last one


#: Returns whether a planned moment gets a run.
Only = Callable[[datetime], object]


class Firings:
    """The moments of a schedule.

    Args:
        times: All of them.
        settled: Until when they are decided.
        only: Leaves some out; None for none.

    Attributes:
        times: All of them.
        settled: Until when they are decided, as far as this process knows.
        next: The next one.
    """

    def __init__(self, times: CronTimes, settled: datetime, only: Only | None = None) -> None:
        self.times = times
        self._only = only
        self.settle(settled)

    def settle(self, until: datetime) -> None:
        """Notes until when they are decided."""
        self.settled, self.next = until, self.times.after(until)

    def is_due(self, now: datetime) -> bool:
        """Returns whether there is something to decide: a moment, or a clock that was set back."""
        return now >= self.next or self.went_back(now) is not None

    def went_back(self, now: datetime) -> timedelta | None:
        """Returns by how much the wall clock was set back, since it was wrong; None if it was not."""
        back = self.settled - now
        return back if back > MAX_CORRECTION else None

    def due(self, now: datetime, catch_up: CatchUp) -> tuple[list[Due], datetime]:
        """Returns those that have come due, and until when these are all of them."""
        planned = self.times.between(self.settled, now, MAX_FIRINGS + 1)
        are_all = len(planned) <= MAX_FIRINGS
        planned = planned[:MAX_FIRINGS]
        left_out = [due for due in self.marked(planned) if due.dropped]
        without = {due.planned for due in left_out}
        counting = [moment for moment in planned if moment not in without]
        due = choose(counting, now, catch_up, are_all=are_all)
        return sorted([*due, *left_out], key=lambda one: one.planned), now if are_all else planned[-1]

    def marked(self, planned: Sequence[datetime]) -> list[Due]:
        """Returns moments as they come due, with why `only` drops some of them."""
        return mark(planned, self._only)

    def has_next(self, now: datetime) -> bool:
        """Returns whether a moment has come that `only` does not leave out."""
        return self.next <= now and not self.marked([self.next])[0].dropped


def mark(planned: Sequence[datetime], only: Only | None) -> list[Due]:
    """Returns moments as they come due, with why `only` drops some of them."""
    return [Due(moment) if only is None else _judged(only, moment) for moment in planned]


def _judged(only: Only, planned: datetime) -> Due:
    name = f"only={qualname(only).rpartition('<locals>.')[2]}"
    try:
        return Due(planned) if only(planned) else Due(planned, dropped=f"{name} leaves it out", is_left_out=True)
    except (Exception, SystemExit) as error:  # of the user's function
        return Due(planned, dropped=f"{name} raised {type(error).__name__}: {error}", has_raised=True)


def describe_dropped(dropped: Iterable[tuple[datetime, str, bool]], schedule: str = "") -> Iterator[tuple[str, bool]]:
    """Yields texts about scheduled runs that are dropped, those in a row with the same reason in one.

    Args:
        dropped: Their moments, why, "" for one that is not dropped, and whether their parameters could not be made.
        schedule: What their schedule is called.
    """
    for (reason, has_raised), group in groupby(dropped, lambda one: one[1:]):
        if reason:
            moments = [f"{planned:%Y-%m-%d %H:%M:%S %Z}" for planned, *_ in group]
            named = ", ".join(moments) if len(moments) <= NAMED else f"{moments[0]} to {moments[-1]}"
            yield f"{count_of(moments)}{schedule and f' of {schedule}'} dropped, {named}: {reason}.", has_raised


def count_of(firings: Sized) -> str:
    """Returns how many scheduled runs there are, for people."""
    return "1 scheduled run" if len(firings) == 1 else f"{len(firings)} scheduled runs"
