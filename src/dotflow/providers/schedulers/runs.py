"""The runs of one schedule, in its own thread or in parallel."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from dotflow import clock
from dotflow.abc.log import Log
from dotflow.abc.workflow import RunHandle, Workflow
from dotflow.core.attempt_id import triggered_by
from dotflow.core.failure import Failure
from dotflow.core.masks import environment_masks
from dotflow.core.types.execution import TypeExecution
from dotflow.providers.schedulers.signals import ShutdownSignals
from dotflow.worker.waiting import WakeupEvent

STOP_GRACE: Final = 5.0  # seconds for parallel runs to end after they were cancelled; a run takes 1


def report(workflow: Workflow, message: str) -> None:
    """Writes a masked message to the workflow's log, or to Python's own logging if that raises."""
    log, message = workflow.config.log, environment_masks().mask(message)
    try:
        log.report(message)
    except Exception as broken:  # from the user's log: the schedule goes on
        Log.report(log, f"{message}\nThe log's own report raised {type(broken).__name__}: {broken}")


class ScheduledRuns:
    """The active runs. A run that raises an Exception is reported, and the schedule goes on.

    Another BaseException ends the schedule: sys.exit() in a callback, or a KeyboardInterrupt that no signal raised.

    Args:
        workflow: The workflow.
        arguments: The arguments of its start().
        signals: The signal handlers.
        wakeup: The event that the schedule waits for.
        wake: Sets it. Called at the end of a parallel run.
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
        """Runs the workflow in this thread, and waits for a background run.

        In the main thread, a timeout can end a step during a wait. A second signal raises KeyboardInterrupt.
        """
        signals, is_background = self._signals, self._arguments.get("mode") == TypeExecution.BACKGROUND
        try:
            signals.parallel = int(is_background)
            signals.interrupts = not is_background  # an interrupt between start and wait would leave it running
            if signals.count < 2:  # a second signal may have come just before
                with triggered_by("schedule"):
                    run = self.workflow.start(**self._arguments)
                if is_background:
                    self._wait_for(run)
        except Exception as error:  # the schedule goes on
            self._report_error(due, error)
        finally:
            signals.interrupts = False
            signals.parallel = 0

    def _wait_for(self, run: RunHandle) -> None:
        """Waits for a run in another thread. A second signal, which may have come before, interrupts it."""
        try:
            self._signals.interrupts = True
            if self._signals.count > 1:
                raise KeyboardInterrupt
            run.wait()
        except KeyboardInterrupt:
            run._interrupt_and_wait()  # does nothing if the wait itself was interrupted, which has done it
            raise

    def start(self, due: datetime) -> None:
        """Starts a parallel run."""
        self._signals.parallel = len(self._parallel) + 1  # first: steps may begin before launch returns
        try:
            with triggered_by("schedule"):
                self._parallel.add(self.workflow.launch(self._wake, **self._arguments))
        except Exception as error:  # the schedule goes on
            self._report_error(due, error)

    def count(self) -> int:
        """Returns the number of parallel runs. Raises what ended one of them, unless it is an Exception."""
        for run in tuple(self._parallel):
            try:
                is_over = run.wait(0)
            except Exception:  # reported by its own thread
                is_over = True
            except BaseException:  # such as sys.exit() in a callback: it ends the schedule
                self._parallel.discard(run)
                raise
            if is_over:
                self._parallel.discard(run)
        self._signals.parallel = len(self._parallel)
        return self._signals.parallel

    def close(self) -> None:
        """Waits for the parallel runs. A second signal stops them."""
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
            report(self.workflow, f"{remaining} runs did not end within {STOP_GRACE:g} s and were abandoned.")

    def _report_error(self, due: datetime, error: Exception) -> None:
        traceback = Failure.of(error).traceback
        report(self.workflow, f"The run of {due} raised an error, and the schedule goes on:\n{traceback}")
