"""What schedulers and tests need of a workflow and of its runs."""

from collections.abc import Callable
from typing import Any, Protocol

from dotflow.abc.log import Log


class RunHandle(Protocol):
    """What `start` returns."""

    def wait(self, timeout: float | None = None) -> bool:
        """Return whether it is over after so many seconds; raise what ended it."""

    def cancel(self) -> None:
        """End it."""


class WorkflowConfig(Protocol):
    """The configuration of a workflow."""

    @property
    def log(self) -> Log:
        """Where its runs are written down."""


class Workflow(Protocol):
    """A workflow that can be started. `DotFlow` is one."""

    @property
    def config(self) -> WorkflowConfig:
        """Its providers."""

    @property
    def start(self) -> Callable[..., RunHandle]:
        """Runs it, and returns the run."""

    @property
    def launch(self) -> Callable[..., RunHandle]:
        """Starts it in a thread of its own; the first argument is called at the end of the run."""

    def check_start(self, **start_arguments: Any) -> None:
        """Raise what `start` would raise about its arguments, and run nothing."""
