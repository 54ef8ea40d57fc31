"""The requests of the bodies of one attempt."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable

from dotflow.core.calls import BodyStopped, CallAnswer, CallRequest
from dotflow.core.outcome import Parked


class Requests(ABC):
    """Sends the requests of the bodies of one attempt: that of its step, and those of durable calls in it.

    Attributes:
        stop: What has stopped them; None as long as nothing has.
        is_slow: Whether a request may take long, so that a coroutine sends it in a thread.
        is_followed: Whether the events of single calls are received.
        running: The calls that run in all bodies of the attempt, each by a token of its own.
        call_ended: Called when one of them ends.
    """

    def __init__(self, *, is_slow: bool, is_followed: bool) -> None:
        self.stop: BodyStopped | None = None
        self.is_slow = is_slow
        self.is_followed = is_followed
        self.running: set[object] = set()
        self.call_ended: Callable[[], object] = int
        self._numbers = itertools.count(1)

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
