"""`dotflow approve` and `reject`: what was answered, and what happens next, in words."""

import json

import click

from dotflow.cli.control.orders import resume_workflow_command
from dotflow.cli.history.options import open_history
from dotflow.cli.history.text import safe
from dotflow.control import Control
from dotflow.core.attempt_id import ID_LENGTH
from dotflow.core.types.run_state import TypeRunState
from dotflow.report.next_steps import resume_command


def answer(
    run: str,
    step: str | None,
    history: str | None,
    *,
    is_yes: bool,
    value: str | None,
    by: str | None,
    comment: str,
) -> None:
    """Answers the question of a run, and prints what happens next."""
    archive = open_history(history)
    control, asked = Control(archive), archive.summary(run)
    if is_yes:
        newest = control.approve(asked.run_id, step, _value_of(value), by=by, comment=comment)
    else:
        newest = control.reject(asked.run_id, step, by=by, comment=comment)
    short, done = newest.run_id[:ID_LENGTH], "Approved" if is_yes else "Rejected"
    if newest.state is TypeRunState.RUNNING:
        click.echo(f"{done}. The run {short} takes the answer when its other tasks have ended.")
    elif newest.state is not TypeRunState.QUEUED:
        click.echo(f"{done}. The run {short} is {newest.state.lower()}: `dotflow resume {short}` goes on with it.")
    else:
        click.echo(f"{done}. The run {short} of {safe(newest.workflow)} is queued, and goes on.")
        if newest.workflow_paused_by:
            ends = resume_workflow_command(newest.base)
            click.echo(f"{safe(newest.workflow_paused_by)} paused its workflow. `{ends}` ends the pause.", err=True)
        elif not newest.is_served:
            again = resume_command(archive.load(newest.continues))
            how = f"`{again}` goes on at once" if again else "Start `dotflow serve MODULE:WORKFLOW`"
            click.echo(f"No process serves '{safe(newest.base)}': the run waits. {how}.", err=True)


def _value_of(text: str | None) -> object:
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"Can't use --value {text}: it is no JSON ({error}). Quote a text: '\"yes\"'.") from None
