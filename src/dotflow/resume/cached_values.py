"""CachedValues: which tasks and items of a plan have their values in the cache."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from dotflow.core.context import Context
from dotflow.core.events import MapEnded, TaskRestored
from dotflow.core.task import Task
from dotflow.core.types.decision import TypeDecision
from dotflow.core.types.status import TypeStatus
from dotflow.graph.linked_task import LinkedTask
from dotflow.graph.maps import ItemMap, map_context
from dotflow.graph.verdict import Arguments, Skip
from dotflow.graph.wiring import PREVIOUS
from dotflow.resume.cache import Cache
from dotflow.resume.restoring import previous_of
from dotflow.resume.unsaved import always_takes_previous

COMPLETED = TypeStatus.COMPLETED


class Prospect(NamedTuple):
    """What a run would do with a task, and why.

    Attributes:
        decision: What it does.
        reason: The reason; empty for none.
        items: The number of items of a mapped task; None where it is unknown, and for every other task.
        items_done: The number of items that don't run.
        items_cached: The number of these that are in the cache and have no checkpoint, where other items run.
    """

    decision: TypeDecision
    reason: str
    items: int | None = None
    items_done: int = 0
    items_cached: int = 0


class CachedValues:
    """Looks up values of tasks whose arguments are known before the run.

    Args:
        cache: The cached values.
        previous: For each task, the task whose context is its `previous_context`.
    """

    def __init__(self, cache: Cache, previous: Sequence[int | None]) -> None:
        self._cache = cache
        self._previous = previous
        self._made: dict[str, str] = {}  # the tasks that make a value in the run, by its key
        self._open: dict[str, str] = {}  # those whose keys are not known, by step
        self.reads = cache.reads

    def prospect(
        self,
        task: LinkedTask,
        arguments: Arguments,
        prospect: Prospect,
        tasks: Sequence[Task],
        unknown: Collection[int],
    ) -> Prospect:
        """Returns the prospect of a task that would run, or may, without the cache. Its value goes into the record.

        Args:
            task: The record.
            arguments: Its arguments beside the contexts.
            prospect: What a run would do without the cache.
            tasks: The records of all tasks.
            unknown: The ids of the tasks whose values are made in the run.
        """
        previous = previous_of(task, tasks, self._previous)
        sources = task.links.value_sources()
        if previous is not None and always_takes_previous(task):
            sources.append(previous.task_id)
        made = next((source for source in sources if source in unknown), None)
        if made is not None or prospect.decision is TypeDecision.OPEN:  # the keys are not known before the run
            self._open.setdefault(task.step.identity, task.name)
        if prospect.decision is TypeDecision.OPEN:
            return prospect
        if made is not None:
            return Prospect(TypeDecision.OPEN, f"its arguments come from {tasks[made].name}", prospect.items)
        before = Context() if previous is None else previous.current_context
        if task.is_mapped:
            return self._of_items(task, arguments, before, prospect)
        key = self._cache.key(task, before, arguments or None, None)
        context = self._cache.find(task, key)
        if context is None:
            return self._without_value(task, [key], prospect)
        task._apply(TaskRestored(task.task_id, context, before, None, "cache"))
        return Prospect(TypeDecision.CACHED, "")

    def _without_value(self, task: Task, keys: Sequence[str | None], prospect: Prospect) -> Prospect:
        """Returns the prospect of a task, or of the items of a map, whose values are not in the cache yet."""
        known = [key for key in keys if key is not None]
        maker = self._open.get(task.step.identity) or next(filter(None, map(self._made.get, known)), None)
        is_repeated = len(set(known)) < len(known)
        self._made.update(dict.fromkeys(known, task.name))
        if not self._cache.can_find(task) or not (maker or is_repeated):
            return prospect
        reason = f"{maker} may make its value" if maker else "equal items may share a value"
        return prospect._replace(decision=TypeDecision.OPEN, reason=reason)

    def _of_items(self, task: LinkedTask, shared: Arguments, previous: Context, prospect: Prospect) -> Prospect:
        items, keys = ItemMap(task, shared, previous, 1, True), list[str | None]()
        for item in task.items:
            own = items.arguments_of(item)
            if item.status is COMPLETED or isinstance(own, Skip):
                continue
            before = Context(own.pop(PREVIOUS)) if PREVIOUS in own else previous
            key = self._cache.key(item, before, own, shared or None)
            context = self._cache.find(item, key)
            if context is None:
                keys.append(key)
            else:
                item._apply(TaskRestored(task.task_id, context, before, item.item, "cache"))
        done = sum(item.status is COMPLETED for item in task.items)
        if not done or done < len(task.items):
            cached = sum(item.restored_from == "cache" for item in task.items)
            return self._without_value(task, keys, prospect._replace(items_done=done, items_cached=cached))
        context = map_context(task, Context(None, task.task_id, task.workflow_id, step=task.step.identity))
        task._apply(MapEnded(task.task_id, context, None, context.time, 0.0))
        return Prospect(TypeDecision.CACHED, "", done, done)
