"""Captures what attempts in this process print to sys.stdout and sys.stderr, while runs that want it go on.

Meanwhile both streams have a stand-in, which passes everything on at once. The context variable of the attempt shows
whose output it is. A thread that a step has started has none: its output is that of the only attempt, or of the run.
"""

import os
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

from dotflow.capture.aside import begin_aside, end_aside
from dotflow.capture.handlers import lead_handlers
from dotflow.capture.output_buffer import InlineOutputBuffer, OutputBuffer, Pace
from dotflow.capture.stand_in import StandIn
from dotflow.core.attempt_id import AttemptId, current_attempt
from dotflow.core.capture import Capture

NO_TASK: Final = -1  # the task_id of output that belongs to no single attempt

STREAMS: Final = (("stdout", 1), ("stderr", 2))

_lock = threading.RLock()
_captures: Final[set["StreamCapture"]] = set()
_attempts: Final[dict[AttemptId, "StreamCapture"]] = {}  # those that are being made, and the capture of their run


class StreamCapture:
    """The capture of the output of one run.

    Args:
        capture: Where the output goes.
        wake: Called by any thread that has printed something: its `collect` has to be called when it is due. None where
            the attempts are made in the calling thread.
    """

    def __init__(self, capture: Capture, wake: Callable[[OutputBuffer], object] | None = None) -> None:
        self._capture = capture
        self._wake = wake
        self.outer = current_attempt.get()  # whose step starts the run
        self._whole: OutputBuffer | None = None
        self._pace = Pace()
        self._buffers: dict[AttemptId, OutputBuffer] = {}  # of the attempts that have printed
        self.thread = threading.get_ident()
        with _lock:
            _captures.add(self)
            self._is_aside = self.outer is not None
            if self._is_aside:
                begin_aside()
            self._stand_ins = [(name, stand_in) for name, number in STREAMS if (stand_in := _put_in(name, number))]

    def begin(self, attempt: AttemptId) -> None:
        """Captures what is printed in the context of the attempt from now on."""
        _attempts[attempt] = self

    def end(self, attempt: AttemptId) -> None:
        """Records what is left of the attempt's output. Called in the thread of the run."""
        _attempts.pop(attempt, None)
        buffer = self._buffers.pop(attempt, None)
        if buffer is not None:
            buffer.end()

    def buffer_of(self, attempt: AttemptId) -> OutputBuffer:
        """Returns the output of an attempt that is being made."""
        buffer = self._buffers.get(attempt)
        if buffer is None:
            if self._wake is None:
                new: OutputBuffer = InlineOutputBuffer(attempt, self._capture, self._pace)
            else:
                new = OutputBuffer(attempt, self._capture, self._wake)
            buffer = self._buffers.setdefault(attempt, new)  # another thread may be quicker
        return buffer

    def whole(self, run_id: str) -> OutputBuffer:
        """Returns the output of the run that belongs to no single attempt."""
        if self._whole is None:
            self._whole = OutputBuffer(AttemptId(run_id, NO_TASK, 0), self._capture)
        return self._whole

    def close(self) -> None:
        """Ends all attempts, and takes the stand-ins away that no other run needs."""
        for attempt in [attempt for attempt, capture in tuple(_attempts.items()) if capture is self]:
            self.end(attempt)
        if self._whole is not None:
            self._whole.end()
        with _lock:
            _captures.discard(self)
            if self._is_aside:
                self._is_aside = False
                end_aside()
            for name, stand_in in self._stand_ins:
                _take_away(name, stand_in)
            self._stand_ins = []


def _put_in(name: str, number: int) -> StandIn | None:
    """Returns the stand-in that is in place of a stream, and puts one in unless there is one; None without a stream."""
    stream = getattr(sys, name)
    if stream is None:
        return None
    if type(stream) is StandIn:  # another run's, or one that a redirection has put back after its run
        stand_in = stream
    else:
        stand_in = StandIn(stream, number, _add)
        setattr(sys, name, stand_in)
        lead_handlers(stream, stand_in)
    object.__setattr__(stand_in, "users", stand_in.users + 1)
    return stand_in


def _take_away(name: str, stand_in: StandIn) -> None:
    """Puts the stream back, unless another run needs the stand-in, or the program has replaced it meanwhile."""
    object.__setattr__(stand_in, "users", stand_in.users - 1)
    if stand_in.users:
        return
    if getattr(sys, name) is stand_in:
        setattr(sys, name, stand_in.stream)
    lead_handlers(stand_in, stand_in.stream)


def _add(stream: int, data: bytes) -> None:
    """Adds to the output of the attempt in whose context this thread prints."""
    if not _attempts:
        return
    attempt = current_attempt.get()
    if attempt is None:
        buffer = _of_thread()
    else:
        capture = _attempts.get(attempt)
        buffer = None if capture is None else capture.buffer_of(attempt)
    if buffer is not None:
        buffer.add(stream, data)


def _of_thread() -> OutputBuffer | None:
    """Returns whose output it is that a thread without a context prints; None if that is not a step's."""
    thread = threading.get_ident()
    if thread == threading.main_thread().ident or any(capture.thread == thread for capture in tuple(_captures)):
        return None
    attempts = tuple(_attempts.items())
    outer = {capture.outer for _, capture in attempts}  # their steps wait for the others
    innermost = {attempt: capture for attempt, capture in attempts if attempt not in outer}
    if len(innermost) == 1:
        ((attempt, capture),) = innermost.items()
        return capture.buffer_of(attempt)
    captures = set(innermost.values())
    return captures.pop().whole(next(iter(innermost)).run_id) if len(captures) == 1 else None


def name_of(stream: Any) -> str | None:
    """Returns "stdout" or "stderr" for a stream that has a stand-in now, or is one; None for all others."""
    for name, _ in STREAMS:
        current = getattr(sys, name)
        if current is stream or (type(current) is StandIn and current.stream is stream):
            return name
    return None


def _forget() -> None:
    """Captures nothing in a forked child: what it prints can't reach the history of its parent."""
    global _lock
    _lock = threading.RLock()
    _attempts.clear()
    _captures.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
