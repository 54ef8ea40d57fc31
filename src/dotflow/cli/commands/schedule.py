"""`dotflow schedule`: runs whenever they are due."""

from typing import Any, Final

import click

from dotflow.cli.command import Command, option
from dotflow.cli.options import RECORDING_OPTIONS, TIMEOUT_OPTION, WORKFLOW_OPTIONS, with_options
from dotflow.core.types.overlap import TypeOverlap

MAX_PREVIEW: Final = 1000


@click.command(cls=Command, context_settings={"allow_extra_args": True})
@option(
    "--cron", metavar="EXPRESSION", example="--cron '30 2 * * 1-5'",
    help="The schedule: five fields, six with seconds first, or @daily and the like.",
)  # fmt: skip
@option(
    "--overlap", type=click.Choice(list(map(str, TypeOverlap))), example="--overlap queue",
    help="What happens to a run that is due during another: drop it, queue one, or run both; skip by default.",
)  # fmt: skip
@option(
    "--timezone", metavar="ZONE", example="--timezone America/New_York",
    help="The time zone of the expression; that of this machine by default.",
)  # fmt: skip
@option(
    "--preview", type=click.IntRange(1, MAX_PREVIEW), metavar="N", example="--preview 10",
    help=f"Print the next N runs, up to {MAX_PREVIEW}, mark days with a DST change, and run nothing.",
)  # fmt: skip
@with_options((*WORKFLOW_OPTIONS, TIMEOUT_OPTION, *RECORDING_OPTIONS))
def schedule(**options: Any) -> int:
    """Run steps or a workflow whenever they are due, until Ctrl-C or SIGTERM.

    The first signal waits for the current run; a second one stops it. With --resume, a run that is unfinished goes on
    at once and at each firing, before the firing's own run. Words in --param such as {today}, {yesterday}, {planned},
    {hour} and {last_hour} are filled at each firing.

    \b
    dotflow schedule --step jobs.report --cron '30 2 * * *' --timezone Europe/Berlin
    dotflow schedule --workflow jobs:nightly --cron '30 2 * * *' --param day={yesterday}
    dotflow schedule --workflow jobs:build_workflow --cron @hourly --overlap queue
    dotflow schedule --cron '30 2 * * *' --timezone America/New_York --preview 10

    Exit code: 0 ended by a signal, 2 nothing was run, 130 or 143 stopped in the middle of a run.
    """
    from dotflow.cli.run.recording import recording  # not needed for the help
    from dotflow.cli.run.schedule import print_preview, run_schedule

    if options["preview"] is not None:
        return print_preview(options)
    with recording(options):
        return run_schedule(options)
