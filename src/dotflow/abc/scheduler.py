"""Scheduler: when a workflow runs."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dotflow.workflow import DotFlow


class Scheduler(ABC):
    """Starts a workflow again and again."""

    @abstractmethod
    def start(self, workflow: "DotFlow", **kwargs: Any) -> None:
        """Runs the workflow when it is due, as `workflow.start(**kwargs)`; returns after `stop`."""

    @abstractmethod
    def stop(self) -> None:
        """Lets `start` return. May be called from any thread."""
