"""`dotflow start`: one run."""

from typing import Any

import click

from dotflow.cli.command import Command
from dotflow.cli.options import RECORDING_OPTIONS, TIMEOUT_OPTION, WORKFLOW_OPTIONS, with_options


@click.command(cls=Command, context_settings={"allow_extra_args": True})
@with_options((*WORKFLOW_OPTIONS, TIMEOUT_OPTION, *RECORDING_OPTIONS))
def start(**options: Any) -> int:
    """Run steps or a workflow, and wait for the end.

    In a terminal it shows the progress, and then a summary. Elsewhere, and with NO_COLOR=1, the log goes to stderr and
    the summary to stdout, in plain lines.

    \b
    dotflow start --step jobs.extract --step jobs.load --storage file --workflow-id nightly
    dotflow start --workflow jobs:build_workflow --mode parallel
    dotflow start --workflow jobs:nightly --param day=2026-11-25

    Exit code: 0 completed, 1 a task or an item failed, 2 nothing was run, 3 paused, 130 interrupted (Ctrl-C), 143
    terminated.
    """
    from dotflow.cli.run.load import build, resume_of  # not needed for the help
    from dotflow.cli.run.once import run_once
    from dotflow.cli.run.recording import recording
    from dotflow.core.masks import environment_masks

    with recording(options):
        resume = resume_of(options)
        workflow, params = build(options)
        title = workflow.name or options["workflow"] or options["workflow_id"] or ", ".join(options["step"])
        title = environment_masks().mask(" ".join([title, *options["param"]]))
        arguments = {name: options[name] for name in ("mode", "keep_going", "rerun", "timeout")}
        arguments["only"] = options["only"] or None
        return run_once(workflow, title, **arguments, resume=resume, cache=not options["no_cache"], params=params)
