"""Scheduler: when a workflow runs."""

from abc import ABC, abstractmethod
from typing import Any


class Scheduler(ABC):
    """Starts a workflow again and again."""

    @abstractmethod
    def start(self, workflow: Any, **kwargs: Any) -> None:
        """Runs the workflow when it is due, as `workflow.start(**kwargs)`; returns after `stop`.

        The workflow is a DotFlow; `dotflow.abc.workflow.Workflow` has what a scheduler needs of it.
        """

    @abstractmethod
    def stop(self) -> None:
        """Lets `start` return. May be called from any thread."""
