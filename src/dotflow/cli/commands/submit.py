"""`dotflow submit`: queues a run."""

import re
from collections.abc import Mapping
from typing import Any, Final

import click

from dotflow.cli.command import Command, Exit, option
from dotflow.cli.commands.orders import pause_line
from dotflow.cli.load import load_servable, parse_params
from dotflow.cli.options import HISTORY_OPTION, WorkflowArgument, duration, open_history, parse_time
from dotflow.cli.running import recording
from dotflow.cli.screen import safe
from dotflow.control import Control
from dotflow.core.attempt_id import ID_LENGTH
from dotflow.core.types.run_state import TypeRunState
from dotflow.report.text import as_command


@click.command(cls=Command)
@click.argument("name", type=WorkflowArgument(), required=False)
@option(
    "-w", "--workflow", metavar="PATH", example="-w pipelines:report",
    help="The workflow, or a function that returns it, in place of its name.",
)  # fmt: skip
@option(
    "--param", multiple=True, metavar="NAME=VALUE", example="--param customer=17",
    help="A parameter of the workflow; one option for each.",
)  # fmt: skip
@option(
    "--key", metavar="TEXT", example="--key click-17",
    help="Names the run in place of its parameters: the same key prints the id of the same run.",
)  # fmt: skip
@option("--priority", type=int, default=0, metavar="N", example="--priority 10", help="Higher ones begin first.")
@option(
    "--at", metavar="TIME", example="--at 15m, --at '2026-11-25 14:30'",
    help="The moment before which it does not begin: a time from now, or a local time.",
)  # fmt: skip
@option(
    "--replace", is_flag=True, example="dotflow submit report --replace",
    help="Cancel the older run of its name, and begin as soon as that has ended.",
)  # fmt: skip
@option(
    "--debounce", metavar="TIME", type=duration, example="--debounce 2m",
    help="Begin when the name has not been submitted so for this time; the newest parameters count.",
)  # fmt: skip
@option(
    "--within", metavar="TIME", type=duration, example="--debounce 2m --within 10m",
    help="With --debounce: begin at the latest this time after a submission.",
)  # fmt: skip
@option(
    "--wait", is_flag=True, example="dotflow submit report --wait", help="Wait for its end, which sets the exit code."
)
@HISTORY_OPTION
def submit(name: str | None, **options: Any) -> int:
    """Queue a run, and print its id.

    \b
    NAME  the id of a workflow, which this process need not import

    \b
    dotflow submit report --param customer=17
    dotflow submit -w pipelines:report --param customer=17 --wait

    `dotflow serve` runs it. While a run of the same parameters is queued, its id is printed.

    Exit code: 0 queued, 2 refused. With --wait that of the run: 0 completed, 3 paused, 1 ended otherwise.
    """
    if (name is None) is (options["workflow"] is None):
        raise click.UsageError("What to submit? Pass the id of a workflow, or --workflow PATH.")

    return submit_run(name, options)


AT: Final = "a time from now, such as 90s, 15m or 2d, or a local time, such as '2026-11-25 14:30'"
#: The exit codes of a run that was waited for; 1 for all other states.
CODES: Final = {TypeRunState.COMPLETED: Exit.COMPLETED, TypeRunState.PAUSED: Exit.PAUSED}


def submit_run(name: str | None, options: Mapping[str, Any]) -> Exit:
    """Queues a run, prints its id, and waits for its end with --wait."""
    wanted = {name: options[name] for name in ("key", "priority", "replace", "debounce", "within")}
    wanted["at"] = parse_time("--at", options["at"], AT)
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
