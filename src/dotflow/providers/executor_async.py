"""ExecutorAsync: coroutine steps side by side in one event loop."""

import asyncio
import math
from collections import deque
from collections.abc import Mapping

from dotflow import clock
from dotflow.abc.executor import Answer, Crew, Executor, Report
from dotflow.core.call import Call
from dotflow.core.failure import Failure
from dotflow.core.outcome import Interrupted, Outcome, Raised
from dotflow.core.task import Task
from dotflow.errors import LoopLost
from dotflow.providers import mishaps
from dotflow.providers.executor_thread import ThreadCrew
from dotflow.providers.pace import check_workers
from dotflow.worker.attempt_async import attempt_async
from dotflow.worker.coroutines import LoopThread
from dotflow.worker.deadline import GRACE, LEFT_BEHIND


class ExecutorAsync(Executor):
    """Makes the attempts of coroutine steps side by side in one event loop, those of other steps in threads.

    Args:
        max_workers: How many threads there may be at once for steps that are no coroutines; max(32, 4 x cores)
            unless given. Coroutines are not limited.

    Raises:
        InvalidArgument: max_workers is no whole number from 1.
    """

    def __init__(self, max_workers: int | None = None) -> None:
        self.max_workers: int = check_workers(max_workers)

    def open(self, tasks: Mapping[int, Task], report: Report) -> Crew:
        """As Executor says."""
        return AsyncCrew(tasks, self.max_workers, report)


class AsyncCrew(ThreadCrew):
    """The event loop and the threads of one run."""

    def __init__(self, tasks: Mapping[int, Task], max_workers: int, report: Report) -> None:
        super().__init__(tasks, max_workers, report)
        self._side: LoopThread | None = None
        self._new: deque[Call] = deque()
        # The coroutines that run, each with when it is late; infinity where there is no timeout. The key is nobody
        # else's, since a task's next attempt may begin while one that was left behind still goes on.
        self._running: dict[object, tuple[Call, float]] = {}

    def submit(self, call: Call) -> None:
        """As Crew says."""
        if not call.step.is_coroutine or call.step.isolate:
            super().submit(call)
            return
        if self._side is None:
            self._side = LoopThread()
            self._side.start()
        self._new.append(call)
        if len(self._new) == 1:  # the loop wakes once for all that come before it gets there
            self._side.loop.call_soon_threadsafe(self._begin, self._side)

    def _begin(self, side: LoopThread) -> None:
        while self._new:
            call = self._new.popleft()
            seconds = call.step.policy.timeout
            key = object()
            self._running[key] = call, clock.ticks() + seconds + 2 * GRACE if seconds else math.inf
            task = side.loop.create_task(self._make(call, key))
            side.tasks.add(task)
            task.add_done_callback(side.tasks.discard)
        self.wake()  # there may be deadlines that `wait` has not heard of

    async def _make(self, call: Call, key: object) -> None:
        """Whatever leaves the attempt is an answer: without one the run would wait for ever."""
        outcome: Outcome
        try:
            outcome = await attempt_async(call, self._loops)
        except KeyboardInterrupt:
            outcome = Interrupted()
        except asyncio.CancelledError:  # the run is being stopped
            raise
        except BaseException as error:  # whatever it is, the run goes on with it
            outcome = Raised(Failure.of(error))
        if self._running.pop(key, None) is not None:
            self._done.put((None, call, outcome))

    def _until(self, timeout: float | None) -> float | None:
        limit = super()._until(timeout)
        late_at = min((late_at for _, late_at in tuple(self._running.values())), default=math.inf)
        if late_at == math.inf:
            return limit
        seconds = max(0.0, late_at - clock.ticks())
        return seconds if limit is None else min(seconds, limit)

    def _leave_late_behind(self, answers: list[Answer]) -> None:
        super()._leave_late_behind(answers)
        now = clock.ticks()
        side = self._side
        if side is None or not any(late_at <= now for _, late_at in tuple(self._running.values())):
            return
        self._side = None
        lost, self._running = self._running, {}
        for call, late_at in lost.values():
            if late_at <= now:
                answers.append((call, mishaps.late(call, LEFT_BEHIND)))
            else:
                answers.append((call, Raised(Failure("LoopLost", str(LoopLost())))))
        side.leave_behind()

    def close(self) -> None:
        """As Crew says."""
        try:
            super().close()
        finally:
            if self._side is not None:
                self._side.close()
