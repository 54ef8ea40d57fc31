"""The output of an attempt on its way to the history: a few chunks a second, in bounded memory."""

from typing import Final

from dotflow import clock
from dotflow.core.attempt_id import AttemptId
from dotflow.core.capture import Capture
from dotflow.core.events import AttemptOutput
from dotflow.core.masks import MaskedStream

INTERVAL: Final = 0.25  # seconds between two chunks of a stream
MAX_LINE: Final = 4096  # bytes; where bytes are dropped, the rest begins with a new line if one begins soon


class Chunks:
    """Collects the output of one attempt.

    All of its first half of `capture.limit` bytes is recorded. What comes later and faster than it is recorded is
    dropped, so that each chunk has the last half of that number of bytes.

    Attributes:
        due: When a chunk has to be recorded, in ticks; None while there is none.
    """

    __slots__ = ("_attempt", "_capture", "_half", "_head", "_streams", "due")

    def __init__(self, attempt: AttemptId, capture: Capture) -> None:
        self._attempt = attempt
        self._capture = capture
        self._half = max(1, capture.limit // 2)
        self._head = self._half  # bytes that are left of the first half
        self._streams: dict[int, _Stream] = {}
        self.due: float | None = None

    def add(self, stream: int, data: bytes) -> None:
        """Adds output; `record_due` records it soon."""
        if self.due is None:
            self.due = clock.ticks() + INTERVAL
        pending = self._of(stream)
        pending.data += data
        if len(pending.data) > self._head + 2 * self._half:
            self._drop(stream, pending)

    def skip(self, stream: int, count: int) -> None:
        """Notes that so many bytes are lost, which came after all that was added."""
        self._record_all(is_end=True)
        self._of(stream).skipped += count

    def record_due(self, now: float) -> None:
        """Records what is pending, if it is time for it."""
        if self.due is not None and self.due <= now:
            self.record()

    def record(self) -> None:
        """Records what is pending, for those who follow the attempt."""
        self._record_all(is_end=False)
        self._capture.settle()

    def end(self) -> None:
        """Records all that is pending, at the end of the attempt."""
        self._record_all(is_end=True)

    def _of(self, stream: int) -> "_Stream":
        if stream not in self._streams:
            self._streams[stream] = _Stream(MaskedStream(self._capture.masks))
        return self._streams[stream]

    def _drop(self, stream: int, pending: "_Stream") -> None:
        """Drops the middle: what is left of the first half stays, and the last half."""
        if self._head:
            head, self._head = bytes(pending.data[: pending.masked.cut(pending.data, self._head)]), 0
            del pending.data[: len(head)]
            self._record(stream, pending, head, is_end=True)
        begin = len(pending.data) - self._half
        begin = pending.data.find(b"\n", begin, begin + MAX_LINE) + 1 or begin  # after a line, where one ends soon
        begin = pending.masked.cut(pending.data, begin)
        pending.skipped += begin
        del pending.data[:begin]

    def _record_all(self, *, is_end: bool) -> None:
        self.due = None
        for stream, pending in self._streams.items():
            if pending.data or is_end:
                data, pending.data = bytes(pending.data), bytearray()
                self._head = max(0, self._head - len(data))
                self._record(stream, pending, data, is_end=is_end)

    def _record(self, stream: int, pending: "_Stream", data: bytes, *, is_end: bool) -> None:
        data = pending.masked.feed(data) + (pending.masked.flush() if is_end else b"")
        if data or (is_end and pending.skipped):
            _, task_id, attempt, item = self._attempt
            self._capture.record(AttemptOutput(task_id, attempt, stream, data, clock.now(), item, pending.skipped))
            pending.skipped = 0


class _Stream:
    """What is pending of one stream."""

    __slots__ = ("data", "masked", "skipped")

    def __init__(self, masked: MaskedStream) -> None:
        self.data = bytearray()
        self.masked = masked
        self.skipped = 0  # bytes that were dropped before the data
