"""Which firings are late, and why, in words."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from dotflow.core.schedule_rules import Fired, FiredRun, find_late, late_ones
from dotflow.core.types.run_state import TypeRunState

PLANNED = datetime(2026, 1, 2, 1, tzinfo=UTC)
NIGHT = timedelta(days=1)


def run(state: TypeRunState, why: str = "", **more: Any) -> FiredRun:
    return FiredRun("4f0c9a21-0000", state, PLANNED, why, **more)


def why(fired: Fired, settled: datetime = PLANNED) -> str:
    late = late_ones([fired], settled)
    return late[0].why if late else ""


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (run(TypeRunState.COMPLETED), ""),
        (run(TypeRunState.QUEUED), "has not begun: its run waits in the queue"),
        (run(TypeRunState.QUEUED, paused_by="anna"), "has not begun: anna paused its workflow"),
        (
            run(TypeRunState.QUEUED, before=run(TypeRunState.CRASHED, "load: its process ended")),
            "waits to go on, since its run waits in the queue: it crashed: load: its process ended",
        ),
        (run(TypeRunState.RUNNING), "is running since 2026-01-02 01:00:00 UTC"),
        (run(TypeRunState.FAILED, "load: ValueError: x"), "failed: load: ValueError: x"),
        (run(TypeRunState.CRASHED, "load: its process ended"), "crashed: load: its process ended"),
        (run(TypeRunState.PAUSED, waits_for="publish"), "waits for 'publish'"),
        (run(TypeRunState.PAUSED, "paused by anna"), "was paused by anna"),
        (run(TypeRunState.CANCELLED, "the run was cancelled"), "was cancelled: the run was cancelled"),
        (run(TypeRunState.INTERRUPTED), "was interrupted"),
        (run(TypeRunState.UNKNOWN, "no room"), "has an unknown end: no room"),
    ],
)
def test_the_reason_is_in_words(found: FiredRun, words: str) -> None:
    """Each ends the sentence "That of 02:00 ..."."""
    assert why(Fired(PLANNED, found)) == words


def test_a_firing_without_a_run() -> None:
    """Dropped, not begun by any process, or forgotten."""
    assert why(Fired(PLANNED, None, "it was missed")) == "was dropped: it was missed"
    assert why(Fired(PLANNED), PLANNED - NIGHT) == "has not begun: no process has fired it"
    assert why(Fired(PLANNED), PLANNED) == ""


def test_moments_are_those_of_the_schedule() -> None:
    """In its zone, as the words show them."""
    berlin = Fired(PLANNED, run(TypeRunState.RUNNING)).in_zone(ZoneInfo("Europe/Berlin"))

    assert why(berlin) == "is running since 2026-01-02 02:00:00 CET"


def late(*firings: Fired, after: timedelta, late_after: float | None = 900, is_served: bool = False) -> list[int]:
    """Returns the days of the firings that are late, so long after the newest one of a nightly schedule."""
    found = find_late(
        firings,
        firings[0].planned - NIGHT / 2,
        firings[0].planned + after,
        late_after,
        lambda moment: moment + NIGHT,
        is_served=is_served,
    )
    return [one.planned.day for one in found]


def of_day(day: int, state: TypeRunState | None = None, dropped: str = "") -> Fired:
    return Fired(PLANNED.replace(day=day), None if state is None else run(state), dropped)


MINUTES = timedelta(minutes=1)
DONE, FAILED, RUNNING = of_day(1, TypeRunState.COMPLETED), TypeRunState.FAILED, TypeRunState.RUNNING


def test_all_since_the_last_one_that_has_completed() -> None:
    """An old failure is forgotten once a later firing has completed."""
    assert late(of_day(3, FAILED), of_day(2, FAILED), DONE, of_day(1, FAILED), after=20 * MINUTES) == [3, 2]
    assert late(DONE, of_day(1, FAILED), after=20 * MINUTES) == []


def test_a_firing_has_its_time() -> None:
    """Until then it is neither good nor bad: the one before it counts."""
    assert late(of_day(3, RUNNING), of_day(2, FAILED), DONE, after=14 * MINUTES) == [2]
    assert late(of_day(3, RUNNING), DONE, after=14 * MINUTES) == []
    assert late(of_day(3, RUNNING), DONE, after=15 * MINUTES) == [3]
    assert late(of_day(3, dropped="blocked"), DONE, after=14 * MINUTES) == []
    assert late(of_day(3, dropped="blocked"), DONE, after=15 * MINUTES) == [3]
    assert late(of_day(3), DONE, after=15 * MINUTES) == [3]


def test_a_failure_is_late_at_once() -> None:
    """A crash, too, unless a living process is to continue the run."""
    assert late(of_day(3, FAILED), DONE, after=MINUTES) == [3]
    assert late(of_day(3, TypeRunState.CRASHED), DONE, after=MINUTES) == [3]
    assert late(of_day(3, TypeRunState.CRASHED), DONE, after=MINUTES, is_served=True) == []
    assert late(of_day(3, TypeRunState.CRASHED), DONE, after=20 * MINUTES, is_served=True) == [3]


@pytest.mark.parametrize("fired", [of_day(3, RUNNING), of_day(3, dropped="blocked"), of_day(3, TypeRunState.CANCELLED)])
def test_without_late_after_a_run_may_take_long(fired: Fired) -> None:
    """And a firing may be dropped."""
    assert late(fired, DONE, after=20 * NIGHT, late_after=None) == []


def test_without_late_after_a_run_has_to_leave_the_queue_until_the_next_firing() -> None:
    """What no process has room for is an outage. What waits to go on has begun."""
    queued = of_day(3, TypeRunState.QUEUED)
    assert late(queued, DONE, after=NIGHT - MINUTES, late_after=None) == []
    assert late(queued, DONE, after=NIGHT, late_after=None) == [3]
    goes_on = Fired(queued.planned, run(TypeRunState.QUEUED, before=run(TypeRunState.CRASHED)))
    assert late(goes_on, DONE, after=NIGHT, late_after=None) == []


def test_without_late_after_a_firing_has_to_begin_until_the_next_one() -> None:
    """What no process has begun is a dead server; of a schedule of seconds it has a minute."""
    assert late(of_day(3), DONE, after=NIGHT - MINUTES, late_after=None) == []
    assert late(of_day(3), DONE, after=NIGHT, late_after=None) == [3]
    second = timedelta(seconds=1)
    for after, found in ((30 * second, 0), (60 * second, 1)):
        late_ones = find_late(
            [of_day(3)], PLANNED, of_day(3).planned + after, None, lambda at: at + second, is_served=True
        )
        assert len(late_ones) == found
