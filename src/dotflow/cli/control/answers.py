"""`dotflow approve` and `reject`: what was answered, and what happens next, in words."""

import json

import click

from dotflow.cli.history.options import open_history
from dotflow.cli.history.text import safe
from dotflow.control import Control
from dotflow.report.orders import answer_text, waiting_text


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
    click.echo(safe(answer_text(is_yes, newest)))
    if waits := waiting_text(archive, newest):
        click.echo(safe(waits), err=True)


def _value_of(text: str | None) -> object:
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"Can't use --value {text}: it is no JSON ({error}). Quote a text: '\"yes\"'.") from None
