"""Tracer: runs in the tools that people already use."""

from abc import ABC, abstractmethod

from dotflow.core.call import Carrier, TraceIds
from dotflow.core.events import Event


class Tracer(ABC):
    """Turns events into spans and metrics. An exception in it is reported and changes nothing in the run."""

    @abstractmethod
    def trace(self, run_id: str, event: Event) -> None:
        """Called for each event of a run, in order, in the run's thread.

        Ignore events that you don't know: there may be more in later versions.
        The context variables there are those of the caller of `start()`, in every mode.
        """

    def carrier(self, run_id: str, task_id: int) -> Carrier | None:
        """Returns the trace context for the attempt that has just begun; None by default.

        Called after the AttemptStarted of each attempt. An exception in it is reported, and the step runs without.
        """
        return None

    def item_carrier(self, run_id: str, task_id: int, item: int) -> Carrier | None:
        """Returns the same for the attempt of an item of a mapped task; by default what `carrier` returns."""
        return self.carrier(run_id, task_id)

    def trace_ids(self, run_id: str, task_id: int | None = None, item: int | None = None) -> TraceIds | None:
        """Returns the ids of the trace and the span of a run or an attempt, for the history; None by default.

        Called after the RunStarted of the run, without a task, and after the AttemptStarted of each attempt. An
        exception in it is reported.
        """
        return None
