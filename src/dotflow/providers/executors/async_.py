"""ExecutorAsync: coroutine steps side by side in one event loop."""

import asyncio
import math
from collections import deque
from collections.abc import Hashable, Mapping
from typing import Any

from dotflow import clock
from dotflow.abc.executor import CompletedCall, Executor, ExecutorSession, Report
from dotflow.core.action import Action
from dotflow.core.call import Call
from dotflow.core.failure import Failure
from dotflow.core.outcome import Interrupted, Outcome, Raised
from dotflow.core.task import Task
from dotflow.errors import EventLoopBlocked
from dotflow.processes import failures
from dotflow.processes.scaling import check_workers
from dotflow.providers.executors.thread import ThreadSession, _Thread
from dotflow.worker.attempt_async import attempt_async
from dotflow.worker.coroutines import LoopThread
from dotflow.worker.deadline import GRACE, LEFT_BEHIND
from dotflow.worker.interrupts import interrupts_held


class ExecutorAsync(Executor):
    """Makes the attempts of coroutine steps side by side in one event loop, those of other steps in threads.

    Args:
        max_workers: How many coroutines there may be at once, and how many threads for other steps. Unless given,
            coroutines are not limited, and there are at most max(32, 4 x cores) threads.

    Raises:
        InvalidArgument: max_workers is no whole number from 1.
    """

    def __init__(self, max_workers: int | None = None) -> None:
        self.max_workers: int = check_workers(max_workers)
        self._most_coroutines = math.inf if max_workers is None else max_workers

    def open(self, tasks: Mapping[int, Task], report: Report) -> ExecutorSession:
        return AsyncSession(tasks, self.max_workers, self._most_coroutines, report)


class AsyncSession(ThreadSession):
    """The event loop and the threads of one run. Its pools are those of coroutines, and of all other steps."""

    def __init__(self, tasks: Mapping[int, Task], max_workers: int, most_coroutines: float, report: Report) -> None:
        super().__init__(tasks, max_workers, report)
        self._side: LoopThread | None = None
        self._most = most_coroutines
        self._has_deadlines = False
        self._count = 0  # of coroutines whose end `wait` has not told of
        self._new: deque[Call] = deque()
        # The coroutines that run, each with when it is late; infinity where there is no timeout. The key is nobody
        # else's, since a task's next attempt may begin while one that was left behind still goes on.
        self._running: dict[object, tuple[Call, float]] = {}

    def pool_of(self, step: Action[..., Any]) -> Hashable:
        return step.is_coroutine and not step.isolate

    def make_room(self, pool: Hashable, lane: int, waiting: int) -> bool:
        if pool:
            return self._count < self._most and self._done.empty()
        return super().make_room(pool, lane, waiting)

    def submit(self, call: Call) -> None:
        if not self.pool_of(call.step):
            super().submit(call)
            return
        self._count += 1
        self._new.append(call)
        if len(self._new) == 1:  # the loop wakes once for all that come before it gets there
            self._begin_soon()

    def _begin_soon(self) -> None:
        if self._side is None:
            with interrupts_held():
                self._side = LoopThread()
            self._side.start()
        self._side.loop.call_soon_threadsafe(self._begin, self._side)

    def _begin(self, side: LoopThread) -> None:
        has_deadlines = False
        while self._new and side is self._side:  # one that was left behind begins nothing
            call = self._new.popleft()
            seconds = call.step.policy.timeout
            has_deadlines = has_deadlines or seconds > 0
            key = object()
            self._running[key] = call, clock.ticks() + seconds + 2 * GRACE if seconds else math.inf
            side.tasks[key] = side.loop.create_task(self._make(call, key, side))
        if has_deadlines:  # of which `wait` has not heard
            self._has_deadlines = True
            self.wake()

    async def _make(self, call: Call, key: object, side: LoopThread) -> None:
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
        finally:
            side.tasks.pop(key, None)
        if self._running.pop(key, None) is not None:
            self._done.put((None, call, outcome))

    def _take(self, done: tuple[_Thread | None, Call, Outcome] | None, answers: list[CompletedCall]) -> None:
        if done is not None and done[0] is None:
            self._count -= 1
        super()._take(done, answers)

    def _until(self, timeout: float | None) -> float | None:
        limit = super()._until(timeout)
        if not self._has_deadlines:
            return limit
        late_at = min((late_at for _, late_at in tuple(self._running.values())), default=math.inf)
        if late_at == math.inf:
            return limit
        seconds = max(0.0, late_at - clock.ticks())
        return seconds if limit is None else min(seconds, limit)

    def _leave_late_behind(self, answers: list[CompletedCall]) -> None:
        super()._leave_late_behind(answers)
        now = clock.ticks()
        side = self._side
        if side is None or not any(late_at <= now for _, late_at in tuple(self._running.values())):
            return
        self._side = None
        lost, self._running = self._running, {}
        self._count -= len(lost)
        for call, late_at in lost.values():
            if late_at <= now:
                answers.append((call, failures.late(call, LEFT_BEHIND)))
            else:
                answers.append((call, Raised(Failure("EventLoopBlocked", str(EventLoopBlocked())))))
        side.leave_behind()
        if self._new:  # that loop would have begun them
            self._begin_soon()

    def close(self) -> None:
        try:
            super().close()
        finally:
            if self._side is not None:
                self._side.close()
