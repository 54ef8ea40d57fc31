"""The options that `start` and `schedule` share, each with an example."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from dotflow.cli.command import Option
from dotflow.cli.storages import KINDS
from dotflow.core.types.execution import TypeExecution

F = TypeVar("F", bound=Callable[..., Any])

WORKFLOW_OPTIONS: Final = (
    click.option(
        "--step",
        multiple=True,
        metavar="PATH",
        help="An action, by its dotted path; given again, the steps run in this order.",
        cls=Option,
        example="--step jobs.extract",
    ),
    click.option(
        "--workflow",
        metavar="PATH",
        help="A function that returns a DotFlow, or a DotFlow.",
        cls=Option,
        example="--workflow jobs.nightly:build",
    ),
    click.option(
        "--initial-context",
        metavar="VALUE",
        help="What the steps get as initial_context: JSON, or any other text.",
        cls=Option,
        example="--initial-context '{\"day\": 3}'",
    ),
    click.option(
        "--callback",
        metavar="PATH",
        help="Called as callback(task=task) when a step has ended.",
        cls=Option,
        example="--callback jobs.tell",
    ),
    click.option(
        "--mode",
        type=click.Choice([str(mode) for mode in TypeExecution]),
        default=str(TypeExecution.SEQUENTIAL),
        help="How the steps run: in order, in order in a thread, or all at once.",
        cls=Option,
        example="--mode parallel",
    ),
    click.option(
        "--storage",
        type=click.Choice([str(name) for name in KINDS]),
        help="Where finished steps' values are kept; default is memory.",
        cls=Option,
        example="--storage file",
    ),
    click.option(
        "--path",
        metavar="PATH",
        help="The folder, or database, of --storage file or sqlite.",
        cls=Option,
        example="--path .storage",
    ),
    click.option(
        "--bucket",
        metavar="NAME",
        help="The bucket of --storage s3 or gcs; credentials come from the environment, as usual there.",
        cls=Option,
        example="--bucket my-bucket",
    ),
    click.option(
        "--prefix",
        metavar="PREFIX",
        help="Where in the bucket; dotflow/ unless given.",
        cls=Option,
        example="--prefix jobs/",
    ),
    click.option(
        "--region", metavar="REGION", help="The bucket's region, with s3.", cls=Option, example="--region eu-central-1"
    ),
    click.option(
        "--project",
        metavar="PROJECT",
        help="The bucket's project, with gcs.",
        cls=Option,
        example="--project my-project",
    ),
    click.option(
        "--workflow-id",
        metavar="ID",
        help="What the workflow is called from run to run, for --resume.",
        cls=Option,
        example="--workflow-id nightly",
    ),
    click.option(
        "--resume",
        is_flag=True,
        help="Skip the steps that an earlier run has finished.",
        cls=Option,
        example="--resume",
    ),
    click.option(
        "--keep-going", is_flag=True, help="Go on with the others after a failure.", cls=Option, example="--keep-going"
    ),
)


def workflow_options(function: F) -> F:
    """Gives a command all of them, in this order."""
    for option in reversed(WORKFLOW_OPTIONS):
        function = option(function)
    return function
