"""Capturing all that steps print in the process of the command line, also by C code and child processes."""

import os
import sys
import threading
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
    if history.capture not in BY_DESCRIPTOR or mode == TypeExecution.PARALLEL or not _can_fork():
        return nullcontext()
    from dotflow.processes.scribe import Scribe

    return Scribe(history)


def _can_fork() -> bool:
    """Returns whether the streams are those of the process, and no other thread runs Python code."""
    if os.name != "posix" or threading.active_count() > 1:
        return False
    try:
        return sys.stdout.fileno() == 1 and sys.stderr.fileno() == 2
    except (AttributeError, OSError, ValueError):  # None, closed or redirected
        return False
