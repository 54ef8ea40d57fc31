"""Notify: messages about tasks."""

from abc import ABC, abstractmethod

from dotflow.core.task import Task


class Notify(ABC):
    """Sends the status of a task to people.

    A run calls it from a separate thread, in order, with a copy of the task as it was. It may be slow and it may
    raise: neither delays or changes the run.
    """

    @property
    def is_silent(self) -> bool:
        """Whether it never sends anything, so that a run need not start a thread for it."""
        return False

    @abstractmethod
    def send(self, task: Task) -> None:
        """Called after each change of the task's status; for a mapped task at its beginning and its end only."""
