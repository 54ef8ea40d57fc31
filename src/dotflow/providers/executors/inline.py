"""ExecutorInline: attempts in the thread that calls start()."""

import contextlib
import math
import threading
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from dotflow import clock
from dotflow.abc.executor import CompletedCall, Executor, ExecutorSession, Report
from dotflow.capture.session import CapturingSession, capture_here
from dotflow.core.call import Call
from dotflow.core.capture import Capture
from dotflow.core.outcome import Outcome
from dotflow.core.task import Task
from dotflow.worker import deadline_signal
from dotflow.worker.attempt import attempt, remember_process
from dotflow.worker.deadline import GRACE
from dotflow.worker.limits import has_timer_signal
from dotflow.worker.loops import Loops
from dotflow.worker.waiting import WakeupEvent

if TYPE_CHECKING:
    from dotflow.capture.session import RunCapture

REPORT_INTERVAL: Final = 10.0  # seconds between two reports of the same hang


class ExecutorInline(Executor):
    """Makes each attempt in the calling thread, without copies or new processes. Sequential mode's default."""

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
        self._isolated: ExecutorSession | None = None
        self._threads: ExecutorSession | None = None
        self._busy: ExecutorSession | None = None  # the other session that makes a call
        self._wakeup = WakeupEvent()
        self._has_signal = has_timer_signal()
        self._hang_reporter = HangReporter(report)
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
        if step.isolate:
            self._isolated = self._isolated or self._one_process()
            self._submit_to(self._isolated, call)
            return None
        seconds = step.policy.timeout
        if not seconds:
            return attempt(call, self._loops) if self._output is None else self._attempt(call)
        if not self._has_signal:
            self._threads = self._threads or self._one_thread()
            self._submit_to(self._threads, call)
            return None
        self._hang_reporter.start(call)
        try:
            return self._attempt(call)
        finally:
            self._hang_reporter.call = None

    def _attempt(self, call: Call) -> Outcome:
        if self._output is None or call.watch is None:
            return attempt(call, self._loops)
        self._output.begin(call.watch.attempt)
        try:
            return attempt(call, self._loops)
        finally:
            self._output.end(call.watch.attempt)

    def _one_process(self) -> ExecutorSession:
        from dotflow.providers.executors.process import ExecutorProcess  # slow to import, and rarely needed

        return self._captured(ExecutorProcess(max_workers=1).open(self._tasks, self._report))

    def _one_thread(self) -> ExecutorSession:
        from dotflow.providers.executors.thread import ExecutorThread  # slow to import, and rarely needed

        return self._captured(ExecutorThread(max_workers=1).open(self._tasks, self._report))

    def _captured(self, session: ExecutorSession) -> ExecutorSession:
        if self._capture is not None and isinstance(session, CapturingSession):
            session.capture_output(self._capture)
        return session

    def _submit_to(self, session: ExecutorSession, call: Call) -> None:
        pool = session.pool_of(call.step)
        while not session.make_room(pool, call.lane, 1):
            session.wait(None)
        session.submit(call)
        self._busy = session

    def wait(self, timeout: float | None) -> Sequence[CompletedCall]:
        if self._busy is None:
            self._wakeup.wait(timeout)
            return ()
        completed = self._busy.wait(timeout)
        if completed:
            self._busy = None
        return completed

    def wake(self) -> None:
        self._wakeup.set()
        for session in (self._isolated, self._threads):
            if session is not None:
                session.wake()

    def close(self) -> None:
        with contextlib.ExitStack() as stack:  # each is called, also if the one before is interrupted
            if self._has_signal:
                stack.callback(deadline_signal.restore_handler)
            if self._output is not None:
                stack.callback(self._output.close)
            stack.callback(self._loops.close)
            for session in (self._isolated, self._threads):
                if session is not None:
                    stack.callback(session.close)
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
        """Notes that an attempt with a timeout begins; setting `call` to None ends it."""
        grace = 2 * GRACE if call.step.is_coroutine else GRACE  # one is for its cancellation
        self._due = clock.ticks() + call.step.policy.timeout + grace
        self.call = call
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="dotflow-hang-reporter", daemon=True)
            self._thread.start()
        elif self._due < self._wakes_at:
            self._changed.set()

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
