"""Outcomes that the parent makes: of workers that died, were killed or sent what can't be loaded."""

from collections.abc import Sequence
from typing import Final

from dotflow.core.call import Call
from dotflow.core.failure import Failure
from dotflow.core.outcome import Died, Outcome, Raised, TimedOut, Usage
from dotflow.errors import MemoryExceeded, ModuleNotOnWorker, NotPicklable, StepTimeout, WorkerDied, WorkerNotStarted
from dotflow.worker.deadline import GRACE

HERE: Final = "in sequential mode, or with Config(executor=ExecutorThread())"
KILLED: Final = f"It did not stop by itself within {GRACE:g} s, so its worker process was killed."


def not_sent(call: Call, error: Exception) -> Raised:
    """Returns the outcome of a call that could not be pickled: that runs methods of its values."""
    raised = NotPicklable(call.step.name, "The step or its input", f"{type(error).__name__}: {error}", HERE)
    return Raised(*_parts_of(call, raised, "NotPicklable"))


def not_read(call: Call, error: Exception) -> Raised:
    """Returns the outcome of a call whose value could not be unpickled: that runs the value's own methods."""
    raised = NotPicklable(call.step.name, "The value returned", f"{type(error).__name__}: {error}", HERE)
    retry, note = call.step.policy.should_retry(raised)
    return Raised(Failure.of(error, name="NotPicklable", message=f"{raised} {note}".rstrip()), (), retry)


def may_be_unread(outcome: Outcome) -> bool:
    """Returns whether a worker may have failed to load the call, and so has not kept what came with it."""
    return isinstance(outcome, Raised) and outcome.failure.exception in (
        NotPicklable.__name__,
        ModuleNotOnWorker.__name__,
    )


def not_started(call: Call, reason: str) -> Died:
    """Returns the outcome of a call for which no worker could be started."""
    return Died(*_parts_of(call, WorkerNotStarted(call.step.name, reason), "WorkerNotStarted"))


def died(call: Call, exit_code: int | None, lost: str = "", usage: Usage | None = None, last_output: str = "") -> Died:
    """Returns the outcome of a call whose worker has ended; the arguments are those of WorkerDied."""
    peak = None if usage is None else usage.peak
    error = WorkerDied(call.step.name, exit_code, lost, peak, last_output)
    return Died(*_parts_of(call, error, "WorkerDied"), _watched(call, usage))


def exceeded(call: Call, excess: Sequence[int], usage: Usage | None = None) -> Died:
    """Returns the outcome of a call that was killed for its memory; the arguments are the fields of an Excess."""
    error = MemoryExceeded(call.step.name, call.step.policy.memory or 0, *excess)
    return Died(*_parts_of(call, error, "MemoryExceeded"), _watched(call, usage))


def timed_out(call: Call, note: str, usage: Usage | None = None) -> TimedOut:
    """Returns the outcome of a call whose step did not end in time; *note* says how it ended."""
    error = StepTimeout(call.step.name, call.step.policy.timeout, note)
    return TimedOut(*_parts_of(call, error, "TimeoutError"), _watched(call, usage))


def _watched(call: Call, usage: Usage | None) -> Usage | None:
    """Returns the usage where the history asks for it."""
    return None if call.watch is None else usage


def _parts_of(call: Call, error: Exception, name: str) -> tuple[Failure, tuple[Failure, ...], bool | float]:
    """Returns an outcome's fields. The step's retry_on is called here, since no worker could."""
    retry, note = call.step.policy.should_retry(error)
    return Failure(name, f"{error} {note}".rstrip()), (), retry
