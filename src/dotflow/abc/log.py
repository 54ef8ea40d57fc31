"""Log: the record of what happens in a run."""

from abc import ABC, abstractmethod

from dotflow.core.events import RunEvent
from dotflow.core.task import Task


class Log(ABC):
    """Writes what happens. An exception in it is reported and changes nothing in the run."""

    @abstractmethod
    def info(self, task: Task) -> None:
        """Called after each change of the task's status, except for failures.

        For a mapped task it is called when its first item begins, every ten seconds while items begin and end, and
        at the end. For a task that waits it is called again at its first wait, and every ten minutes; of a map with
        an item that waits, and with no other item.
        """

    @abstractmethod
    def error(self, task: Task) -> None:
        """Called after each failed attempt, which is `task.errors[-1]`.

        Of a mapped task it is called with the first items that failed or are retried, up to 20 each, and at the end.
        """

    def follow_run(self, event: RunEvent) -> None:  # noqa: B027 (optional)
        """Called at the start of a run, with the workflow's name, and at its end. By default it does nothing."""

    def flush_run(self, run_id: str) -> None:  # noqa: B027 (optional)
        """Called before the run waits, runs a step or other code of users, or saves a value on disk. Optional.

        After the first call, the log may keep records of the run's tasks until the next one, or until the run's end.
        Without that call it must write them at once. A log whose class only inherits this method gets no call.
        """

    @property
    def is_silent(self) -> bool:
        """Whether the log never writes anything about a task, so that a run need not call it."""
        return False

    def without_console(self) -> "Log":
        """Returns this log without its terminal output about tasks and notes, for a program that shows tasks itself.

        Reports still go to the terminal. By default it returns itself.
        """
        return self

    def note(self, message: str) -> None:  # noqa: B027 (optional)
        """Called with a message that is useful and no cause for worry. By default it does nothing."""

    def report(self, message: str) -> None:
        """Called, from any thread, with a message that is about no task, such as a callback that raised.

        By default it goes to Python's own logging, logger `dotflow`.
        """
        import logging  # here, since few need it

        logging.getLogger("dotflow").warning("%s", message)
