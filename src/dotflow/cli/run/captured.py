"""Capturing all that steps print in the process of the command line, also by C code and child processes."""

from contextlib import AbstractContextManager, nullcontext
from typing import Final

from dotflow.abc.history import History
from dotflow.core.types.capture import TypeCapture
from dotflow.core.types.execution import TypeExecution

BY_DESCRIPTOR: Final = (TypeCapture.AUTO, TypeCapture.FD)


def captured(history: History | None, mode: object) -> AbstractContextManager[object]:
    """Returns a context in which the descriptors 1 and 2 are captured, if the history wants it and it is possible.

    In parallel mode the workers' own are, and there is nothing to capture here.
    """
    if history is None or history.store is None or history.output_limit <= 0:
        return nullcontext()
    if history.capture not in BY_DESCRIPTOR or mode == TypeExecution.PARALLEL:
        return nullcontext()
    from dotflow.processes.scribe import Scribe, can_capture

    return Scribe(history) if can_capture() else nullcontext()
