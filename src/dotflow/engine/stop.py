"""Stop: why a run is stopped before its end."""

from typing import Final, NamedTuple

from dotflow.core.types.run_state import TypeRunState


class Stop(NamedTuple):
    """The reason of a stop, for the errors of the tasks that were running, and the state of the run at its end."""

    exception: str
    reason: str
    state: TypeRunState


CANCELLED: Final = Stop("RunCancelled", "the run was cancelled", TypeRunState.CANCELLED)
FAILED: Final = Stop("RunStopped", "the run was stopped by a failure", TypeRunState.FAILED)
INTERRUPTED: Final = Stop("KeyboardInterrupt", "the run was interrupted", TypeRunState.INTERRUPTED)


def stop_for(error: BaseException) -> Stop:
    """Returns the reason of a stop by *error*: an interrupt, the end of a step that runs this run, or our own error."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    name = type(error).__name__
    state = TypeRunState.FAILED if isinstance(error, Exception) else TypeRunState.INTERRUPTED
    return Stop(name, f"the run was ended by {name}: {error}".rstrip("."), state)
