"""Plan: the dependencies and lanes of a run's tasks. The rest of the engine does not know the mode."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from dotflow.core.task import Task
from dotflow.core.types.execution import TypeExecution

DEFAULT_GROUP: Final = "default"  # of tasks that were added without a group_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A graph of tasks, by their ids.

    Attributes:
        needs: For each task, the tasks that must end before it starts. The context of the last one is its
            `previous_context`.
        lanes: For each task, its lane. The tasks of a lane share one worker.
        apart: Whether the lanes need workers of their own, beside the thread of the run.
    """

    needs: tuple[tuple[int, ...], ...]
    lanes: tuple[int, ...]
    apart: bool

    def followers(self) -> list[list[int]]:
        """Returns for each task the tasks that need it."""
        followers: list[list[int]] = [[] for _ in self.needs]
        for task_id, needs in enumerate(self.needs):
            for need in needs:
                followers[need].append(task_id)
        return followers

    def sources(self) -> list[int | None]:
        """Returns for each task the task whose value is its `previous_context`."""
        return [needs[-1] if needs else None for needs in self.needs]

    def last_of_lanes(self) -> dict[int, int]:
        """Returns for each lane its last task."""
        return {lane: task_id for task_id, lane in enumerate(self.lanes)}


def make_plan(tasks: Sequence[Task], mode: TypeExecution) -> Plan:
    """Returns the plan: one lane, a lane for each of two or more groups, or a lane for each task."""
    if mode is TypeExecution.PARALLEL:
        return Plan(needs=((),) * len(tasks), lanes=tuple(range(len(tasks))), apart=True)
    groups: dict[str, int] = {}
    lanes = tuple(groups.setdefault(task.group_name, len(groups)) for task in tasks)
    last: dict[int, tuple[int, ...]] = {}
    needs = []
    for task_id, lane in enumerate(lanes):
        needs.append(last.get(lane, ()))
        last[lane] = (task_id,)
    return Plan(needs=tuple(needs), lanes=lanes, apart=len(groups) > 1)


def note_on_groups(tasks: Sequence[Task], mode: TypeExecution) -> str:
    """Returns a note on a task without a group that seems to follow a group; "" where there is none.

    Its group, "default", runs beside the others. So its previous context is not that of the task added before it.
    """
    if mode is TypeExecution.PARALLEL:
        return ""
    for before, task in pairwise(tasks):
        if task.group_name == DEFAULT_GROUP != before.group_name and "previous_context" in task.step.context_params:
            groups = dict.fromkeys(repr(each.group_name) for each in tasks if each.group_name != DEFAULT_GROUP)
            return (
                f"Task {task.task_id} {task.name} takes previous_context and has no group_name, so it runs beside the "
                f"groups ({', '.join(groups)}) and gets none of their values. Give it the group_name of the tasks "
                f"that it follows, or add it to another workflow and start that one afterwards."
            )
    return ""
