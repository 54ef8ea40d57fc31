"""The rules of schedules: which firings get a run, which are dropped, and the words for it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dotflow.core.schedule_rules import Active, choose, since, why_blocked
from dotflow.core.types.overlap import TypeOverlap
from dotflow.core.types.run_state import TypeRunState

NOW = datetime(2026, 11, 24, 8, tzinfo=UTC)  # a Tuesday
NIGHTS = [NOW - timedelta(days=days, hours=6) for days in (2, 1, 0)]
ON_TIME = NOW - timedelta(seconds=60)

QUEUED, RUNNING, PAUSED = TypeRunState.QUEUED, TypeRunState.RUNNING, TypeRunState.PAUSED


@pytest.mark.parametrize(
    ("catch_up", "made_up"),
    [
        ("all", NIGHTS),
        ("latest", NIGHTS[-1:]),
        ("none", []),
        (6 * 3600.0, NIGHTS[-1:]),
        (6 * 3600.0 - 1, []),
    ],
)
def test_what_is_made_up_for(catch_up: Any, made_up: list[datetime]) -> None:
    """The rest is dropped, with the rule as its reason. What is on time gets its run whatever the rule is.

    With "all", one after which another has come due was missed, too.
    """
    due = choose(NIGHTS, NOW, catch_up)
    then = choose([*NIGHTS, ON_TIME, NOW], NOW, catch_up)

    assert [one.planned for one in due if one.is_made_up] == made_up
    assert [one.planned for one in due if not one.is_made_up] == [night for night in NIGHTS if night not in made_up]
    assert all("it was missed (catch_up=" in one.dropped for one in due if not one.is_made_up)
    assert [one.planned for one in then if not one.dropped][-2:] == [ON_TIME, NOW]
    assert [one.is_made_up for one in then][-2:] == [catch_up == "all", False]


def test_one_that_is_on_time_makes_up_for_those_before() -> None:
    """It is the latest one; so the result does not depend on the second in which a process begins."""
    assert [one.dropped != "" for one in choose([*NIGHTS, ON_TIME], NOW, "latest")] == [True, True, True, False]
    assert [one.dropped != "" for one in choose(NIGHTS, NOW, "latest", are_all=False)] == [True, True, True]


@pytest.mark.parametrize(
    ("overlap", "active", "reason"),
    [
        ("skip", [], ""),
        ("skip", [RUNNING], "run 4f0c9a21 is running since 01:30"),
        ("skip", [QUEUED], "run 4f0c9a21 is queued since 01:30"),
        ("queue", [RUNNING], ""),
        ("queue", [RUNNING, QUEUED], "run 4f0c9a21 is queued since 01:30"),
        ("parallel", [RUNNING], ""),
        (
            "parallel",
            [RUNNING, QUEUED],
            "2 runs are active (max_parallel=2): run 4f0c9a21 is running since 01:30",
        ),
        ("parallel", [PAUSED], "run 4f0c9a21 is paused since 01:30"),
    ],
)
def test_what_blocks_a_firing(overlap: TypeOverlap, active: list[TypeRunState], reason: str) -> None:
    """It is named. What is made up for is blocked by nothing but a paused run of its name."""
    runs = [Active("4f0c9a21-aaaa", state, NOW.replace(hour=1, minute=30)) for state in active]
    overlap = TypeOverlap(overlap)

    assert why_blocked(runs, overlap, 2, NOW, is_made_up=False) == reason
    assert why_blocked(runs, overlap, 2, NOW, is_made_up=True) == (reason if PAUSED in active else "")


@pytest.mark.parametrize("overlap", TypeOverlap)
def test_nothing_blocks_a_firing_before_all_missed_ones_are_made_up_for(overlap: TypeOverlap) -> None:
    """What waits behind them is as late as they are."""
    runs = [Active("4f0c9a21-aaaa", RUNNING, NOW, is_made_up=True), Active("5f0c9a21-aaaa", QUEUED, NOW)]

    assert why_blocked(runs, overlap, 1, NOW, is_made_up=False) == ""
    assert why_blocked(runs[1:], overlap, 1, NOW, is_made_up=False) != ""


def test_a_run_that_is_queued_to_go_on_has_begun() -> None:
    """It is not the one that "queue" keeps."""
    run = Active("4f0c9a21-aaaa", QUEUED, NOW, goes_on=True)

    assert why_blocked([run], TypeOverlap.QUEUE, 1, NOW, is_made_up=False) == ""
    assert why_blocked([run], TypeOverlap.SKIP, 1, NOW, is_made_up=False) != ""


def test_a_question_is_named() -> None:
    """A run that waits for an answer names the task that asks."""
    run = Active("4f0c9a21-aaaa", PAUSED, NOW - timedelta(days=1), "publish")

    assert why_blocked([run], TypeOverlap.SKIP, 1, NOW, is_made_up=False) == (
        "run 4f0c9a21 waits for 'publish' since Monday 08:00"
    )


def test_moments_are_short() -> None:
    """A time on the same day, a weekday in the last days, else a date."""
    moments = [since(NOW - timedelta(days=days), NOW) for days in (0, 1, 6)]

    assert moments == ["08:00", "Monday 08:00", "2026-11-18 08:00"]
