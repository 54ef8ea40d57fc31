"""Target: what is replayed."""

from typing import NamedTuple

import click

from dotflow.abc.archive import Archive
from dotflow.core.types.attempt_state import TypeAttemptState
from dotflow.records.record import AttemptRecord, RunRecord, TaskRecord

MAX_LISTED = 3  # items in an error


class Target(NamedTuple):
    """A task or an item of a run, and the attempt of it with which the replay is compared."""

    run: RunRecord
    task: TaskRecord
    item: int | None
    then: AttemptRecord


def find_target(archive: Archive, run: str, step: str, attempt: int | None) -> Target:
    """Returns what is replayed. Raises NotInHistory, or ClickException for what has made no attempt."""
    record = archive.load(run)
    task, item = record.find(step)
    attempts = task.attempts_of(item)
    if item is None and task.count is not None:
        bad = [index for index, of_item in task.items.items() if of_item[-1].state is TypeAttemptState.FAILED]
        names = ", ".join(f"{task.name}#{index}" for index in (bad or list(task.items))[:MAX_LISTED])
        raise click.ClickException(
            f"Can't replay '{task.name_of(None)}': it is a map. Name an item{f': {names}' * bool(names)}."
        )
    if not attempts:
        raise click.ClickException(f"Can't replay '{task.name}': it has not begun in the run {record.short_id}.")
    if attempts[-1].state is TypeAttemptState.SKIPPED:
        raise click.ClickException(f"Can't replay '{task.name}': it was skipped, since {attempts[-1].glimpse}.")
    return Target(record, task, item, task.attempts_of(item, attempt)[-1])
