"""`dotflow serve`: the server, and what it shows."""

from collections.abc import Mapping
from typing import Any

import click

from dotflow.cli.exit_codes import Exit
from dotflow.cli.history.run_list import print_runs
from dotflow.cli.history.text import safe
from dotflow.cli.run.load import load_servable
from dotflow.control import Control
from dotflow.core.types.run_state import TypeRunState
from dotflow.errors import MissingParam
from dotflow.records.record import RunSummary
from dotflow.serving import serve
from dotflow.workflow import DotFlow


def server_arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments of `serve` for the options that a server has."""
    arguments = {name: options[name] for name in ("max_runs", "mode", "keep_going", "timeout")}
    return arguments | {"cache": not options["no_cache"]}


def serve_with(options: Mapping[str, Any], *workflows: DotFlow, once: bool) -> list[RunSummary]:
    """Calls `serve` with the options that a server has. Raises MissingParam for a schedule that lacks a parameter."""
    try:
        ended: list[RunSummary] = serve(*workflows, once=once, **server_arguments(options))
        return ended
    except MissingParam as error:
        raise MissingParam(error.names, "scheduled run") from error


def run_server(options: Mapping[str, Any]) -> Exit:
    """Serves the workflows of the paths, until a signal; with --once it prints their runs at the end."""
    workflows = [load_servable(path, options).workflow for path in options["paths"]]
    if not options["once"]:
        names = ", ".join(safe(workflow.workflow_id) for workflow in workflows)
        ends = "Ctrl-C ends it after the running steps, and queues their runs again; a second one ends the steps."
        click.echo(f"Workflows: {names}. {ends}", err=True)
    ended = serve_with(options, *workflows, once=options["once"])
    if not options["once"]:
        click.echo("The server has ended.", err=True)
        return Exit.COMPLETED
    if ended:
        print_runs(ended, Control(workflows[0]).questions())
    else:
        click.echo("No run is due, or can begin now.", err=True)
    return Exit.FAILED if any(run.state is TypeRunState.FAILED for run in ended) else Exit.COMPLETED
