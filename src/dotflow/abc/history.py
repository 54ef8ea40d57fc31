"""History: what is kept of runs."""

from abc import ABC, abstractmethod

from dotflow.core.events import Event


class History(ABC):
    """Keeps what happened. What it raises is reported and changes nothing in the run."""

    @abstractmethod
    def record(self, run_id: str, event: Event) -> None:
        """Called for every event of a run, in order, after the task's record was brought up to date."""
