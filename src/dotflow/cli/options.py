"""The options that `start` and `schedule` share, each with an example."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from dotflow.cli.command import Option
from dotflow.cli.storages import KINDS
from dotflow.core.types.execution import TypeExecution, hint_for_mode

F = TypeVar("F", bound=Callable[..., Any])


class Mode(click.Choice):  # type: ignore[type-arg]  # generic since click 8.2
    """One of the modes; a word that is none gets a hint."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As click does, and says what may have been meant."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            self.fail(f"{error.message} {hint_for_mode(value)}".rstrip(), param, ctx)


def option(*names: str, example: str, **more: Any) -> Callable[[F], F]:
    """An option whose help ends with an example."""
    return click.option(*names, cls=Option, example=example, **more)


WORKFLOW_OPTIONS: Final = (
    option(
        "-s",
        "--step",
        multiple=True,
        metavar="PATH",
        help="An action, by its dotted path; given again, the steps run in this order.",
        example="--step jobs.extract",
    ),
    option(
        "-w",
        "--workflow",
        metavar="PATH",
        help="A function that returns a DotFlow, or a DotFlow.",
        example="--workflow jobs.nightly:build",
    ),
    option(
        "-i",
        "--initial-context",
        metavar="VALUE",
        help="What the steps get as initial_context: JSON, or any other text.",
        example="--initial-context '{\"day\": 3}'",
    ),
    option(
        "-c",
        "--callback",
        metavar="PATH",
        help="Called as callback(task=task) when a step has ended.",
        example="--callback jobs.tell",
    ),
    option(
        "-m",
        "--mode",
        type=Mode([str(mode) for mode in TypeExecution]),
        default=str(TypeExecution.SEQUENTIAL),
        help="How the steps run: in order, in order in a thread, or all at once.",
        example="--mode parallel",
    ),
    option(
        "-o",
        "--storage",
        type=click.Choice([str(name) for name in KINDS]),
        help="Where finished steps' values are kept; default is memory. With postgres the database is that of "
        "$DOTFLOW_POSTGRES_DSN, or of $PGHOST and its like.",
        example="--storage file",
    ),
    option(
        "-p",
        "--path",
        metavar="PATH",
        help="The folder, or database, of --storage file or sqlite.",
        example="--path .storage",
    ),
    option(
        "--bucket",
        metavar="NAME",
        help="The bucket of --storage s3 or gcs, or else $DOTFLOW_BUCKET; credentials come from the environment, as "
        "usual there.",
        example="--bucket my-bucket",
    ),
    option(
        "--prefix",
        metavar="PREFIX",
        help="Where in the bucket; dotflow/ unless given.",
        example="--prefix jobs/",
    ),
    option("--region", metavar="REGION", help="The bucket's region, with s3.", example="--region eu-central-1"),
    option(
        "--project",
        metavar="PROJECT",
        help="The bucket's project, with gcs.",
        example="--project my-project",
    ),
    option(
        "--workflow-id",
        metavar="ID",
        help="What the workflow is called from run to run, for --resume; made of --step or --workflow unless given.",
        example="--workflow-id nightly",
    ),
    option(
        "--resume",
        is_flag=True,
        help="Skip the steps that an earlier run has finished.",
        example="--resume",
    ),
    option("--keep-going", is_flag=True, help="Go on with the others after a failure.", example="--keep-going"),
)


def workflow_options(function: F) -> F:
    """Gives a command all of them, in this order."""
    for option in reversed(WORKFLOW_OPTIONS):
        function = option(function)
    return function
