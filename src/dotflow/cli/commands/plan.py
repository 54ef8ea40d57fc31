"""`dotflow plan` and `dotflow graph`: what a run would do, and the diagram of a workflow. Nothing runs."""

from typing import Any

import click

from dotflow.cli.command import Command, option
from dotflow.cli.load import build, load, resume_of
from dotflow.cli.options import DEFINITION_OPTIONS, JSON_OPTIONS, WORKFLOW_OPTIONS, print_json, with_options
from dotflow.core.types.drawing import TypeDrawing


@click.command(cls=Command, context_settings={"allow_extra_args": True})
@with_options(WORKFLOW_OPTIONS)
@JSON_OPTIONS
def plan(as_json: bool, **options: Any) -> None:
    """Print what `start` with the same options would do, and why. It runs, writes and locks nothing.

    \b
    dotflow plan --workflow jobs:nightly --storage file --resume

    \b
    run      the step runs; "run 3 of 300" for the items of a map
    restore  an earlier run has made the value
    cached   the value is in the cache
    skip     a condition does not hold, or a value is missing
    open     it depends on a value that the run makes

    Exit code: 0, or 2 if start would raise an error.
    """
    resume = resume_of(options)
    workflow, params = build(options, is_plan=True)
    more = {"rerun": options["rerun"], "cache": not options["no_cache"], "only": options["only"] or None}
    planned = workflow.plan(options["mode"], resume, params=params, **more)
    if as_json:
        print_json([planned.model_dump(mode="json")])
    else:
        click.echo(planned)


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
    workflow = load(options).workflow
    click.echo(workflow.task.graph(options["format"]))
