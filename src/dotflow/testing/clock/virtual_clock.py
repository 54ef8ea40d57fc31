"""virtual_clock: time that moves on only while all its participants wait, so that a night takes milliseconds."""

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NoReturn, TypeVar

from dotflow import clock
from dotflow.core.durations import Duration, as_seconds
from dotflow.cpython import has_running_loop
from dotflow.errors import InvalidArgument, VirtualClockMisuse
from dotflow.worker.deadline import GRACE
from dotflow.worker.interrupts import in_forked_child


class RemoteClock:
    """A virtual clock in another process: each of its methods raises VirtualClockMisuse."""

    _jump_while_idle = settle = close = int  # a forked child may leave the contexts that it was forked in

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def misuse(*_: object, **__: object) -> NoReturn:
            raise VirtualClockMisuse(
                f"{name}() of the virtual clock was called in another process, where time is real. Run the step in the "
                f"test's process: in sequential or background mode without groups and isolate, or with "
                f"Config(executor=ExecutorThread())."
            )

        return misuse


T = TypeVar("T")


@dataclass(eq=False, slots=True)
class _Waiter:
    """A thread that waits, which makes it."""

    wake: Callable[[], None]
    since: float
    in_flight: int
    recheck: float | None
    thread: int = field(default_factory=threading.get_ident)


class VirtualClock:
    """The clock of `virtual_clock()`. Its methods may be called from any thread of the process, in steps too."""

    def __init__(self, start: datetime) -> None:
        self._start = start
        self._elapsed = 0.0
        self._wall_offset = 0.0
        self._lock = threading.RLock()  # a signal handler may stop a schedule inside of its wait
        self._changed = threading.Condition(self._lock)
        self._joined: dict[int, int] = {}  # by thread: how often it has joined
        self._reserved = 0  # participants that no thread has entered yet
        self._waiters: set[_Waiter] = set()
        self._woken_before: set[Callable[[], None]] = set()  # what was woken since the last jump, before it waited
        self._timers: list[tuple[float, int, _Waiter | Callable[[], object]]] = []
        self._serials = itertools.count()
        self._callers = 0  # threads that call functions of `at` and `after`
        self._closed = False

    def now(self) -> datetime:
        """Returns the time of the wall clock, in UTC."""
        return self._start + timedelta(seconds=self._elapsed + self._wall_offset)

    def monotonic(self) -> float:
        """Returns the seconds since the clock began; `jump_wall` does not move it."""
        return self._elapsed

    def sleep(self, seconds: Duration) -> None:
        """Waits for so many seconds of virtual time: a step takes that long. What is due earlier happens first.

        Raises:
            VirtualClockMisuse: It was called in a worker process, or in a coroutine, whose loop it would block.
        """
        if has_running_loop():
            raise VirtualClockMisuse(
                "sleep() of the virtual clock was called in a coroutine and would block its loop. Use a plain step."
            )
        slept = threading.Event()
        self.wait(slept.wait, as_seconds("seconds", seconds), slept.set, 0, None)

    def advance(self, seconds: Duration) -> None:
        """Moves time at once, whatever is running. Wakes what is due on the way, but does not wait for it."""
        with self._lock:
            until = self._elapsed + as_seconds("seconds", seconds)
        while self._jump(until):
            pass
        with self._lock:
            self._elapsed = max(self._elapsed, until)

    def jump_wall(self, seconds: float) -> None:
        """Sets the wall clock forward, or back if negative, as an administrator or the end of a suspend does."""
        with self._lock:
            self._wall_offset += seconds
            for waiter in self._waiters:
                if waiter.recheck is not None:  # as in real time, it rereads the clock only then
                    rechecks = (self._elapsed - waiter.since) // waiter.recheck + 1
                    self._push(waiter.since + rechecks * waiter.recheck, waiter)

    def at(self, moment: datetime, function: Callable[[], object]) -> None:
        """Calls *function* at a later moment, in any thread, before it wakes threads that wait for the same moment."""
        if not isinstance(moment, datetime) or moment.utcoffset() is None:
            raise InvalidArgument("moment", moment, "a datetime with a time zone")
        self.after((moment - self.now()).total_seconds(), function)

    def after(self, seconds: Duration, function: Callable[[], object]) -> None:
        """Calls *function* when so many seconds have passed."""
        with self._lock:
            self._push(self._elapsed + as_seconds("seconds", seconds), function)

    def hold(self) -> clock.Participant:
        """Returns a context in which time stands still: for preparations while a background run waits."""
        return self.join()

    # The methods of `clock.TimeSource`.

    def wait(
        self,
        pause: Callable[[float | None], T],
        seconds: float | None,
        wake: Callable[[], None],
        in_flight: int,
        recheck: float | None,
    ) -> T:
        waiter = _Waiter(wake, self._elapsed, in_flight, recheck)
        with self._lock:
            if self._closed:
                return pause(seconds)
            is_woken = wake in self._woken_before
            self._woken_before.discard(wake)
            if not is_woken:
                self._waiters.add(waiter)
                if seconds is not None:
                    self._push(self._elapsed + max(0.0, seconds), waiter)
        if is_woken:
            return pause(0)
        try:
            self._jump_while_idle()
            return pause(None)
        finally:
            with self._lock:
                self._waiters.discard(waiter)

    def about_to_wake(self, wake: Callable[[], None]) -> None:
        with self._lock:
            woken = {waiter for waiter in self._waiters if waiter.wake == wake}
            self._waiters -= woken
            if not woken:
                self._woken_before.add(wake)

    def join(self) -> clock.Participant:
        with self._lock:
            self._reserved += 1
        return self._participate()

    @contextlib.contextmanager
    def _participate(self) -> Iterator[None]:
        """Makes the calling thread a participant, for which `join` has reserved a place."""
        thread = threading.get_ident()
        with self._lock:
            self._reserved -= 1
            self._joined[thread] = self._joined.get(thread, 0) + 1
        try:
            yield
        finally:
            with self._lock:
                self._joined[thread] -= 1
                if not self._joined[thread]:
                    del self._joined[thread]
                self._changed.notify_all()
            self._jump_while_idle()

    def before_await(self) -> None:
        thread = threading.get_ident()
        if thread in self._joined or thread in clock.attempt_threads:
            raise VirtualClockMisuse(
                "A coroutine awaited a run under a virtual clock, which takes its step for busy. Run the inner "
                "workflow in a plain step, or both in real time."
            )

    def _push(self, due: float, action: _Waiter | Callable[[], object]) -> None:
        self._timers.append((due, next(self._serials), action))

    def _is_busy(self) -> bool:
        """Returns whether any participant does something other than wait.

        The run that waits for an attempt in another thread counts it from before its start, as `in_flight`. An attempt
        that sleeps is subtracted.
        """
        waiting = {waiter.thread for waiter in self._waiters}
        busy = sum(thread not in waiting and thread not in clock.attempt_threads for thread in self._joined)
        in_flight = sum(waiter.in_flight for waiter in self._waiters)
        return busy + self._reserved + self._callers > 0 or in_flight > len(waiting & clock.attempt_threads)

    def _jump_while_idle(self) -> None:
        while self._jump(None):
            pass

    def _jump(self, until: float | None) -> bool:
        """Moves time to the earliest timer, not beyond *until*; returns whether it may jump again.

        Without *until* it jumps only if no participant is busy and one waits: functions of `at` alone don't move time.
        """
        with self._lock:
            timers = self._timers = sorted(
                timer for timer in self._timers if not isinstance(timer[2], _Waiter) or timer[2] in self._waiters
            )
            if until is None and (self._is_busy() or not any(isinstance(timer[2], _Waiter) for timer in timers)):
                return False
            if not timers or (until is not None and timers[0][0] > until):
                return False
            self._elapsed = moment = max(self._elapsed, timers[0][0])
            self._woken_before.clear()
            actions = [action for due, _, action in timers if due <= moment]
            self._timers = timers[len(actions) :]
            woken = [action for action in actions if isinstance(action, _Waiter)]
            self._waiters -= set(woken)  # they count as busy from here on
            self._callers += 1
        try:
            for action in actions:
                if not isinstance(action, _Waiter):
                    action()
        finally:
            with self._lock:  # first: a thread that is woken may wait again, and move time, before this one goes on
                self._callers -= 1
            for waiter in woken:
                waiter.wake()
        return not woken

    def settle(self) -> None:
        """Waits for threads that are about to end: a run is over a little before its thread ends."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiters or not (self._joined or self._reserved), GRACE)

    def close(self) -> int:
        """Wakes all threads that wait; returns the number of participants."""
        with self._lock:
            self._closed = True
            left, self._waiters = self._waiters, set()
            self._timers.clear()
            count = len(self._joined) + self._reserved
        for waiter in left:
            waiter.wake()
        return count

    def __reduce__(self) -> tuple[Any, ...]:
        return (RemoteClock, ())


DEFAULT_START: Final = datetime(2026, 1, 1, tzinfo=UTC)  # the same in every run of a test
_REAL: Final = (clock.now, clock.monotonic, clock.sleep)
_in_use: Final = threading.Lock()


@contextlib.contextmanager
def virtual_clock(start: datetime | None = None) -> Iterator[VirtualClock]:
    """Moves dotflow into a virtual time, in which retry delays and schedules take no real time.

    Time stands still while anything runs. Once all runs and schedules of this process only wait, it jumps to the
    earliest moment that one of them waits for. Steps and their timeouts stay in real time: a step that should take
    virtual time calls `sleep` of the clock. Worker processes use real time.

    Args:
        start: The moment at which it begins, with a time zone; 2026-01-01 00:00 UTC unless given.

    Raises:
        InvalidArgument: start is not a datetime with a time zone.
        VirtualClockMisuse: There is a virtual clock already; or, at the end, runs are still in progress.
    """
    if start is not None and (not isinstance(start, datetime) or start.utcoffset() is None):
        raise InvalidArgument("start", start, "a datetime with a time zone: datetime(2026, 3, 8, tzinfo=UTC)")
    if not _in_use.acquire(blocking=False):
        raise VirtualClockMisuse(
            "virtual_clock() was entered twice: a process has one time. Leave the other context first."
        )
    try:
        virtual = VirtualClock((start or DEFAULT_START).astimezone(UTC))
        try:
            clock.source = virtual
            clock.now, clock.monotonic, clock.sleep = virtual.now, virtual.monotonic, virtual.sleep
            yield virtual
        finally:
            try:
                virtual.settle()
            finally:
                _restore()
                left = virtual.close()
        if left:
            raise VirtualClockMisuse(
                f"virtual_clock() was left too early: {left} runs or schedules are still in progress. Call run.wait() "
                f"first, or scheduler.stop() and wait for its thread."
            )
    finally:
        with contextlib.suppress(RuntimeError):  # a forked child has released it already
            _in_use.release()


def _restore() -> None:
    clock.source = None
    clock.now, clock.monotonic, clock.sleep = _REAL


@in_forked_child
def _restore_in_child() -> None:
    """Real time again: a forked child has none of the threads that move virtual time."""
    clock.attempt_threads.clear()
    if clock.source is not None:
        object.__setattr__(clock.source, "__class__", RemoteClock)  # for a step that calls it
        _restore()
        _in_use.release()
