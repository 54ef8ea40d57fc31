"""The runs of one schedule, in its own thread or in parallel, and the signals that end them."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import FrameType
from typing import Any, Final

from dotflow import clock
from dotflow.abc.log import Log
from dotflow.abc.workflow import NothingUnfinished, RunHandle, Workflow
from dotflow.core.attempt_id import triggered_by
from dotflow.core.failure import Failure
from dotflow.core.masks import environment_masks
from dotflow.core.types.execution import TypeExecution
from dotflow.core.types.status import TypeStatus
from dotflow.resume.choice import resume_of_schedule
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


UNFINISHED_RUN: Final = "unfinished run of before"
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

    With a resume, the runs of firings wait until an unfinished run of before has been finished.

    Another BaseException ends the schedule: sys.exit() in a callback, or a KeyboardInterrupt that no signal raised.

    Args:
        workflow: The workflow.
        arguments: The arguments of its start().
        signals: The signal handlers.
        wakeup: The event that the schedule waits for.
        wake: Sets it. Called at the end of a parallel run.
        is_ending: Returns whether no further run begins.
        params_at: Returns the run parameters of a firing; None where those of *arguments* are for all.
        earlier: With params_at, the firings before the first one, the newest first.

    Attributes:
        signals: The signal handlers.
        is_finishing: Whether the active run is an unfinished one of before.
        waiting: The firings whose runs begin when that has ended.
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
        earlier: Sequence[datetime] = (),
    ) -> None:
        self.workflow = workflow
        self.is_finishing = False
        self.waiting: list[datetime] = []
        self._resumes = resume_of_schedule(arguments.get("resume", False)) == "then_anew"
        self._arguments: Arguments = {**arguments, "resume": "anew"} if self._resumes else arguments
        self._params_at = params_at
        #: The arguments of the runs of before, of which the first unfinished one is finished.
        self._before: list[Arguments] = [] if params_at is not None else [self._arguments]
        for due in earlier if self._resumes else ():
            with contextlib.suppress(Exception):  # of the user's function: then there was no run either
                if (before := self._arguments_of(due)) not in self._before:
                    self._before.append(before)
        #: With params_at, the runs since the start that may be unfinished; None for one that could not begin.
        self._begun: list[tuple[Arguments, RunHandle | None]] = []
        self._has_begun = False
        self.signals = signals
        self._wakeup = wakeup
        self._wake = wake
        self._is_ending = is_ending
        self._parallel: set[RunHandle] = set()

    def _arguments_of(self, due: datetime) -> Arguments:
        return self._arguments if self._params_at is None else {**self._arguments, "params": self._params_at(due)}

    def _begin(self, due: datetime, run: Callable[[str, Arguments], RunHandle | None]) -> None:
        """Begins the run of a firing by `_run_here` or `_launch`, unless the schedule ends or its params raise."""
        if self._is_ending():
            self.report_dropped(due)
            return
        try:
            arguments = self._arguments_of(due)
        except Exception as error:  # of the user's function: the schedule goes on
            report(self.workflow, f"1 run of {due} dropped: its params raised {type(error).__name__}: {error}")
            return
        self._has_begun = True
        begun = arguments, run(f"run of {due}", arguments)
        if self._resumes and self._params_at is not None:
            self._begun = [*filter(_may_be_unfinished, self._begun), begun]

    def _to_finish(self) -> list[Arguments]:
        """Returns the arguments for the runs of before, of which the first unfinished one is finished.

        A run of this process with parameters of its own, which no later one replaces, is tried once again, also if it
        has saved nothing.
        """
        if not self._resumes:
            return []
        if self._params_at is None or not self._has_begun:
            return [{**arguments, "resume": "finish"} for arguments in self._before]
        unfinished = [*filter(_may_be_unfinished, self._begun)]
        self._begun = unfinished[1:]
        return [{**arguments, "resume": True} for arguments, _ in unfinished[:1]]

    def finish_here(self) -> None:
        """Finishes the last run in this thread if it is unfinished."""
        self.is_finishing = self._resumes
        try:
            for arguments in self._to_finish():
                with contextlib.suppress(NothingUnfinished):
                    self._run_here(UNFINISHED_RUN, arguments)
                    return
        finally:
            self.is_finishing = False

    def run_here(self, due: datetime) -> None:
        """Runs the workflow in this thread, and waits for a background run.

        In the main thread, a timeout can end a step during a wait. A second signal raises KeyboardInterrupt.
        """
        self.waiting.append(due)
        try:
            self.finish_here()
        finally:
            self.waiting.clear()
        self._begin(due, self._run_here)

    def _run_here(self, name: str, arguments: Arguments) -> RunHandle | None:
        signals, is_background = self.signals, arguments.get("mode") == TypeExecution.BACKGROUND
        try:
            signals.parallel = int(is_background)
            signals.interrupts = not is_background  # an interrupt between start and wait would leave it running
            if signals.count < 2:  # a second signal may have come just before
                with triggered_by("schedule"):
                    run = self.workflow.start(**arguments)
                if is_background:
                    self._wait_for(run)
                return run
        except NothingUnfinished:
            raise
        except Exception as error:  # the schedule goes on
            self._report_error(name, error)
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

    def finish(self) -> None:
        """Starts to finish the last run, beside this thread, if it is unfinished and nothing else is active."""
        for arguments in () if self._parallel else self._to_finish():
            with contextlib.suppress(NothingUnfinished):
                self.is_finishing = self._launch(UNFINISHED_RUN, arguments) is not None
                return

    def start(self, due: datetime) -> None:
        """Starts a parallel run, after the unfinished one of before."""
        self.waiting.append(due)  # first: the unfinished run may end before launch returns
        self.finish()
        if not self.is_finishing:
            self._start_waiting()

    def _launch(self, name: str, arguments: Arguments) -> RunHandle | None:
        self.signals.parallel = len(self._parallel) + 1  # first: steps may begin before launch returns
        try:
            with triggered_by("schedule"):
                run = self.workflow.launch(self._wake, **arguments)
                self._parallel.add(run)
                return run
        except NothingUnfinished:
            raise
        except Exception as error:  # the schedule goes on
            self._report_error(name, error)
        return None

    def count(self) -> int:
        """Returns the number of parallel runs, those that wait included; begins these when they may.

        Raises what ended one of them, unless it is an Exception.
        """
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
        if self.is_finishing and not self._parallel:
            self.is_finishing = False
            self._start_waiting()
        self.signals.parallel = len(self._parallel)
        return len(self._parallel) + len(self.waiting)

    def _start_waiting(self) -> None:
        while self.waiting:
            self._begin(self.waiting.pop(0), self._launch)

    def close(self) -> None:
        """Waits for the parallel runs. A second signal stops them. No further run begins."""
        self._is_ending = lambda: True
        try:
            while self.count() and self.signals.count < 2:
                clock.wait(self._wakeup.wait, None, self._wakeup.set)
        finally:
            while self.waiting:
                self.report_dropped(self.waiting.pop(0))
            self._stop()

    def _stop(self) -> None:
        for run in self._parallel:
            run.cancel()
        deadline = clock.ticks() + STOP_GRACE
        while (remaining := self.count()) and (seconds := deadline - clock.ticks()) > 0:
            self._wakeup.wait(seconds)
        if remaining:
            report(self.workflow, f"{remaining} runs did not end within {STOP_GRACE:g} s and were abandoned.")

    def report_dropped(self, due: datetime) -> None:
        """Reports a firing whose run doesn't begin any more."""
        report(self.workflow, f"1 run of {due} dropped, since the schedule ends.")

    def _report_error(self, name: str, error: Exception) -> None:
        traceback = Failure.of(error).traceback
        report(self.workflow, f"The {name} raised an error, and the schedule goes on:\n{traceback}")


def _may_be_unfinished(begun: tuple[Arguments, RunHandle | None]) -> bool:
    _, run = begun
    return run is None or run.status is not TypeStatus.COMPLETED
