"""What became of a replay, compared with the attempt of then."""

from bdb import BdbQuit
from collections.abc import Iterator, Mapping
from typing import Any, Final

from dotflow.cli.formatting import one_line
from dotflow.cli.history.text import safe
from dotflow.codec.canonical import digest
from dotflow.core.durations import format_duration
from dotflow.core.failure import Failure
from dotflow.core.masks import Masks
from dotflow.core.outcome import Outcome, Raised, Returned, TimedOut
from dotflow.core.types.attempt_state import TypeAttemptState
from dotflow.records.glimpse import glimpse
from dotflow.records.record import AttemptRecord, ErrorRecord, ValueRecord

WIDTH: Final = 80  # columns
MAX_ERROR: Final = 73  # characters of an error, after `then: `

#: The state of an attempt -> what it is called.
ENDINGS: Final[Mapping[TypeAttemptState, str]] = {
    TypeAttemptState.COMPLETED: "returned",
    TypeAttemptState.RUNNING: "still running",
}


def ending_of(outcome: Outcome, then: AttemptRecord, returned: ValueRecord | None, seconds: float) -> str:
    """Returns how a replay has ended. *returned* is the copy of the value of *then*; None if it was not kept."""
    if isinstance(outcome, Returned):
        comparison = ""
        if returned is not None and returned.digest and then.state is TypeAttemptState.COMPLETED:
            comparison = " the same" if _digest(outcome.value) == returned.digest else " another value"
        return f"returned{comparison} ({format_duration(seconds)})"
    assert isinstance(outcome, Raised | TimedOut)
    return "the debugger ended it" if outcome.failure.exception == BdbQuit.__name__ else _error(outcome.failure)


def result_lines(outcome: Outcome, then: AttemptRecord, ending: str, masks: Masks) -> Iterator[str]:
    """Yields the value or the traceback without secrets, and how it ended then and now."""
    if isinstance(outcome, Returned):
        yield f"returned {glimpse(outcome.value, masks)}"
    elif isinstance(outcome, Raised | TimedOut) and outcome.failure.exception != BdbQuit.__name__:
        yield from map(safe, masks.mask(outcome.failure.traceback).splitlines())
    failed = _error(then.errors[-1]) if then.errors else str(then.state).lower()
    before = ENDINGS.get(then.state, failed)
    line = f"then: {before}, now: {ending}"
    yield from [line] if len(line) <= WIDTH else [f"then: {before},", f"now: {ending}"]


def _error(error: Failure | ErrorRecord) -> str:
    return one_line(f"{error.exception}: {error.message}".rstrip(": "), MAX_ERROR)


def _digest(value: Any) -> str:
    try:
        return digest(value)
    except Exception:  # it can't be stored, or its own code raises
        return ""
