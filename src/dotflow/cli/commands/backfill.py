"""`dotflow backfill`: a run for each day of a range."""

from typing import Any

import click

from dotflow.cli.command import Command, option
from dotflow.cli.history.options import HISTORY_OPTION
from dotflow.cli.options import SERVER_OPTIONS, with_options


@click.command(cls=Command, short_help="Queue a run for each day of a range that has not completed.")
@option(
    "-w", "--workflow", metavar="PATH", required=True, example="-w pipelines:nightly",
    help="The workflow, or a function without required arguments that returns it.",
)  # fmt: skip
@option(
    "--param", multiple=True, metavar="NAME=VALUES", example="--param day=2026-11-01..2026-11-14 --param region=eu,us",
    help="The values of a parameter: days A..B, each seventh day A..B/7d, moments A..B/1h, numbers 1..12, or a,b. Of "
         "several parameters, all combinations.",
)  # fmt: skip
@option(
    "--dry-run", is_flag=True,
    help="Print what it would do with each, and write nothing.",
)  # fmt: skip
@option("--again", is_flag=True, help="Run those that have completed again, from the beginning.")
@option("--once", is_flag=True, help="Run them here, as `dotflow serve --once` with its options.")
@with_options(SERVER_OPTIONS)
@HISTORY_OPTION
def backfill(**options: Any) -> int:
    """Queue a run for each value of a parameter, or combination of values, that has not completed.

    \b
    dotflow backfill -w pipelines:nightly --param day=2026-11-01..2026-11-14 --dry-run
    dotflow backfill -w pipelines:nightly --param day=2026-11-01..2026-11-14
    dotflow backfill -w pipelines:nightly --param day=2026-11-01..2026-11-14 --once

    The last run of each counts, whatever has started it: completed ones are skipped; those that failed, crashed, or
    were paused, cancelled or interrupted go on where they stopped; queued and running ones are left. So the same
    command again goes on. `dotflow serve` runs them, after all that was submitted: their priority is -10.

    Exit code: 0 queued, or nothing to do; 2 refused. With --once: 0 all have completed, 1 one failed or was stopped, 3
    one waits or runs elsewhere.
    """
    if not options["param"]:
        raise click.UsageError("What to backfill? Pass the values of a parameter: --param day=2026-11-01..2026-11-14.")
    from dotflow.cli.control.backfill import run_backfill  # not needed for the help
    from dotflow.cli.run.recording import recording

    with recording(options):
        return run_backfill(options)
