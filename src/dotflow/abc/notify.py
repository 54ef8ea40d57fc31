"""Notify: messages about tasks and runs, and alerts of a server."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property

from dotflow.core.task import Task
from dotflow.core.types.run_state import TypeRunState
from dotflow.core.types.status import TypeStatus


class RunMessage:
    """A message about the end of a run. Secrets are masked in it.

    Args:
        read: Returns the text.

    Attributes:
        run_id: The run.
        workflow: The id of its workflow; the name, or "", in place of one that was generated.
        status: COMPLETED, FAILED or PAUSED.
        state: The same, or CANCELLED or INTERRUPTED for a run that was stopped.
    """

    def __init__(
        self, run_id: str, workflow: str, status: TypeStatus, state: TypeRunState, read: Callable[[], str]
    ) -> None:
        self.run_id = run_id
        self.workflow = workflow
        self.status = status
        self.state = state
        self._read = read

    @property
    def title(self) -> str:
        """The state and the workflow: `Failed: nightly`."""
        return f"{self.state}: {self.workflow or 'a run'}"

    @cached_property
    def text(self) -> str:
        """A few lines: what failed and where, how long since it last worked, and the commands to go on.

        The last two are read from the history at the first access.
        """
        return self._read()


class Notify(ABC):
    """Sends the status of a task, the end of a run, and the alerts of a server, to people.

    A run and a server call it from a separate thread, in order, a run with a copy of the task as it was. It may be slow
    and it may raise: neither delays or changes the run or the server.
    """

    @property
    def is_silent(self) -> bool:
        """Whether it never sends anything, so that a run need not start a thread for it."""
        return False

    def wants(self, message: Task | RunMessage) -> bool:
        """Returns whether `send`, or for the end of a run `send_run`, sends a message about it.

        The run itself calls it, before it queues a message, so it has to be quick. By default all are wanted.
        """
        return not isinstance(message, RunMessage) or type(self).send_run is not Notify.send_run

    @abstractmethod
    def send(self, task: Task) -> None:
        """Called after each change of the task's status; for a mapped task at its beginning and its end only."""

    def send_run(self, message: RunMessage) -> None:  # noqa: B027 (optional)
        """Called once at the end of each run.

        A run that only waits for answers has sent their questions as tasks, and sends no message about its end. The
        default does nothing.
        """

    def alert(self, message: str) -> None:  # noqa: B027 (optional)
        """Called with what people should know at once.

        A server calls it for a late scheduled run, and for a run that was given up; a run for a budget of which 80 %
        are used, or all, once in the period of the budget. The log of the server or run has the message, too. Secrets
        are masked in it. The default does nothing.
        """
