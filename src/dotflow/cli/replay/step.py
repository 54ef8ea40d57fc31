"""Replays one step of a past run."""

import contextlib
import importlib
from collections.abc import Iterable, Sequence
from typing import IO, Any, Final

import click

from dotflow import clock
from dotflow.abc.archive import Archive
from dotflow.cli.error_lines import error_line
from dotflow.cli.exit_codes import Exit
from dotflow.cli.formatting import one_line
from dotflow.cli.history.text import local
from dotflow.cli.replay.attempt import Replay, secrets_for
from dotflow.cli.replay.changes import code_changes, environment_changes
from dotflow.cli.replay.consent import Consent
from dotflow.cli.replay.find_step import StepFinder
from dotflow.cli.replay.inputs import InputFinder, read_input
from dotflow.cli.replay.result import ending_of, result_lines
from dotflow.cli.replay.target import Target
from dotflow.core.action import Action
from dotflow.core.outcome import Returned
from dotflow.errors import DotflowError, HistoryError, SecretMissing
from dotflow.graph.run_secrets import RunSecrets
from dotflow.providers.histories.sqlite.tables import RETURNED
from dotflow.records.record import ID_LENGTH
from dotflow.resume.stored_inputs import TaskInputs

WIDTH: Final = 8  # of the names of what differs


class NotReplayed(click.ClickException):
    """Code was imported or run, but not the step."""

    exit_code = Exit.NOT_REPLAYED


def replay_step(
    archive: Archive,
    target: Target,
    consent: Consent,
    *,
    edited: IO[str] | None,
    modules: Sequence[str],
    has_timeout: bool,
    is_debugged: bool,
    **options: Any,
) -> Exit:
    """Makes one attempt of a step of a past run, and prints what differs and what became of it.

    *edited* is a file with its inputs; the options are `named`, the step, `workflow` and `param`.
    """
    values = {} if edited is None else read_input(edited)
    copies = {copy.role: copy for copy in archive.copies(target.run.run_id, target.task.number_of(target.item))}
    returned = copies.pop(RETURNED, None)
    _print_head(target)
    _print_lines(environment_changes(target.run))
    finder = StepFinder(target, consent, options)
    try:
        step = finder.find()
        for module in modules:
            finder.has_run = True
            _import(module)
        inputs_of = InputFinder(archive, target, copies, values, finder)
        inputs = inputs_of.find(step)
        secrets = _secrets(finder, step, inputs)
        _print_lines([*code_changes(target, step, finder.workflow_id), *inputs_of.notes.items()])
    except Exception as error:  # of the user, of their modules or of ours
        if not finder.has_run:
            raise
        raise NotReplayed(error_line(error).partition(": ")[2]) from error
    began = clock.ticks()
    replay = Replay(target.task.task_id, target.run.workflow_id, step, inputs, secrets)
    outcome = replay.debug() if is_debugged else replay.make(has_timeout=has_timeout)
    seconds = clock.ticks() - began
    ending = secrets.masks.mask(ending_of(outcome, target.then, returned, seconds))
    for line in result_lines(outcome, target.then, ending, secrets.masks):
        click.echo(line)
    with contextlib.suppress(HistoryError):  # a read-only file, say
        archive.note(target.run.run_id, f"Replay of {target.task.name_of(target.item)}: {ending}")
    return Exit.COMPLETED if isinstance(outcome, Returned) else Exit.FAILED


def _secrets(finder: StepFinder, step: Action[..., Any], inputs: TaskInputs) -> RunSecrets:
    try:
        return secrets_for(step, inputs, None if finder.workflow is None else finder)
    except SecretMissing:
        if finder.workflow is not None:
            raise
        with contextlib.suppress(DotflowError, click.ClickException):
            return secrets_for(step, inputs, finder)  # its Config may have them
        raise


def _import(module: str) -> None:
    try:
        importlib.import_module(module)
    except (Exception, SystemExit) as error:  # the user's module runs during its import
        raise click.ClickException(f"Can't import {module}: {type(error).__name__}: {error}.") from error


def _print_head(target: Target) -> None:
    name, run = one_line(target.task.name_of(target.item)), target.run
    click.echo(f"{name}, as in the run {run.run_id[:ID_LENGTH]} of {local(run.began)}")


def _print_lines(lines: Iterable[tuple[str, str]]) -> None:
    """Prints on a line each what differs."""
    for name, text in lines:
        click.echo(f"  {one_line(name):{WIDTH}}  {one_line(text)}")
