"""`dotflow runs --by`: the values of a run parameter and the states of their last runs, days as a calendar."""

import itertools
import textwrap
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Final

import click
from rich.text import Text

from dotflow import clock
from dotflow.abc.archive import Archive
from dotflow.cli.history.as_json import print_json
from dotflow.cli.history.text import GAP, MIN_WIDTH, MISSING, Column, Screen, local, safe, state_of, styled
from dotflow.core.durations import to_seconds
from dotflow.core.types.run_state import TypeRunState
from dotflow.records.record import RunSummary
from dotflow.report.by_param import ORDER, ByParam, ParamValue, by_param, day_ranges, params_of, value_object

WEEKDAYS: Final = ("Mo", "Tu", "We", "Th", "Fr", "Sa", "Su")
CELL: Final = 5  # characters of a day
LABEL: Final = 9  # those of a month
MAX_RANGES: Final = 20  # in a line
LIST: Final = (Column("Run"), Column("Began"), Column("State"), Column("What failed", fits=2))


def print_by_param(archive: Archive, workflow: str, param: str, since: datetime | str | None, *, as_json: bool) -> None:
    """Prints the values that a run parameter has had, and the state of the newest run of each.

    Raises:
        UsageError: No run of the workflow has the parameter.
    """
    runs = archive.runs(workflow=workflow, limit=None)
    moment = clock.now() - timedelta(seconds=to_seconds(since) or 0) if isinstance(since, str) else since
    found = by_param(runs, param, clock.now().astimezone().date(), moment)
    if not found.values and not found.left_out and since is None:
        names = ", ".join(map(safe, params_of(runs))) or "none"
        raise click.UsageError(f"No run of '{workflow}' has the parameter '{param}'. Their parameters: {names}.")
    if as_json:
        print_json(map(value_object, found.values))
    elif not found.values:
        click.echo("No such runs.", err=True)
    elif found.is_days:
        _print_days(Screen(), workflow, found)
    else:
        rows = [_row(value.value, run) for value in found.values if (run := value.run) is not None]
        Screen().print_table((Column(safe(found.param), fits=1), *LIST), rows)


def _row(value: str, run: RunSummary) -> list[Text | str]:
    error = Text(safe(run.error), "dim")
    return [safe(value), run.short_id, local(run.began), state_of(run), error]


def _print_days(screen: Screen, workflow: str, found: ByParam) -> None:
    first, last = found.values[0].value, found.values[-1].value
    screen.line((f"{safe(workflow)} by {safe(found.param)}: {first} to {last}", "bold"))
    if found.left_out:
        screen.line((f"{found.left_out} earlier days with runs are not shown.", "dim"))
    screen.line()
    screen.line((" " * LABEL + "".join(f"{day:<{CELL}}" for day in WEEKDAYS).rstrip(), "dim"))
    months: set[str] = set()
    for _, week in itertools.groupby(found.values, key=lambda value: date.fromisoformat(value.value).isocalendar()[:2]):
        screen.line(_week(list(week), months))
    screen.line()
    _print_states(screen, found.values)
    if any(value.names > 1 for value in found.values):
        screen.line(("A day with several runs, of other parameters, shows the one to look at first.", "dim"))


def _week(week: Sequence[ParamValue], months: set[str]) -> Text:
    """Returns the line of a week, with the first of its months that no line has had; it adds that to *months*."""
    days = [date.fromisoformat(value.value) for value in week]
    month = next((month for day in days if (month := f"{day:%b %Y}") not in months), "")
    months.add(month)
    line = Text.assemble((month, "dim"))
    for day, value in zip(days, week, strict=True):
        line.pad_right(LABEL + CELL * day.weekday() - len(line))
        line.append(f"{day.day:2} ").append(styled(value.state or MISSING)[:1]).append(" ")
    line.rstrip()
    return line


def _print_states(screen: Screen, values: Sequence[ParamValue]) -> None:
    """Prints the states with their signs, the numbers of their days, and which these are: the legend."""
    for state in (*reversed(ORDER), MISSING):
        days = [value.value for value in values if (value.state or MISSING) == state]
        ranges = day_ranges(days) if state != TypeRunState.COMPLETED else []
        more = f" and {len(ranges) - MAX_RANGES} more" if len(ranges) > MAX_RANGES else ""
        if days:
            label = styled(state, f"{state:11} {len(days):4}")
            text, width = f"{', '.join(ranges[:MAX_RANGES])}{more}", max(screen.width - len(label) - GAP, MIN_WIDTH)
            first, *others = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]
            screen.line(label, first and " " * GAP + first)
            for line in others:
                screen.line(" " * (len(label) + GAP) + line)
