"""Log: what is written down while a workflow runs."""

from abc import ABC, abstractmethod

from dotflow.core.events import RunEvent
from dotflow.core.task import Task


class Log(ABC):
    """Writes down what happens, at once. What it raises is reported and changes nothing in the run."""

    @abstractmethod
    def info(self, task: Task) -> None:
        """Called after every change of the task's status that is no failure."""

    @abstractmethod
    def error(self, task: Task) -> None:
        """Called after every failed attempt; `task.errors[-1]` is it."""

    def follow_run(self, event: RunEvent) -> None:  # noqa: B027 (it may be left out)
        """Called when a run begins, with the workflow's name, and when it is over. By default: nothing."""

    @property
    def is_silent(self) -> bool:
        """Whether nothing is ever written about a task, so that a run need not ask."""
        return False

    def without_console(self) -> "Log":
        """The same log without what it writes to the terminal about tasks, for who shows them there already.

        What is reported still goes there: nobody else says it. By default: itself.
        """
        return self

    def note(self, message: str) -> None:  # noqa: B027 (it may be left out)
        """Called for what is good to know and no cause for worry. By default: nothing."""

    def report(self, message: str) -> None:
        """Called for what a user should know beside the tasks, such as a callback that raised.

        May come from any thread. By default it goes to Python's own logging, logger `dotflow`.
        """
        import logging  # here, since few need it

        logging.getLogger("dotflow").warning("%s", message)
