"""Mishaps: outcomes that no worker has sent, since it died, was killed, or could not be understood; and its prints."""

import contextlib
import sys
from typing import Final

from dotflow.core.call import Call
from dotflow.core.failure import Failure
from dotflow.core.outcome import Died, Raised, TimedOut
from dotflow.errors import NotPicklable, StepTimeout, WorkerDied, WorkerNotStarted
from dotflow.processes.channel import STDOUT
from dotflow.worker.deadline import GRACE

KILLED: Final = f"It did not stop by itself within {GRACE:g} s, so its worker process was killed."


def not_sent(call: Call, error: Exception) -> Raised:
    """What a worker was to be given could not be pickled, which runs the value's own methods."""
    not_picklable = NotPicklable(call.step.name, "What is given to a worker", f"{type(error).__name__}: {error}")
    return Raised(*_parts_of(call, not_picklable, "NotPicklable"))


def not_read(call: Call, error: Exception) -> Raised:
    """What a worker returned could not be unpickled, which runs the value's own methods."""
    not_picklable = NotPicklable(call.step.name, "The value returned", f"{type(error).__name__}: {error}")
    retry, note = call.step.policy.should_retry(not_picklable)
    return Raised(Failure.of(error, name="NotPicklable", message=f"{not_picklable} {note}".rstrip()), (), retry)


def not_started(call: Call, reason: str) -> Died:
    """No worker could be started."""
    return Died(*_parts_of(call, WorkerNotStarted(call.step.name, reason), "WorkerNotStarted"))


def died(call: Call, exit_code: int | None, lost: str = "") -> Died:
    """The worker has ended; the arguments are those of WorkerDied."""
    return Died(*_parts_of(call, WorkerDied(call.step.name, exit_code, lost), "WorkerDied"))


def timed_out(call: Call, what_was_done: str) -> TimedOut:
    """The time was up, and the step did not end by itself; *what_was_done* says what became of it."""
    not_picklable = StepTimeout(call.step.name, call.step.policy.timeout, what_was_done)
    return TimedOut(*_parts_of(call, not_picklable, "TimeoutError"))


def _parts_of(call: Call, error: Exception, name: str) -> tuple[Failure, tuple[Failure, ...], bool | float]:
    """What an outcome is made of. The step's retry_on is asked here, since there is no worker that could."""
    retry, note = call.step.policy.should_retry(error)
    return Failure(name, f"{error} {note}".rstrip()), (), retry


def write_out(kind: int, data: bytes) -> None:
    """Writes what a worker has printed to where the caller's own prints go."""
    stream = sys.stdout if kind == STDOUT else sys.stderr
    with contextlib.suppress(OSError, ValueError):  # the caller has closed it
        stream.write(data.decode("utf-8", "surrogatepass"))
