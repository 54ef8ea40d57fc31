"""Tracer: how runs show up in the tools people already use."""

from abc import ABC, abstractmethod

from dotflow.core.events import Event


class Tracer(ABC):
    """Turns events into spans and metrics. What it raises is reported and changes nothing in the run."""

    @abstractmethod
    def trace(self, run_id: str, event: Event) -> None:
        """Called for every event of a run, in order."""
