"""`dotflow serve`: runs what is queued."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from dotflow.abc.operations import LeftRun
from dotflow.cli.command import Command, Exit, option
from dotflow.cli.commands.runs import print_runs
from dotflow.cli.load import load_servable
from dotflow.cli.options import HISTORY_OPTION, SERVER_OPTIONS, with_options
from dotflow.cli.running import recording
from dotflow.cli.screen import safe
from dotflow.control import Control
from dotflow.core.attempt_id import ID_LENGTH
from dotflow.core.resources import parse_offer
from dotflow.core.types.run_state import TypeRunState
from dotflow.errors import MissingParam
from dotflow.records.record import RunSummary
from dotflow.serving import Server
from dotflow.workflow import DotFlow


@click.command(cls=Command)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@option(
    "--once", is_flag=True, example="dotflow serve pipelines:report --once",
    help="End when nothing that is due can be taken, and the runs of this process have ended.",
)  # fmt: skip
@option(
    "--resources", metavar="WHAT", example="dotflow serve pipelines:train --resources gpu=0,1",
    help="What this machine offers to steps with @action(resources=...): 'gpu=0,1 memory=64GB'. By "
         "default what Config(resources=...) has, or $DOTFLOW_RESOURCES.",
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
    with recording(options):
        return run_server(options)


def server_arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments of `serve` for the options that a server has."""
    arguments = {name: options[name] for name in ("max_runs", "mode", "keep_going", "timeout")}
    return arguments | {"cache": not options["no_cache"]}


def _serve(options: Mapping[str, Any], workflows: Sequence[DotFlow]) -> tuple[list[RunSummary], list[LeftRun]]:
    """Serves with the options of the command; returns the runs that have ended, and those that are due and left.

    Raises:
        MissingParam: A schedule lacks a parameter.
    """
    arguments = server_arguments(options)
    try:
        server = Server(workflows, arguments.pop("max_runs"), once=options["once"], options=arguments)
        return server.run_here(), server.left
    except MissingParam as error:
        raise MissingParam(error.names, "scheduled run") from error


def run_server(options: Mapping[str, Any]) -> Exit:
    """Serves the workflows of the paths, until a signal; with --once it prints their runs at the end."""
    workflows = [load_servable(path, options).workflow for path in options["paths"]]
    if options["resources"] is not None:
        offer = parse_offer(options["resources"], "--resources")
        for workflow in workflows:
            workflow.config.resources = offer
    if not options["once"]:
        names = ", ".join(safe(workflow.workflow_id) for workflow in workflows)
        ends = "Ctrl-C ends it after the running steps, and queues their runs again; a second one ends the steps."
        click.echo(f"Workflows: {names}. {ends}", err=True)
    ended, left = _serve(options, workflows)
    if not options["once"]:
        click.echo("The server has ended.", err=True)
        return Exit.COMPLETED
    if ended:
        print_runs(ended, Control(workflows[0]).questions())
    elif not left:
        click.echo("No run is due.", err=True)
    for run in left:
        click.echo(safe(f"The run {run.run_id[:ID_LENGTH]} of {run.name!r} is due, and waits: {run.why}."), err=True)
    states = {run.state for run in ended}
    if TypeRunState.FAILED in states:
        return Exit.FAILED
    return Exit.PAUSED if left or TypeRunState.PAUSED in states else Exit.COMPLETED
