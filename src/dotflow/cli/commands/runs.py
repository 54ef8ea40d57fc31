"""`dotflow runs`: the runs of the past, or the values of a run parameter, days as a calendar."""

import itertools
import textwrap
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from itertools import groupby
from typing import Any, Final

import click
from click.core import ParameterSource
from rich.text import Text

from dotflow import clock
from dotflow.abc.archive import FAILURES, Archive
from dotflow.cli.command import Command, option
from dotflow.cli.options import HISTORY_OPTION, JSON_OPTIONS, WorkflowArgument, open_history, parse_time, print_json
from dotflow.cli.screen import GAP, MIN_WIDTH, MISSING, Column, Screen, asked_text, local, safe, span, state_of, styled
from dotflow.core.approval import Question
from dotflow.core.attempt_id import ID_LENGTH
from dotflow.core.durations import to_seconds
from dotflow.core.types.run_state import TypeRunState
from dotflow.providers.histories.sql.reading import HOW_TO_RECORD
from dotflow.records.record import RunSummary
from dotflow.report.by_param import ORDER, ByParam, ParamValue, by_param, day_ranges, params_of, value_object
from dotflow.report.document import question_object, run_object


@click.command(cls=Command)
@option("--failed", is_flag=True, help="Only runs that failed or crashed.")
@option("--running", is_flag=True, help="Only runs that have begun, and not ended.")
@option("--queued", is_flag=True, help="Only runs that wait for a process.")
@option("--paused", is_flag=True, help="Only runs that are paused, with what they ask, and since when.")
@option(
    "--workflow", type=WorkflowArgument(), metavar="ID", example="--workflow nightly",
    help="Only runs of this workflow, by its id, with all parameters, or by its name.",
)  # fmt: skip
@option(
    "--since", metavar="AGE", example="--since 2d, --since 2026-11-25",
    help="Only runs that are not older than that, or began on this day or later.",
)  # fmt: skip
@option(
    "--by", metavar="PARAM", example="dotflow runs --workflow nightly --by day",
    help="The values of this parameter and the state of the last run of each, days as a calendar with those that are "
         "missing. It needs --workflow, and counts all runs; --since is a day, then.",
)  # fmt: skip
@option(
    "-n", "--limit", type=click.IntRange(1), metavar="N", default=20, show_default=True, example="-n 100",
    help="How many of the newest.",
)  # fmt: skip
@JSON_OPTIONS
@HISTORY_OPTION
def runs(failed: bool, as_json: bool, history: str | None, **options: Any) -> None:
    """List the runs of the past, the newest first.

    \b
    dotflow runs --failed --since 2d
    dotflow runs --workflow nightly --by day
    dotflow runs --workflow nightly --json | jq .duration

    A run and those that continue it are one line, that of the newest; `dotflow show` names the others. A run whose
    process was killed is Crashed. Runs that wait in the queue, and those that steps have started, are in the list, too.
    """
    archive = open_history(history)
    accepted = "an age, such as 90s, 12h or 2d, or a local time, such as 2026-11-25 or '2026-11-25 14:30'"
    since = parse_time("--since", options["since"], accepted)
    if options["by"] is not None:
        _check_by(failed=failed, **options)
        print_by_param(archive, options["workflow"], options["by"], since, as_json=as_json)
        return
    states = [state for state in TypeRunState if options.get(state.lower()) or (failed and state in FAILURES)]
    records = archive.runs(
        state=states or None,
        workflow=options["workflow"],
        since=since,
        limit=options["limit"],
        newest=True,
    )
    questions = archive.operations().questions() if records else ()
    if as_json:
        asked = questions_by_run(questions)
        print_json(
            run_object(run) | {"questions": [question_object(one) for one in asked.get(run.run_id, ())]}
            for run in records
        )
    elif records:
        print_runs(records, questions)
    elif archive.runs(limit=1):
        click.echo("No such runs.", err=True)
    else:
        click.echo(f"No runs yet in {archive.database.place}. {HOW_TO_RECORD}.", err=True)


def _check_by(**options: Any) -> None:
    """Raises UsageError for options that --by does not go with."""
    if options["workflow"] is None:
        raise click.UsageError(f"--by {options['by']} needs a workflow. Add --workflow ID.")
    for name in ("failed", "running", "queued", "paused"):
        if options[name]:
            raise click.UsageError(f"Can't use --{name} with --by, which shows all states. Remove --{name}.")
    if click.get_current_context().get_parameter_source("limit") is not ParameterSource.DEFAULT:
        raise click.UsageError("Can't use -n with --by, which counts all runs. Remove -n.")


MIN_WIDTH_FOR_ERRORS: Final = 110  # columns; in a narrower terminal, what failed is a line of its own
COLUMNS: Final = (
    Column("Run"),
    Column("Began"),
    Column("Workflow", fits=1),
    Column("State"),
    Column("Duration", is_right=True),
    Column("Tasks", is_right=True),
    Column("What failed", fits=2),
)


def print_runs(runs: Sequence[RunSummary], questions: Sequence[Question] = ()) -> None:
    """Prints a table of runs, the newest first, each with what failed, or with its open questions."""
    screen = Screen()
    is_wide = screen.width >= MIN_WIDTH_FOR_ERRORS
    asked = questions_by_run(questions)
    errors = [asked_text(asked[run.run_id]) if run.run_id in asked else run.error for run in runs]
    rows = [_row(run, error if is_wide else "", is_wide=is_wide) for run, error in zip(runs, errors, strict=True)]
    head, *lines = screen.table(COLUMNS, rows)
    screen.line(head)
    for line, error in zip(lines, errors, strict=True):
        screen.line(line)
        if error and not is_wide:
            text = Text(f"{' ' * (ID_LENGTH + 2)}{safe(error)}", "dim")
            text.truncate(screen.width, overflow="ellipsis")
            screen.line(text)


def questions_by_run(questions: Sequence[Question]) -> dict[str, list[Question]]:
    """Returns open questions by the newest run of their chain, the oldest first."""
    in_order = sorted(questions, key=lambda question: (question.run_id, question.asked))
    return {run: list(asked) for run, asked in groupby(in_order, lambda question: question.run_id)}


def _row(run: RunSummary, error: str, *, is_wide: bool) -> list[Text | str]:
    is_running = run.has_begun and run.ended is None
    took = span((clock.now() - run.began).total_seconds() if is_running else run.duration)
    return [
        run.short_id,
        local(run.began) if is_wide else f"{run.began.astimezone():%m-%d %H:%M:%S}",
        safe(run.workflow) or f"{run.workflow_id[:ID_LENGTH]}…",
        state_of(run),
        took if run.is_end_known or not took else f"> {took}",  # it ran on after its last sign
        f"{run.completed}/{run.tasks}" if run.tasks else "",
        Text(safe(error), "dim"),
    ]


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
        rows = [_value_row(value.value, run) for value in found.values if (run := value.run) is not None]
        Screen().print_table((Column(safe(found.param), fits=1), *LIST), rows)


def _value_row(value: str, run: RunSummary) -> list[Text | str]:
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
