"""Stop: why a run is stopped before its end."""

from typing import Final, NamedTuple

from dotflow.core.durations import format_duration
from dotflow.core.types.run_state import TypeRunState, TypeWait
from dotflow.errors import RunTimeout


class Stop(NamedTuple):
    """Why a run is stopped.

    Attributes:
        exception: The name of the errors of the tasks that were running.
        reason: Why, for people.
        state: The state of the run at its end.
        waits: What the run waits for; None for nothing.
        is_timeout: Whether the timeout of the run stops it.
    """

    exception: str
    reason: str
    state: TypeRunState
    waits: TypeWait | None = None
    is_timeout: bool = False


CANCELLED: Final = Stop("RunCancelled", "the run was cancelled", TypeRunState.CANCELLED)
FAILED: Final = Stop("RunStopped", "the run was stopped by a failure", TypeRunState.FAILED)
PAUSED: Final = Stop("RunPaused", "the run was paused", TypeRunState.PAUSED)
#: Of the process that has the run: another one goes on with it.
SHUTDOWN: Final = PAUSED._replace(reason="its process was shut down")
#: Of a process that the history has no sign of: another one may go on with it.
CUT_OFF: Final = PAUSED._replace(reason="its process could not reach the history for too long")
SHUTDOWN_NOW: Final = CANCELLED._replace(reason=SHUTDOWN.reason)
LOST: Final = Stop("RunCancelled", "another process has the run", TypeRunState.CANCELLED)
INTERRUPTED: Final = Stop("KeyboardInterrupt", "the run was interrupted", TypeRunState.INTERRUPTED)

#: The errors of tasks that were stopped before their end.
STOPPED: Final = (CANCELLED.exception, INTERRUPTED.exception, FAILED.exception, RunTimeout.__name__)


def timed_out(seconds: float) -> Stop:
    """Returns the reason of a stop after the timeout of the run."""
    reason = f"the run exceeded its timeout of {format_duration(seconds)}"
    return Stop(RunTimeout.__name__, reason, TypeRunState.FAILED, is_timeout=True)


def stop_for(error: BaseException) -> Stop:
    """Returns the reason of a stop by *error*: an interrupt, the end of a step that runs this run, or our own error."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    name = type(error).__name__
    state = TypeRunState.FAILED if isinstance(error, Exception) else TypeRunState.INTERRUPTED
    return Stop(name, f"the run was ended by {name}: {error}".rstrip("."), state)
