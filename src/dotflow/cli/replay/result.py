"""What became of a replay, compared with the attempt of then."""

from bdb import BdbQuit
from collections.abc import Iterator, Mapping
from typing import Any, Final

from dotflow.cli.formatting import one_line
from dotflow.codec.canonical import digest
from dotflow.core.durations import format_duration
from dotflow.core.failure import Failure
from dotflow.core.masks import Masks
from dotflow.core.outcome import Outcome, Raised, Returned, TimedOut
from dotflow.core.record import AttemptRecord, ErrorRecord, ValueRecord
from dotflow.core.types.attempt_state import TypeAttemptState
from dotflow.providers.histories.sqlite.glimpse import glimpse

WIDTH: Final = 80  # columns

#: The state of an attempt -> what it is called.
ENDINGS: Final[Mapping[TypeAttemptState, str]] = {
    TypeAttemptState.COMPLETED: "returned",
    TypeAttemptState.RUNNING: "still running",
}


def result_lines(
    outcome: Outcome, then: AttemptRecord, returned: ValueRecord | None, seconds: float, masks: Masks
) -> Iterator[str]:
    """Yields the value or the traceback, and then and now on the last line, or the last two.

    Args:
        outcome: The outcome.
        then: The attempt of then.
        returned: The copy of its value; None if it was not kept.
        seconds: How long the replay took.
        masks: The secrets, which no line shows.
    """
    now = "returned"
    if isinstance(outcome, Returned):
        yield f"returned {glimpse(outcome.value, masks)}"
        if returned is not None and returned.digest and then.state is TypeAttemptState.COMPLETED:
            now += " the same" if _digest(outcome.value) == returned.digest else " another value"
    elif isinstance(outcome, Raised | TimedOut):
        failure = outcome.failure
        now = masks.mask(_error(failure)) if failure.exception != BdbQuit.__name__ else "the debugger ended it"
        if failure.traceback and failure.exception != BdbQuit.__name__:
            yield masks.mask(failure.traceback.rstrip("\n"))
    errors = then.errors
    failed = _error(errors[-1]) if errors else str(then.state).lower()
    before, now = ENDINGS.get(then.state, failed), f"{now} ({format_duration(seconds)})"
    line = f"then: {before}, now: {now}"
    if len(line) <= WIDTH:
        yield line
    else:
        yield f"then: {before},\nnow: {now}"


def _error(error: Failure | ErrorRecord) -> str:
    return one_line(f"{error.exception}: {error.message}".rstrip(": "))


def _digest(value: Any) -> str:
    try:
        return digest(value)
    except Exception:  # it can't be stored, or its own code raises
        return ""
