"""Scheduler: when a workflow runs."""

from abc import ABC, abstractmethod
from typing import Any


class Scheduler(ABC):
    """Runs a workflow repeatedly.

    Attributes:
        params: What gives each run its parameters; None where `start` has them for all runs.
    """

    params: Any = None

    @abstractmethod
    def start(self, workflow: Any, **kwargs: Any) -> None:
        """Runs the workflow when it is due, as `workflow.start(**kwargs)`; returns after `stop`.

        The workflow is a DotFlow; `dotflow.abc.workflow.Workflow` is the part of it that a scheduler needs.
        """

    @abstractmethod
    def stop(self) -> None:
        """Makes `start` return. May be called from any thread."""
