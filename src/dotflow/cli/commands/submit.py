"""`dotflow submit`: queues a run."""

from typing import Any

import click

from dotflow.cli.command import Command, option
from dotflow.cli.history.options import HISTORY_OPTION


@click.command(cls=Command, short_help="Queue a run for a process that serves its workflow.")
@click.argument("name", required=False)
@option(
    "-w", "--workflow", metavar="PATH", example="-w pipelines:report",
    help="The workflow, or a function that returns it, in place of its name.",
)  # fmt: skip
@option(
    "--param", multiple=True, metavar="NAME=VALUE", example="--param customer=17",
    help="A parameter of the workflow; one option for each.",
)  # fmt: skip
@option(
    "--key", metavar="TEXT", example="--key click-17",
    help="Names the run in place of its parameters: the same key prints the id of the same run.",
)  # fmt: skip
@option("--priority", type=int, default=0, metavar="N", example="--priority 10", help="Higher ones begin first.")
@option(
    "--at", metavar="TIME", example="--at 15m, --at '2026-11-25 14:30'",
    help="The moment before which it does not begin: a time from now, or a local time.",
)  # fmt: skip
@option(
    "--wait", is_flag=True, example="dotflow submit report --wait", help="Wait for its end, which sets the exit code."
)
@HISTORY_OPTION
def submit(name: str | None, **options: Any) -> int:
    """Queue a run, and print its id.

    \b
    NAME  the id of a workflow, which this process need not import

    \b
    dotflow submit report --param customer=17
    dotflow submit -w pipelines:report --param customer=17 --wait

    `dotflow serve` runs it. While a run of the same parameters is queued, its id is printed.

    Exit code: 0 queued, 2 refused. With --wait that of the run: 0 completed, 3 paused, 1 ended otherwise.
    """
    if (name is None) is (options["workflow"] is None):
        raise click.UsageError("What to submit? Pass the id of a workflow, or --workflow PATH.")
    from dotflow.cli.control.submit import submit_run  # not needed for the help

    return submit_run(name, options)
