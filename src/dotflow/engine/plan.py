"""Plan: which task waits for which, and which tasks share a lane. After it, nobody asks for the mode."""

from collections.abc import Sequence
from dataclasses import dataclass

from dotflow.core.task import Task
from dotflow.core.types.execution import TypeExecution


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
