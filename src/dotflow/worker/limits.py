"""Running a function under a time limit, in any thread."""

import signal
import threading
from collections.abc import Callable
from typing import Final, TypeVar

from dotflow.worker.deadline import Limit

T = TypeVar("T")

HAS_TIMER: Final = hasattr(signal, "setitimer")


def has_timer_signal() -> bool:
    """Returns whether a timer's signal can interrupt the calling thread: only the main one, where there are timers."""
    return HAS_TIMER and threading.get_ident() == threading.main_thread().ident


def run_limited(limit: Limit, function: Callable[[], T]) -> T:
    """Returns what *function* returns; raises DeadlinePassed of *limit* if that takes too long."""
    if has_timer_signal():
        from dotflow.worker.deadline_signal import run_with_signal

        return run_with_signal(limit, function)
    from dotflow.worker.deadline_thread import run_with_thread

    return run_with_thread(limit, function)
