"""VirtualClock: the time that `virtual_clock()` gives; it moves on while all who take part in it wait."""

import heapq
import itertools
import os
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar

from dotflow import clock
from dotflow.core.durations import Duration, as_seconds
from dotflow.cpython import has_running_loop
from dotflow.errors import InvalidArgument, VirtualClockMisuse
from dotflow.testing.clock.remote import RemoteClock, raise_misuse
from dotflow.worker.deadline import GRACE

T = TypeVar("T")


class _Waiter:
    """Somebody who waits."""

    def __init__(
        self, wake: Callable[[], None], since: float, in_flight: int = 0, recheck: float | None = None
    ) -> None:
        self.thread = threading.get_ident()
        self.wake = wake
        self.since = since
        self.in_flight = in_flight
        self.recheck = recheck


class VirtualClock:
    """What `virtual_clock()` gives. Its methods may be called from any thread of the process, in steps too."""

    def __init__(self, start: datetime) -> None:
        self._start = start
        self._elapsed = 0.0
        self._wall_offset = 0.0
        self._process = os.getpid()
        self._lock = threading.RLock()  # a signal's handler may stop a schedule in the middle of its wait
        self._changed = threading.Condition(self._lock)
        self._joined: dict[int, int] = {}  # by thread: how often it has joined
        self._reserved = 0
        self._waiters: set[_Waiter] = set()
        self._timers: list[tuple[float, int, _Waiter | Callable[[], object]]] = []
        self._serials = itertools.count()
        self._callers = 0
        self._closed = False

    def now(self) -> datetime:
        """The wall clock, in UTC."""
        self._check_process("now")
        return self._start + timedelta(seconds=self._elapsed + self._wall_offset)

    def monotonic(self) -> float:
        """Seconds since the clock began; `jump_wall` does not move it."""
        self._check_process("monotonic")
        return self._elapsed

    def sleep(self, seconds: Duration) -> None:
        """Lets so many seconds pass: in a step, as if it took that long. Others, whose time comes before, go first.

        Raises:
            VirtualClockMisuse: It was called in a worker process, or in a coroutine, whose loop it would block.
        """
        self._check_process("sleep")
        if has_running_loop():
            raise VirtualClockMisuse("sleep() of the virtual clock blocks, so it can't be called in a coroutine.")
        slept = threading.Event()
        self.wait(slept.wait, as_seconds("seconds", seconds), slept.set, 0, None)

    def advance(self, seconds: Duration) -> None:
        """Moves time at once, whatever is running; who waits for a moment on the way is woken, but not waited for."""
        self._check_process("advance")
        with self._lock:
            until = self._elapsed + as_seconds("seconds", seconds)
        while self._jump(until):
            pass
        with self._lock:
            self._elapsed = max(self._elapsed, until)

    def jump_wall(self, seconds: float) -> None:
        """Sets the wall clock forward, or back where negative, as an administrator or the end of a suspend does."""
        self._check_process("jump_wall")
        with self._lock:
            self._wall_offset += seconds
            for waiter in self._waiters:
                if waiter.recheck is not None:  # as in real time, it notices at its next look
                    looks = (self._elapsed - waiter.since) // waiter.recheck + 1
                    self._push(waiter.since + looks * waiter.recheck, waiter)

    def at(self, moment: datetime, function: Callable[[], object]) -> None:
        """Calls *function* at a moment to come, before those who wait for the same one; in whichever thread it is."""
        if not isinstance(moment, datetime) or moment.utcoffset() is None:
            raise InvalidArgument("moment", moment, "a datetime with a time zone")
        self.after((moment - self.now()).total_seconds(), function)

    def after(self, seconds: Duration, function: Callable[[], object]) -> None:
        """Calls *function* when so many seconds have passed."""
        self._check_process("after")
        with self._lock:
            self._push(self._elapsed + as_seconds("seconds", seconds), function)

    def hold(self) -> clock.Participant:
        """A context in which time does not move on by itself: for what has to be said before a run gets any further."""
        self._check_process("hold")
        return self.join()

    # What dotflow calls, through `dotflow.clock`.

    def wait(
        self,
        pause: Callable[[float | None], T],
        seconds: float | None,
        wake: Callable[[], None],
        in_flight: int,
        recheck: float | None,
    ) -> T:
        """As `clock.wait`."""
        waiter = _Waiter(wake, self._elapsed, in_flight, recheck)
        with self._lock:
            if self._closed:
                return pause(seconds)
            self._waiters.add(waiter)
            if seconds is not None:
                self._push(self._elapsed + max(0.0, seconds), waiter)
        try:
            self._jump_while_idle()
            return pause(None)
        finally:
            with self._lock:
                self._waiters.discard(waiter)

    def about_to_wake(self, wake: Callable[[], None]) -> None:
        """As `clock.about_to_wake`."""
        with self._lock:
            self._waiters -= {waiter for waiter in self._waiters if waiter.wake == wake}

    def join(self) -> clock.Participant:
        """As `clock.join`."""
        return _Participant(self)

    def before_await(self) -> None:
        """As `clock.before_await`."""
        thread = threading.get_ident()
        if thread in self._joined or thread in clock.attempt_threads:
            raise VirtualClockMisuse(
                "A coroutine step can't wait for another run under a virtual clock, which sees it as busy. Run the "
                "inner workflow in a plain step, or both in real time."
            )

    def _push(self, due: float, action: _Waiter | Callable[[], object]) -> None:
        heapq.heappush(self._timers, (due, next(self._serials), action))

    def _is_busy(self) -> bool:
        """Whether anybody who takes part does something other than wait.

        An attempt in a thread of its own is counted by the run that waits for it, so that there is no moment at which
        it is counted by nobody; while it sleeps, it is taken off.
        """
        waiting = {waiter.thread for waiter in self._waiters}
        busy = sum(thread not in waiting and thread not in clock.attempt_threads for thread in self._joined)
        in_flight = sum(waiter.in_flight for waiter in self._waiters)
        return busy + self._reserved + self._callers > 0 or in_flight > len(waiting & clock.attempt_threads)

    def _jump_while_idle(self) -> None:
        """Lets time jump while all wait."""
        while self._jump(None):
            pass

    def _jump(self, until: float | None) -> bool:
        """To the first moment that anybody waits for; False where there is none, or not before *until*.

        Without *until* only if nobody is busy, and somebody waits for it: no mere `at` moves time.
        """
        with self._lock:
            self._timers = [
                timer for timer in self._timers if not isinstance(timer[2], _Waiter) or timer[2] in self._waiters
            ]
            heapq.heapify(self._timers)
            if until is None and (self._is_busy() or not any(isinstance(timer[2], _Waiter) for timer in self._timers)):
                return False
            if not self._timers or (until is not None and self._timers[0][0] > until):
                return False
            self._elapsed = moment = max(self._elapsed, self._timers[0][0])
            functions: list[Callable[[], object]] = []
            woken: list[_Waiter] = []
            while self._timers and self._timers[0][0] <= moment:
                action = heapq.heappop(self._timers)[2]
                if isinstance(action, _Waiter):
                    woken.append(action)
                else:
                    functions.append(action)
            self._waiters -= set(woken)  # they are busy from here on, before they know it
            self._callers += 1
        try:
            for function in functions:
                function()
        finally:
            for waiter in woken:
                waiter.wake()
            with self._lock:
                self._callers -= 1
        return not woken

    def _enter(self, reserved: int) -> None:
        thread = threading.get_ident()
        with self._lock:
            self._reserved -= reserved
            self._joined[thread] = self._joined.get(thread, 0) + 1

    def _leave(self) -> None:
        thread = threading.get_ident()
        with self._lock:
            self._joined[thread] -= 1
            if not self._joined[thread]:
                del self._joined[thread]
            self._changed.notify_all()
        self._jump_while_idle()

    def settle(self) -> None:
        """Waits for threads that are at their end: a run tells that it is over a little before its thread is gone."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiters or not (self._joined or self._reserved), GRACE)

    def close(self) -> int:
        """Lets all go who still wait; how many threads still take part."""
        with self._lock:
            self._closed = True
            left, self._waiters = self._waiters, set()
            self._timers.clear()
            count = len(self._joined) + self._reserved
        for waiter in left:
            waiter.wake()
        return count

    def _check_process(self, method: str) -> None:
        if os.getpid() != self._process:
            raise_misuse(method)

    def __reduce__(self) -> tuple[Any, ...]:
        """In another process there is only what says so."""
        return (RemoteClock, ())


class _Participant:
    """A place in virtual time; see `clock.join`."""

    def __init__(self, virtual: VirtualClock) -> None:
        self._virtual = virtual
        self._is_reserved = True
        with virtual._lock:
            virtual._reserved += 1

    def __enter__(self) -> None:
        self._virtual._enter(self._is_reserved)
        self._is_reserved = False

    def __exit__(self, *raised: object) -> None:
        self._virtual._leave()
