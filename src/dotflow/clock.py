"""The one door through which time comes in.

Everybody calls `clock.now()`, `clock.monotonic()` through this module, never the functions behind it, so that
one replacement here moves all of dotflow into another time. `dotflow.testing.virtual_clock` does that.

What a run records, its retry delays and its schedule live in that time. What guards real code lives in real time:
deadlines after which a worker is killed, the grace of a notification, a busy file. They use `clock.ticks()`.
"""

import contextlib
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Final, Protocol, TypeVar

T = TypeVar("T")

#: The moment, as an aware datetime in UTC.
now: Callable[[], datetime] = partial(datetime.now, UTC)

#: Seconds on a clock that only ever goes forward; for spans, never for moments.
monotonic: Callable[[], float] = time.monotonic

#: The same, of the real world whatever time dotflow is in; for deadlines of code that really runs.
ticks: Final = time.monotonic

#: The same, but it also goes on while the machine sleeps, where the system has such a clock: for promises that others
#: hold one to meanwhile.
elapsed: Callable[[], float] = (
    # RemoteClock CLOCK_MONOTONIC may be the one (macOS): it is not always what time.monotonic reads.
    partial(time.clock_gettime, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
    if hasattr(time, "clock_gettime")
    else time.monotonic
)

#: Sleeps for so many seconds.
sleep: Callable[[float], None] = time.sleep

Participant = contextlib.AbstractContextManager[object]


class TimeSource(Protocol):
    """Whoever makes time, where it is not the real one. It moves it on while all who take part wait."""

    def wait(
        self,
        pause: Callable[[float | None], T],
        seconds: float | None,
        wake: Callable[[], None],
        in_flight: int,
        recheck: float | None,
    ) -> T:
        """As `clock.wait`."""

    def about_to_wake(self, wake: Callable[[], None]) -> None:
        """As `clock.about_to_wake`."""

    def join(self) -> Participant:
        """As `clock.join`."""

    def before_await(self) -> None:
        """As `clock.before_await`."""


#: None for real time.
source: TimeSource | None = None

#: Threads, by ident, that make attempts for a run whose own thread waits for them.
attempt_threads: Final[set[int]] = set()

_NO_PARTICIPANT: Final = contextlib.nullcontext()


def wait(
    pause: Callable[[float | None], T],
    seconds: float | None,
    wake: Callable[[], None],
    *,
    in_flight: int = 0,
    recheck: float | None = None,
) -> T:
    """What *pause* returns, called so that it waits for as many seconds of dotflow's time, or until it is woken.

    Args:
        pause: Waits for so many real seconds, or for as long as it takes where it is given None.
        seconds: How long; None for as long as it takes.
        wake: Makes `pause` return, also where it is called before that begins to wait. From any thread.
        in_flight: How many attempts are being made elsewhere meanwhile: time does not move on without them.
        recheck: Seconds after which the caller wants to look at the wall clock again, which may have been set.
    """
    if source is not None:
        return source.wait(pause, seconds, wake, in_flight, recheck)
    if recheck is not None:
        seconds = recheck if seconds is None else min(seconds, recheck)
    return pause(seconds)


def about_to_wake(wake: Callable[[], None]) -> None:
    """Says that whoever waits to be woken by *wake* is about to be: from here on it takes part again."""
    if source is not None:
        source.about_to_wake(wake)


def before_await() -> None:
    """A coroutine is about to wait for a run. Raises where time can't move on, since its step counts as busy."""
    if source is not None:
        source.before_await()


def join() -> Participant:
    """A place among those for whom time does not move on while they are busy.

    It is taken at once; the thread whose place it is enters it, and leaves it at its end.
    """
    return _NO_PARTICIPANT if source is None else source.join()
