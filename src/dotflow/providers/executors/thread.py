"""ExecutorThread: attempts in threads of this process."""

import math
import queue
import threading
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING

from dotflow import clock
from dotflow.abc.executor import CompletedCall, Executor, ExecutorSession, Report
from dotflow.capture.capturing_session import CapturingSession, capture_here
from dotflow.capture.output_buffer import OutputBuffer
from dotflow.core.call import Call
from dotflow.core.capture import Capture
from dotflow.core.events import AttemptOutput
from dotflow.core.outcome import Interrupted, Outcome
from dotflow.core.task import Task
from dotflow.processes import failures
from dotflow.processes.dispatcher import Dispatcher, check_workers
from dotflow.processes.process_session import ProcessSession
from dotflow.worker.attempt import attempt
from dotflow.worker.deadline import GRACE, GRACE_IN_THREAD, LEFT_BEHIND, REPEAT
from dotflow.worker.deadline_thread import stop_thread
from dotflow.worker.files import MAKER, Maker
from dotflow.worker.loops import Loops
from dotflow.worker.programs import ThreadPrograms
from dotflow.worker.waiting import longest_sleep

if TYPE_CHECKING:
    from dotflow.capture.capturing_session import RunCapture


class ExecutorThread(Executor):
    """Makes attempts in threads, side by side and without copying values.

    A timeout ends a step at its next Python line. The thread of a step that is stuck in C code is left behind, as its
    TaskError says. Coroutine steps share one event loop.

    Args:
        max_workers: The maximum number of threads; max(32, 4 x cores) unless given.

    Raises:
        InvalidArgument: max_workers is not a whole number from 1.
    """

    keeps_calls = True

    def __init__(self, max_workers: int | None = None) -> None:
        self.max_workers: int = check_workers(max_workers)

    def open(self, tasks: Mapping[int, Task], report: Report) -> ExecutorSession:
        return ThreadSession(tasks, self.max_workers, report)


class ThreadSession(ExecutorSession, CapturingSession):
    """The threads of one run. They are daemons, so that the interpreter can always exit."""

    def __init__(self, tasks: Mapping[int, Task], max_workers: int, report: Report) -> None:
        self._tasks = tasks
        self._report = report
        self._max_workers = max_workers
        self._dispatcher: Dispatcher[WorkerThread] = Dispatcher(self._start_thread, max_workers)
        self._busy: set[WorkerThread] = set()
        self._threads: set[WorkerThread] = set()
        self._loops = Loops(own_thread=True)
        self._done: queue.SimpleQueue[_Done] = queue.SimpleQueue()
        self._capture: Capture | None = None
        self._streams: RunCapture | None = None
        self._buffers: set[OutputBuffer] = set()  # with something to collect
        self._last: list[CompletedCall] = []  # since the run has stopped
        self._coroutines = 0  # of an event loop, whose outcomes `wait` has not returned

    def capture_output(self, capture: Capture) -> bool:
        self._capture = capture
        self._streams = capture_here(capture, self._done.put, one_at_a_time=self._max_workers == 1)
        return False

    def make_room(self, pool: Hashable, lane: int, waiting: int) -> bool:
        # Outcomes are handled first: a failure decides what still begins.
        return self._done.empty() and self._dispatcher.make_room(lane)

    def room_left(self, pool: Hashable) -> float:
        return self._dispatcher.room_left()

    def submit(self, call: Call) -> None:
        self._take(call).put(call)

    def _take(self, call: Call) -> "WorkerThread":
        """Returns the thread that will make the call."""
        thread = self._dispatcher.take(call.lane)
        assert thread is not None, "make_room was asked before"
        if isinstance(thread, OSError):
            raise thread
        self._busy.add(thread)
        return thread

    def wait(self, timeout: float | None) -> Sequence[CompletedCall]:
        completed: list[CompletedCall] = []
        until = min(self._due(), math.inf if timeout is None else clock.ticks() + timeout)
        try:
            self._collect(self._next(until), completed)
            while True:
                self._collect(self._done.get_nowait(), completed)
        except queue.Empty:
            self._abandon_late(completed)
            if self._buffers:
                self._collect_buffers()
        return completed

    def _next(self, until: float) -> "_Done":
        """Waits for what is done next; raises queue.Empty at that time."""
        while True:
            try:
                return self._done.get(timeout=min(longest_sleep(), max(0.0, until - clock.ticks())))
            except queue.Empty:
                if clock.ticks() >= until:
                    raise

    def wake(self) -> None:
        self._done.put(None)

    def leave(self, lane: int) -> None:
        self._dispatcher.leave(lane)

    def close(self) -> None:
        """A thread that is stuck in C code ends when that returns."""
        until = clock.ticks() + GRACE
        left = set(self._threads)
        while left and clock.ticks() < until:
            for thread in left:
                thread.stop()
            again = min(clock.ticks() + REPEAT, until)
            for thread in left:
                if thread.ident is not None:
                    thread.join(max(0.0, again - clock.ticks()))
            left = {thread for thread in left if thread.is_alive()}
        for thread in left:
            if thread.call is not None:
                self._report(f"Step '{thread.call.step.name}' did not stop with its run. {LEFT_BEHIND}")
        self._loops.close()
        self._collect_last()
        if self._streams is not None:
            self._streams.close()

    def _collect_last(self) -> None:
        while not self._done.empty():  # output may be among it
            self._collect(self._done.get(), self._last)

    def last_outcomes(self) -> Sequence[CompletedCall]:
        return self._last

    def _start_thread(self) -> "WorkerThread":
        thread = WorkerThread(self._done, self._loops, self._tasks, self._capture, self._streams)
        self._threads.add(thread)  # first, so that `close` finds it after an interrupt
        try:
            thread.start()
        except RuntimeError as error:  # can't start new thread
            self._threads.discard(thread)
            raise OSError(str(error)) from error
        return thread

    def _collect(self, done: "_Done", completed: list[CompletedCall]) -> None:
        if done is None:
            return
        if isinstance(done, OutputBuffer):
            self._buffers.add(done)
            return
        if isinstance(done, AttemptOutput):
            assert self._capture is not None
            self._capture.record(done)
            return
        thread, call, outcome = done
        if thread is None:
            self._coroutines -= 1
        elif thread not in self._busy:
            return  # it was abandoned, and its outcome is late
        else:
            self._busy.discard(thread)
            self._dispatcher.release(thread)
        self._end_output(call)
        completed.append((call, outcome))

    def _end_output(self, call: Call) -> None:
        if self._streams is not None and call.watch is not None:
            self._streams.end(call.watch.attempt)

    def _collect_buffers(self) -> None:
        now = clock.ticks()
        for buffer in tuple(self._buffers):
            if buffer.due is not None and buffer.due <= now:
                self._buffers.discard(buffer)
                buffer.collect()

    def _due(self) -> float:
        """Returns when the first thread is late, or output is to be collected; infinity for never."""
        times = [thread.abandon_at for thread in self._busy]
        times += [buffer.due for buffer in self._buffers if buffer.due is not None]
        return min(times, default=math.inf)

    def _abandon_late(self, completed: list[CompletedCall]) -> None:
        now = clock.ticks()
        for thread in [busy for busy in self._busy if busy.abandon_at <= now]:
            self._busy.discard(thread)
            self._threads.discard(thread)
            self._dispatcher.remove(thread)
            call = thread.call
            assert call is not None
            self._end_output(call)
            completed.append((call, failures.timed_out(call, LEFT_BEHIND)))
            thread.put(None)


class WorkerThread(threading.Thread):
    """A thread that makes one attempt after the other."""

    def __init__(
        self,
        done: "queue.SimpleQueue[_Done]",
        loops: Loops,
        tasks: Mapping[int, Task],
        capture: Capture | None,
        streams: "RunCapture | None",
    ) -> None:
        super().__init__(name="dotflow-worker", daemon=True)
        # What a process of an isolated step prints is for the thread of the run, which alone settles the history.
        self._capture = None if capture is None else capture._replace(record=done.put, settle=int)
        self._streams = streams
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._done = done
        self._loops = loops
        self._tasks = tasks
        self._isolated: ProcessSession | None = None
        self._ending = False
        self._programs: ThreadPrograms | None = None
        self.call: Call | None = None
        self.abandon_at = math.inf

    def put(self, call: Call | None) -> None:
        """Gives the thread its next call; None ends it."""
        if call is None:
            self._calls.put(None)
            return
        self.call = call
        seconds = call.step.policy.timeout
        # A coroutine is dropped by its loop, an isolated step is killed: neither occupies this thread for longer.
        limited = seconds and not call.step.is_apart
        grace = 2 * GRACE if call.step.is_coroutine else GRACE_IN_THREAD
        self.abandon_at = clock.ticks() + seconds + grace if limited else math.inf
        self._calls.put(call)

    def stop(self) -> None:
        """Ends the thread: at once when it is idle, else at the step's next Python line."""
        self._ending = True
        self.put(None)
        if self._isolated is not None:
            self._isolated.wake()
        elif self.call is not None and self.ident is not None and self._programs is not None:
            stop_thread(self.ident, self._programs)

    def run(self) -> None:
        """Makes attempts until the thread is stopped."""
        clock.attempt_threads.add(threading.get_ident())
        try:
            MAKER.set(Maker())
            self._make_attempts()
        except BaseException:  # raised by `stop`, or an error of dotflow's
            if not self._ending:
                raise
        finally:
            clock.attempt_threads.discard(threading.get_ident())

    def _make_attempts(self) -> None:
        while (call := self._calls.get()) is not None and not self._ending:
            self._programs = ThreadPrograms()
            try:
                outcome = self._attempt_isolated(call) if call.step.is_apart else self._attempt(call)
            except KeyboardInterrupt:
                outcome = Interrupted()
            self._programs = None
            if outcome is not None:
                self.call = None
                self._done.put((self, call, outcome))

    def _attempt(self, call: Call) -> Outcome:
        if self._streams is not None and call.watch is not None:
            self._streams.begin(call.watch.attempt)
        return attempt(call, self._loops, self._returned)

    def _returned(self) -> None:
        """Ends the time of a step that has returned: what follows is no part of it."""
        self.abandon_at = math.inf

    def _attempt_isolated(self, call: Call) -> Outcome | None:
        isolated = self._isolated = ProcessSession(self._tasks, 1, "forkserver")  # no fork among threads
        if self._capture is not None:
            isolated.capture_output(self._capture)
        try:
            isolated.make_room(True, call.lane, 1)
            isolated.submit(call)
            while not self._ending:
                for _, outcome in isolated.wait(None):
                    return outcome
        finally:
            isolated.close()
            self._isolated = None
        return next((outcome for _, outcome in isolated.last_outcomes()), None)


#: None wakes the thread that waits.
_Done = tuple[WorkerThread | None, Call, Outcome] | OutputBuffer | AttemptOutput | None
