"""`dotflow graph`: the diagram of a workflow."""

from typing import Any

import click

from dotflow.cli.command import Command, option
from dotflow.cli.options import DEFINITION_OPTIONS, with_options
from dotflow.core.types.drawing import TypeDrawing


@click.command(cls=Command, context_settings={"allow_extra_args": True})
@with_options(DEFINITION_OPTIONS)
@option(
    "--format", type=click.Choice(list(map(str, TypeDrawing))), default=str(TypeDrawing.MERMAID),
    example="--format dot", help="The language of the diagram: mermaid, which GitHub draws, or dot, for Graphviz.",
)  # fmt: skip
def graph(**options: Any) -> None:
    """Print the diagram of a workflow, and run nothing.

    \b
    dotflow graph --workflow jobs:nightly
    dotflow graph --workflow jobs:nightly --format dot | dot -Tsvg > nightly.svg

    Exit code: 0, or 2 if there is no such workflow.
    """
    from dotflow.cli.run.load import load  # not needed for the help

    workflow = load(options).workflow
    click.echo(workflow.task.graph(options["format"]))
