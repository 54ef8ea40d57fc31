"""Words in --param of `dotflow schedule`: each firing fills them from its planned moment."""

from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import click
import pytest

from dotflow import Config, DotFlow, action
from dotflow.cli.commands.schedule import WORDS, fill, filled_now, scheduled_params

BERLIN = ZoneInfo("Europe/Berlin")
CLI = Path(__file__).parents[2] / "docs" / "cli.md"
NIGHT = datetime(2026, 11, 25, 2, 30, 15, tzinfo=BERLIN)


@action
def report(day: date, limit: int = 10) -> None: ...


def workflow() -> DotFlow:
    """A workflow with a day."""
    found = DotFlow(Config(), workflow_id="nightly", params={"day": ..., "limit": 10})
    found.task.add(report)
    return found


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("{today}", "2026-11-25"),
        ("{yesterday}", "2026-11-24"),
        ("{planned}", "2026-11-25T02:30:15+01:00"),
        ("{hour}", "2026-11-25T02:00:00+01:00"),
        ("{last_hour}", "2026-11-25T01:00:00+01:00"),
        ("sales-{today}-{yesterday}.csv", "sales-2026-11-25-2026-11-24.csv"),
        ('{"limit": 3}', '{"limit": 3}'),
        ("{}{1}", "{}{1}"),
        ("2026-11-01", "2026-11-01"),
    ],
)
def test_each_word_is_a_text_of_the_planned_moment(text: str, filled: str) -> None:
    """In the schedule's zone. Braces around anything else stay."""
    assert fill(text, NIGHT) == filled


def test_each_word_is_in_the_table_of_the_documentation() -> None:
    """With the text that it becomes."""
    rows = CLI.read_text()
    missing = [name for name in WORDS if f"| `{{{name}}}` | `{fill(f'{{{name}}}', NIGHT)}` |" not in rows]
    assert missing == []


def test_an_unknown_word_is_refused_with_the_list() -> None:
    """A typo does not name a run."""
    with pytest.raises(click.UsageError) as caught:
        fill("{yesteday}", NIGHT)
    assert caught.value.message == (
        "Can't use {yesteday} in --param: it is no word. "
        "Use one of {today}, {yesterday}, {planned}, {hour}, {last_hour}."
    )


def test_the_hours_of_a_dst_night_are_all_different() -> None:
    """Both hours of 2 o'clock have names of their own, and the hour before is an hour before."""
    begun = datetime(2026, 10, 25, 0, 0, tzinfo=BERLIN).timestamp()
    moments = [datetime.fromtimestamp(begun + 3600 * hour, BERLIN) for hour in range(6)]

    hours = [fill("{hour}", moment) for moment in moments]
    assert hours[2:4] == ["2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00"]
    assert [fill("{last_hour}", moment) for moment in moments[1:]] == hours[:-1]


def test_a_firing_has_values_of_the_declared_types() -> None:
    """As any --param; those without a word are the same for all."""
    at = scheduled_params(("day={yesterday}", "limit=3"), workflow())

    assert at is not None
    assert dict(at(NIGHT)) == {"day": date(2026, 11, 24), "limit": 3}
    assert dict(at(NIGHT + timedelta(1))) == {"day": date(2026, 11, 25), "limit": 3}


def test_without_a_word_there_is_nothing_to_fill() -> None:
    """The parameters are those of all firings."""
    assert scheduled_params(("day=2026-11-25",), workflow()) is None
    assert filled_now({"param": ("day=2026-11-25",)}, None) == {"param": ["day=2026-11-25"]}


def test_the_example_is_of_the_zone_of_the_schedule() -> None:
    """Wherever the machine is."""
    (example,) = filled_now({"param": ("at={hour}",)}, ZoneInfo("Asia/Kolkata"))["param"]

    assert example.endswith("+05:30")


def test_an_argument_of_the_function_that_makes_the_workflow_is_refused() -> None:
    """It is called once, not at each firing."""
    with pytest.raises(click.UsageError, match=r"takes 'region', and is called once\. Declare it: DotFlow"):
        scheduled_params(("region={today}",), workflow())
