"""ExecutorInline: attempts in the thread that calls start()."""

import contextlib
import math
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from dotflow import clock
from dotflow.abc.executor import ArrivedCall, CompletedCall, Executor, ExecutorSession, Report
from dotflow.capture.capturing_session import CapturingSession, capture_here
from dotflow.core.call import Call
from dotflow.core.capture import Capture
from dotflow.core.outcome import Outcome
from dotflow.core.task import Task
from dotflow.worker.attempt import attempt, remember_process
from dotflow.worker.deadline import GRACE, has_timer_signal, restore_handler
from dotflow.worker.files import MAKER, Maker
from dotflow.worker.loops import Loops
from dotflow.worker.waiting import WakeupEvent

if TYPE_CHECKING:
    from dotflow.capture.capturing_session import RunCapture

REPORT_INTERVAL: Final = 10.0  # seconds between two reports of the same hang


class ExecutorInline(Executor):
    """Makes each attempt in the calling thread, without copies or new processes. Sequential mode's default."""

    keeps_calls = True

    def open(self, tasks: Mapping[int, Task], report: Report) -> ExecutorSession:
        return InlineSession(tasks, report)


class InlineSession(ExecutorSession, CapturingSession):
    """The calling thread, and another executor's session for the steps that it can't run or interrupt."""

    def __init__(self, tasks: Mapping[int, Task], report: Report) -> None:
        self._tasks = tasks
        self._report = report
        self._loops = Loops()
        self._capture: Capture | None = None
        self._output: RunCapture | None = None
        self._others: dict[bool, ExecutorSession] = {}  # of one process, and of one thread
        self._busy: ExecutorSession | None = None  # the other session that makes a call
        self._wakeup = WakeupEvent()
        self._hang_reporter: HangReporter | None = None
        self._maker_before = MAKER.get()  # of a step that runs this workflow
        MAKER.set(Maker())
        remember_process()

    def capture_output(self, capture: Capture) -> bool:
        self._capture = capture
        self._output = capture_here(capture)
        return False

    def make_room(self, pool: Hashable, lane: int, waiting: int) -> bool:
        return self._busy is None

    def submit(self, call: Call) -> Outcome | None:
        """Returns None only for an isolated step, and outside the main thread for one with a timeout."""
        step = call.step
        seconds = step.policy.timeout
        if step.is_apart or (seconds and not has_timer_signal()):
            session = self._other(step.is_apart)
            pool = session.pool_of(step)
            while not session.make_room(pool, call.lane, 1):
                session.wait(None)
            session.submit(call)
            self._busy = session
            return None
        if not seconds:
            return attempt(call, self._loops) if self._output is None else self._attempt(call)
        reporter = self._hang_reporter = self._hang_reporter or HangReporter(self._report)
        reporter.start(call)
        try:
            return self._attempt(call, reporter.end)
        finally:
            reporter.call = None

    def _attempt(self, call: Call, returned: Callable[[], object] = int) -> Outcome:
        if self._output is None or call.watch is None:
            return attempt(call, self._loops, returned)
        self._output.begin(call.watch.attempt)
        try:
            return attempt(call, self._loops, returned)
        finally:
            self._output.end(call.watch.attempt)

    def _other(self, isolated: bool) -> ExecutorSession:
        if isolated not in self._others:
            executor: Executor
            if isolated:  # slow to import, and rarely needed, both of them
                from dotflow.providers.executors.process import ExecutorProcess

                executor = ExecutorProcess(max_workers=1)
            else:
                from dotflow.providers.executors.thread import ExecutorThread

                executor = ExecutorThread(max_workers=1)
            session = self._others[isolated] = executor.open(self._tasks, self._report)
            if self._capture is not None and isinstance(session, CapturingSession):
                session.capture_output(self._capture)
        return self._others[isolated]

    def wait(self, timeout: float | None) -> Sequence[ArrivedCall]:
        if self._busy is None:
            self._wakeup.wait(timeout)
            return ()
        completed = self._busy.wait(timeout)
        if completed:
            self._busy = None
        return completed

    def wake(self) -> None:
        self._wakeup.set()
        for session in tuple(self._others.values()):
            session.wake()

    def last_outcomes(self) -> Sequence[CompletedCall]:
        return () if self._busy is None else self._busy.last_outcomes()

    def close(self) -> None:
        with contextlib.ExitStack() as stack:  # each is called, also if the one before is interrupted
            stack.callback(restore_handler)
            stack.callback(MAKER.set, self._maker_before)
            if self._output is not None:
                stack.callback(self._output.close)
            stack.callback(self._loops.close)
            for session in self._others.values():
                stack.callback(session.close)
            if self._hang_reporter is not None:
                stack.callback(self._hang_reporter.close)


class HangReporter:
    """Reports a step that hangs after its timeout, while it hangs.

    Its thread sleeps until a deadline. An attempt with a later one does not wake it.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self._wakes_at = math.inf
        self._changed = WakeupEvent()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._due = 0.0
        self.call: Call | None = None

    def start(self, call: Call) -> None:
        """Notes that an attempt with a timeout begins."""
        grace = 2 * GRACE if call.step.is_coroutine else GRACE  # one is for its cancellation
        self._due = clock.ticks() + call.step.policy.timeout + grace
        self.call = call
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="dotflow-hang-reporter", daemon=True)
            self._thread.start()
        elif self._due < self._wakes_at:
            self._changed.set()

    def end(self) -> None:
        """Notes that the step has returned."""
        self.call = None

    def close(self) -> None:
        """Ends its thread."""
        self._closed = True
        self._changed.set()
        if self._thread is not None:
            self._thread.join(GRACE)

    def _work(self) -> None:
        while not self._closed:
            self._wakes_at = math.inf  # first: an attempt that begins after this line sets the event
            call, due = self.call, self._due
            seconds: float | None = None
            if call is not None:
                seconds = due - clock.ticks()
                if seconds <= 0:
                    self._report(
                        f"Step '{call.step.name}' is still running after its timeout of "
                        f"{call.step.policy.timeout:g} s: its code can't be interrupted. "
                        f"Use @action(isolate=True) to run it in a process that can be killed."
                    )
                    seconds = REPORT_INTERVAL
                self._wakes_at = clock.ticks() + seconds
            self._changed.wait(seconds)
