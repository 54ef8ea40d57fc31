"""ScheduledRuns: the runs of one schedule; in its own thread, or side by side."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from dotflow import clock
from dotflow.abc.log import Log
from dotflow.abc.workflow import RunHandle, Workflow
from dotflow.core.failure import Failure
from dotflow.processes.wakeup import WakeupEvent
from dotflow.providers.schedulers.signals import ShutdownSignals

STOP_GRACE: Final = 5.0  # seconds that runs side by side have to end after they were cancelled; a run itself takes 1


def report(workflow: Workflow, message: str) -> None:
    """Writes a line into the workflow's log; into Python's own logging, should that raise."""
    log = workflow.config.log
    try:
        log.report(message)
    except Exception as broken:  # somebody else's code, and the schedule goes on
        Log.report(log, f"{message}\nThe log's own report raised {type(broken).__name__}: {broken}")


class ScheduledRuns:
    """What is running. A run that raises is reported, and that is all.

    What is more than an error (sys.exit() in a callback, a KeyboardInterrupt that no signal raised) ends the schedule.

    Args:
        workflow: What is run.
        arguments: Those of its start().
        farewell: Who hears of signals.
        wakeup: What the schedule waits for.
        ring: Rings it; called when a run beside others is over.
    """

    def __init__(
        self,
        workflow: Workflow,
        arguments: Mapping[str, Any],
        signals: ShutdownSignals,
        wakeup: WakeupEvent,
        wake: Callable[[], None],
    ) -> None:
        self.workflow = workflow
        self._arguments = arguments
        self._signals = signals
        self._wakeup = wakeup
        self._wake = wake
        self._parallel: set[RunHandle] = set()

    def run_here(self, due: datetime) -> None:
        """Makes a run here, and returns when it is over; one in the background is waited for.

        In this thread, since in the main one a timeout can end a step in the middle of a wait. A second signal raises
        KeyboardInterrupt in it.
        """
        try:
            self._signals.interrupts = True
            if self._signals.count < 2:  # else it came just before
                self.workflow.start(**self._arguments).wait()
        except Exception as error:  # a border: the schedule goes on, whatever becomes of one run
            self._report_error(due, error)
        finally:
            self._signals.interrupts = False

    def start(self, due: datetime) -> None:
        """Starts a run beside those that go on."""
        self._signals.parallel = len(self._parallel) + 1  # first: its steps may begin before launch returns
        try:
            self._parallel.add(self.workflow.launch(self._wake, **self._arguments))
        except Exception as error:  # a border: the schedule goes on, whatever becomes of one run
            self._report_error(due, error)

    def count(self) -> int:
        """How many go on beside each other. Raises what is more than an error, where it ended one of them."""
        for run in tuple(self._parallel):
            try:
                is_over = run.wait(0)
            except Exception:  # its own thread has reported it
                is_over = True
            except BaseException:  # it is meant for whoever waits for the run
                self._parallel.discard(run)
                raise
            if is_over:
                self._parallel.discard(run)
        self._signals.parallel = len(self._parallel)
        return self._signals.parallel

    def close(self) -> None:
        """Waits for what goes on; a second signal ends it."""
        try:
            while self.count() and self._signals.count < 2:
                clock.wait(self._wakeup.wait, None, self._wakeup.set)
        finally:
            self._stop()

    def _stop(self) -> None:
        for run in self._parallel:
            run.cancel()
        deadline = clock.ticks() + STOP_GRACE
        while (remaining := self.count()) and (seconds := deadline - clock.ticks()) > 0:
            self._wakeup.wait(seconds)
        if remaining:
            report(self.workflow, f"{remaining} runs did not end within {STOP_GRACE:g} s, and were left behind.")

    def _report_error(self, due: datetime, error: Exception) -> None:
        traceback = Failure.of(error).traceback
        report(self.workflow, f"The run of {due} ended by an error, and the schedule goes on:\n{traceback}")
