"""What a callback is: whatever can be called with what it is told, by name."""

from typing import Protocol

from dotflow.core.task import Task


class TaskCallback(Protocol):
    """Called as `callback(task=task)`."""

    def __call__(self, *, task: Task) -> object:
        """Is told of a task that has ended; what it returns is nobody's business."""


class WorkflowCallback(Protocol):
    """Called as `on_success(tasks=tasks)` or `on_failure(tasks=tasks)`."""

    def __call__(self, *, tasks: list[Task]) -> object:
        """Is told of the tasks of a run that has ended; what it returns is nobody's business."""
