"""Conversation: what the attempts of a pack ask their run about calls of durable steps, and the answers."""

import itertools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, NamedTuple


class Request(NamedTuple):
    """A request about a call, on its way to the run.

    Attributes:
        number: Its number in the conversation.
        place: The place in the pack of the call whose attempt asks.
        parts: The parts of its message.
    """

    number: int
    place: int
    parts: Sequence[Any]


class Answer(NamedTuple):
    """The answer to a request, by its number."""

    number: int
    parts: Sequence[Any]


#: Takes the parts of the answer, in any thread; None where none comes.
Answered = Callable[[Sequence[Any] | None], object]
Ask = Callable[[Sequence[Any], Answered], object]


class Conversation:
    """The requests of the attempts of a pack, one at a time. Any thread may call its methods.

    A request is returned again until its answer has come, so a lost message loses none, and an answer that comes twice
    counts once.

    Args:
        announce: Called when an attempt asks while the run does not wait for a request.
    """

    def __init__(self, announce: Callable[[], object]) -> None:
        self._announce = announce
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._place = -1  # of the call whose attempt runs
        self._is_over = False
        self._request: Request | None = None  # that has no answer
        self._answered: Answered = bool
        self._waiting: Future[Request | None] | None = None  # what the run waits with

    def begin(self, place: int) -> Ask:
        """Returns the function with which the attempt of a call asks, until `end`."""
        self._place = place
        return partial(self._ask, place)

    def _ask(self, place: int, parts: Sequence[Any], answered: Answered) -> None:
        with self._lock:
            is_late = place != self._place
            if not is_late:
                request = self._request = Request(next(self._numbers), place, [bytes(part) for part in parts])
                self._answered = answered
                waiting, self._waiting = self._waiting, None
        if is_late:
            answered(None)
        elif waiting is None or not waiting.set_running_or_notify_cancel():
            self._announce()
        else:
            waiting.set_result(request)

    def next(self, answer: Answer | None) -> "Future[Request | None]":
        """Takes the answer to the last request, and returns the next one; None where another call waits, or at the end.

        *answer* is None before the first one.
        """
        answered: Answered | None = None
        future: Future[Request | None] = Future()
        with self._lock:
            if answer is not None and self._request is not None and answer.number == self._request.number:
                self._request, answered = None, self._answered
            before, self._waiting = self._waiting, future
            if self._request is not None or self._is_over:
                self._waiting = None
                future.set_result(self._request)
        _release(before)
        if answer is not None and answered is not None:
            answered(answer.parts)
        return future

    def leave(self) -> Request | None:
        """Ends the wait of the run. Returns the request that has no answer, if there is one."""
        with self._lock:
            self._waiting = None
            return self._request

    def end(self) -> None:
        """Ends the attempt of a call. What it still asks has no answer."""
        with self._lock:
            self._place = -1
            request, self._request = self._request, None
        if request is not None:
            self._answered(None)

    def close(self) -> None:
        """Ends the conversation: the pack is over."""
        self.end()
        with self._lock:
            self._is_over = True
            waiting, self._waiting = self._waiting, None
        _release(waiting)


def _release(waiting: "Future[Request | None] | None") -> None:
    if waiting is not None and waiting.set_running_or_notify_cancel():
        waiting.set_result(None)
