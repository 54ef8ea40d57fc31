"""`dotflow schedules`: the schedules that `serve` fires, and whether their runs are on time."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final

import click
from rich.text import Text

from dotflow.abc.operations import ScheduleSummary
from dotflow.cli.command import Command, Exit, option
from dotflow.cli.options import HISTORY_OPTION, JSON_OPTIONS, open_history, print_json
from dotflow.cli.screen import Column, Screen, local, safe, styled
from dotflow.control import Control
from dotflow.core.attempt_id import ID_LENGTH
from dotflow.core.schedule_rules import MAX_FIRINGS, Fired
from dotflow.report.document import moment


@click.command(cls=Command)
@option("--check", is_flag=True, help="Exit with 1 if a scheduled run is late or failed.")
@option(
    "--expect", multiple=True, metavar="NAME", example="--expect nightly --expect hourly",
    help="With --check: exit with 1 if no schedule of this workflow, by its id, is known; one option for each.",
)  # fmt: skip
@JSON_OPTIONS
@HISTORY_OPTION
def schedules(check: bool, expect: tuple[str, ...], as_json: bool, history: str | None) -> int:
    """List the schedules of `dotflow serve`, with their next and last scheduled runs, and those that are late.

    \b
    dotflow schedules
    dotflow schedules --check --expect nightly || mail -s "nightly is late" ops@example.org

    It needs the history alone, and imports nothing of yours: what should have run is computed here, so that a scheduled
    run is late where no process lives, too. It is late if it has failed, or has not completed after the late_after of
    its SchedulerCron. Without late_after, it is late if it has failed, or has not begun by the next one.

    Exit code: 0, or with --check 1 if a scheduled run is late, or no schedule is known; 2 if the history can't be read.
    """
    if expect and not check:
        raise click.UsageError("--expect is for --check. Pass both.")
    return show_schedules(history, is_check=check, expected=expect, as_json=as_json)


COLUMNS: Final = (
    Column("Workflow", fits=1),
    Column("Cron"),
    Column("Zone", fits=2),
    Column("Next"),
    Column("Last"),
    Column("State"),
    Column("Dropped", is_right=True),
)
NAMED: Final = 3  # late and dropped runs of a schedule that are shown


def show_schedules(history: str | None, *, is_check: bool, expected: Sequence[str], as_json: bool) -> Exit:
    """Prints the schedules; with *is_check*, the exit code shows whether their runs are on time."""
    archive = open_history(history)
    control = Control(archive)
    found = control.schedules()
    if as_json:
        print_json(map(schedule_object, found))
    elif found:
        _print_table(found)
    if not found:
        reason = "`dotflow serve` has not begun with a workflow that has a SchedulerCron"
        click.echo(f"No schedules in {safe(archive.database.place)}: {reason}.", err=True)
    for workflow, count, since in control.long_queued():
        runs = "A run" if count == 1 else f"{count} runs"
        verb = "waits" if count == 1 else "wait"
        text = f"{runs} of '{safe(workflow)}' {verb} in the queue for over 10 minutes, since {local(since)}."
        click.echo(text, err=True)
    unknown = [name for name in dict.fromkeys(expected) if all(name != one.schedule.workflow for one in found)]
    for name in unknown:
        click.echo(f"No schedule of '{safe(name)}' is known.", err=True)
    is_wrong = not found or unknown or any(schedule.late or schedule.error for schedule in found)
    return Exit.FAILED if is_check and is_wrong else Exit.COMPLETED


def schedule_object(found: ScheduleSummary) -> dict[str, Any]:
    """Returns a schedule as JSON."""
    schedule, pause = found.schedule, found.pause
    return schedule._asdict() | {
        "next": found.next and moment(found.next),
        "last": found.last and _scheduled_object(found.last),
        "dropped": found.dropped,
        "drops": [{"planned": moment(drop.planned), "reason": drop.reason} for drop in found.drops],
        "is_served": found.is_served,
        "paused": pause and {"by": pause.by, "since": moment(pause.since), "comment": pause.comment},
        "late": [{"planned": moment(late.planned), "run_id": late.run_id, "why": late.why} for late in found.late],
        "error": found.error,
    }


def _scheduled_object(fired: Fired) -> dict[str, Any]:
    run = fired.run
    return {
        "planned": moment(fired.planned),
        "run_id": run and run.run_id,
        "state": run and run.state,
        "dropped": fired.dropped,
    }


def _print_table(found: Sequence[ScheduleSummary]) -> None:
    screen = Screen()
    head, *lines = screen.table(COLUMNS, [_row(schedule) for schedule in found])
    screen.line(head)
    for schedule, line in zip(found, lines, strict=True):
        screen.line(line)
        for text, style in _details(schedule):
            screen.line((f"  {safe(text)}", style))


def _row(found: ScheduleSummary) -> list[Text | str]:
    schedule, last = found.schedule, found.last
    if last is None:
        state = Text()
    elif last.run is not None:
        state = styled(last.run.state)
    else:
        state = Text("Dropped" if last.dropped else "Not begun", "yellow")
    return [
        safe(schedule.workflow),
        safe(schedule.cron),
        safe(schedule.timezone or "local"),
        "" if found.next is None else _in_zone(found.next),
        "" if last is None else _in_zone(last.planned),
        state,
        str(found.dropped or ""),
    ]


def _details(found: ScheduleSummary) -> Iterator[tuple[str, str]]:
    """Yields what stands below a schedule, with its style."""
    if found.error:
        yield f"can't be computed here: {found.error}", "bold red"
    for planned, run_id, why in found.late[:NAMED]:
        run = f" (run {run_id[:ID_LENGTH]})" if run_id else ""
        yield f"late: that of {_in_zone(planned)}{run} {why}", "bold red"
    if len(found.late) > NAMED:
        least = "at least " if len(found.late) >= MAX_FIRINGS else ""
        yield f"late: {least}{len(found.late) - NAMED} more", "bold red"
    if found.pause is not None:
        yield f"{found.pause}: its scheduled runs are dropped", "yellow"
    if not found.is_served:
        yield "no process serves it", "yellow"
    for planned, reason, *_ in found.drops[:NAMED]:
        yield f"dropped: that of {_in_zone(planned)}: {reason}", "dim"


def _in_zone(moment: datetime) -> str:
    """Returns a moment in the zone that it has: that of its schedule."""
    return f"{moment:%Y-%m-%d %H:%M:%S}"
