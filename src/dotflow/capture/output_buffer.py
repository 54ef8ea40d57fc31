"""What an attempt in this process prints, from any of its threads, until the thread of the run collects it."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from dotflow import clock
from dotflow.capture.chunks import INTERVAL, Chunks
from dotflow.core.attempt_id import AttemptId
from dotflow.core.capture import Capture
from dotflow.worker.interrupts import interrupts_held

MAX_UNCOLLECTED: Final = 4  # times the half of the limit

Printed = tuple[int, bytes]  # a stream, and what was printed to it


class OutputBuffer:
    """The output of one attempt in this process.

    `add` takes no lock, which an interrupted thread might keep: each thread appends to a queue. All other methods are
    called in the thread of the run only.

    Args:
        wake: Called by a thread that has printed, once until `collect`, which has to be called when it is `due`.

    Attributes:
        due: When to call `collect`, in ticks; None while there is nothing to collect.
    """

    def __init__(
        self,
        attempt: AttemptId,
        capture: Capture,
        wake: "Callable[[OutputBuffer], object]" = id,
    ) -> None:
        self._chunks = Chunks(attempt, capture)
        self._wake = wake
        self._half = max(1, capture.limit // 2)
        self._first: deque[Printed] = deque()  # the first half of the limit, which is never dropped
        self._last: deque[Printed] = deque()
        self._first_size = self._last_size = 0  # bytes; about, since threads may count at the same time
        self._lost = {1: 0, 2: 0}  # by stream: bytes that were dropped between the first and the last, so far
        self._counted = {1: 0, 2: 0}  # how many of them were collected: no thread resets what another one adds to
        self.due: float | None = None

    def add(self, stream: int, data: bytes) -> None:
        """Adds what a thread has printed. Where it is not collected in time, the middle is dropped."""
        if self._first_size < self._half:
            self._first_size += len(data)
            self._first.append((stream, data))
        else:
            self._last_size += len(data)
            self._last.append((stream, data))
            if self._last_size > MAX_UNCOLLECTED * self._half:
                self._drop()
        if self.due is None:
            self.due = clock.ticks() + INTERVAL
            self._wake(self)

    def _drop(self) -> None:
        while self._last_size > self._half and len(self._last) > 1:
            try:
                stream, data = self._last.popleft()
            except IndexError:  # another thread was quicker
                return
            self._last_size -= len(data)
            self._lost[stream] += len(data)

    def collect(self) -> None:
        """Records what was printed since the last call."""
        self.due = None  # first: what is printed from now on sets it again
        self._take()
        self._chunks.record()

    def end(self) -> None:
        """Records all that is left, at the end of the attempt."""
        self._take()
        self._chunks.end()

    def _take(self) -> None:
        self._last_size = 0
        while self._first:
            self._chunks.add(*self._first.popleft())
        for stream, lost in self._lost.items():
            if lost > self._counted[stream]:
                self._chunks.skip(stream, lost - self._counted[stream])
                self._counted[stream] = lost
        while self._last:
            try:
                printed = self._last.popleft()
            except IndexError:  # a thread that prints was quicker
                return
            self._chunks.add(*printed)


class Pace:
    """When the attempts of a run may record what they print: those that follow at once do so at their ends."""

    next = 0.0


class InlineOutputBuffer(OutputBuffer):
    """The output of an attempt in the thread of the run, which collects it where it prints."""

    def __init__(self, attempt: AttemptId, capture: Capture, pace: Pace) -> None:
        super().__init__(attempt, capture)
        self._thread = threading.get_ident()
        self._pace = pace

    def add(self, stream: int, data: bytes) -> None:
        super().add(stream, data)
        if data[-1:] == b"\n" and clock.ticks() >= self._pace.next and threading.get_ident() == self._thread:
            self._pace.next = clock.ticks() + INTERVAL
            with interrupts_held():  # the step's deadline must not end the history's work
                self.collect()
