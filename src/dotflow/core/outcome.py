"""What came of one attempt. It travels between processes, so it is plain data.

`retry` is what the step's `retry_on` says of it: True, False, or the seconds until the next attempt; None where it was
not asked.

Named tuples, not dataclasses: one is made for every attempt, and a frozen dataclass costs three times as much.
"""

from typing import Any, NamedTuple

from dotflow.core.failure import Failure


class Returned(NamedTuple):
    """The step returned.

    `repeated` tells of the failed attempts of a class's own actions that were repeated on the way.
    """

    value: Any
    repeated: tuple[Failure, ...] = ()


class Raised(NamedTuple):
    """The step raised, or what it takes or gives could not travel."""

    failure: Failure
    repeated: tuple[Failure, ...] = ()
    retry: bool | float | None = None


class TimedOut(NamedTuple):
    """The step's time was up and it was stopped."""

    failure: Failure
    repeated: tuple[Failure, ...] = ()
    retry: bool | float | None = None


class Died(NamedTuple):
    """The step's worker process ended under it."""

    failure: Failure
    repeated: tuple[Failure, ...] = ()
    retry: bool | float | None = None


class Interrupted(NamedTuple):
    """The step raised KeyboardInterrupt, which stops the run."""


Outcome = Returned | Raised | TimedOut | Died | Interrupted
