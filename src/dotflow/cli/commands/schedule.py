"""dotflow schedule: runs again and again, when they are due."""

from typing import Any, Final

import click

from dotflow.cli.command import Command, option
from dotflow.cli.options import workflow_options
from dotflow.core.types.overlap import TypeOverlap

MAX_PREVIEW: Final = 1000


@click.command(cls=Command, context_settings={"allow_extra_args": True})
@option(
    "--cron", metavar="EXPRESSION", example="--cron '30 2 * * 1-5'",
    help="When: five fields, six with seconds first, or @daily and the like.",
)  # fmt: skip
@option(
    "--overlap", type=click.Choice(list(map(str, TypeOverlap))), example="--overlap queue",
    help="What happens when it fires during a run: drop the new one, keep one waiting, or run both. skip unless given.",
)  # fmt: skip
@option(
    "--timezone", metavar="ZONE", example="--timezone America/New_York",
    help="Whose clock; this machine's unless given.",
)  # fmt: skip
@option(
    "--preview", type=click.IntRange(1, MAX_PREVIEW), metavar="N", example="--preview 10",
    help=f"Print the next N firings, up to {MAX_PREVIEW}, mark the nights when the clocks change, and run nothing.",
)  # fmt: skip
@workflow_options
def schedule(**options: Any) -> int:
    """Run a step, or a workflow, whenever it is due, until Ctrl-C or SIGTERM.

    The first signal waits for the run that is going on; a second one stops it.

    \b
    dotflow schedule --step jobs.report --cron '30 2 * * *' --timezone Europe/Berlin
    dotflow schedule --workflow jobs:build_workflow --cron @hourly --overlap queue
    dotflow schedule --cron '30 2 * * *' --timezone America/New_York --preview 10

    Exit code: 0 ended by a signal, 2 nothing was run, 130 or 143 stopped in the middle of a run.
    """
    from dotflow.cli.run.schedule import print_preview, run_schedule  # here, since no help needs it

    if options["preview"] is not None:
        return print_preview(options)
    return run_schedule(options)
