"""The options that `start` and `schedule` share, each with an example."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from dotflow.cli.storages import KINDS
from dotflow.core.types.execution import TypeExecution

F = TypeVar("F", bound=Callable[..., Any])

WORKFLOW_OPTIONS: Final = (
    click.option(
        "--step",
        multiple=True,
        metavar="PATH",
        help="An action, by its dotted path; given again, the steps run in this order. E.g. --step jobs.extract",
    ),
    click.option(
        "--workflow",
        metavar="PATH",
        help="A function that returns a DotFlow, or a DotFlow. E.g. --workflow jobs.nightly:build",
    ),
    click.option(
        "--initial-context",
        metavar="VALUE",
        help="What the steps get as initial_context: JSON, or any other text. E.g. --initial-context '{\"day\": 3}'",
    ),
    click.option(
        "--callback",
        metavar="PATH",
        help="Called as callback(task=task) when a step has ended. E.g. --callback jobs.tell",
    ),
    click.option(
        "--mode",
        type=click.Choice([str(mode) for mode in TypeExecution]),
        default=str(TypeExecution.SEQUENTIAL),
        help="How the steps run: in order, in order in a thread, or all at once. E.g. --mode parallel",
    ),
    click.option(
        "--storage",
        type=click.Choice([str(name) for name in KINDS]),
        help="Where finished steps' values are kept; default is memory. E.g. --storage file",
    ),
    click.option(
        "--path", metavar="PATH", help="The folder, or database, of --storage file or sqlite. E.g. --path .storage"
    ),
    click.option(
        "--workflow-id",
        metavar="ID",
        help="What the workflow is called from run to run, for --resume. E.g. --workflow-id nightly",
    ),
    click.option("--resume", is_flag=True, help="Skip the steps that an earlier run has finished. E.g. --resume"),
    click.option("--keep-going", is_flag=True, help="Go on with the others after a failure. E.g. --keep-going"),
)


def workflow_options(function: F) -> F:
    """Gives a command all of them, in this order."""
    for option in reversed(WORKFLOW_OPTIONS):
        function = option(function)
    return function
