"""The runs of one schedule, in its own thread or in parallel, and the signals that end them."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import partial
from types import FrameType
from typing import Any, Final

from dotflow import clock
from dotflow.abc.log import Log
from dotflow.abc.workflow import RunHandle, Workflow
from dotflow.core.attempt_id import triggered_by
from dotflow.core.failure import Failure
from dotflow.core.masks import environment_masks
from dotflow.core.schedule_rules import Active
from dotflow.core.types.execution import TypeExecution
from dotflow.core.types.run_state import TypeRunState
from dotflow.core.types.status import TypeStatus
from dotflow.errors import CheckpointMismatch, CheckpointUnreadable
from dotflow.providers.schedulers.firings import describe_dropped
from dotflow.worker.waiting import WakeupEvent

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

#: Written after the first signal, if a run is active.
NOTICE: Final = b"dotflow: the schedule ends after the active run. Press Ctrl-C again to stop that run.\n"


class ShutdownSignals:
    """A context that handles the two signals. It needs the main thread, the only one in which Python handles signals.

    A handler interrupts the main thread, which may be holding a lock. So it only sets attributes, wakes and writes by
    single calls into C, and raises on request. A signal that the program ignores, or handles outside of Python, stays
    as it is.

    Args:
        wake: Wakes the schedule. Called in the handler.
        notice: Written after the first signal, if a run is active.

    Attributes:
        count: How many signals have come.
        last: The last one.
        interrupts: Whether the second signal raises KeyboardInterrupt in the main thread, which runs the workflow.
        parallel: How many runs are active in other threads.
    """

    def __init__(self, wake: Callable[[], None], notice: bytes = NOTICE) -> None:
        self._notice = notice
        self.count = 0
        self.last = 0
        self.interrupts = False
        self.parallel = 0
        self._stderr = _descriptor_of_stderr()
        self._wake = wake
        self._process = os.getpid()
        self._previous: dict[int, Any] = {}
        self._restore = contextlib.ExitStack()

    def __enter__(self) -> "ShutdownSignals":
        if threading.current_thread() is threading.main_thread():
            try:
                for signum in SIGNALS:
                    self._replace_handler(signum)
            except BaseException:  # Ctrl-C between the two
                self._restore.close()
                raise
        return self

    def _replace_handler(self, signum: int) -> None:
        previous = signal.getsignal(signum)
        if previous in (None, signal.SIG_IGN):
            return
        self._previous[signum] = previous
        self._restore.callback(signal.signal, signum, previous)  # first: Ctrl-C may come right after the next line
        signal.signal(signum, self._handle)

    def __exit__(self, *raised: object) -> None:
        self.interrupts = False
        self._restore.close()  # each callback, even if a signal interrupts one

    def pass_on(self) -> None:
        """Gives the second signal, after the schedule's end, the effect that it has without a schedule.

        Raises KeyboardInterrupt after SIGINT. SIGTERM ends the process or calls the program's handler.
        """
        if self.count < 2:
            return
        if self.last == signal.SIGINT:
            raise KeyboardInterrupt
        signal.raise_signal(self.last)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a child that a step has forked
            signal.signal(signum, self._previous[signum])
            signal.raise_signal(signum)
            return
        self.count += 1
        self.last = signum
        self._wake()
        if self.count == 1 and (self.interrupts or self.parallel) and self._stderr is not None:
            with contextlib.suppress(OSError):  # stderr is closed
                os.write(self._stderr, self._notice)
        if self.count > 1 and self.interrupts:
            raise KeyboardInterrupt


def _descriptor_of_stderr() -> int | None:
    """Returns the descriptor, since a handler may interrupt a write to sys.stderr and can't use the object."""
    try:
        return None if sys.stderr is None else sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):  # it is closed, or no file
        return None


Arguments = Mapping[str, Any]
STOP_GRACE: Final = 5.0  # seconds for parallel runs to end after they were cancelled; a run takes 1


def report(workflow: Workflow, message: str) -> None:
    """Writes a masked message to the workflow's log, or to Python's own logging if that raises."""
    log = workflow.config.log
    try:
        masks = workflow.masks()
    except Exception:  # of the source of its secrets
        masks = environment_masks()
    try:
        log.report(masks.mask(message))
    except Exception as broken:  # from the user's log: the schedule goes on
        own = f"The log's own report raised {type(broken).__name__}: {broken}"
        Log.report(log, masks.mask(f"{message}\n{own}"))


class ScheduledRuns:
    """The active runs. A run that raises an Exception is reported, and the schedule goes on.

    With a resume, an unfinished run is finished before the scheduled run of its name.

    Another BaseException ends the schedule: sys.exit() in a callback, or a KeyboardInterrupt that no signal raised.

    Args:
        workflow: The workflow.
        arguments: The arguments of its start().
        signals: The signal handlers.
        wakeup: The event that the schedule waits for.
        wake: Sets it. Called at the end of a parallel run.
        is_ending: Returns whether no further run begins.
        params_at: Returns the run parameters of a firing; None where those of *arguments* are for all.

    Attributes:
        signals: The signal handlers.
    """

    def __init__(
        self,
        workflow: Workflow,
        arguments: Mapping[str, Any],
        signals: ShutdownSignals,
        wakeup: WakeupEvent,
        wake: Callable[[], None],
        is_ending: Callable[[], bool] = lambda: False,
        params_at: Callable[[datetime], Mapping[str, Any]] | None = None,
    ) -> None:
        self.workflow = workflow
        self._arguments = arguments
        self._params_at = params_at
        self.signals = signals
        self._wakeup = wakeup
        self._wake = wake
        self._is_ending = is_ending
        #: The parallel runs, each with its moment, and the arguments of the run that follows if it was an earlier one.
        self._parallel: dict[RunHandle, tuple[datetime, Arguments]] = {}

    def _arguments_of(self, due: datetime) -> Arguments | None:
        """Returns the arguments of a scheduled run; None for one that is dropped."""
        if self._is_ending():
            self.report_ending([due])
            return None
        try:
            return self._arguments if self._params_at is None else {**self._arguments, "params": self._params_at(due)}
        except Exception as error:  # of the user's function: the schedule goes on
            self.report_dropped([(due, f"its params raised {type(error).__name__}: {error}", True)])
            return None

    def _begin(self, start: Callable[..., RunHandle], arguments: Arguments) -> RunHandle:
        """Begins a run: a new one, where an unfinished one can't be finished."""
        try:
            return start(**arguments)
        except (CheckpointMismatch, CheckpointUnreadable) as error:
            if not arguments.get("resume"):
                raise
            report(self.workflow, f"The last run can't be finished: {error}")
            return start(**{**arguments, "resume": False})

    def _goes_on(self, run: RunHandle, due: datetime, arguments: Arguments) -> bool:
        """Returns whether a run has gone on with an unfinished one, and the scheduled run has yet to begin."""
        if not (arguments.get("resume") and run.has_restored):
            return False
        if run.status is not TypeStatus.COMPLETED:
            report(self.workflow, f"Run {run.run_id} is given up: it is unfinished, and a new run replaces it.")
        if not self._is_ending():
            return True
        self.report_ending([due])
        return False

    def active(self) -> list[Active]:
        """Returns the parallel runs."""
        self.count()
        return [Active(run.run_id, TypeRunState.RUNNING, due) for run, (due, _) in self._parallel.items()]

    def run_here(self, due: datetime) -> RunHandle | None:
        """Runs the workflow in this thread, and waits for a background run.

        In the main thread, a timeout can end a step during a wait. A second signal raises KeyboardInterrupt.

        Returns:
            The run; None where none has begun.
        """
        arguments = self._arguments_of(due)
        run = None if arguments is None else self._run_here(due, arguments)
        if run is not None and arguments is not None and self._goes_on(run, due, arguments):
            run = self._run_here(due, {**arguments, "resume": False})
        return run

    def _run_here(self, due: datetime, arguments: Arguments) -> RunHandle | None:
        signals, is_background = self.signals, arguments.get("mode") == TypeExecution.BACKGROUND
        try:
            signals.parallel = int(is_background)
            signals.interrupts = not is_background  # an interrupt between start and wait would leave it running
            if signals.count < 2:  # a second signal may have come just before
                with triggered_by("schedule"):
                    run = self._begin(self.workflow.start, arguments)
                if is_background:
                    self._wait_for(run)
                return run
        except Exception as error:  # the schedule goes on
            self._report_error(due, error)
        finally:
            signals.interrupts = False
            signals.parallel = 0
        return None

    def _wait_for(self, run: RunHandle) -> None:
        """Waits for a run in another thread. A second signal, which may have come before, interrupts it."""
        try:
            self.signals.interrupts = True
            if self.signals.count > 1:
                raise KeyboardInterrupt
            run.wait()
        except KeyboardInterrupt:
            run.interrupt_and_wait()  # does nothing if the wait itself was interrupted, which has done it
            raise

    def start(self, due: datetime) -> None:
        """Starts a parallel run."""
        arguments = self._arguments_of(due)
        if arguments is not None:
            self._launch(due, arguments)

    def _launch(self, due: datetime, arguments: Arguments) -> None:
        self.signals.parallel = len(self._parallel) + 1  # first: steps may begin before launch returns
        try:
            with triggered_by("schedule"):
                run = self._begin(partial(self.workflow.launch, self._wake), arguments)
                self._parallel[run] = due, arguments
        except Exception as error:  # the schedule goes on
            self._report_error(due, error)

    def count(self) -> int:
        """Returns the number of parallel runs. Of one that has finished an earlier run, the scheduled run begins.

        Raises what ended one of them, unless it is an Exception.
        """
        for run, (due, arguments) in tuple(self._parallel.items()):
            try:
                is_over = run.wait(0)
            except Exception:  # reported by its own thread
                is_over = True
            except BaseException:  # such as sys.exit() in a callback: it ends the schedule
                del self._parallel[run]
                raise
            if is_over:
                del self._parallel[run]
                if self._goes_on(run, due, arguments):
                    self._launch(due, {**arguments, "resume": False})
        self.signals.parallel = len(self._parallel)
        return len(self._parallel)

    def close(self) -> None:
        """Waits for the parallel runs. A second signal stops them. No further run begins."""
        self._is_ending = lambda: True
        try:
            while self.count() and self.signals.count < 2:
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

    def report_dropped(self, dropped: Iterable[tuple[datetime, str, bool]]) -> None:
        """Reports scheduled runs that are dropped, as `describe_dropped` takes them."""
        for text, _ in describe_dropped(dropped):
            report(self.workflow, text)

    def report_ending(self, planned: Iterable[datetime]) -> None:
        """Reports scheduled runs that don't begin any more."""
        self.report_dropped((moment, "the schedule ends", False) for moment in planned)

    def _report_error(self, due: datetime, error: Exception) -> None:
        traceback = Failure.of(error).traceback
        report(self.workflow, f"The run of {due} raised an error, and the schedule goes on:\n{traceback}")
