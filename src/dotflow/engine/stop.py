"""Stop: why a run is stopped before its end."""

from typing import Final, NamedTuple


class Stop(NamedTuple):
    """The reason of a stop, for the errors of the tasks that were running."""

    exception: str
    reason: str


CANCELLED: Final = Stop("RunCancelled", "the run was cancelled")
INTERRUPTED: Final = Stop("KeyboardInterrupt", "the run was interrupted")
