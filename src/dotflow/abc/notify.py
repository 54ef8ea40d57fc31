"""Notify: messages about tasks, and alerts of a server."""

from abc import ABC, abstractmethod

from dotflow.core.task import Task


class Notify(ABC):
    """Sends the status of a task, and the alerts of a server, to people.

    A run and a server call it from a separate thread, in order, a run with a copy of the task as it was. It may be slow
    and it may raise: neither delays or changes the run or the server.
    """

    @property
    def is_silent(self) -> bool:
        """Whether it never sends anything, so that a run need not start a thread for it."""
        return False

    @abstractmethod
    def send(self, task: Task) -> None:
        """Called after each change of the task's status; for a mapped task at its beginning and its end only."""

    def alert(self, message: str) -> None:  # noqa: B027 (optional)
        """Called by `serve` with what people should know at once: a late firing, or a run that was given up.

        The server's log has the message, too. Secrets are masked in it. The default does nothing.
        """
