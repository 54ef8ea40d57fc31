"""The output collector: a process that reads this one's stdout and stderr, passes them on and records attempts' output.

So C code, child processes and the last words of a process that is killed are recorded, too. Marks in both streams tell
the attempts apart. The same process shows the live view, with a sink of its own.
"""

import contextlib
import os
import pickle
import signal
import socket
import sys
import threading
import warnings
from typing import Any, Final, NamedTuple

from dotflow.abc.history import History
from dotflow.capture import streams
from dotflow.capture.collector_main import SIZE, Sink, run_collector
from dotflow.capture.marks import NO_ATTEMPT, MarkedStream, mark
from dotflow.capture.output import buffer_lines, flush_all, flush_streams
from dotflow.capture.pipes import open_pipe, pass_on_later, read_available, wait_closed, write_all
from dotflow.core.attempt_id import AttemptId
from dotflow.core.capture import Capture
from dotflow.core.types.capture import TypeCapture
from dotflow.own_descriptor import OwnDescriptor
from dotflow.worker.interrupts import in_forked_child, interrupts_held
from dotflow.worker.programs import own_processes

EXIT_TIMEOUT: Final = 0.5  # seconds; the collector goes on after it while a program left behind still prints
LOST: Final = b"dotflow: the process that records the output has ended. What steps print is shown, but not recorded.\n"


class Captured(NamedTuple):
    """A captured stream: its own descriptor as the end of the pipe, where it led before, and the pipe's reading end."""

    pipe: OwnDescriptor
    before: OwnDescriptor
    reading: OwnDescriptor


class Collector:
    """Leads the descriptors 1 and 2 of this process to a collector while it is entered.

    Args:
        history: Records what attempts print, for which `can_record` is true. The collector has a copy of it. None to
            record nothing.
        sink: Shows the output; None for where the descriptors led before.

    Attributes:
        store: That of the history; None without one.
    """

    def __init__(self, history: History | None, sink: Sink | None = None) -> None:
        self.store = None if history is None else history.store
        self._payload = None if history is None else pickle.dumps(history)
        self._sink = sink or Sink()
        self._pid = 0
        self._owner: int | None = None  # the thread of the run, and of its attempts once one has begun
        self._captures = 0  # its runs
        self._attempts: list[AttemptId] = []  # that are being made, the innermost last
        self._known_runs: set[str] = set()
        self._unanswered = 0  # requests
        self._streams: dict[int, Captured] = {}
        self._buffered: list[Any] = []  # streams that wrote more than lines at once before
        self._opened = contextlib.ExitStack()
        self._control: socket.socket
        self._own_control: OwnDescriptor

    def __enter__(self) -> "Collector":
        flush_all()
        with contextlib.ExitStack() as opened:
            self._control, theirs = socket.socketpair()
            self._own_control = OwnDescriptor(self._control.fileno())
            opened.callback(self._close_control)
            with theirs, contextlib.ExitStack() as writing:
                pipes = [open_pipe() for _ in "12"]
                for _, end in pipes:
                    writing.callback(os.close, end)
                readings = [OwnDescriptor(reading) for reading, _ in pipes]
                for reading in readings:
                    opened.callback(reading.close)  # open here, too: no print fails when the collector is killed
                self._start(theirs, pipes)
                opened.callback(self._end)
                for stream, (_, end) in enumerate(pipes, 1):
                    before = OwnDescriptor(os.dup(stream))
                    os.dup2(end, stream)
                    self._streams[stream] = Captured(OwnDescriptor(stream), before, readings[stream - 1])
            opened.callback(self._give_back)
            handler = signal.signal(signal.SIGIO, self._check) or signal.SIG_DFL  # None: set outside of Python
            opened.callback(signal.signal, signal.SIGIO, handler)
            self._set_signal(on=True)
            opened.callback(self._set_signal, on=False)
            self._opened = opened.pop_all()
        self._buffered = [text for text in (sys.stdout, sys.stderr) if not getattr(text, "line_buffering", True)]
        buffer_lines()  # those who follow the run wait for them
        streams.active_collector = self
        return self

    def __exit__(self, *error: object) -> None:
        streams.active_collector = None
        with self._opened:  # leaving it leads the descriptors back, also after an interrupt
            self.wait()
            for text in self._buffered:
                with contextlib.suppress(AttributeError, OSError, ValueError):  # another stream, or a closed one
                    text.reconfigure(line_buffering=False)

    def _start(self, theirs: socket.socket, pipes: list[tuple[int, int]]) -> None:
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # threads of C libraries survive it
            self._pid = os.fork()
        if self._pid:
            own_processes.add(self._pid)
            return
        try:
            self._control.close()
            for _, end in pipes:
                os.close(end)
            run_collector(self._payload, theirs, [reading for reading, _ in pipes], self._sink)
        finally:
            os._exit(1)

    def _check(self, *signal_arguments: object) -> None:
        """Leads the descriptors back if the collector was killed, also where a print waits for it.

        The end of the socket says so. A process that is killed closes its sockets first, and can be waited for later.
        """
        if not self._streams or not self._own_control.is_open() or not wait_closed(self._own_control.number, 0):
            return
        given = self._give_back()
        for stream, captured in given.items():
            if captured.reading.is_open():
                rest = MarkedStream().feed(read_available(captured.reading.number)[0])
                write_all(stream, b"".join([part.data for part in rest]))
                pass_on_later(captured.reading.number, stream)  # what programs print that have the pipe
        if 2 in given and self._payload is not None:
            write_all(2, LOST)

    def _give_back(self) -> dict[int, "Captured"]:
        """Leads the descriptors back that a step has not led elsewhere; returns those."""
        left, self._streams = self._streams, {}
        given = {number: one for number, one in left.items() if one.pipe.is_open() and one.before.is_open()}
        for stream, captured in given.items():
            os.dup2(captured.before.number, stream)
        for captured in left.values():
            captured.before.close()
        return given

    def _end(self) -> None:
        """Waits for the end of the collector, which passes on what it has read."""
        if self._own_control.is_open():
            with contextlib.suppress(OSError):  # it was killed
                self._control.shutdown(socket.SHUT_WR)
            if wait_closed(self._own_control.number, EXIT_TIMEOUT):
                with contextlib.suppress(ChildProcessError):  # other code has waited for it
                    os.waitpid(self._pid, 0)
        own_processes.discard(self._pid)

    def _close_control(self) -> None:
        if self._own_control.is_open():
            self._control.close()
        else:
            self._control.detach()

    def forget(self) -> None:
        """Leaves everything alone in a forked child, whose parent goes on."""
        self._streams.clear()
        self._opened.pop_all()
        self._close_control()

    def add(self) -> None:
        """Begins a run of the calling thread."""
        self._owner = threading.get_ident()
        self._captures += 1

    def remove(self) -> None:
        """Ends a run."""
        self._captures -= 1
        self._owner = self._owner if self._captures else None

    def is_free(self) -> bool:
        """Returns whether the calling thread may begin a run: marks are for one thread."""
        return self._owner in (None, threading.get_ident())

    def begin(self, attempt: AttemptId, capture: Capture) -> None:
        """Takes what is printed from now on for the output of an attempt."""
        if attempt.run_id not in self._known_runs:
            self._known_runs.add(attempt.run_id)
            self._send(pickle.dumps((attempt.run_id, capture.limit, capture.masks)))
        self._owner = threading.get_ident()
        self._attempts.append(attempt)
        flush_streams()
        self._mark(mark(attempt))

    def end(self, attempt: AttemptId) -> None:
        """Ends the output of an attempt."""
        if attempt not in self._attempts:  # its output is that of a process
            return
        self._attempts.remove(attempt)
        flush_all()
        self._mark(mark(self._attempts[-1]) if self._attempts else NO_ATTEMPT)

    def wait(self) -> None:
        """Waits until all that was printed before is recorded and passed on."""
        flush_all()
        if not self._attempts:  # the collector forgets the runs, too
            self._known_runs.clear()
        if not self._send(b""):
            return
        with contextlib.suppress(OSError):  # it was killed
            while self._unanswered > 0 and (answers := self._control.recv(64)):
                self._unanswered -= len(answers)

    def write(self, stream: int, data: bytes) -> None:
        """Passes on output that is not of the attempt which is being made here."""
        if self._attempts and stream in self._streams and self._streams[stream].pipe.is_open():
            data = NO_ATTEMPT + data + mark(self._attempts[-1])
        write_all(stream, data)

    def _mark(self, data: bytes) -> None:
        for stream, captured in tuple(self._streams.items()):
            if captured.pipe.is_open():
                write_all(stream, data)

    def _send(self, data: bytes) -> bool:
        """Sends a message; the empty one is a request for an answer. Returns False if the collector is gone."""
        if not self._own_control.is_open():
            return False
        with contextlib.suppress(OSError), interrupts_held():  # whole, or the next one would not be understood
            self._unanswered += not data  # here: an interrupt may come right after it was sent
            self._control.sendall(SIZE.pack(len(data)) + data)
            return True
        return False

    def _set_signal(self, *, on: bool) -> None:
        """Sets whether the kernel sends SIGIO when the collector ends: a print may wait in a full pipe."""
        import fcntl

        if self._own_control.is_open():
            flags = fcntl.fcntl(self._control, fcntl.F_GETFL)
            fcntl.fcntl(self._control, fcntl.F_SETOWN, os.getpid())
            fcntl.fcntl(self._control, fcntl.F_SETFL, flags | os.O_ASYNC if on else flags & ~os.O_ASYNC)


class CollectorCapture:
    """The capture of the output of one run by the collector, which ends with the run if it *is_own*."""

    def __init__(self, collector: Collector, capture: Capture, *, is_own: bool = False) -> None:
        self._collector: Collector | None = collector
        self._capture = capture
        self._is_own = is_own
        collector.add()

    def begin(self, attempt: AttemptId) -> None:
        """Captures what is printed from now on."""
        assert self._collector is not None
        self._collector.begin(attempt, self._capture)

    def end(self, attempt: AttemptId) -> None:
        """Ends the output of the attempt."""
        if self._collector is not None:
            self._collector.end(attempt)

    def close(self) -> None:
        """Waits until all is recorded."""
        collector = self._collector
        if collector is None:
            return
        try:
            collector.wait()
        finally:
            self._collector = None
            collector.remove()
            if self._is_own:
                collector.__exit__()


def can_record(history: History) -> bool:
    """Returns whether a collector of this process can record for a history: no other thread, which would hold locks."""
    if os.name != "posix" or threading.active_count() > 1 or streams.active_collector is not None:
        return False
    try:
        pickle.dumps(history)
        return bool(sys.stdout.fileno() == 1 and sys.stderr.fileno() == 2)
    except Exception:  # streams are None, closed or redirected; a class of the user's that can't be pickled
        return False


def collector_capture(capture: Capture) -> CollectorCapture | None:
    """Returns the capture by the collector of this process, if there is one that records for the history that asks.

    With FD a collector is started for the run, where that is possible.
    """
    store = getattr(capture.history, "store", None)
    if store is None or capture.mode not in (TypeCapture.AUTO, TypeCapture.FD):
        return None
    active: Collector | None = streams.active_collector
    if active is not None:
        return CollectorCapture(active, capture) if active.store == store and active.is_free() else None
    if capture.mode is TypeCapture.FD and can_record(capture.history):
        return CollectorCapture(Collector(capture.history).__enter__(), capture, is_own=True)
    return None


@in_forked_child
def _forget() -> None:
    """Leaves the descriptors of a forked child alone, and writes no marks in it."""
    forgotten, streams.active_collector = streams.active_collector, None
    if forgotten is not None:
        forgotten.forget()
