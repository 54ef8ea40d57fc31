"""What the collector runs: it reads both streams, passes them on, and records the output of the attempts.

It works whatever happens to the run: code that holds the interpreter's lock does not delay prints, and after `kill -9`
the last output is recorded.
"""

import contextlib
import gc
import os
import pickle
import signal
import socket
import struct
import time
from collections.abc import Collection, Sequence
from typing import Final, NoReturn

from dotflow import clock
from dotflow.abc.history import History, HistoryUnavailable
from dotflow.capture.chunks import INTERVAL, Chunks
from dotflow.capture.marks import MarkedStream, Piece
from dotflow.capture.pipes import read_available, readable, wait_readable, write_all
from dotflow.core.attempt_id import AttemptId
from dotflow.core.capture import Capture
from dotflow.core.events import AttemptOutput
from dotflow.core.masks import Masks
from dotflow.core.types.capture import TypeCapture
from dotflow.cpython import forget_exit_handlers

SIZE: Final = struct.Struct("!I")  # of a message
ANSWER: Final = b"."  # to a request
BATCH: Final = 65_536  # bytes; with less, the collector waits for more
BATCH_DELAY: Final = 0.002  # seconds; waking it for each mark would take the run longer than writing the mark
#: They are for the run. At Ctrl-Z, too, the run must not wait for a stopped process.
IGNORED: Final = ("SIGINT", "SIGTERM", "SIGHUP", "SIGTSTP")


class Sink:
    """Takes the output that the collector has read: writes it to where the streams led before, its own 1 and 2.

    Attributes:
        descriptors: Descriptors for which the collector waits, too, until there are none.
    """

    descriptors: Sequence[int] = ()

    def begin(self) -> None:
        """Called once, in the collector's process."""

    def update(self, ready: Collection[int]) -> None:
        """Called when descriptors, of the sink or others, have become readable, before anything is written."""

    def write(self, stream: int, data: bytes) -> None:
        """Writes output to stdout, 1, or stderr, 2."""
        write_all(stream, data)

    def draw(self) -> None:
        """Called after all that was readable is written."""


class Recorder:
    """Passes both streams on, and records the output of attempts in a copy of the history.

    Args:
        history: The copy; None to record nothing.
        control: The socket to the run.
        sink: Where the streams are passed on.
    """

    def __init__(self, history: History | None, control: socket.socket, sink: Sink) -> None:
        self._history = history
        self._control = control
        self._sink = sink
        self._marked = {1: MarkedStream(), 2: MarkedStream()}
        self._runs: dict[str, tuple[int, Masks]] = {}
        self._chunks: dict[AttemptId, Chunks] = {}
        self._has_failed = False
        self._unsaved: set[str] = set()  # runs whose output the history keeps until it can write
        self._requests = 0  # how often the run has asked, and waits, for all to be recorded that is in the pipes
        self._is_connected = True  # messages of the run can follow

    def run(self, pipes: Sequence[int]) -> None:
        """Reads from both pipes until no process has them any more, and the sink has ended."""
        streams = {pipe: stream for stream, pipe in enumerate(pipes, 1)}
        self._sink.begin()
        while streams or self._sink.descriptors:
            control = [self._control.fileno()] if self._is_connected else []
            ready = readable((*streams, *control, *self._sink.descriptors), self._timeout)
            if self._is_connected and control[0] in ready:
                self._receive()
            self._sink.update(ready)
            requests, count = self._requests, 0
            for pipe, stream in tuple(streams.items()):
                data, has_ended = read_available(pipe)
                count += len(data)
                if data:
                    self._sink.write(stream, self.feed(stream, data))
                if has_ended:  # no process has it any more
                    del streams[pipe]
            self._sink.draw()
            self._record_due(requests)
            if count < BATCH and streams:
                self._delay()
        for stream, marked in self._marked.items():
            self._sink.write(stream, self._take(stream, marked.flush()))
        for chunks in self._chunks.values():
            chunks.end()
        self._save()

    def _delay(self) -> None:
        """Lets more arrive before the next look; a request ends it, since the run waits for the answer."""
        if self._is_connected:
            wait_readable(self._control.fileno(), BATCH_DELAY)
        else:
            time.sleep(BATCH_DELAY)

    def feed(self, stream: int, data: bytes) -> bytes:
        """Collects what has arrived; returns it without marks."""
        return b"".join([self._take(stream, piece) for piece in self._marked[stream].feed(data)])

    def _take(self, stream: int, piece: Piece) -> bytes:
        if piece.attempt is not None and piece.data and (chunks := self._chunks_of(piece.attempt)) is not None:
            chunks.add(stream, piece.data)
        return piece.data

    def _record_due(self, requests: int) -> None:
        """Records what is due, after all that has arrived was passed on, and answers so many requests.

        They are those that had arrived before the pipes were read: what was printed before them is recorded now.
        """
        is_between = all(stream.attempt is None for stream in self._marked.values())
        if requests and is_between:
            self._runs.clear()
        if requests or is_between:
            for chunks in self._chunks.values():
                chunks.end()
            self._chunks.clear()
        else:
            now = clock.ticks()
            for chunks in self._chunks.values():
                chunks.record_due(now)
        if requests:
            self._requests -= requests
            with contextlib.suppress(OSError):  # the run has been killed
                self._control.send(ANSWER * requests)

    @property
    def _timeout(self) -> float | None:
        """Seconds until there is something to do although nothing arrives."""
        if self._requests:
            return 0
        return INTERVAL if any(chunks.due is not None for chunks in self._chunks.values()) else None

    def _chunks_of(self, attempt: AttemptId) -> Chunks | None:
        """Returns what collects the output of an attempt; None if the run has sent nothing about it."""
        if attempt not in self._chunks:
            while attempt.run_id not in self._runs:
                # Without waiting: a step may print what looks like the mark of another run.
                if not self._is_connected or not wait_readable(self._control.fileno(), 0):
                    return None
                self._receive()
            limit, masks = self._runs[attempt.run_id]
            capture = Capture(TypeCapture.FD, limit, lambda event: self._record(attempt.run_id, event), masks=masks)
            self._chunks[attempt] = Chunks(attempt, capture)
        return self._chunks[attempt]

    def _receive(self) -> None:
        """Receives a request, or what is to be known of a run, which is sent before the marks of its attempts."""
        data = b""
        with contextlib.suppress(OSError):
            data = self._control.recv(SIZE.size, socket.MSG_WAITALL)
        if len(data) < SIZE.size:  # the run has ended, or a step has closed its end
            self._is_connected = False
            return
        (size,) = SIZE.unpack(data)
        if not size:
            self._requests += 1
            return
        run_id, limit, masks = pickle.loads(self._control.recv(size, socket.MSG_WAITALL))
        self._runs[run_id] = limit, masks

    def _record(self, run_id: str, event: AttemptOutput) -> None:
        assert self._history is not None, "runs are known only where there is a history"
        try:
            self._history.record(run_id, event)
            self._unsaved.discard(run_id)
        except HistoryUnavailable:  # the run reports it, and the next event is saved with this one
            self._unsaved.add(run_id)
        except Exception as error:  # a full disk, say: the output is passed on all the same
            self._report(error)

    def _save(self) -> None:
        """Saves the output that the history has kept, at the end."""
        for run_id in self._unsaved:
            assert self._history is not None
            try:
                self._history.settle(run_id, True)
            except Exception as error:  # the same
                self._report(error)

    def _report(self, error: Exception) -> None:
        if not self._has_failed:
            self._has_failed = True
            write_all(2, f"dotflow: What steps print can't be recorded: {error}\n".encode())


def run_collector(history: bytes | None, control: socket.socket, pipes: Sequence[int], sink: Sink) -> NoReturn:
    """Runs the collector: records in a pickled *history*, and passes on to *sink* what comes from both *pipes*."""
    for name in IGNORED:
        signal.signal(getattr(signal, name), signal.SIG_IGN)  # by name: other systems lack some, and import this module
    signal.set_wakeup_fd(-1)
    forget_exit_handlers()
    gc.disable()
    Recorder(None if history is None else pickle.loads(history), control, sink).run(pipes)
    os._exit(0)
