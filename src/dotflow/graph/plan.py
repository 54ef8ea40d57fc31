"""The run's plan: the dependencies and lanes of its tasks. The rest of the engine does not know the mode."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any, Final

from dotflow.core.links import NO_LINKS, Group, Links
from dotflow.core.task import Task
from dotflow.core.types.execution import TypeExecution
from dotflow.errors import InvalidLink
from dotflow.graph.linked_task import LinkedTask
from dotflow.graph.wiring import PREVIOUS

DEFAULT_GROUP: Final = "default"  # of tasks that were added without a group_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The run's plan: its tasks as a graph, by their ids. The dry run, which `plan()` returns, is a WorkflowPlan.

    Attributes:
        previous: For each task, the task whose context is its `previous_context`; None where that is empty.
        lanes: For each task, its lane. The tasks of a lane share one worker.
        linked: The needs of those tasks that need others than this one.
        apart: Whether the lanes need workers of their own, beside the thread of the run.
        is_parallel: Whether a map's items run side by side, and a map over it goes item by item.
    """

    previous: tuple[int | None, ...]
    lanes: tuple[int, ...]
    linked: Mapping[int, tuple[int, ...]]
    apart: bool
    is_parallel: bool = False

    def needs_of(self, task_id: int) -> tuple[int, ...]:
        """Returns the tasks that must end before the task starts."""
        linked, before = self.linked.get(task_id), self.previous[task_id]
        if linked is not None:
            return linked
        return () if before is None else (before,)

    def followers(self, tasks: Sequence[Task]) -> list[Sequence[int]]:
        """Returns for each of the tasks those that need it."""
        followers: list[Any] = [()] * len(tasks)  # most have one at most, and tuples are smaller than lists
        for task_id, before in enumerate(self.previous):
            if before is not None:
                followers[before] = (task_id,)
        shared: set[int] = set()
        for task_id, needs in self.linked.items():
            for need in needs:
                if need != self.previous[task_id]:
                    if need not in shared:
                        shared.add(need)
                        followers[need] = [*followers[need]]
                    followers[need].append(task_id)
        for need in shared:
            followers[need].sort()
        return followers

    def item_followers(self, tasks: Sequence[Task], linked: Sequence[LinkedTask]) -> dict[int, list[int]]:
        """Returns for each mapped task those that go through its items side by side with it, without its whole list.

        *linked* are those of the tasks that have links.
        """
        followers: dict[int, list[int]] = {}
        for task in linked if self.is_parallel else ():
            links = task.links
            if links.nest is None and (not links.each or links.always or task.step.approve is not None):
                continue  # the latter two begin after the last item
            whole = set().union(*(_links_of(tasks[other]).whole_sources() for other in unit_of(task)))
            if links.nest is not None:
                whole.update(links.nest.tasks)  # what is in a scope begins there
            in_step = [link.source for link in links.lists]
            in_step += [link.source for link in links.conditions if link.by_item]
            for source in dict.fromkeys(source for source in in_step if isinstance(source, int)):
                if source not in whole and tasks[source].gives_items:
                    followers.setdefault(source, []).append(task.task_id)
        return followers

    def goes_after(self, task: Task, level: int = 0, tasks: Sequence[Task] = ()) -> Group:
        """Returns the tasks of the same workflow whose item goes before that of *task*, where items run one by one.

        Args:
            task: The task.
            level: The number of workflows around that one.
            tasks: The tasks of the run.
        """
        nests = _links_of(task).nests
        if self.is_parallel or len(nests) <= level:
            return ()
        nest = nests[level]
        first = task.task_id if len(nests) == level + 1 else nests[level + 1].tasks[0]
        if first == nest.tasks[0]:
            return ()
        before = _links_of(tasks[first - 1]).nests if tasks else ()
        return before[level + 1].tasks if len(before) > level + 1 else (first - 1,)

    def last_of_lanes(self) -> dict[int, int]:
        """Returns for each lane its last task."""
        return dict(zip(self.lanes, range(len(self.lanes)), strict=True))


def make_plan(tasks: Sequence[Task], mode: TypeExecution) -> Plan:
    """Returns the plan: one lane, a lane for each of two or more groups, or a lane for each chain of tasks.

    Raises InvalidLink for a task with links that takes a previous context where there is none.
    """
    if mode is TypeExecution.PARALLEL:
        _check_previous(tasks)
        return _parallel(tasks)
    names = [task.group_name for task in tasks]
    groups = {name: lane for lane, name in enumerate(dict.fromkeys(names))}
    lanes = tuple(map(groups.__getitem__, names))
    last: dict[int, int] = {}
    previous = []
    for task, lane in zip(tasks, lanes, strict=True):
        previous.append(last.get(lane))
        last[lane] = task.task_id  # the task's own object: another one would take memory
    linked: dict[int, tuple[int, ...]] = {}
    if LinkedTask in map(type, tasks):
        for task_id, (before, needs) in enumerate(zip(previous, _linked_needs(tasks), strict=True)):
            links = None if before is None else tasks[before].links
            if before is not None and links and links.nest and task_id not in links.nest.tasks:
                previous[task_id] = links.nest.result
                needs = tuple(dict.fromkeys((*needs, *unit_of(tasks[before]))))  # its last task may end before others
            if needs:
                linked[task_id] = needs if before is None or before in needs else (before, *needs)
    return Plan(previous=tuple(previous), lanes=lanes, linked=linked, apart=len(groups) > 1)


def _check_previous(tasks: Sequence[Task]) -> None:
    for task in tasks:
        links = task.links
        if links is None or not links.sources() or any(link.parameter == PREVIOUS for link in links.each):
            continue
        if any(PREVIOUS in step.context_params for step in task._steps):
            raise InvalidLink(
                f"Task {task.task_id} {task.name} takes previous_context, which is empty in parallel mode. Name a "
                f"parameter like the task whose value it needs."
            )


def _parallel(tasks: Sequence[Task]) -> Plan:
    """Returns the plan in which a task continues the lane of the first task it needs that has no other successor."""
    linked: dict[int, tuple[int, ...]] = {}
    lanes: list[int] = []
    ends: set[int] = set()  # the last tasks of their lanes
    for task, needed in zip(tasks, _linked_needs(tasks), strict=True):
        before = None
        if needed:
            linked[task.task_id] = needed
            before = next((need for need in needed if need in ends and not task.is_mapped), None)
        if before is None:
            lanes.append(task.task_id)
        else:
            ends.discard(before)
            lanes.append(lanes[before])
        if not task.is_mapped:
            ends.add(task.task_id)
    previous = (None,) * len(tasks)
    return Plan(previous=previous, lanes=tuple(lanes), linked=linked, apart=True, is_parallel=True)


def _linked_needs(tasks: Sequence[Task]) -> Iterator[tuple[int, ...]]:
    """Yields, for each task, the tasks that must end before it, by its links.

    The tasks of a workflow for each item begin together. The first of them waits for what all of them need outside.
    """
    cleanup = 0  # the last task that waits for all tasks before it, so that the next one need not
    for task in tasks:
        links = task.links
        if links is None:
            yield ()
        elif links.always and not links.after:
            yield tuple(dict.fromkeys((*links.sources(), *range(cleanup, task.task_id))))
            cleanup = task.task_id
        elif links.nest is not None and task.task_id == links.nest.tasks[0]:
            sources = (source for other in links.nest.tasks for source in _links_of(tasks[other]).sources())
            yield tuple(dict.fromkeys(source for source in sources if source < task.task_id))
        else:
            yield tuple(links.sources())


def not_asked_for(only: Collection[int], tasks: Sequence[Task], plan: Plan) -> frozenset[int]:
    """Returns the tasks that a run of *only* some leaves out.

    It has these, what they need, and the cleanups of what it has. A task of `after` is no need: it may have failed.
    """
    asked, left = set[int](), [*only]
    while left:
        task_id = left.pop()
        if task_id not in asked:
            asked.add(task_id)
            left += _needed_by(task_id, tasks, plan)
    for task in tasks:
        links = task.links
        if links is not None and links.always:
            cleaned = links.sources() if links.after else range(task.task_id)
            if not asked.isdisjoint(cleaned):
                asked.add(task.task_id)
    return frozenset(range(len(tasks))) - asked


def _needed_by(task_id: int, tasks: Sequence[Task], plan: Plan) -> Iterator[int]:
    """Yields the tasks that must complete before the task, and those whose values or context it may take."""
    links = tasks[task_id].links
    if links is not None:
        yield from () if links.nest is None or not tasks[task_id].is_repeated else links.nest.tasks  # rounds are one
        yield from links.value_sources()
        yield from chain.from_iterable(links.needs)
        if any(link.parameter == PREVIOUS for link in links.each):
            return
    if any(isinstance(one.function, type) or PREVIOUS in one.context_params for one in tasks[task_id]._steps):
        source = plan.previous[task_id]
        while source is not None:
            yield source
            before = tasks[source].links
            may_be_skipped = before is not None and (before.needs or before.conditions or before.value_sources())
            source = plan.previous[source] if may_be_skipped else None


def _links_of(task: Task) -> Links:
    return task.links or NO_LINKS


def unit_of(task: Task) -> Group:
    """Returns the ids of the tasks that begin together: those of a workflow for each item, or the task alone."""
    levels = _links_of(task).levels
    return (levels[0].tasks if levels else ()) or (task.task_id,)


def note_on_groups(tasks: Sequence[Task], mode: TypeExecution) -> str:
    """Returns a note on a task without a group that seems to follow a group; "" where there is none.

    Its group, "default", runs beside the others. So its previous context is not that of the task added before it.
    """
    if mode is TypeExecution.PARALLEL:
        return ""
    for before, task in pairwise(tasks):
        if task.group_name == DEFAULT_GROUP != before.group_name and "previous_context" in task.step.context_params:
            groups = dict.fromkeys(repr(other.group_name) for other in tasks if other.group_name != DEFAULT_GROUP)
            return (
                f"Task {task.task_id} {task.name} takes previous_context and has no group_name, so it runs beside the "
                f"groups ({', '.join(groups)}) and gets none of their values. Give it the group_name of the tasks "
                f"that it follows, or name a parameter like the task whose value it takes."
            )
    return ""
