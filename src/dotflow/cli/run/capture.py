"""Capturing all that steps print in the process of the command line, also by C code and child processes."""

from typing import TYPE_CHECKING, Final

from dotflow.abc.history import History
from dotflow.core.types.capture import TypeCapture
from dotflow.core.types.execution import TypeExecution

if TYPE_CHECKING:
    from dotflow.processes.scribe import Scribe

BY_DESCRIPTOR: Final = (TypeCapture.AUTO, TypeCapture.FD)


def captured(history: History | None, mode: object) -> "Scribe | None":
    """Returns a scribe for this process; None where the history does not want it or it is not possible.

    In parallel mode the workers' own are, and there is nothing to capture here.
    """
    if history is None or history.store is None or history.output_limit <= 0:
        return None
    if history.capture not in BY_DESCRIPTOR or mode == TypeExecution.PARALLEL:
        return None
    from dotflow.processes.scribe import make_scribe

    return make_scribe(history)
