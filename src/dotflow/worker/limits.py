"""Running something under a time limit, wherever the caller is."""

import signal
import threading
from collections.abc import Callable
from typing import Final, TypeVar

from dotflow.worker.deadline import Limit

T = TypeVar("T")

HAS_TIMER: Final = hasattr(signal, "setitimer")


def has_timer_signal() -> bool:
    """Whether the calling thread is the one that signals interrupt, on a system that has the timer for it."""
    return HAS_TIMER and threading.get_ident() == threading.main_thread().ident


def run_limited(limit: Limit, function: Callable[[], T]) -> T:
    """What *function* returns; raises DeadlinePassed of *limit* if it did not get there in time."""
    if has_timer_signal():
        from dotflow.worker.deadline_signal import run_with_signal

        return run_with_signal(limit, function)
    from dotflow.worker.deadline_thread import run_with_thread

    return run_with_thread(limit, function)
