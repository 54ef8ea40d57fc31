"""SchedulerCron: its arguments and its preview."""

import sys
from datetime import UTC, datetime
from typing import Any

import pytest

from dotflow import DotFlow
from dotflow.core.types import TypeOverlap
from dotflow.errors import InvalidArgument, InvalidSchedule, MissingParam, NoSchedule, UnknownParam
from dotflow.providers import SchedulerCron


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"overlap": "drop"}, ["overlap='drop'", "'skip'", "'queue'", "'parallel'"]),
        ({"overlap": None}, ["overlap=None"]),
        ({"max_parallel": 0}, ["max_parallel=0", "whole number of runs from 1"]),
        ({"max_parallel": True}, ["max_parallel=True"]),
        ({"max_parallel": 1.5}, ["max_parallel=1.5"]),
        ({"catch_up": "newest"}, ["catch_up='newest'", "'latest', 'all', 'none'", '"2h"']),
        ({"catch_up": True}, ["catch_up=True"]),
        ({"late_after": "soon"}, ["late_after='soon'", '"15m"']),
        ({"late_after": 0}, ["late_after=0", "more than 0"]),
        ({"params": "day"}, ["params='day'", "a mapping, or a function"]),
    ],
)
def test_arguments_are_checked_at_once(arguments: dict[str, Any], words: list[str]) -> None:
    """The error has the value and the accepted ones."""
    with pytest.raises(InvalidArgument) as caught:
        SchedulerCron("@daily", **arguments)

    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize("params", [None, {"region": "eu"}])
def test_all_missed_firings_need_names_that_differ(params: Any) -> None:
    """Runs of one name would be one queued run; a function of the moment, or parallel runs, give each its own."""
    with pytest.raises(InvalidSchedule, match="catch_up='all' is not accepted: its runs would have one name"):
        SchedulerCron("@daily", catch_up="all", params=params)

    assert SchedulerCron("@daily", catch_up="all", params=lambda planned: {"day": planned.date()}).catch_up == "all"
    assert SchedulerCron("@daily", "parallel", catch_up="all", params=params).catch_up == "all"


def test_spans_are_seconds() -> None:
    """As texts or numbers."""
    scheduler = SchedulerCron("@daily", catch_up="6h", late_after=90)

    assert (scheduler.catch_up, scheduler.late_after) == (21_600, 90)


def test_overlap_may_be_text_or_the_enum() -> None:
    """Both mean the same."""
    assert SchedulerCron("@daily", overlap=TypeOverlap.QUEUE).overlap is SchedulerCron("@daily", "queue").overlap
    assert repr(SchedulerCron("@daily", "queue", "UTC")) == "SchedulerCron('@daily', overlap='queue', timezone='UTC')"


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"count": -1}, "count"),
        ({"count": 1.5}, "count"),
        ({"after": datetime(2026, 1, 1)}, "after"),
        ({"after": 5}, "after"),
    ],
)
def test_preview_checks_its_arguments(arguments: dict[str, Any], name: str) -> None:
    """A moment needs a zone."""
    with pytest.raises(InvalidArgument, match=name):
        SchedulerCron("@daily").preview(**arguments)


def test_a_preview_leaves_out_what_only_leaves_out() -> None:
    scheduler = SchedulerCron("0 18 * * *", timezone="UTC", only=lambda planned: planned.weekday() < 5)

    days = [firing.at.day for firing in scheduler.preview(4, datetime(2026, 6, 4, tzinfo=UTC))]

    assert days == [4, 5, 8, 9]


def test_a_preview_of_a_schedule_that_never_runs_is_empty() -> None:
    assert SchedulerCron("* * * * *", only=lambda planned: False).preview(1) == []


def test_only_is_a_function() -> None:
    with pytest.raises(InvalidArgument, match=r"^only='workdays' is not accepted"):
        SchedulerCron("@daily", only="workdays")  # type: ignore[arg-type]


def test_a_preview_ends_with_the_calendar() -> None:
    """There is no year 10000: there are fewer firings, and no error."""
    scheduler = SchedulerCron("0 0 29 2 *", timezone="America/New_York")

    years = [firing.at.year for firing in scheduler.preview(2100, datetime(2026, 1, 1, tzinfo=UTC))]

    assert years == [year for year in range(2028, 10_000, 4) if year % 100 or not year % 400]
    assert scheduler.preview(1, datetime(9999, 12, 31, 23, 59, tzinfo=UTC)) == []


def test_the_error_without_cronsim_names_its_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    """At construction, not at the first firing."""
    monkeypatch.setitem(sys.modules, "cronsim", None)

    with pytest.raises(ImportError, match=r"pip install 'dotflow\[scheduler\]'"):
        SchedulerCron("@daily")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            {"nightly": True},
            ["'nightly'", "mode, keep_going, resume, on_success, on_failure, params, rerun, cache, timeout and only"],
        ),
        ({"mode": "fast"}, ["mode='fast'"]),
        ({"resume": "yes"}, ["resume='yes'"]),
        ({"on_success": 5}, ["on_success"]),
    ],
)
@pytest.mark.parametrize("directly", [False, True])
def test_arguments_of_start_are_refused_before_the_first_wait(
    arguments: dict[str, Any], words: list[str], directly: bool
) -> None:
    """At once, not at the first firing."""
    scheduler = SchedulerCron("@yearly")
    workflow = DotFlow()
    workflow.config.scheduler = scheduler

    with pytest.raises((ValueError, TypeError)) as caught:
        scheduler.start(workflow, **arguments) if directly else workflow.schedule(**arguments)

    assert [word for word in words if word not in str(caught.value)] == []


def test_without_a_schedule_there_is_nothing_to_wait_for() -> None:
    """The default scheduler raises."""
    with pytest.raises(NoSchedule):
        DotFlow().schedule(mode="parallel")


def test_parameters_are_checked_with_those_of_the_first_firing() -> None:
    """Before the first wait; a function that refuses a day is asked again at each firing."""
    workflow = DotFlow(params={"day": ...})
    workflow.config.scheduler = SchedulerCron("@yearly", params={"days": 1})

    with pytest.raises(UnknownParam, match="days"):
        workflow.schedule()
    workflow.config.scheduler = SchedulerCron("@yearly", params=lambda planned: {"day": planned.year})
    with pytest.raises(InvalidArgument, match="mode='fast'"):
        workflow.schedule(mode="fast")
    with pytest.raises(MissingParam):
        workflow.start()


def test_parameters_have_one_place() -> None:
    """Those of the scheduler, or those of all runs."""
    workflow = DotFlow(params={"day": ...})
    workflow.config.scheduler = SchedulerCron("@yearly", params={"day": 1})

    with pytest.raises(InvalidArgument, match="them in one place"):
        workflow.schedule(params={"day": 2})
