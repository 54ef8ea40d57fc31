"""History: the events of runs."""

from abc import ABC, abstractmethod

from dotflow.core.events import Event


class History(ABC):
    """Keeps events. An exception in it is reported and changes nothing in the run."""

    @abstractmethod
    def record(self, run_id: str, event: Event) -> None:
        """Called for each event of a run, in order, after the task's record was updated.

        Ignore events that you don't know: there may be more in later versions.
        """
