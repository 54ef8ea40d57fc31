"""The outcome of one attempt, as plain data, which can be sent between processes.

`retry` is the result of the step's `retry_on`: True, False, or the seconds until the next attempt. None means that it
was not called. `usage` is None unless the call has a `watch`.

Named tuples, not frozen dataclasses, which cost three times as much: there is one for every attempt.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final, NamedTuple

from dotflow.core.failure import Failure
from dotflow.core.files import FileRecord

#: The notes of attempts of durable steps, which no keyword of `note` can have: how many calls they have kept, and were
#: given back. They are progress, as values are.
CALLS_KEPT: Final = "calls kept"
CALLS_GIVEN: Final = "calls given back"
#: A number or a text that a step has noted.
Note = float | str


class Usage(NamedTuple):
    """What an attempt used, as far as it was measured, and what it has noted.

    Attributes:
        cpu: Seconds of CPU time, its child processes included.
        peak: The peak of the process's resident memory, in bytes.
        worker: The id of the process that made the attempt.
        notes: What its step has noted, by name; None for nothing.
        used: What it has used of limits and budgets, by unit; None for nothing.
    """

    cpu: float | None = None
    peak: int | None = None
    worker: int | None = None
    notes: Mapping[str, Note] | None = None
    used: Mapping[str, float] | None = None


class Returned(NamedTuple):
    """The step returned. `repeated` are the failures of a class's own actions that were repeated in the attempt.

    `files` is None where the value has no path, and no file was made, changed or taken.
    """

    value: Any
    repeated: tuple[Failure, ...] = ()
    usage: Usage | None = None
    files: FileRecord | None = None


class Failed(NamedTuple):
    """The attempt failed."""

    failure: Failure
    repeated: tuple[Failure, ...] = ()
    retry: bool | float | None = None
    usage: Usage | None = None


class Raised(Failed):
    """The step raised an exception, or its arguments or result could not be pickled."""

    __slots__ = ()


class TimedOut(Failed):
    """The step was stopped at its timeout."""

    __slots__ = ()


class Died(Failed):
    """The step's worker process ended during the attempt."""

    __slots__ = ()


class TypePark(Enum):
    """Why an attempt has left its worker before its end."""

    POLL = "poll"  # its step was not ready, and is asked again
    THROTTLED = "throttled"  # a service has refused it
    PAUSE = "pause"  # the run pauses
    WAIT = "wait"  # all that is left of a durable step waits for moments, or for answers


class Parked(NamedTuple):
    """The attempt has left its worker before its end, and goes on later as the same attempt.

    Attributes:
        reason: Why.
        note: What a step with `poll` has raised NotYet with; of THROTTLED the name of the limit.
        due: Of WAIT, and of THROTTLED where the service says so: the seconds until it goes on; None where only an
            answer lets it.
        asked: Of WAIT: the keys of the calls that wait for answers.
    """

    reason: TypePark
    note: str = ""
    repeated: tuple[Failure, ...] = ()
    usage: Usage | None = None
    due: float | None = None
    asked: tuple[str, ...] = ()


class NotBegun(NamedTuple):
    """The attempt has not begun: the session gives its call back, to be submitted again when there is room."""


class Running(NamedTuple):
    """The attempt, which was submitted before it could begin, runs since this time of the monotonic clock."""

    began: float


class Timed(NamedTuple):
    """An outcome that arrives later than its attempt has ended.

    Attributes:
        outcome: The outcome.
        began: The time of the beginning, on the monotonic clock; None if a Running has brought it, or unknown.
        ended: The time of the end.
    """

    outcome: "Outcome"
    began: float | None
    ended: float


class Interrupted(NamedTuple):
    """A KeyboardInterrupt, which stops the run.

    The step raised it; or the step had returned, and it ended the reading of its files: then `returned` counts.
    """

    returned: Returned | None = None


Outcome = Returned | Raised | TimedOut | Died | Parked | Interrupted
