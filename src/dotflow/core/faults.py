"""Faults: failures that a test puts in the place of attempts. The run's own process asks for them."""

from collections.abc import Callable, Hashable
from typing import Final, NamedTuple, Protocol, TypeVar

from dotflow.core.task import Task

R = TypeVar("R")


class PlannedFailures(NamedTuple):
    """The failures of a call in a durable step, before the call is made.

    Attributes:
        error: What is raised.
        times: How often.
    """

    error: Exception | type[Exception]
    times: int

    def before(self, function: Callable[[], R]) -> Callable[[], R]:
        """Returns a function that raises the error, as often as planned, and then calls *function*."""
        left = [self.error] * self.times

        def run() -> R:
            if left:
                raise left.pop()
            return function()

        return run


class Fault(Protocol):
    """Decides which attempts fail. Any thread may ask."""

    def failure_of(self, identity: str, node: Hashable) -> Exception | None:
        """Returns the error with which the next attempt fails; None where it is made.

        Args:
            identity: The action's own one.
            node: What the attempt belongs to: a task or an item.
        """

    def failures_of(self, identity: str, node: Hashable) -> PlannedFailures | None:
        """Returns the failures of a call in a durable step, whose attempts follow each other; None where it is made.

        Args:
            identity: The name of the action's function, as such calls have it.
            node: What they belong to: the task or the item, and the call.
        """


#: The faults of this process.
ACTIVE: Final[list[Fault]] = []


def node_of(task: Task) -> Hashable:
    """Returns what tells the attempts of a task or an item from others."""
    return task.workflow_id, task.task_id, task.item


def next_failure(identity: str, node: Hashable) -> Exception | None:
    """Returns the error with which the next attempt fails; None where it is made. The innermost fault counts."""
    for fault in reversed(ACTIVE):
        if (error := fault.failure_of(identity, node)) is not None:
            return error
    return None


def next_failures(identity: str, node: Hashable) -> PlannedFailures | None:
    """Returns the failures of a call in a durable step; None where it is made."""
    for fault in reversed(ACTIVE):
        if (failures := fault.failures_of(identity, node)) is not None:
            return failures
    return None
