"""ExecutorAsync: coroutine steps side by side in one event loop."""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Final

from dotflow import clock
from dotflow.abc.executor import CompletedCall, Executor, ExecutorSession, Report
from dotflow.core.action import AnyAction
from dotflow.core.call import Call
from dotflow.core.failure import Failure
from dotflow.core.outcome import Interrupted, Outcome, Raised
from dotflow.core.task import Task
from dotflow.errors import EventLoopBlocked
from dotflow.processes import failures
from dotflow.processes.dispatcher import check_workers
from dotflow.providers.executors.thread import ThreadSession, WorkerThread
from dotflow.worker.attempt_async import attempt_async
from dotflow.worker.coroutines import LoopThread
from dotflow.worker.deadline import GRACE, LEFT_BEHIND
from dotflow.worker.interrupts import interrupts_held

BATCH: Final = 256  # coroutines that begin together, at most
FIRST_BATCH: Final = 16
BATCH_TIME: Final = 0.01  # seconds: after a batch that took longer, with its log records, the next one is smaller


class ExecutorAsync(Executor):
    """Makes the attempts of coroutine steps side by side in one event loop, those of other steps in threads.

    Args:
        max_workers: The maximum number of coroutines at once, and of threads for other steps. By default coroutines are
            not limited, and there are at most max(32, 4 x cores) threads.

    Raises:
        InvalidArgument: max_workers is not a whole number from 1.
    """

    keeps_calls = True

    def __init__(self, max_workers: int | None = None) -> None:
        self.max_workers: int = check_workers(max_workers)
        self._max_coroutines = math.inf if max_workers is None else max_workers

    def open(self, tasks: Mapping[int, Task], report: Report) -> ExecutorSession:
        return AsyncSession(tasks, self.max_workers, self._max_coroutines, report)


class AsyncSession(ThreadSession):
    """The event loop and the threads of one run: one pool for coroutines, one for all other steps."""

    def __init__(self, tasks: Mapping[int, Task], max_workers: int, max_coroutines: float, report: Report) -> None:
        super().__init__(tasks, max_workers, report)
        self._loop_thread: LoopThread | None = None
        self._max_coroutines = max_coroutines
        self._has_deadlines = False
        self._gathers = self._is_full = False
        self._batch = FIRST_BATCH
        self._gathered_at = 0.0
        self._gathered: list[Call] = []  # of coroutines
        self._for_threads: list[tuple[WorkerThread, Call]] = []
        self._pending: deque[Call] = deque()  # that the loop begins next
        # The running coroutines, each with the time when it is late; infinity without a timeout. The keys are unique,
        # since a task's next attempt may begin while an abandoned one still runs.
        self._running: dict[object, tuple[Call, float]] = {}

    def pool_of(self, step: AnyAction) -> Hashable:
        return step.is_coroutine and not step.is_apart

    def make_room(self, pool: Hashable, lane: int, waiting: int) -> bool:
        if not pool:
            return super().make_room(pool, lane, waiting)
        self._is_full = len(self._gathered) >= self._batch
        return not self._is_full and self._coroutines < self._max_coroutines and self._done.empty()

    def room_left(self, pool: Hashable) -> float:
        return self._max_coroutines - self._coroutines if pool else super().room_left(pool)

    def gather(self) -> Callable[[], None]:
        self._gathers = True
        return self._begin_gathered

    def submit(self, call: Call) -> None:
        if self.pool_of(call.step):
            self._coroutines += 1
            if not self._gathered:
                self._gathered_at = clock.ticks()
            self._gathered.append(call)
        else:
            self._for_threads.append((self._take(call), call))
        if not self._gathers:
            self._begin_gathered()

    def _begin_gathered(self) -> None:
        """Begins what was submitted. The loop wakes once for all coroutines."""
        if self._for_threads:
            calls, self._for_threads = self._for_threads, []
            for thread, call in calls:
                thread.put(call)
        if not self._gathered:
            return
        took = clock.ticks() - self._gathered_at  # meanwhile, outcomes had to wait
        self._batch = min(BATCH, self._batch * 2) if took <= BATCH_TIME else max(1, self._batch // 2)
        gathered, self._gathered = self._gathered, []
        self._pending.extend(gathered)
        if 0 < len(self._pending) <= len(gathered):  # else the loop wakes for earlier ones
            self._begin_soon()

    def wait(self, timeout: float | None) -> Sequence[CompletedCall]:
        if self._is_full:  # more may begin at once
            self._is_full = False
            timeout = 0
        return super().wait(timeout)

    def _begin_soon(self) -> None:
        if self._loop_thread is None:
            with interrupts_held():
                self._loop_thread = LoopThread()
            self._loop_thread.start()
        self._loop_thread.loop.call_soon_threadsafe(self._begin, self._loop_thread)

    def _begin(self, loop_thread: LoopThread) -> None:
        has_deadlines = False
        pending, tasks, create_task = self._pending, loop_thread.tasks, loop_thread.loop.create_task
        while pending and loop_thread is self._loop_thread:  # an abandoned loop begins nothing
            call = pending.popleft()
            seconds = call.step.policy.timeout
            late = math.inf
            if seconds:
                has_deadlines, late = True, clock.ticks() + seconds + 2 * GRACE
            key = object()
            self._running[key] = call, late
            tasks[key] = create_task(self._make(call, key, loop_thread))
        if has_deadlines:  # so that `wait` sees them
            self._has_deadlines = True
            self.wake()

    async def _make(self, call: Call, key: object, loop_thread: LoopThread) -> None:
        """Makes an attempt. Any exception becomes an outcome, since the run waits for one."""
        outcome: Outcome
        if self._streams is not None and call.watch is not None:
            self._streams.begin(call.watch.attempt)
        try:
            outcome = await attempt_async(call, self._loops, lambda: self._returned(key))
        except KeyboardInterrupt:
            outcome = Interrupted()
        except asyncio.CancelledError:  # the run is stopping
            raise
        except BaseException as error:  # anything else that the attempt raises
            outcome = Raised(Failure.of(error))
        finally:
            loop_thread.tasks.pop(key, None)
        if self._running.pop(key, None) is not None:
            self._done.put((None, call, outcome))

    def _returned(self, key: object) -> None:
        """Ends the time of a coroutine that has returned: what follows is no part of its step."""
        if key in self._running:
            self._running[key] = self._running[key][0], math.inf

    def _due(self) -> float:
        due = super()._due()
        if not self._has_deadlines:
            return due
        return min(due, *(abandon_at for _, abandon_at in tuple(self._running.values())), math.inf)

    def _abandon_late(self, completed: list[CompletedCall]) -> None:
        super()._abandon_late(completed)
        now = clock.ticks()
        loop_thread = self._loop_thread if self._has_deadlines else None  # else no look at each coroutine
        if loop_thread is None or not any(abandon_at <= now for _, abandon_at in tuple(self._running.values())):
            return
        self._loop_thread = None
        abandoned, self._running = self._running, {}
        self._coroutines -= len(abandoned)
        for call, abandon_at in abandoned.values():
            self._end_output(call)
            blocked = Raised(Failure("EventLoopBlocked", str(EventLoopBlocked())))
            completed.append((call, failures.timed_out(call, LEFT_BEHIND) if abandon_at <= now else blocked))
        loop_thread.abandon()
        if self._pending:  # the abandoned loop would have begun them
            self._begin_soon()

    def close(self) -> None:
        try:
            super().close()
        finally:
            if self._loop_thread is not None:
                self._loop_thread.close()
                self._collect_last()
