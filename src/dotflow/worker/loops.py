"""Where coroutines run. One event loop serves all coroutine steps of a run."""

import threading
from collections.abc import Coroutine
from typing import Any, Protocol

from dotflow.cpython import has_running_loop
from dotflow.worker.deadline import Limit, LoopBlocked
from dotflow.worker.interrupts import interrupts_held


class Loop(Protocol):
    """Runs coroutines for callers that are not coroutines themselves."""

    def run(self, coroutine: Coroutine[Any, Any, Any], limit: Limit) -> Any:
        """What the coroutine returns; raises DeadlinePassed of *limit* after its seconds, unless these are 0."""

    def close(self) -> None:
        """Ends what still runs."""


class Loops:
    """The event loop of a run, made when the first coroutine needs it; so is the import of asyncio.

    It is in the calling thread where that is free for it, and in a thread of its own elsewhere.

    Args:
        own_thread: Always in a thread of its own, to serve several threads.
    """

    def __init__(self, own_thread: bool = False) -> None:
        self._own_thread = own_thread
        self._lock = threading.Lock()
        self._loop: Loop | None = None

    def run(self, coroutine: Coroutine[Any, Any, Any], limit: Limit) -> Any:
        """As Loop says. After a loop that was left behind comes a new one."""
        with self._lock:
            loop = self._loop or self._make()
        try:
            return loop.run(coroutine, limit)
        except LoopBlocked:
            with self._lock:
                if self._loop is loop:
                    self._loop = None
            raise

    def _make(self) -> Loop:
        from dotflow.worker.coroutines import InlineLoop, LoopThread

        if self._own_thread or has_running_loop():
            with interrupts_held():
                self._loop = thread = LoopThread()
            thread.start()
        else:
            self._loop = InlineLoop()
        return self._loop

    def close(self) -> None:
        if self._loop is not None:
            self._loop.close()
        self._loop = None
