"""History: the events of runs."""

from abc import ABC, abstractmethod
from collections.abc import Hashable
from typing import Final

from dotflow.abc.limits import LimitStore
from dotflow.abc.operations import Operations
from dotflow.core.events import Event
from dotflow.core.types.capture import TypeCapture
from dotflow.errors import HistoryError

#: The environment variable with the path of the history of workflows that name none, and its value for no history.
HISTORY_VARIABLE: Final = "DOTFLOW_HISTORY"
NO_HISTORY: Final = "0"
#: What names the Postgres database of another variable, which may have a password.
POSTGRES: Final = "postgres"
POSTGRES_VARIABLE: Final = "DOTFLOW_POSTGRES_DSN"


class HistoryUnavailable(HistoryError):
    """A history can't be used now. It keeps what it has collected, and tries again."""


class Listener(ABC):
    """Receives the events of runs, in their threads. An exception in it is reported and changes nothing in the run."""

    @abstractmethod
    def record(self, run_id: str, event: Event) -> None:
        """Called for each event of a run, in order, after the task's record was updated.

        Ignore events that you don't know: there may be more in later versions.
        """

    def settle(self, run_id: str, begins: bool) -> float | None:
        """Called before attempts begin, and before the run waits. By default it does nothing.

        A history that collects events saves them here. Several attempts may begin after one call. Called in the thread
        of the run, as `record` is. It may cancel the run.

        Args:
            run_id: The run.
            begins: Whether attempts begin next, which may end the process. Otherwise saving may be put off.

        Returns:
            The seconds after which it has to be called again at the latest; None for no limit. Ignored with *begins*.

        Raises:
            HistoryUnavailable: What it has collected can't be saved. It is raised as long as that is so, and called
                again a second later. The run reports it once, and once when it is over.
        """
        return None


class History(Listener):
    """Keeps events.

    Attributes:
        measures_usage: Whether the attempts are measured: the events at their ends then have a `usage`.
        capture: How the output of the attempts is captured, for AttemptOutput events; NONE for none.
        output_limit: The number of bytes that are kept of an attempt's output, half of its beginning and half of its
            end.
        store: Where the events are, if another process can record AttemptOutput events there, with a pickled copy of
            the history; None if it can't. The copy has not seen the beginning of the run.
        late: After `settle`, an attempt that has begun is found within so many seconds.
    """

    measures_usage: bool = False
    capture: TypeCapture = TypeCapture.NONE
    output_limit: int = 0
    store: Hashable = None
    late: float = 0.0

    def operations(self) -> Operations | None:
        """Returns its queue of runs and orders; None, the default, for a history without one."""
        return None

    def limits(self) -> LimitStore | None:
        """Returns what counts the grants of `@action(limit=...)`; None, the default, for a history that can't."""
        return None

    def sweep(self) -> None:
        """Forgets some runs that are no longer kept, where it is time, and returns soon. By default it does nothing.

        A server calls it once a second.
        """

    def overdue(self) -> float:
        """Returns for how many seconds a run is kept beyond its time; 0, the default, for none. It is reported."""
        return 0.0


def has_queue(history: History | None) -> bool:
    """Returns whether a history has a queue, without opening it."""
    return history is not None and type(history).operations is not History.operations
