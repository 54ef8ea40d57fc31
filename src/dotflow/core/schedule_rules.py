"""The rules of schedules: which firings get a run, why the others are dropped, and which ones are late and why."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta, tzinfo
from typing import Final, NamedTuple

from dotflow.core.attempt_id import ID_LENGTH
from dotflow.core.durations import format_duration
from dotflow.core.types.overlap import TypeOverlap
from dotflow.core.types.run_state import TypeRunState

#: A firing that is decided no later than this is on time. An older one was missed: whether it is made up for is a
#: matter of `catch_up`.
ON_TIME: Final = timedelta(seconds=60)
#: A wall clock that goes back by no more than this was corrected: past firings are not repeated. If it goes back by
#: more, it was wrong before, and the schedule follows the new time. The three hours are those of Debian's cron.
MAX_CORRECTION: Final = timedelta(hours=3)
MAX_FIRINGS: Final = 1000  # that are decided at once
KEPT_DROPPED: Final = 10  # of the firings without a run, those whose moment, reason and name the history keeps
KEPT_LEFT_OUT: Final = 200  # beside them, of those that `only` leaves out, which are not late

#: "latest", "all" or "none"; a number is the seconds of a span.
CatchUp = str | float
CATCH_UPS: Final = ("latest", "all", "none")


class Due(NamedTuple):
    """A firing that came due.

    Attributes:
        planned: Its moment.
        is_made_up: Whether it was missed and is made up for.
        dropped: Why it gets no run; "" for one that may get one.
        is_left_out: Whether that is since `only` leaves it out: nothing is missing.
        has_raised: Whether that is since `only` has raised.
    """

    planned: datetime
    is_made_up: bool = False
    dropped: str = ""
    is_left_out: bool = False
    has_raised: bool = False


def choose(planned: Sequence[datetime], now: datetime, catch_up: CatchUp, *, are_all: bool = True) -> list[Due]:
    """Returns firings that came due, in their order, with those that are dropped.

    With "all", those before the newest one were missed, too, however short ago: what comes due together drops nothing.

    Args:
        planned: Their moments, the oldest first.
        now: The moment of the decision.
        catch_up: Which of the missed ones are made up for.
        are_all: Whether no later one has come due; else the newest one is not among them.
    """
    latest = planned[-1] if planned and are_all else None
    return [_due(moment, now - moment, catch_up, is_latest=moment == latest) for moment in planned]


def _due(planned: datetime, late: timedelta, catch_up: CatchUp, *, is_latest: bool) -> Due:
    if late <= ON_TIME and (is_latest or catch_up != "all"):
        return Due(planned)
    span = timedelta(seconds=catch_up) if isinstance(catch_up, int | float) else None
    if catch_up == "all" or (is_latest and (catch_up == "latest" or (span is not None and late <= span))):
        return Due(planned, is_made_up=True)
    rule = repr(catch_up) if span is None else repr(format_duration(span.total_seconds()))
    return Due(planned, dropped=f"it was missed (catch_up={rule})")


class Active(NamedTuple):
    """A run that a firing may overlap with.

    Attributes:
        run_id: The run; "" for one that has no id yet.
        state: QUEUED or RUNNING; PAUSED for one of the name of the firing.
        since: Since when.
        waits_for: The task that asks a question.
        goes_on: Whether it is queued to go on: it has begun.
        is_made_up: Whether it is one of the missed ones, each of which is made up for.
    """

    run_id: str
    state: TypeRunState
    since: datetime
    waits_for: str = ""
    goes_on: bool = False
    is_made_up: bool = False


def why_blocked(
    active: Sequence[Active], overlap: TypeOverlap, max_parallel: int, now: datetime, *, is_made_up: bool
) -> str:
    """Returns why a firing is dropped, with the run that it would overlap with; "" for one that gets a run.

    A paused run of its name blocks every firing: the new run would replace its values, and end its question. Nothing
    else blocks one until all missed ones are made up for: what is active begins late, as it waits for them.

    Args:
        active: The runs of the schedule that are queued or running, and the paused ones of the firing's name.
        overlap: What becomes of a firing during a run.
        max_parallel: The maximum number of active runs with "parallel".
        now: The moment of the decision, in the zone of the schedule.
        is_made_up: Whether it is made up for: then only a paused run blocks it.
    """
    paused = [one for one in active if one.state is TypeRunState.PAUSED]
    others = [one for one in active if one.state is not TypeRunState.PAUSED]
    if paused:
        return _describe(paused[0], now)
    if is_made_up or any(one.is_made_up for one in others):
        return ""
    if overlap is TypeOverlap.PARALLEL:
        if len(others) < max_parallel:
            return ""
        return f"{len(others)} runs are active (max_parallel={max_parallel}): {_describe(others[0], now)}"
    if overlap is TypeOverlap.QUEUE:
        others = [one for one in others if one.state is TypeRunState.QUEUED and not one.goes_on]
    return _describe(others[0], now) if others else ""


def _describe(active: Active, now: datetime) -> str:
    does = f"waits for {active.waits_for!r}" if active.waits_for else f"is {active.state.lower()}"
    run = f"run {active.run_id[:ID_LENGTH]}" if active.run_id else "another run"
    return f"{run} {does} since {since(active.since, now)}"


def since(moment: datetime, now: datetime) -> str:
    """Returns a past moment for people, in the zone of *now*: 01:30, Monday 01:30, 2026-11-02 01:30."""
    local = moment.astimezone(now.tzinfo)
    if local.date() == now.date():
        return f"{local:%H:%M}"
    return f"{local:%A %H:%M}" if now - local < timedelta(days=6) else f"{local:%Y-%m-%d %H:%M}"


class FiredRun(NamedTuple):
    """The run of a firing as it stands: the newest one of its chain, or the one that has replaced its values.

    Attributes:
        run_id: The run.
        state: Its state.
        began: Its beginning, or that of its wait in the queue.
        why: Why it was stopped, or what failed first; "" for neither.
        waits_for: The task that asks a question.
        paused_by: Who has paused its workflow, for which it waits in the queue.
        before: The run that it waits to continue.
    """

    run_id: str
    state: TypeRunState
    began: datetime
    why: str = ""
    waits_for: str = ""
    paused_by: str = ""
    before: "FiredRun | None" = None


class Fired(NamedTuple):
    """A firing that came due, with its run, or why it was dropped; with neither where nothing is known of it.

    Attributes:
        planned: Its moment.
        run: Its run. For one that was dropped, a run of its name that began later, is no other firing's, and completed.
        dropped: Why it was dropped.
        was_looked_at: Whether the alarm has looked at it before the clock was set back.
        has_raised: Whether it was dropped since its parameters could not be made, of which there was an alarm then.
        is_left_out: Whether it was dropped since `only` leaves it out, so that it is not late.
    """

    planned: datetime
    run: FiredRun | None = None
    dropped: str = ""
    was_looked_at: bool = False
    has_raised: bool = False
    is_left_out: bool = False

    def in_zone(self, zone: tzinfo) -> "Fired":
        """Returns the same with its moments in a zone."""
        run = self.run and self.run._replace(began=self.run.began.astimezone(zone))
        return self._replace(planned=self.planned.astimezone(zone), run=run)


class Late(NamedTuple):
    """A firing that has not completed in time, or has failed: its moment, its run if it has one, and why, in words."""

    planned: datetime
    run_id: str | None
    why: str


def late_ones(firings: Iterable[Fired], settled: datetime) -> list[Late]:
    """Returns the firings that have not completed, of those whose time is over.

    Args:
        firings: The firings.
        settled: The moment until which a process has decided about the firings. One before it of which nothing is known
            was forgotten with its run, or came due before the schedule was served for the first time.
    """
    return [
        Late(firing.planned, firing.run and firing.run.run_id, why)
        for firing in firings
        if (why := _why_open(firing, settled))
    ]


def find_late(
    firings: Iterable[Fired],
    settled: datetime,
    now: datetime,
    late_after: float | None,
    following: Callable[[datetime], datetime],
    *,
    is_served: bool,
) -> list[Late]:
    """Returns the last firings that are late or have failed: those since the last one that has completed.

    Without `late_after`, a firing is late if it has failed or crashed; or if its run has not
    begun by the next one.

    Args:
        firings: The firings, the newest first.
        settled: As in `late_ones`.
        now: The moment of the question.
        late_after: The seconds after which a firing is late; None for no such limit.
        following: Returns the firing after a moment.
        is_served: Whether a living process continues what has crashed.
    """
    late: list[Late] = []
    for firing in firings:
        run = firing.run
        if firing.is_left_out:
            continue
        if run is not None and run.state is TypeRunState.COMPLETED:
            break
        if run is None:
            is_wrong, has_begun = False, bool(firing.dropped)
        else:
            is_wrong = run.state is TypeRunState.FAILED or (run.state is TypeRunState.CRASHED and not is_served)
            has_begun = run.state is not TypeRunState.QUEUED or run.before is not None
        if late_after is not None:
            is_over = firing.planned + timedelta(seconds=late_after) <= now
        else:
            is_over = not has_begun and max(following(firing.planned), firing.planned + ON_TIME) <= now
        if is_wrong or is_over:
            late += late_ones([firing], settled)
    return late


def _why_open(firing: Fired, settled: datetime) -> str:
    """Returns why a firing has not completed, as the end of a sentence; "" for one that has, or may have."""
    if firing.is_left_out:
        return ""
    if firing.run is not None:
        return _why_unfinished(firing.run)
    if firing.dropped:
        return f"was dropped: {firing.dropped}"
    return "has not begun: no process has fired it" if firing.planned > settled else ""


def _why_unfinished(run: FiredRun) -> str:
    ending = run.why and f": {run.why}"
    match run.state:
        case TypeRunState.COMPLETED:
            return ""
        case TypeRunState.QUEUED:
            waits = f"{run.paused_by} paused its workflow" if run.paused_by else "its run waits in the queue"
            return (
                f"waits to go on, since {waits}: it {_why_unfinished(run.before)}"
                if run.before
                else f"has not begun: {waits}"
            )
        case TypeRunState.RUNNING:
            return f"is running since {run.began:%Y-%m-%d %H:%M:%S %Z}"
        case TypeRunState.PAUSED if run.waits_for:
            return f"waits for '{run.waits_for}'"
        case TypeRunState.FAILED | TypeRunState.CRASHED:
            return f"{run.state.lower()}{ending}"
        case TypeRunState.UNKNOWN:
            return f"has an unknown end{ending}"
    state = run.state.lower()
    return f"was {run.why}" if run.why.startswith(state) else f"was {state}{ending}"
