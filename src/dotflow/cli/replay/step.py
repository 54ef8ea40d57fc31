"""Replays one step of a past run."""

import contextlib
import importlib
from collections.abc import Sequence
from typing import IO, Any

import click

from dotflow import clock
from dotflow.abc.archive import Archive
from dotflow.cli.exit_codes import Exit
from dotflow.cli.formatting import one_line
from dotflow.cli.history.text import local
from dotflow.cli.replay.attempt import Replay, secrets_for
from dotflow.cli.replay.changes import changes
from dotflow.cli.replay.find_step import StepFinder
from dotflow.cli.replay.inputs import InputFinder, read_input
from dotflow.cli.replay.result import ending_of, result_lines
from dotflow.cli.replay.target import Target
from dotflow.core.action import Action
from dotflow.core.outcome import Returned
from dotflow.core.record import ID_LENGTH
from dotflow.core.run_secrets import RunSecrets
from dotflow.engine.stored_inputs import TaskInputs
from dotflow.errors import DotflowError, HistoryError, SecretMissing
from dotflow.providers.histories.sqlite.tables import RETURNED


def replay_step(
    archive: Archive,
    target: Target,
    *,
    edited: IO[str] | None,
    modules: Sequence[str],
    has_timeout: bool,
    is_debugged: bool,
    **options: Any,
) -> Exit:
    """Makes one attempt of a step of a past run, and prints what differs and what became of it.

    *edited* is a file with its inputs; the options are `workflow` and `param`, as in `dotflow start`.
    """
    finder = StepFinder(target, options)
    step = finder.find()
    for module in modules:
        importlib.import_module(module)
    copies = {copy.role: copy for copy in archive.copies(target.run.run_id, target.task.number_of(target.item))}
    returned = copies.pop(RETURNED, None)
    inputs_of = InputFinder(target, copies, {} if edited is None else read_input(edited.read()), finder)
    inputs = inputs_of.find(step)
    secrets = _secrets(finder, step, inputs)
    _print_head(target, [*changes(target, step, finder.workflow_id), *inputs_of.notes.items()])
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
        return secrets_for(step, inputs, finder.workflow)
    except SecretMissing:
        if finder.workflow is not None:
            raise
        with contextlib.suppress(DotflowError, click.ClickException):
            return secrets_for(step, inputs, finder.loaded.workflow)  # its Config may have them
        raise


def _print_head(target: Target, lines: Sequence[tuple[str, str]]) -> None:
    """Prints what is replayed, and on a line each, what differs."""
    name, run = one_line(target.task.name_of(target.item)), target.run
    click.echo(f"{name}, as in the run {run.run_id[:ID_LENGTH]} of {local(run.began)}")
    width = max((len(name) for name, _ in lines), default=0)
    for name, text in lines:
        click.echo(f"  {name:{width}}  {one_line(text)}")
