"""Target: what is replayed."""

from typing import NamedTuple

import click

from dotflow.abc.archive import Archive
from dotflow.core.record import AttemptRecord, RunRecord, TaskRecord
from dotflow.core.types.attempt_state import TypeAttemptState

MAX_LISTED = 3  # items in an error


class Target(NamedTuple):
    """What is replayed, and the attempt that it is compared with.

    Attributes:
        run: The run.
        task: The task.
        item: The index of the item; None for the task itself.
        then: The attempt.
    """

    run: RunRecord
    task: TaskRecord
    item: int | None
    then: AttemptRecord

    @property
    def title(self) -> str:
        """The name of the task, with the item."""
        return self.task.name if self.item is None else f"{self.task.name}#{self.item}"

    @property
    def argument(self) -> str:
        """The task by its number, with the item, as the history takes it."""
        return f"{self.task.task_id}" if self.item is None else f"{self.task.task_id}#{self.item}"


def find_target(archive: Archive, run: str, step: str, attempt: int | None) -> Target:
    """Returns what is replayed.

    Args:
        archive: The history.
        run, step: The run and the step, as the command line names them.
        attempt: The number of the attempt; None for the last one.

    Raises:
        NotInHistory: There is no such run or step.
        ClickException: It has no such attempt.
    """
    record = archive.load(run)
    task, item = record.find(step)
    attempts = task.attempts_of(item)
    if item is None and task.count is not None:
        bad = [index for index, each in task.items.items() if each[-1].state is TypeAttemptState.FAILED]
        names = ", ".join(f"{task.name}#{index}" for index in (bad or list(task.items))[:MAX_LISTED])
        raise click.ClickException(
            f"Can't replay '{task.name}': it is a map. Name an item{f': {names}' * bool(names)}."
        )
    if not attempts:
        raise click.ClickException(f"Can't replay '{task.name}': it has not begun in the run {record.run_id[:8]}.")
    if attempts[-1].state is TypeAttemptState.SKIPPED:
        raise click.ClickException(f"Can't replay '{task.name}': it was skipped, since {attempts[-1].glimpse}.")
    chosen = [each for each in attempts if attempt in (None, each.attempt)]
    if not chosen:
        raise click.ClickException(f"Can't find attempt {attempt} of '{task.name}': it has {len(attempts)}.")
    return Target(record, task, item, chosen[-1])
