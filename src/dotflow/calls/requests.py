"""The requests of the bodies of one attempt, and when these are parked."""

import itertools
import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple
from weakref import WeakSet

from dotflow import clock
from dotflow.core.calls import BodyStopped, CallAnswer, CallRequest
from dotflow.core.outcome import Parked, TypePark

LOOK: Final = 0.025  # seconds between two looks of a call that waits, at first
LONGEST_LOOK: Final = 0.25
QUIET: Final = 0.05  # seconds without any other call, after which bodies that wait are parked
#: The same where another thread or asyncio task may be on its way to its next call.
LONG_QUIET: Final = 2.0
#: Seconds that a call waits for a limit in its body: less than a body takes that begins anew for it.
SHORT_WAIT: Final = 5.0
ASK_INTERVAL: Final = 1.0  # seconds between two looks for an answer, while other calls run


class _Waiting(NamedTuple):
    """A call that waits.

    Attributes:
        due: Until when, by `clock.monotonic`.
        runner: The thread or asyncio task that has made it.
        key: Its key, if it waits for an answer.
        note: What it waits for, if that is a limit.
    """

    due: float
    runner: Any
    key: str
    note: str = ""


class Requests(ABC):
    """Sends the requests of the bodies of one attempt: that of its step, and those of durable calls in it.

    Attributes:
        stop: What has stopped them; None as long as nothing has.
        is_slow: Whether a request may take long, so that a coroutine sends it in a thread.
        is_followed: Whether the events of single calls are received.
        running: The calls that run in all bodies of the attempt, each by a token of its own.
        enclosing: Those of them that are durable, and have bodies of their own.
        changes: A number that is another one after each beginning of a call.
        runners: The threads and asyncio tasks that have made calls, but those that only wait for others of them.
        call_ended: Called when one of them ends.
    """

    def __init__(self, *, is_slow: bool, is_followed: bool) -> None:
        self.stop: BodyStopped | None = None
        self.is_slow = is_slow
        self.is_followed = is_followed
        self.running: set[object] = set()
        self.enclosing: set[object] = set()
        self.changes = 0
        self.runners = WeakSet[Any]()
        self.call_ended: Callable[[], object] = int
        self._numbers = itertools.count(1)
        self._waiting: dict[object, _Waiting] = {}

    @abstractmethod
    def send(self, request: CallRequest) -> CallAnswer:
        """Returns the answer to a request, which any thread may send."""

    def settle(self) -> None:  # noqa: B027 (optional)
        """Does in the thread of the body what the answers to requests from other threads have left to it."""

    def count(self) -> int:
        """Returns the number of the call that is asked for now, from 1."""
        return next(self._numbers)

    def stop_for(self, why: Parked | Exception) -> BodyStopped:
        """Stops the bodies, unless they are stopped, and returns what each further call raises."""
        self.stop = self.stop or BodyStopped(why)
        return self.stop

    def limit_flow(self, token: object, runner: Any, seconds: float, note: str) -> Iterator[float]:
        """Yields as `wait_flow` for a call that waits for a limit. A short wait parks no body."""
        if seconds <= SHORT_WAIT and clock.source is None:
            yield seconds
        else:
            yield from self.wait_flow(token, runner, seconds, note=note)

    def wait_flow(
        self, token: object, runner: Any, seconds: float | None, key: str = "", note: str = ""
    ) -> Iterator[float]:
        """Yields the real seconds until the next look of a call that waits, until it has to be asked for again.

        That is when its time is over, or `stop` is set; and of a question from time to time. The bodies are parked when
        all of their calls wait and no other one begins.

        Args:
            token: That of the call.
            runner: The thread or asyncio task that has made it.
            seconds: How long it waits; None for no limit.
            key: Its key, if it waits for an answer.
            note: What it waits for, if that is a limit.
        """
        due, look, quiet = math.inf if seconds is None else clock.monotonic() + seconds, LOOK, 0
        self._waiting[token] = _Waiting(due, runner, key, note)
        changes, since = self.changes, clock.ticks()
        again = since + ASK_INTERVAL if key else math.inf
        try:
            while self.stop is None and (left := due - clock.monotonic()) > 0 and clock.ticks() < again:
                yield look if clock.source is not None else min(look, left)
                if changes != self.changes or self.running - self.enclosing - self._waiting.keys():
                    changes, since, quiet = self.changes, clock.ticks(), 0
                    look = min(2 * look, LONGEST_LOOK)
                    continue
                # Two looks, since a loop that was blocked may not have had its turn yet.
                look, quiet = LOOK, quiet + 1
                if quiet > 1 and clock.ticks() - since >= (LONG_QUIET if self._may_call() else QUIET):
                    self.stop_for(self._park())
        finally:
            del self._waiting[token]

    def _park(self) -> Parked:
        waiting = tuple(self._waiting.values())
        first = min((one for one in waiting if not one.key), key=lambda one: one.due, default=None)
        due = None if first is None else max(0.0, first.due - clock.monotonic())
        asked = tuple(one.key for one in waiting if one.key)
        return Parked(TypePark.WAIT, "" if first is None else first.note, due=due, asked=asked)

    def _may_call(self) -> bool:
        """Returns whether a thread or task that has made calls does something else than wait in one."""
        waiting = [one.runner for one in tuple(self._waiting.values())]
        return any(_lives(runner) for runner in tuple(self.runners) if runner not in waiting)


def _lives(runner: Any) -> bool:
    return bool(runner.is_alive() if isinstance(runner, threading.Thread) else not runner.done())
