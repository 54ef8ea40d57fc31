"""`dotflow plan`: what a run would do."""

from typing import Any

import click

from dotflow.cli.command import Command, option
from dotflow.cli.options import WORKFLOW_OPTIONS, with_options


@click.command(cls=Command, context_settings={"allow_extra_args": True})
@with_options(WORKFLOW_OPTIONS)
@option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def plan(**options: Any) -> None:
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
    from dotflow.cli.run.load import build, resume_of  # not needed for the help

    resume = resume_of(options)
    workflow, params = build(options, is_plan=True)
    more = {"rerun": options["rerun"], "cache": not options["no_cache"], "only": options["only"] or None}
    planned = workflow.plan(options["mode"], resume, params=params, **more)
    click.echo(planned.model_dump_json(indent=2) if options["as_json"] else str(planned))
