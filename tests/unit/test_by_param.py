"""The runs of a workflow by a run parameter: days with those that are missing, and other values."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from dotflow.cli.commands.runs import _print_days
from dotflow.cli.screen import Screen
from dotflow.core.types.run_state import TypeRunState
from dotflow.records.record import RunSummary
from dotflow.report.by_param import MAX_DAYS, ORDER, by_param, day_ranges, params_of, value_object

BEGAN = datetime(2026, 11, 25, 2, 0, tzinfo=UTC)
DAY = timedelta(1)
TODAY = date(2026, 11, 30)


def run(name: str, state: str = "Completed", params: Mapping[str, Any] | None = None, number: int = 0) -> RunSummary:
    """A run; a higher number began later."""
    return RunSummary(
        run_id=f"{name}-{number}",
        workflow_id=name,
        state=TypeRunState(state),
        params=params,
        began=BEGAN + number * DAY,
    )


def of_day(day: date, state: str = "Completed", number: int = 0, **more: Any) -> RunSummary:
    """A run of a day."""
    name = ",".join(f"{key}={value}" for key, value in {"day": day, **more}.items())
    return run(f"nightly@{name}", state, {"day": day, **more}, number)


class Shade(Enum):
    """A value that is no text."""

    BLUE = 7


class TestDays:
    def test_a_day_without_a_run_is_missing(self) -> None:
        """Between the first and the last one that have runs."""
        found = by_param([of_day(date(2026, 11, 4)), of_day(date(2026, 11, 1), "Failed")], "day", TODAY)

        assert found.is_days
        assert [(value.value, value.state) for value in found.values] == [
            ("2026-11-01", TypeRunState.FAILED),
            ("2026-11-02", None),
            ("2026-11-03", None),
            ("2026-11-04", TypeRunState.COMPLETED),
        ]

    def test_the_newest_run_of_a_day_counts(self) -> None:
        """It was rerun, whatever the earlier one was."""
        day = date(2026, 11, 1)
        found = by_param([of_day(day, "Completed", 2), of_day(day, "Failed", 1)], "day", TODAY)

        (value,) = found.values
        assert (value.state, value.names) == (TypeRunState.COMPLETED, 1)
        assert value_object(value) == {
            "value": "2026-11-01",
            "state": "Completed",
            "run_id": "nightly@day=2026-11-01-2",
            "workflow_id": "nightly@day=2026-11-01",
            "error": "",
            "names": 1,
        }

    def test_of_several_runs_of_a_day_the_failed_one_counts(self) -> None:
        """They have other parameters, too: one that has failed is not hidden by those that have completed."""
        day = date(2026, 11, 1)
        found = by_param([of_day(day, region="eu"), of_day(day, "Failed", region="us")], "day", TODAY)

        (value,) = found.values
        assert (value.state, value.names) == (TypeRunState.FAILED, 2)

    def test_since_is_a_day(self) -> None:
        """A run of an old day that began today does not make all days between missing."""
        runs = [of_day(date(2026, 1, 1), number=9), *(of_day(date(2026, 11, day)) for day in (22, 20))]

        found = by_param(runs, "day", date(2026, 11, 23), datetime(2026, 11, 20, 12).astimezone())
        assert [value.value for value in found.values] == ["2026-11-20", "2026-11-21", "2026-11-22"]
        assert found.left_out == 1

    def test_a_day_of_the_future_is_not_missing(self) -> None:
        """One was submitted early: today and the days before it are there only if they have runs."""
        days = [of_day(date(2026, 12, 20), "Queued"), of_day(date(2026, 12, 2)), of_day(date(2026, 11, 28))]

        found = by_param(days, "day", TODAY)
        assert [(value.value, value.names) for value in found.values] == [
            *(("2026-11-28", 1), ("2026-11-29", 0), ("2026-12-02", 1), ("2026-12-20", 1))
        ]

    def test_days_up_to_yesterday_are_missing(self) -> None:
        """What should have run since the last run is not hidden."""
        since = datetime(2026, 11, 3, 12).astimezone()
        found = by_param([of_day(date(2026, 11, 4)), of_day(date(2026, 11, 1))], "day", date(2026, 11, 7), since)

        assert [(value.value[-1], value.names) for value in found.values] == [("3", 0), ("4", 1), ("5", 0), ("6", 0)]

    def test_a_calendar_is_bounded(self) -> None:
        """A day that was mistyped does not add two thousand years."""
        found = by_param([of_day(date(2026, 11, 2)), of_day(date(2026, 11, 1)), of_day(date(202, 11, 1))], "day", TODAY)

        assert ([value.value for value in found.values], found.left_out) == (["2026-11-01", "2026-11-02"], 1)
        early = by_param([of_day(date(1, 1, 2)), of_day(date(1, 1, 1))], "day", TODAY)
        assert len(early.values) == 2
        many = by_param([of_day(date(2026, 11, 1)), of_day(date(2026, 11, 1) - (MAX_DAYS - 1) * DAY)], "day", TODAY)
        assert len(many.values) == MAX_DAYS

    def test_days_as_texts_are_days(self) -> None:
        """A parameter without a type has texts. Where one value is no day, it is a list."""
        runs = [run("n@day=2026-11-03", params={"day": "2026-11-03"}), of_day(date(2026, 11, 1))]

        assert by_param(runs, "day", TODAY).is_days
        assert not by_param([*runs, run("n@day=2026-11-31", params={"day": "2026-11-31"})], "day", TODAY).is_days

    def test_runs_of_an_earlier_dotflow_have_their_days_in_their_ids(self) -> None:
        """Their history has no parameters; and where a function takes the day, the workflow has none."""
        assert by_param([run("nightly@day=2026-11-02", params={})], "day", TODAY).is_days
        runs = [run("nightly@day=2026-11-02,region=eu"), run('nightly@day=2026-11-01,note="a,day=2"'), run("nightly")]

        assert [value.value for value in by_param(runs, "day", TODAY).values] == ["2026-11-01", "2026-11-02"]
        assert [value.value for value in by_param(runs, "note", TODAY).values] == ["a,day=2"]


class TestLists:
    def test_numbers_are_in_their_order(self) -> None:
        """Before texts; nothing is missing between them."""
        runs = [run(f"n@customer={number}", params={"customer": number}) for number in (10, "x", 9, 2.5)]

        found = by_param(runs, "customer", TODAY)
        assert not found.is_days
        assert [value.value for value in found.values] == ["2.5", "9", "10", "x"]

    def test_a_value_is_as_the_command_line_has_it(self) -> None:
        """What is shown can be passed as --param."""
        values = (True, Path("a/b"), "x", [1, 2], TypeRunState.PAUSED, Shade.BLUE)
        runs = [run(f"n@v={value}", params={"v": value}) for value in values]

        assert [value.value for value in by_param(runs, "v", TODAY).values] == [
            *("7", "Paused", "[1,2]", "a/b", "true", "x")
        ]

    def test_since_is_the_beginning_of_a_run(self) -> None:
        """Values without a run since then are left out."""
        runs = [run("n@customer=2", params={"customer": 2}, number=3), run("n@customer=1", params={"customer": 1})]

        assert [value.value for value in by_param(runs, "customer", TODAY, BEGAN + DAY).values] == ["2"]

    def test_moments_are_a_list(self) -> None:
        """Each is a value of its own."""
        hours = [datetime(2026, 11, 1, hour, tzinfo=UTC) for hour in (3, 1)]
        found = by_param([run(f"n@at={at.isoformat()}", params={"at": at}) for at in hours], "at", TODAY)

        assert [value.value for value in found.values] == ["2026-11-01T01:00:00+00:00", "2026-11-01T03:00:00+00:00"]

    def test_runs_without_the_parameter_are_left_out(self) -> None:
        """And so is its None, the default of a run that was given none."""
        runs = [run("n"), run("n@a=1", params={"a": 1}), run("n@day=None", params={"day": None})]

        assert by_param(runs, "day", TODAY).values == []
        assert params_of(runs) == ["a"]


def test_each_month_stands_before_its_first_days(capsys: pytest.CaptureFixture[str]) -> None:
    """That of the first day of the calendar, too, and that of a day after a gap."""
    days = [date(2026, 12, 20), date(2026, 11, 2), date(2026, 10, 30)]
    found = by_param(map(of_day, days), "day", date(2026, 11, 3))

    _print_days(Screen(), "nightly", found)
    assert capsys.readouterr().out.splitlines()[3:6] == [
        "Oct 2026                     30 ✓ 31 ○  1 ○",
        "Nov 2026  2 ✓",
        "Dec 2026                               20 ✓",
    ]


@pytest.mark.parametrize(
    ("days", "ranges"),
    [
        ([], []),
        (["2026-11-30"], ["2026-11-30"]),
        (["2026-11-30", "2026-12-01", "2026-12-02", "2026-12-04"], ["2026-11-30..2026-12-02", "2026-12-04"]),
    ],
)
def test_neighbouring_days_are_a_range(days: list[str], ranges: list[str]) -> None:
    """As `dotflow backfill` takes it."""
    assert day_ranges(days) == ranges


def test_each_state_has_its_place() -> None:
    """None is forgotten."""
    assert set(ORDER) == set(TypeRunState)
