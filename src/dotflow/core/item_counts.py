"""ItemCounts: how the items of a mapped task go, in numbers."""

from typing import NamedTuple

from dotflow.core.task import Task
from dotflow.core.types.status import TypeStatus

COMPLETED, FAILED = TypeStatus.COMPLETED, TypeStatus.FAILED
SKIPPED, PAUSED = TypeStatus.SKIPPED, TypeStatus.PAUSED


class ItemCounts(NamedTuple):
    """The items of a mapped task, in numbers.

    Attributes:
        total: How many there are.
        completed: How many have a value, with those that were restored.
        failed: How many failed.
        skipped: How many were skipped.
        restored: How many values are from checkpoints or the cache.
        retries: How often an attempt of an item was repeated.
        rounds: Of a task in rounds, how many there are at most; 0 for items of a list.
        waiting: How many wait for an approval.
    """

    total: int
    completed: int
    failed: int = 0
    skipped: int = 0
    restored: int = 0
    retries: int = 0
    rounds: int = 0
    waiting: int = 0

    def __str__(self) -> str:
        """Returns `300 items`, or `280 of 300 items, 3 failed, 12 retries`; of rounds `3 of at most 8 rounds`."""
        completed = f"{self.completed} of " if self.completed or self.failed or self.skipped else ""
        noun = "item" if self.total == 1 else "items"
        if self.rounds:
            noun = "round" if self.rounds == 1 else "rounds"
            completed = f"{self.completed} of at most "
        others = [
            f"{self.failed} failed" if self.failed else "",
            f"{self.skipped} skipped" if self.skipped else "",
            f"{self.waiting} waiting for an approval" if self.waiting else "",
            f"{self.restored} restored" if self.restored else "",
            f"{self.retries} {'retry' if self.retries == 1 else 'retries'}" if self.retries else "",
        ]
        return ", ".join([f"{completed}{self.rounds or self.total} {noun}", *filter(None, others)])


def item_counts(task: Task) -> ItemCounts | None:
    """Returns the counts of a mapped task as they are now; None where it has no items yet, or is not mapped."""
    if not task.is_mapped or not (task.items or task.has_value):
        return None
    completed = failed = skipped = restored = retries = waiting = 0
    for item in task.items:
        status = item.status
        if status is COMPLETED:  # comparing is much faster than hashing an enum, as a Counter does
            completed += 1
            restored += not item.attempt
        elif status is FAILED:
            failed += 1
        elif status is SKIPPED:
            skipped += 1
        elif status is PAUSED and item.question is not None:
            waiting += 1
        retries += item.retry_count
    return ItemCounts(len(task.items), completed, failed, skipped, restored, retries, rounds_of(task), waiting)


def levels_of(task: Task) -> tuple[str, ...]:
    """Returns what the items of a task belong to, as `Planned.levels`; empty where one index shows an item."""
    links = task.links
    if links is None or not links.is_map_inside:
        return ()
    return tuple(nest.name or task.name for nest in links.levels)


def rounds_of(task: Task) -> int:
    """Returns how many rounds a task has at most; 0 for a task outside of rounds."""
    nest = None if task.links is None else task.links.nest
    return 0 if nest is None or task.gives_list else nest.repeat
