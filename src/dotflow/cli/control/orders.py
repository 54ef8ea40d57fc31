"""`dotflow cancel`, `pause` and `resume`: what they order, and what happens next, in words."""

import shlex
from collections.abc import Iterator
from typing import Final

import click

from dotflow.abc.operations import NAME_STEPS, WorkflowPause
from dotflow.cli.history.options import open_history
from dotflow.cli.history.text import safe
from dotflow.control import Control
from dotflow.core.attempt_id import ID_LENGTH
from dotflow.core.text import GENERATED
from dotflow.core.types.run_state import TypeRunState
from dotflow.errors import OrderRefused
from dotflow.records.environment import process_name
from dotflow.records.record import RunRecord, RunSummary
from dotflow.report.next_steps import resume_command

ORDERED: Final = {
    "cancel": "ends within about a second. A step in the program's own thread ends by itself first",
    "pause": "pauses within about a second, after its running steps",
}


def order(what: str, run: str, history: str | None, by: str | None, comment: str) -> None:
    """Cancels or pauses a run, and prints what happens next. *what* is the method of Control."""
    archive = open_history(history)
    control = Control(archive)
    found = getattr(control, what)(archive.summary(run).run_id, by=by, comment=comment)
    for line in _order_lines(what, found, archive.load(found.run_id)):
        click.echo(line)


def pause_workflow(workflow: str, history: str | None, by: str | None, comment: str) -> None:
    """Pauses a workflow, and prints what that means."""
    pause = Control(open_history(history)).pause_workflow(workflow, by=by, comment=comment)
    click.echo(f"The workflow '{safe(workflow)}' is {safe(pause)}.")
    click.echo("Its queued runs wait, servers drop its firings, and what has begun goes on.")
    click.echo(f"`{resume_workflow_command(workflow)}` ends the pause.")


def resume_workflow(workflow: str, history: str | None, by: str | None, comment: str) -> None:
    """Ends the pause of a workflow, and prints who had paused it."""
    control = Control(open_history(history))
    pause = control.resume_workflow(workflow, by=by, comment=comment)
    if pause is None:
        click.echo(f"The workflow '{safe(workflow)}' was not paused.")
        return
    click.echo(f"The workflow '{safe(workflow)}' goes on: it was {safe(pause)}.")
    if not control.is_served(workflow):
        click.echo("No process serves it. Start `dotflow serve MODULE:WORKFLOW`.", err=True)


def pause_line(workflow: str, pause: WorkflowPause) -> str:
    """Returns what the pause of a workflow means for its queue, and what ends it."""
    ends = f"`{resume_workflow_command(workflow)}` ends the pause"
    return f"The workflow '{safe(workflow)}' is {safe(pause)}: its queued runs wait. {ends}."


def resume_workflow_command(workflow: str) -> str:
    """Returns the command that ends the pause of a workflow."""
    return f"dotflow resume --workflow {safe(shlex.quote(workflow))}"


def resume(run: str, rerun: tuple[str, ...], history: str | None, by: str | None, comment: str) -> None:
    """Queues a run that continues another one, and prints which, and what runs it."""
    archive = open_history(history)
    before = archive.load(run)
    try:
        found = Control(archive).resume(before.run_id, rerun, by=by, comment=comment)
    except OrderRefused as error:
        if not error.reason.endswith(NAME_STEPS):
            raise
        raise OrderRefused(error.verb, error.run_id, f"{error.reason}: --rerun STEP") from None
    old, new = found.continues[:ID_LENGTH], found.run_id[:ID_LENGTH]
    click.echo(f"The run {new} of {_name(found)} is queued, and continues {old}.")
    if found.workflow_paused_by:
        who, goes_on = safe(found.workflow_paused_by), resume_workflow_command(found.base)
        click.echo(f"{who} paused '{safe(found.base)}': the run waits. `{goes_on}` ends the pause.", err=True)
    elif not found.is_served:
        again = resume_command(archive.load(found.continues))
        how = f"`{again}` goes on at once" if again else "Start `dotflow serve MODULE:WORKFLOW`"
        click.echo(f"No process serves '{safe(found.base)}': the run waits. {how}.", err=True)


def _order_lines(what: str, run: RunSummary, record: RunRecord) -> Iterator[str]:
    title = f"The run {run.run_id[:ID_LENGTH]} of {_name(run)}"
    if not run.ordered:
        yield f"{title} is {run.state.lower()}."
    else:
        yield f"{title} {ORDERED[what]}."
    if run.ordered == what == "cancel" and (process := _process_here(record)):
        yield f"`kill -INT {process}` ends it at once."
    if what == "pause" and not GENERATED.fullmatch(run.workflow_id):
        yield f"`dotflow resume {run.run_id[:ID_LENGTH]}` goes on with it."


def _process_here(run: RunRecord) -> str:
    """Returns the id of the process of a `dotflow start` on this machine; "" of any other run."""
    host, _, process = run.process.rpartition(":")
    is_here = host == process_name().rpartition(":")[0]
    return process if is_here and run.trigger == "command" and run.state is TypeRunState.RUNNING else ""


def _name(run: RunSummary) -> str:
    return safe(run.workflow or run.workflow_id[:ID_LENGTH])
