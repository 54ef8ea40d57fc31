"""Demand: which values without checkpoints a resume makes anew."""

from collections.abc import Collection, Sequence
from itertools import chain
from typing import Any, Final

from dotflow.core.links import NO_LINKS
from dotflow.core.task import Task
from dotflow.core.types.status import TypeStatus
from dotflow.graph.gather import is_over
from dotflow.graph.linked_task import LinkedTask
from dotflow.graph.wiring import PREVIOUS
from dotflow.resume.changed_code import ChangedCode
from dotflow.resume.tokens import Tokens

ALL: Final = None  # instead of the indices of the items that run


class Demand:
    """What runs demands what it takes or needs. `after` demands nothing.

    A value that no task takes is made for its own sake, and so is one that was asked for. A cleanup counts only if it
    did not complete in the last run, or if a task that runs needs its completion.

    Args:
        tokens: The tasks, with the decisions on their checkpoints.
        changes: The tasks that were asked for.
        left_out: The ids of the tasks that were not asked for.
        left_open: Those of the cleanups that did not complete.

    Attributes:
        items: The items without checkpoints that don't run, by the id of their task.
    """

    def __init__(
        self, tokens: Tokens, changes: ChangedCode, left_out: Collection[int], left_open: Collection[int]
    ) -> None:
        self.items: dict[int, set[int]] = {}
        self._tokens = tokens
        self._changes = changes
        self._left_out = left_out
        self._left_open = left_open
        self._whole: set[int] = set()  # what is demanded with all of its items
        self._some: set[int] = set()  # what is demanded for items that are not known yet
        self._by_item: dict[int, set[int]] = {}  # the items of others that are demanded
        self._takers: dict[int, list[int]] = {}
        self._listed: set[int] = set()  # the maps through whose items another one goes
        for task in tokens.tasks:
            if task.task_id not in left_out:
                self._add_takers(task)

    def _add_takers(self, task: Task) -> None:
        links = task.links or NO_LINKS
        for source in (*links.sources(), *self._tokens.taken_as_previous(task)):
            self._takers.setdefault(source, []).append(task.task_id)
        is_cross = links.is_cross or (links.nest is not None and links.nest.is_cross)
        if task.nodes and not is_cross:
            self._listed.update(links.list_sources())

    def not_needed(self, tasks: Sequence[Task]) -> set[int]:
        """Returns those of the tasks of which nothing runs, though they have no checkpoint. The last one goes first."""
        found = set()
        for task in reversed(tasks):
            indices = self._running(task)
            if not task.step.checkpoint and not task.is_cleanup and task.status is not TypeStatus.SKIPPED:
                if task.items and indices is not ALL:
                    self.items[task.task_id] = {*_not_skipped(task)}.difference(indices)
                if indices is not ALL and not indices and task.task_id not in self._listed:
                    found.add(task.task_id)
            if indices is ALL or indices:
                self._demand(task, () if _skips_all(task) else indices)
        return found

    def left(self, task: Task) -> set[str]:
        """Returns the ends of the keys of its items without checkpoints that don't run, and forgets them."""
        items: Sequence[Any] = task.items
        return {items[index].key_suffix for index in self.items.pop(task.task_id, ())}

    def _running(self, task: Task) -> Collection[int] | None:
        """Returns the indices of the items that run; ALL for a task as a whole, and none where nothing runs."""
        task_id = task.task_id
        if task_id in self._left_out or task.status is TypeStatus.SKIPPED:
            return ()
        if task.is_cleanup and task_id not in self._left_open:
            return ALL if task_id in self._whole else self._by_item.get(task_id, ())
        if task.step.checkpoint or task.is_cleanup:
            if is_over(task):
                return ()
            if isinstance(task, LinkedTask) and task.has_maps:  # a map that has not begun, its node is the task
                running = [scope.index for scope in task.scopes if not is_over(scope.node(task_id))]
                return running if task.scopes else ALL
            running = [index for index, item in enumerate(task.items) if not is_over(item)]
            return ALL if not task.items or (task.is_repeated and not running) else running  # which fails again
        if task_id in self._whole or self._is_asked_for(task):
            indices = _not_skipped(task)
            return ALL if task.is_repeated or len(indices) in {0, len(task.items)} else indices
        if task.items:
            is_whole = any(self._goes_over(taker, task_id) for taker in self._takers.get(task_id, ()))
            return ALL if is_whole else self._by_item.get(task_id, ())
        return ALL if task_id in self._some else ()

    def _goes_over(self, taker: int, source: int) -> bool:
        """Returns whether a map goes over the items of another one, and it is not known yet which of its items run."""
        task = self._tokens.tasks[taker]
        links = task.links or NO_LINKS
        return not task.items and source in links.list_sources() and self._running(task) is ALL

    def _is_asked_for(self, task: Task) -> bool:
        takers = self._takers.get(task.task_id, [])
        is_inside = task.links is not None and task.links.nest is not None
        if is_inside or self._left_out:  # a cleanup after it is no reason to leave it out
            takers = [taker for taker in takers if not self._tokens.tasks[taker].is_cleanup]
        return not takers or self._changes.is_rerun(task)

    def _goes_with(self, task_id: int, group: Collection[int]) -> bool:
        """Returns whether a task of an added workflow runs only with others of it, which demand it if they run.

        They take or need it, or it cleans up after an item of theirs.
        """
        if len(group) == 1:
            return False
        task = self._tokens.tasks[task_id]
        if task.is_cleanup and task.links is not None and task.links.nest is not None:
            return True
        return any(
            taker in group and not self._tokens.tasks[taker].is_cleanup for taker in self._takers.get(task_id, ())
        )

    def _demand(self, task: Task, indices: Collection[int] | None) -> None:
        """Marks what a task, or some items of it, take and need; without items, what a map takes to open."""
        links = task.links or NO_LINKS
        whole = links.at()
        needed = {one for group in links.needs for one in group if not self._goes_with(one, group)}
        self._whole.update(whole.value_sources())
        if indices is ALL or indices:
            self._whole.update(needed.intersection(chain.from_iterable(whole.needs)))
        if PREVIOUS not in [link.parameter for link in links.each]:
            self._whole.update(self._tokens.taken_as_previous(task))
        for source in needed.union(links.value_sources()) - self._whole:
            if indices is not ALL:
                self._by_item.setdefault(source, set()).update(indices)
            else:
                (self._whole if self._tokens.tasks[source].items else self._some).add(source)


def _not_skipped(task: Task) -> list[int]:
    """Returns the indices of the items that are not skipped for certain."""
    return [index for index, item in enumerate(task.items) if item.status is not TypeStatus.SKIPPED]


def _skips_all(task: Task) -> bool:
    """Returns whether it is certain that all items of a map are skipped. Rounds may fail again for that."""
    return bool(task.items) and not task.is_repeated and not _not_skipped(task)
