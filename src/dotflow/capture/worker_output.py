"""The output of a worker process at the coordinator's side: read from two pipes, passed on, and collected.

The worker's descriptors 1 and 2 are the writing ends. So prints, C code, child processes and the last words of a crash
all arrive, and what is in the pipes when an attempt ends is that attempt's.
"""

import math
import select
import selectors
from collections.abc import Callable, Sequence
from typing import Final

from dotflow import clock
from dotflow.capture import streams
from dotflow.capture.chunks import Chunks
from dotflow.capture.marks import NESTED, MarkedStream, Piece
from dotflow.capture.pipes import (
    close_own_end,
    pass_on_later,
    poll_for,
    read_available,
    redirected_streams,
    wait_readable,
    write_all,
    write_out,
)
from dotflow.core.attempt_id import current_attempt
from dotflow.core.call import Call
from dotflow.core.capture import Capture
from dotflow.core.masks import NO_MASKS, Masks

MAX_PARTIAL: Final = 65_536  # bytes of a line that are passed on before its end
MAX_TAIL: Final = 16_384  # bytes of stderr that are kept for the error of a worker that dies
LAST_LINES: Final = 5
CRASH: Final = "Fatal Python error: "  # as faulthandler begins
END_TIMEOUT: Final = 0.1  # seconds for killed processes to close their ends

PassOn = Callable[[int, bytes], object]


class OutputPipe:
    """The reading end of a worker's stdout or stderr, which does not block. *pass_on* takes whole lines.

    Attributes:
        partial: A line whose end has not arrived.
        tail: The last bytes of the current attempt.
    """

    def __init__(self, descriptor: int, stream: int, output: "WorkerOutput", pass_on: PassOn) -> None:
        self.output = output
        self._descriptor = descriptor
        self._stream = stream
        self._pass_on = pass_on
        self._marked = MarkedStream()
        self.partial = b""
        self.is_open = True  # whether a process has the writing end, as far as it was noticed
        self.tail = b""

    def fileno(self) -> int:
        """Returns the descriptor, for selectors."""
        return self._descriptor

    def read(self) -> None:
        """Reads, passes on and collects what is there, and at most what the pipe holds. Notes the end of the pipe."""
        if not self.is_open:
            return
        data, has_ended = read_available(self._descriptor)
        self.is_open = not has_ended
        if data:
            for piece in self._marked.feed(data):
                self._take(piece)

    def _take(self, piece: Piece) -> None:
        chunks = self.output.chunks
        if chunks is not None and piece.attempt != NESTED:
            chunks.add(self._stream, piece.data)
        self.tail = (self.tail + piece.data[-MAX_TAIL:])[-MAX_TAIL:]
        data = self.partial + piece.data
        end = max(data.rfind(b"\n") + 1, data.rfind(b"\r"))  # a progress bar's line ends where it begins anew
        if len(data) - end > MAX_PARTIAL:
            end = len(data)
        self.partial = data[end:]
        if end:
            self._pass_on(self._stream, data[:end])

    def has_rest(self) -> bool:
        """Returns whether there is something to do at the end of an attempt."""
        return bool(self.partial or self._marked.attempt or self._marked.held)

    def end_line(self) -> None:
        """Passes on the last line, which may have no end, at the end of an attempt."""
        self._take(self._marked.flush())
        self._marked.attempt = None
        data, self.partial = self.partial, b""
        if data:
            self._pass_on(self._stream, data)

    def close(self) -> None:
        """Closes it. A program that was left behind and still has the writing end can go on printing."""
        if self.is_open:
            self.read()
        self.end_line()
        if self.is_open and not wait_readable(self._descriptor, END_TIMEOUT):
            pass_on_later(self._descriptor, self._stream)
        close_own_end(self._descriptor)


class WorkerOutput:
    """Both pipes of a worker, by their reading ends. *masks* are of its last lines, of which there are none without.

    Attributes:
        chunks: The output of the current attempt; None between attempts, and where it is not recorded.
    """

    def __init__(self, descriptors: Sequence[int], pass_on: PassOn, masks: Masks | None = NO_MASKS) -> None:
        self._masks = masks
        self.pipes = [OutputPipe(descriptor, stream, self, pass_on) for stream, descriptor in enumerate(descriptors, 1)]
        self.chunks: Chunks | None = None
        self._poll = poll_for(select.POLLIN, descriptors)

    def begin(self, chunks: Chunks | None) -> None:
        """Takes what comes from now on for the output of another attempt."""
        self.chunks = chunks
        self.pipes[0].tail = self.pipes[1].tail = b""

    def end(self) -> None:
        """Reads what is left of the attempt's output, and records it."""
        if self._poll(0):
            for pipe in self.pipes:
                pipe.read()
        for pipe in self.pipes:
            if pipe.has_rest():
                pipe.end_line()
        if self.chunks is not None:
            self.chunks.end()
        self.chunks = None

    def close(self) -> None:
        """Closes both pipes."""
        for pipe in self.pipes:
            pipe.close()

    def last_lines(self) -> str:
        """Returns the last lines of the attempt's stderr; after a crash, the first ones of faulthandler's."""
        if self._masks is None:
            return ""
        text = self.pipes[1].tail.decode("utf-8", "backslashreplace")
        _, crash, frames = text.rpartition(CRASH)
        lines = [line for line in (crash + frames).splitlines() if line.strip()]
        return self._masks.mask_end("\n".join(lines[:LAST_LINES] if crash else lines[-LAST_LINES:]))


class WorkerOutputs:
    """The pipes of all workers of a session.

    Those of an ended worker stay until all programs that it has left behind have ended: they may print.

    Args:
        capture: Where the output goes, beside the caller's stdout and stderr; None for nowhere.
        selector: Selects the pipes. Their data are themselves.

    Attributes:
        pending: The output that `record_due` has to record, when it is `due`.
    """

    def __init__(self, capture: Capture | None, selector: selectors.BaseSelector) -> None:
        self.capture = capture
        self._selector = selector
        self._pass_on = passing_on()
        self._pipes: set[OutputPipe] = set()
        self._is_nested = capture is not None and current_attempt.get() is not None
        if self._is_nested:
            streams.begin_nested()
        self.pending: set[Chunks] = set()

    def open(self, descriptors: Sequence[int]) -> WorkerOutput:
        """Returns the output of a worker that has started."""
        output = WorkerOutput(descriptors, self._pass_on, None if self.capture is None else self.capture.masks)
        for pipe in output.pipes:
            self._pipes.add(pipe)
            self._selector.register(pipe, selectors.EVENT_READ, pipe)
        return output

    def begin(self, output: WorkerOutput, call: Call) -> None:
        """Takes what comes from now on for the output of the call's attempt."""
        capture, watch = self.capture, call.watch
        output.begin(None if capture is None or watch is None else Chunks(watch.attempt, capture))

    def read(self, pipe: OutputPipe) -> None:
        """Reads a pipe that is readable."""
        pipe.read()
        if pipe.output.chunks is not None:
            self.pending.add(pipe.output.chunks)
        if not pipe.is_open:
            self._close(pipe)

    def end(self, output: WorkerOutput) -> None:
        """Ends the last attempt of a worker that has ended."""
        output.end()
        for pipe in output.pipes:
            if not pipe.is_open:
                self._close(pipe)

    def due(self) -> float:
        """Returns when the next chunk has to be recorded, in ticks; infinity while there is none."""
        return min((chunks.due for chunks in self.pending if chunks.due is not None), default=math.inf)

    def record_due(self) -> None:
        """Records the chunks for which it is time."""
        now = clock.ticks()
        for chunks in tuple(self.pending):
            chunks.record_due(now)
            if chunks.due is None:
                self.pending.discard(chunks)

    def close(self) -> None:
        """Closes all pipes."""
        for pipe in tuple(self._pipes):
            self._close(pipe)
        if self._is_nested:
            self._is_nested = False
            streams.end_nested()

    def _close(self, pipe: OutputPipe) -> None:
        if pipe in self._pipes:
            self._pipes.discard(pipe)
            self._selector.unregister(pipe)
            pipe.close()


def passing_on() -> PassOn:
    """Returns a function that writes output to where this process prints now."""
    is_redirected = dict(enumerate(redirected_streams(), 1))

    def pass_on(stream: int, data: bytes) -> None:
        if is_redirected[stream]:
            write_out(stream, data)
        elif streams.active_collector is not None:
            streams.active_collector.write(stream, data)
        else:
            write_all(stream, data)

    return pass_on
