"""The types of callbacks."""

from typing import Protocol

from dotflow.core.task import Task


class TaskCallback(Protocol):
    """Called as `callback(task=task)`."""

    def __call__(self, *, task: Task) -> object:
        """Takes a task that has ended. The return value is ignored."""


class WorkflowCallback(Protocol):
    """Called as `on_success(tasks=tasks)` or `on_failure(tasks=tasks)`."""

    def __call__(self, *, tasks: list[Task]) -> object:
        """Takes the tasks of a run that has ended. The return value is ignored."""
