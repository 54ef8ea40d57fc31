"""The parts of a workflow and its runs that schedulers and tests use."""

from collections.abc import Callable
from typing import Any, Protocol

from dotflow.abc.operations import Declared, Submission
from dotflow.core.masks import Masks
from dotflow.core.types.status import TypeStatus


class Superseded(Exception):
    """A run that continues another one finds that a newer one has replaced it: the argument is its id or its origin."""


class RunHandle(Protocol):
    """What `start` returns."""

    @property
    def status(self) -> TypeStatus:
        """COMPLETED if no task has failed."""

    @property
    def run_id(self) -> str:
        """Its id."""

    @property
    def has_restored(self) -> bool:
        """Whether it goes on with values of an earlier run."""

    def wait(self, timeout: float | None = None) -> bool:
        """Waits for the end, for *timeout* seconds at most; returns whether it came. Raises what ended the run."""

    def cancel(self) -> None:
        """Ends the run."""

    def interrupt_and_wait(self) -> None:
        """Ends the run as Ctrl-C in `wait` does, and waits for its end."""


class ServedWorkflow(Protocol):
    """A workflow whose runs a server takes from the queue of its history, such as `DotFlow`."""

    workflow_id: str
    max_runs: int | None
    task: Any

    @property
    def config(self) -> Any:
        """Its providers."""

    def check_servable(self, **start_arguments: Any) -> None:
        """Raises NotServable, and what `start` would raise about its arguments."""

    def masks(self) -> Masks:
        """Returns the masks for messages outside of a run."""

    def declared(self) -> Declared:
        """Returns what others need to know to submit it."""

    def name_submission(self, submission: Submission) -> tuple[str, str]:
        """Returns the name and the parameters of a run that was submitted where its defaults are unknown."""

    def make_submission(self, params: Any, key: str | None = None) -> Submission:
        """Returns what a queue needs of a run with these parameters, named by a key if there is one."""

    def launch_claimed(
        self, claimed: Any, begin: Callable[[Any], None], then: Callable[[], None], **options: Any
    ) -> Any:
        """Starts a claimed run in a thread of its own, after *begin*; *then* is called at its end."""


class Workflow(Protocol):
    """A workflow that can be started, such as `DotFlow`."""

    @property
    def config(self) -> Any:
        """Its providers."""

    @property
    def start(self) -> Callable[..., RunHandle]:
        """Runs it, and returns the run."""

    @property
    def launch(self) -> Callable[..., RunHandle]:
        """Starts it in a separate thread. The first argument is called at the end of the run."""

    def check_start(self, **start_arguments: Any) -> None:
        """Raises what `start` would raise about its arguments, and runs nothing."""

    def masks(self) -> Masks:
        """Returns the masks for messages outside of a run. Raises what the source of its secrets raises."""
