"""What the scribe runs: it reads both streams, passes them on, and records the output of the attempts.

It works whatever happens to the run: code that holds the interpreter's lock does not delay prints, and after `kill -9`
the last output is recorded.
"""

import contextlib
import gc
import os
import pickle
import selectors
import signal
import socket
import struct
import time
from collections.abc import Callable, Sequence
from typing import Final, NoReturn

from dotflow import clock
from dotflow.abc.history import History
from dotflow.capture.chunks import INTERVAL, Chunks
from dotflow.capture.marks import MarkedStream, Part
from dotflow.capture.pipes import read_available, wait_readable, write_all
from dotflow.core.attempt_id import AttemptId
from dotflow.core.capture import Capture
from dotflow.core.events import AttemptOutput
from dotflow.core.masks import Masks
from dotflow.core.types.capture import TypeCapture
from dotflow.cpython import forget_exit_handlers

SIZE: Final = struct.Struct("!I")  # of a message
ANSWER: Final = b"."  # to a request
BATCH: Final = 65_536  # bytes; with less, the scribe waits for more
BATCH_DELAY: Final = 0.002  # seconds; waking it for each mark would take the run longer than writing the mark
#: They are for the run. At Ctrl-Z, too, the run must not wait for a stopped process.
IGNORED: Final = ("SIGINT", "SIGTERM", "SIGHUP", "SIGTSTP")


class Recorder:
    """Records the output of attempts in a copy of the history. *control* is the socket to the run.

    Attributes:
        requests: How often the run has asked, and waits, for all to be recorded that is in the pipes.
        is_connected: Whether messages of the run can follow.
    """

    def __init__(self, history: History, control: socket.socket) -> None:
        self._history = history
        self._control = control
        self._streams = {1: MarkedStream(), 2: MarkedStream()}
        self._runs: dict[str, tuple[int, Masks]] = {}
        self._chunks: dict[AttemptId, Chunks] = {}
        self._has_failed = False
        self.requests = 0
        self.is_connected = True

    def feed(self, stream: int, data: bytes) -> bytes:
        """Collects what has arrived; returns it without marks."""
        return b"".join([self._take(stream, part) for part in self._streams[stream].feed(data)])

    def _take(self, stream: int, part: Part) -> bytes:
        if part.attempt is not None and part.data and (chunks := self._chunks_of(part.attempt)) is not None:
            chunks.add(stream, part.data)
        return part.data

    def step(self, requests: int) -> None:
        """Records what is due, after all that has arrived was passed on, and answers so many requests.

        They are those that had arrived before the pipes were read: what was printed before them is recorded now.
        """
        is_between = all(stream.attempt is None for stream in self._streams.values())
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
            self.requests -= requests
            with contextlib.suppress(OSError):  # the run has been killed
                self._control.send(ANSWER * requests)

    def end(self) -> None:
        """Records all that is left."""
        for stream, marked in self._streams.items():
            self._take(stream, marked.flush())
        for chunks in self._chunks.values():
            chunks.end()

    @property
    def timeout(self) -> float | None:
        """Seconds until `step` has something to do."""
        if self.requests:
            return 0
        return INTERVAL if any(chunks.due is not None for chunks in self._chunks.values()) else None

    def _chunks_of(self, attempt: AttemptId) -> Chunks | None:
        """Returns what collects the output of an attempt; None if the run has sent nothing about it."""
        if attempt not in self._chunks:
            while attempt.run_id not in self._runs:
                # Without waiting: a step may print what looks like the mark of another run.
                if not self.is_connected or not wait_readable(self.control, 0):
                    return None
                self.receive()
            limit, masks = self._runs[attempt.run_id]
            capture = Capture(TypeCapture.FD, limit, lambda event: self._record(attempt.run_id, event), masks=masks)
            self._chunks[attempt] = Chunks(attempt, capture)
        return self._chunks[attempt]

    @property
    def control(self) -> int:
        """The descriptor of the socket."""
        return self._control.fileno()

    def receive(self) -> None:
        """Receives a request, or what is to be known of a run, which is sent before the marks of its attempts."""
        data = b""
        with contextlib.suppress(OSError):
            data = self._control.recv(SIZE.size, socket.MSG_WAITALL)
        if len(data) < SIZE.size:  # the run has ended, or a step has closed its end
            self.is_connected = False
            return
        (size,) = SIZE.unpack(data)
        if not size:
            self.requests += 1
            return
        run_id, limit, masks = pickle.loads(self._control.recv(size, socket.MSG_WAITALL))
        self._runs[run_id] = limit, masks

    def _record(self, run_id: str, event: AttemptOutput) -> None:
        try:
            self._history.record(run_id, event)
        except Exception as error:  # a full disk, say: the output is passed on all the same
            if not self._has_failed:
                self._has_failed = True
                write_all(2, f"dotflow: What steps print can't be recorded: {error}\n".encode())


#: Passes on and records both streams, of which it has the reading ends, until no process has them any more.
Serve = Callable[[Recorder, Sequence[int]], object]


def run_scribe(history: History, control: socket.socket, pipes: Sequence[int], serve: Serve) -> NoReturn:
    """Runs the scribe. Its own 1 and 2 are where stdout and stderr of the run led before.

    *serve* passes on and records what comes from the reading ends of both.
    """
    for name in IGNORED:
        signal.signal(getattr(signal, name), signal.SIG_IGN)  # by name: other systems lack some, and import this module
    signal.set_wakeup_fd(-1)
    forget_exit_handlers()
    gc.disable()
    recorder = Recorder(history, control)
    serve(recorder, pipes)
    recorder.end()
    os._exit(0)


def pass_on(recorder: Recorder, pipes: Sequence[int]) -> None:
    """Passes both streams on to where they led before."""
    streams = {pipe: stream for stream, pipe in enumerate(pipes, 1)}
    with selectors.DefaultSelector() as selector:
        for descriptor in (*pipes, recorder.control):
            selector.register(descriptor, selectors.EVENT_READ)
        while streams:
            count = 0
            ready = {key.fd for key, _ in selector.select(recorder.timeout)}
            if recorder.control in ready:
                recorder.receive()
                if not recorder.is_connected:
                    selector.unregister(recorder.control)
            requests = recorder.requests
            for pipe, stream in tuple(streams.items()):
                data = read_available(pipe) if requests or pipe in ready else b""
                count += len(data)
                if data:
                    write_all(stream, recorder.feed(stream, data))
                elif pipe in ready:  # no process has it any more
                    selector.unregister(pipe)
                    del streams[pipe]
            recorder.step(requests)
            if count < BATCH:
                time.sleep(BATCH_DELAY)
