"""Runs in threads of their own, and their end with the interpreter."""

import atexit
import contextlib
import contextvars
import signal
import sys
import threading
from collections.abc import Callable
from typing import Final

from dotflow import clock
from dotflow.core.failure import Failure
from dotflow.core.types.status import TypeStatus
from dotflow.cpython import call_before_threads_are_joined, end_as_interrupted, set_mask
from dotflow.engine.run import Run, interrupt_and_wait
from dotflow.worker.interrupts import in_forked_child, interrupts_held
from dotflow.worker.waiting import Waiters

RECORD_PATIENCE: Final = 1.0  # seconds for a history to save that a run has begun

_running: Final[set[Run]] = set()
_waiters: Final = Waiters()  # for the end of runs, and until one is recorded
_registered: Final = threading.Lock()  # taken once and never given back


def start_in_background(
    run: Run,
    then: Callable[[], object] = lambda: None,
    *,
    is_recorded: bool = False,
    when_recorded: Callable[[], None] | None = None,
) -> None:
    """Runs it in a non-daemon thread, for which a script waits at its end.

    After an interrupt here the caller never gets the run, so it is stopped.

    Args:
        run: The run.
        then: Called at its end.
        is_recorded: Whether to return when its history has saved that it has begun, but after RECORD_PATIENCE at most.
        when_recorded: Called in its thread then, and again at its end.
    """
    if _registered.acquire(blocking=False):
        # Python waits for threads at its end, but first it closes all thread pools, which steps may need.
        call_before_threads_are_joined(_wait_for_all)
        atexit.register(_interrupt_left)

    participant = clock.join()
    is_recorded = is_recorded and run._providers.history is not None
    is_noted = is_recorded or when_recorded is not None
    begun = threading.Lock()  # taken by the thread, or by the caller that gives it up
    recorded = threading.Event()
    mask = set_mask(signal.SIG_BLOCK, ())

    def note_recorded() -> None:
        recorded.set()
        _waiters.wake()
        if when_recorded is not None:
            when_recorded()

    def work() -> None:
        set_mask(signal.SIG_SETMASK, mask)
        if not begun.acquire(blocking=False):
            return
        with participant:
            try:
                run.execute(note_recorded if is_noted else None)
            except KeyboardInterrupt:  # expected, and the run keeps it for its waiters
                pass
            except BaseException as error:  # the run keeps it for its waiters, but may never have one
                run._log_line(f"An error ended the run {run.run_id}:\n{Failure.of(error).traceback}", None)
            finally:
                note_recorded()
                _remove(run)
                then()

    try:
        _running.add(run)
        run.status = TypeStatus.IN_PROGRESS  # for the caller, even if the thread begins late
        # In a copy of the caller's context variables: to a tracer, the run's span is a child of the caller's.
        thread = threading.Thread(target=contextvars.copy_context().run, args=(work,), name="dotflow-run")
        with interrupts_held():  # after one within `start`, the thread could wait for its lock for ever
            thread.start()
        if is_recorded:
            _waiters.wait_until(recorded.is_set, RECORD_PATIENCE)
    except BaseException:  # too many threads, or an interrupt, which may come before or after the thread's beginning
        if begun.acquire(blocking=False):
            with participant:
                _remove(run)
            run.status = TypeStatus.NOT_STARTED
            run.release()
        else:
            run.interrupt_and_wait()
        raise


def _remove(run: Run) -> None:
    _running.discard(run)
    _waiters.wake()


def _wait_for_all() -> None:
    """Waits for all runs at the end of the program's main thread. Ctrl-C, before or meanwhile, stops them."""
    if getattr(sys, "last_type", None) is KeyboardInterrupt:
        interrupt_all()
        return
    with contextlib.suppress(KeyboardInterrupt):
        _wait(None)
        return
    with contextlib.suppress(KeyboardInterrupt):
        interrupt_all()
    end_as_interrupted()


def _interrupt_left() -> None:
    """Stops what still runs when Python has waited for all: Ctrl-C came right before, where it is only printed."""
    if _running:
        with contextlib.suppress(KeyboardInterrupt):
            interrupt_all()
        end_as_interrupted()


def interrupt_all() -> None:
    """Stops all background runs as Ctrl-C does, and waits for their end. A second interrupt stops their cleanup."""
    interrupt_and_wait(_running, _wait)


def _wait(seconds: float | None) -> None:
    """Waits until no run is left. Not with Thread.join(): Ctrl-C there makes Python 3.11 lose the thread."""
    _waiters.wait_until(lambda: not _running, seconds)


in_forked_child(_running.clear)  # only their threads' process waits for them
