"""ExecutorAsync: coroutine steps side by side in one event loop."""

import asyncio
from collections import deque
from collections.abc import Mapping

from dotflow.abc.executor import Crew, Executor, Report
from dotflow.core.call import Call
from dotflow.core.task import Task
from dotflow.providers.executor_thread import ThreadCrew
from dotflow.providers.pace import check_workers
from dotflow.worker.attempt_async import attempt_async
from dotflow.worker.coroutines import LoopThread


class ExecutorAsync(Executor):
    """Makes the attempts of coroutine steps side by side in one event loop, those of other steps in threads.

    Args:
        max_workers: How many threads there may be at once for steps that are no coroutines; max(32, 4 x cores)
            unless given. Coroutines are not limited.

    Raises:
        InvalidArgument: max_workers is no whole number from 1.
    """

    def __init__(self, max_workers: int | None = None) -> None:
        self.max_workers = check_workers(max_workers)

    def open(self, tasks: Mapping[int, Task], report: Report) -> Crew:
        """As Executor says."""
        return AsyncCrew(tasks, self.max_workers)


class AsyncCrew(ThreadCrew):
    """The event loop and the threads of one run."""

    def __init__(self, tasks: Mapping[int, Task], max_workers: int) -> None:
        super().__init__(tasks, max_workers)
        self._side: LoopThread | None = None
        self._new: deque[Call] = deque()
        self._running: set[asyncio.Task[None]] = set()

    def submit(self, call: Call) -> None:
        """As Crew says."""
        if not call.step.is_coroutine or call.step.isolate:
            super().submit(call)
            return
        self._side = self._side or LoopThread()
        self._new.append(call)
        if len(self._new) == 1:  # the loop wakes once for all that come before it gets there
            self._side.loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        assert self._side is not None
        while self._new:
            task = self._side.loop.create_task(self._make(self._new.popleft()))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _make(self, call: Call) -> None:
        self._done.put((None, call, await attempt_async(call, self._loops)))

    def close(self) -> None:
        """As Crew says."""
        super().close()
        if self._side is not None:
            self._side.close()
