"""Plan: which task waits for which, and which tasks share a lane. After it, nobody asks for the mode."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from dotflow.core.task import Task
from dotflow.core.types.execution import TypeExecution

UNNAMED: Final = "default"  # the group of tasks that were added without a group_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A graph of tasks, given by their places.

    Attributes:
        needs: For each task, the tasks that must have ended before it starts. The context of the last of them is its
            `previous_context`.
        lanes: For each task, its lane. The tasks of a lane share one worker.
        apart: Whether the lanes want workers of their own, beside the thread that runs the loop.
    """

    needs: tuple[tuple[int, ...], ...]
    lanes: tuple[int, ...]
    apart: bool

    def followers(self) -> list[list[int]]:
        """For each task, those that need it."""
        found: list[list[int]] = [[] for _ in self.needs]
        for place, needs in enumerate(self.needs):
            for need in needs:
                found[need].append(place)
        return found

    def sources(self) -> list[int | None]:
        """For each task, the one whose value is its `previous_context`."""
        return [needs[-1] if needs else None for needs in self.needs]

    def last_of_lanes(self) -> dict[int, int]:
        """For each lane, its last task."""
        return {lane: place for place, lane in enumerate(self.lanes)}


def make_plan(tasks: Sequence[Task], mode: TypeExecution) -> Plan:
    """One lane in order; a lane for each group, where there are two or more; or a lane for each task."""
    if mode is TypeExecution.PARALLEL:
        return Plan(needs=((),) * len(tasks), lanes=tuple(range(len(tasks))), apart=True)
    groups: dict[str, int] = {}
    lanes = tuple(groups.setdefault(task.group_name, len(groups)) for task in tasks)
    last: dict[int, tuple[int, ...]] = {}
    needs = []
    for place, lane in enumerate(lanes):
        needs.append(last.get(lane, ()))
        last[lane] = (place,)
    return Plan(needs=tuple(needs), lanes=lanes, apart=len(groups) > 1)


def note_on_groups(tasks: Sequence[Task], mode: TypeExecution) -> str:
    """Says which task without a group looks as if it were meant to follow a group; "" where none does.

    It is in a group of its own, "default", which runs beside the others. So the previous context that it asks for is
    not that of the task added before it.
    """
    if mode is TypeExecution.PARALLEL:
        return ""
    for before, task in pairwise(tasks):
        if task.group_name == UNNAMED != before.group_name and "previous_context" in task.step.context_params:
            named = ", ".join(dict.fromkeys(repr(each.group_name) for each in tasks if each.group_name != UNNAMED))
            return (
                f"Task {task.task_id} {task.name} takes previous_context and has no group_name, so it runs beside the "
                f"groups ({named}) and gets no value of theirs. Give it the group_name of the tasks that it follows, "
                f"or add it to another workflow and start that one afterwards."
            )
    return ""
