"""`dotflow submit`: a run for a process that serves the workflow."""

import re
from collections.abc import Mapping
from typing import Any, Final

import click

from dotflow.cli.control.orders import pause_line
from dotflow.cli.exit_codes import Exit
from dotflow.cli.history.options import open_history, parse_time
from dotflow.cli.history.text import safe
from dotflow.cli.run.load import load_servable
from dotflow.cli.run.params import parse_params
from dotflow.cli.run.recording import recording
from dotflow.control import Control
from dotflow.core.attempt_id import ID_LENGTH
from dotflow.core.types.run_state import TypeRunState
from dotflow.report.text import as_command

AT: Final = "a time from now, such as 90s, 15m or 2d, or a local time, such as '2026-11-25 14:30'"
#: The exit codes of a run that was waited for; 1 for all other states.
CODES: Final = {TypeRunState.COMPLETED: Exit.COMPLETED, TypeRunState.PAUSED: Exit.PAUSED}


def submit_run(name: str | None, options: Mapping[str, Any]) -> Exit:
    """Queues a run, prints its id, and waits for its end with --wait."""
    wanted = {"key": options["key"], "priority": options["priority"], "at": parse_time("--at", options["at"], AT)}
    if name is not None:
        control = Control(open_history(options["history"]))
        run_id = control.submit(name, parse_params(options["param"]), **wanted)
        if (paused := control.pause_of(name)) is not None:
            click.echo(pause_line(name, paused, options["history"]), err=True)
        elif not control.is_served(name):
            hint = "Start `dotflow serve MODULE:WORKFLOW`."
            if re.fullmatch(r"\w+(\.\w+)*:\w+", name):
                cancel = f"`{_cancel(run_id, options['history'])}`"
                hint = f"NAME is the id of a workflow. Cancel this run ({cancel}), and use `dotflow submit -w {name}`."
            click.echo(f"No process serves '{safe(name)}': the run waits. {hint}", err=True)
    else:
        with recording(options):
            workflow, params = load_servable(options["workflow"], options)
            run_id = workflow.submit(params, **wanted)  # its log says where no process serves it
            control = Control(workflow)
    click.echo(run_id)  # alone on stdout, for scripts
    return _wait(control, run_id, options["history"]) if options["wait"] else Exit.COMPLETED


def _cancel(run_id: str, history: str | None) -> str:
    return as_command("cancel", run_id[:ID_LENGTH], history=history)


def _wait(control: Control, run_id: str, history: str | None) -> Exit:
    try:
        run = control.wait(run_id)
    except KeyboardInterrupt:
        click.echo(f"The run goes on. `{_cancel(run_id, history)}` ends it.", err=True)
        raise
    why = run.reason or run.error
    click.echo(f"{run.state}: {safe(why)}" if why else f"{run.state}.", err=True)
    return CODES.get(run.state, Exit.FAILED)
