"""Tracer: how runs show up in the tools people already use."""

from abc import ABC, abstractmethod

from dotflow.core.call import Carrier
from dotflow.core.events import Event


class Tracer(ABC):
    """Turns events into spans and metrics. What it raises is reported and changes nothing in the run."""

    @abstractmethod
    def trace(self, run_id: str, event: Event) -> None:
        """Called for every event of a run, in order, in the run's thread.

        The context variables there are those of who called `start()`, in every mode.
        """

    def carrier(self, run_id: str, task_id: int) -> Carrier | None:
        """What the attempt that has just begun takes along to where its step runs. By default: nothing.

        Called after the AttemptStarted of each attempt. What goes wrong with it is reported, and the step runs without.
        """
        return None
