"""The event loop of a run, which all its coroutine steps share."""

import threading
from collections.abc import Coroutine
from typing import Any, Protocol

from dotflow.cpython import has_running_loop
from dotflow.worker.deadline import Limit, LoopBlocked
from dotflow.worker.interrupts import interrupts_held


class Loop(Protocol):
    """Runs coroutines for callers that are not coroutines themselves."""

    def run(self, coroutine: Coroutine[Any, Any, Any], limit: Limit) -> Any:
        """Returns what the coroutine returns; raises DeadlinePassed of *limit* after its seconds, unless they are 0."""

    def close(self) -> None:
        """Ends what still runs."""


class Loops:
    """The event loop of a run. It is made, and asyncio imported, for the first coroutine.

    It runs in the calling thread, or in a thread of its own if the calling thread already runs a loop.

    Args:
        own_thread: Run it in a thread of its own in any case, to serve several threads.
    """

    def __init__(self, own_thread: bool = False) -> None:
        self._own_thread = own_thread
        self._lock = threading.Lock()
        self._loop: Loop | None = None
        self._is_closed = False

    def run(self, coroutine: Coroutine[Any, Any, Any], limit: Limit) -> Any:
        """The next coroutine after one that has blocked the loop gets a new loop. After `close`, none begins."""
        with self._lock:
            loop = self._loop or self._make(coroutine)
        try:
            return loop.run(coroutine, limit)
        except LoopBlocked:
            with self._lock:
                if self._loop is loop:
                    self._loop = None
            raise

    def _make(self, coroutine: Coroutine[Any, Any, Any]) -> Loop:
        from dotflow.worker.coroutines import InlineLoop, LoopThread
        from dotflow.worker.deadline_thread import Stopped

        if self._is_closed:  # the run has ended, but not the thread of its step
            coroutine.close()
            raise Stopped
        if self._own_thread or has_running_loop():
            with interrupts_held():
                self._loop = thread = LoopThread()
            thread.start()
        else:
            self._loop = InlineLoop()
        return self._loop

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
        if self._loop is not None:
            self._loop.close()
        self._loop = None
