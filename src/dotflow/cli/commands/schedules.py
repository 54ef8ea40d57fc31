"""`dotflow schedules`: the schedules that `serve` fires, and whether their runs are on time."""

import click

from dotflow.cli.command import Command, option
from dotflow.cli.history.options import HISTORY_OPTION, JSON_OPTION


@click.command(cls=Command, short_help="List the schedules, and check that their runs are on time.")
@option("--check", is_flag=True, help="Exit with 1 if a firing is late or failed.")
@option(
    "--expect", multiple=True, metavar="NAME", example="--expect nightly --expect hourly",
    help="With --check: exit with 1 if no schedule of this workflow, by its id, is known; one option for each.",
)  # fmt: skip
@JSON_OPTION
@HISTORY_OPTION
def schedules(check: bool, expect: tuple[str, ...], as_json: bool, history: str | None) -> int:
    """List the schedules that `dotflow serve` fires, with their next and last firings, and those that are late.

    \b
    dotflow schedules
    dotflow schedules --check --expect nightly || mail -s "nightly is late" ops@example.org

    It needs the history alone, and imports nothing of yours: what should have run is computed here, so that a firing is
    late where no process lives, too. A firing is late if it has failed, or has not completed after the late_after of
    its SchedulerCron. Without late_after, it is late if it has failed, or its run has not begun by the next one.

    Exit code: 0, or with --check 1 if a firing is late, or no schedule is known; 2 if the history can't be read.
    """
    from dotflow.cli.control.schedules import show_schedules  # not needed for the help

    if expect and not check:
        raise click.UsageError("--expect is for --check. Pass both.")
    return show_schedules(history, is_check=check, expected=expect, as_json=as_json)
