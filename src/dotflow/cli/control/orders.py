"""`dotflow cancel`, `pause`, `resume`, `approve` and `reject`: what they order, and what happens next, in words."""

import json

import click

from dotflow.abc.archive import Archive
from dotflow.abc.operations import NAME_STEPS, WorkflowPause
from dotflow.cli.exit_codes import Exit
from dotflow.cli.history.options import open_history
from dotflow.cli.history.text import safe
from dotflow.control import Control
from dotflow.core.text import GENERATED
from dotflow.core.types.run_state import TypeRunState
from dotflow.errors import OrderRefused
from dotflow.records.environment import process_name
from dotflow.records.record import RunRecord, RunSummary
from dotflow.report.orders import (
    PAUSED,
    answer_text,
    order_text,
    resume_text,
    resume_workflow_command,
    unpaused_text,
    waiting_text,
)
from dotflow.report.text import as_command


def order(what: str, run: str, history: str | None, by: str | None, comment: str, *, wait: bool = False) -> Exit:
    """Cancels or pauses a run, and prints what happens next. *what* is the method of Control.

    With *wait* it prints how a run has ended that was cancelled: it may have been faster.
    """
    archive = open_history(history)
    control = Control(archive)
    found = getattr(control, what)(archive.summary(run).run_id, by=by, comment=comment)
    click.echo(safe(order_text(what, found)))
    if found.ordered == what == "cancel" and (process := _process_here(archive.load(found.run_id))):
        click.echo(f"`kill -INT {process}` ends it at once.")
    if what == "pause" and not GENERATED.fullmatch(found.workflow_id):
        click.echo(f"`{as_command('resume', found.short_id, history=history)}` goes on with it.")
    if not wait or not found.ordered:
        return Exit.COMPLETED
    ended = control.wait(found.run_id)
    why = ended.reason or ended.error
    click.echo(safe(f"The run {ended.short_id} is {ended.state.lower()}{why and f': {why}'}."))
    return Exit.COMPLETED if ended.state is TypeRunState.CANCELLED else Exit.FAILED


def pause_workflow(workflow: str, history: str | None, by: str | None, comment: str) -> None:
    """Pauses a workflow, and prints what that means."""
    pause = Control(open_history(history)).pause_workflow(workflow, by=by, comment=comment)
    click.echo(safe(f"The workflow '{workflow}' is {pause}."))
    click.echo(PAUSED)
    click.echo(safe(f"`{resume_workflow_command(workflow, history)}` ends the pause."))


def resume_workflow(workflow: str, history: str | None, by: str | None, comment: str) -> None:
    """Ends the pause of a workflow, and prints who had paused it."""
    control = Control(open_history(history))
    pause = control.resume_workflow(workflow, by=by, comment=comment)
    click.echo(safe(unpaused_text(workflow, pause)))
    if pause is not None and not control.is_served(workflow):
        click.echo("No process serves it. Start `dotflow serve MODULE:WORKFLOW`.", err=True)


def pause_line(workflow: str, pause: WorkflowPause, history: str | None) -> str:
    """Returns what the pause of a workflow means for its queue, and what ends it."""
    ends = f"`{resume_workflow_command(workflow, history)}` ends the pause"
    return safe(f"The workflow '{workflow}' is {pause}: its queued runs wait. {ends}.")


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
    _print(resume_text(found), archive, found, history)


def approve(run: str, step: str | None, history: str | None, value: str | None, by: str | None, comment: str) -> None:
    """Answers yes to the question of a run, and prints what happens next. *value* is JSON."""
    archive = open_history(history)
    asked = archive.summary(run).run_id
    found = Control(archive).approve(asked, step, _value_of(value), by=by, comment=comment)
    _print(answer_text(True, archive, found, history), archive, found, history)


def reject(run: str, step: str | None, history: str | None, by: str | None, comment: str) -> None:
    """Answers no to it."""
    archive = open_history(history)
    found = Control(archive).reject(archive.summary(run).run_id, step, by=by, comment=comment)
    _print(answer_text(False, archive, found, history), archive, found, history)


def _print(text: str, archive: Archive, found: RunSummary, history: str | None) -> None:
    """Prints what has happened and, on stderr, what the run waits for."""
    click.echo(safe(text))
    if waits := waiting_text(archive, found, history):
        click.echo(safe(waits), err=True)


def _value_of(text: str | None) -> object:
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"Can't use --value {text}: it is no JSON ({error}). Quote a text: '\"yes\"'.") from None


def _process_here(run: RunRecord) -> str:
    """Returns the id of the process of a `dotflow start` on this machine; "" of any other run."""
    host, _, process = run.process.rpartition(":")
    is_here = host == process_name().rpartition(":")[0]
    return process if is_here and run.trigger == "command" and run.state is TypeRunState.RUNNING else ""
