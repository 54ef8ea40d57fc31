"""Notify: who is told of tasks."""

from abc import ABC, abstractmethod

from dotflow.core.task import Task


class Notify(ABC):
    """Tells somebody where a task stands.

    It is called from a thread of the run's own, in order, with the task as it was at that moment. It may take its
    time and it may raise: neither holds up or changes the run.
    """

    @property
    def is_silent(self) -> bool:
        """Whether nobody is ever told, so that a run need not start a thread for it."""
        return False

    @abstractmethod
    def send(self, task: Task) -> None:
        """Called after every change of the task's status."""
