"""`dotflow serve`: runs what is queued."""

from typing import Any

import click

from dotflow.cli.command import Command, option
from dotflow.cli.history.options import HISTORY_OPTION
from dotflow.cli.options import SERVER_OPTIONS, with_options


@click.command(cls=Command, short_help="Run what is queued, in any number of processes.")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@option(
    "--once", is_flag=True, example="dotflow serve pipelines:report --once",
    help="End when nothing that is due can be taken, and the runs of this process have ended.",
)  # fmt: skip
@with_options(SERVER_OPTIONS)
@HISTORY_OPTION
def serve(**options: Any) -> int:
    """Run what is queued and due, until Ctrl-C or SIGTERM.

    \b
    PATH  a workflow, or a function without required arguments that returns one: pipelines:report

    \b
    dotflow serve pipelines:report pipelines:nightly
    dotflow serve pipelines:report --once

    `dotflow submit` and workflow.submit() queue runs. Any number of these processes may serve the same workflows: each
    run is taken once. Where one is killed, another one continues its runs, and no finished step runs again. They fire
    the schedules of their workflows, Config(scheduler=SchedulerCron(...)), each moment once.

    The first signal lets the running steps end, and queues their runs again. A second one ends the steps, too.

    Exit code: 0 ended by a signal, 2 nothing was served, or the history was lost. With --once 1 if a run failed,
    else 3 if one is paused, or is due and waits.
    """
    from dotflow.cli.control.serve import run_server  # not needed for the help
    from dotflow.cli.run.recording import recording

    with recording(options):
        return run_server(options)
