"""The only module that reads the system's clocks.

Other modules call `clock.now()` and `clock.monotonic()`, never the functions behind them: one replacement here moves
all of dotflow into another time. `dotflow.testing.virtual_clock` does that.

The moments that a run records, its retry delays and its schedule are in that time. What guards code that really runs
is in real time: a worker's deadline, the grace of a notification, a busy file. It uses `clock.ticks()`.
"""

import contextlib
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, Protocol, TypeVar

T = TypeVar("T")

#: The moment, as an aware datetime in UTC.
now: Callable[[], datetime] = partial(datetime.now, UTC)

_system_now: Final = now
#: Seconds since 1970, always in real time.
real_time: Final = partial(time.time)  # as `now`, a partial: libraries that freeze time replace bare functions

#: Nanoseconds since 1970, always in real time; to compare with the times of files.
real_time_ns: Final = partial(time.time_ns)

#: A moment as it is kept: in real time the seconds since 1970, which take half the memory and a tenth of the time.
Moment = float | datetime

#: Seconds on a clock that only goes forward; for spans, never for moments.
monotonic: Callable[[], float] = time.monotonic

#: The same, always in real time; for deadlines of code that really runs.
ticks: Final = time.monotonic

#: The same, counting the time that the machine sleeps, where the system has such a clock; for leases.
elapsed: Callable[[], float] = (
    # Elsewhere CLOCK_MONOTONIC may count it (macOS); time.monotonic does not always read that clock.
    partial(time.clock_gettime, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
    if hasattr(time, "clock_gettime")
    else time.monotonic
)

#: Sleeps for so many seconds.
sleep: Callable[[float], None] = time.sleep

Participant = contextlib.AbstractContextManager[object]


class TimeSource(Protocol):
    """Another time than the real one. It moves on while all its participants wait.

    Its methods are what the functions of this module call.
    """

    def wait(
        self,
        pause: Callable[[float | None], T],
        seconds: float | None,
        wake: Callable[[], None],
        in_flight: int,
        recheck: float | None,
    ) -> T: ...

    def about_to_wake(self, wake: Callable[[], None]) -> None: ...

    def join(self) -> Participant: ...

    def before_await(self) -> None: ...


#: None for real time.
source: TimeSource | None = None

#: Threads, by ident, that make attempts for a run, whose own thread waits for them.
attempt_threads: Final[set[int]] = set()

_NO_PARTICIPANT: Final = contextlib.nullcontext()


def moment() -> Moment:
    """Returns the moment that `now` returns, to be kept."""
    return real_time() if now is _system_now else now()


def moment_at(tick: float) -> Moment:
    """Returns the moment at a time of `monotonic`, to be kept."""
    seconds, current = tick - monotonic(), moment()
    return current + seconds if isinstance(current, float) else current + timedelta(seconds=seconds)


def as_datetime(moment: Moment) -> datetime:
    """Returns a kept moment as an aware datetime."""
    return datetime.fromtimestamp(moment, UTC) if isinstance(moment, float) else moment


def wait(
    pause: Callable[[float | None], T],
    seconds: float | None,
    wake: Callable[[], None],
    *,
    in_flight: int = 0,
    recheck: float | None = None,
) -> T:
    """Has *pause* wait for so many seconds of dotflow's time, or until it is woken; returns what it returns.

    Args:
        pause: Waits for a number of real seconds, or without a limit for None.
        seconds: How long to wait; None for no limit.
        wake: Makes `pause` return, also if it is called before `pause`. May be called from any thread.
        in_flight: The number of attempts that other threads or processes make meanwhile: time waits for them.
        recheck: Seconds after which the caller reads the wall clock again, which may have been set.
    """
    if source is not None:
        return source.wait(pause, seconds, wake, in_flight, recheck)
    if recheck is not None:
        seconds = recheck if seconds is None else min(seconds, recheck)
    return pause(seconds)


def about_to_wake(wake: Callable[[], None]) -> None:
    """Announces a call of *wake*: from here on time waits for the thread that it wakes."""
    if source is not None:
        source.about_to_wake(wake)


def before_await() -> None:
    """Announces that a coroutine awaits a run. Raises in virtual time, which would take its step for busy."""
    if source is not None:
        source.before_await()


def join() -> Participant:
    """Makes time wait for one more thread, from now on: the one that enters the context, until it leaves it."""
    return _NO_PARTICIPANT if source is None else source.join()
