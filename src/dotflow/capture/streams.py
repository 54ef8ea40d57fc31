"""Captures what attempts in this process print to sys.stdout and sys.stderr, while runs that want it go on.

Meanwhile both streams have a proxy, which passes everything on at once. The context variable of the attempt shows
whose output it is. A thread that a step has started has none: its output is that of the only attempt, or of the run.
"""

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from dotflow.capture.output_buffer import InlineOutputBuffer, OutputBuffer, Pace
from dotflow.core.attempt_id import AttemptId, current_attempt
from dotflow.core.capture import Capture
from dotflow.worker.interrupts import in_forked_child

NO_TASK: Final = -1  # the task_id of output that belongs to no single attempt

STREAMS: Final = (("stdout", 1), ("stderr", 2))

#: The collector of this process, which has set this; None without one.
active_collector: Any = None

_lock = threading.RLock()
_depth = 0  # runs that a step has started, and whose histories capture what they print: it is not the attempt's
_mark: Callable[[bool], object] = bool
_captures: Final[set["StreamCapture"]] = set()
_attempts: Final[dict[AttemptId, "StreamCapture"]] = {}  # those that are being made, and the capture of their run


class StreamProxy:
    """Stands in for a text stream. It behaves as the stream itself in all but what is written, which *see* takes, too.

    Attributes:
        users: The number of runs that need the proxy.
    """

    stream: Any
    users: int

    def __init__(self, stream: Any, number: int, see: Callable[[int, bytes], object]) -> None:
        own: dict[str, Any] = {"stream": stream, "users": 0, "_number": number, "_see": see, "_buffer": None}
        vars(self).update(own)

    def write(self, text: str) -> int:
        """Writes text, as the stream does."""
        count: int = self.stream.write(text)
        if text.__class__ is str:
            self._see(self._number, text.encode("utf-8", "backslashreplace"))
        return count

    def writelines(self, lines: Iterable[str]) -> None:
        """Writes lines, as the stream does."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flushes the stream."""
        self.stream.flush()

    @property
    def buffer(self) -> Any:
        """The stream's buffer, which is seen as well."""
        buffer = self.stream.buffer
        if self._buffer is None or self._buffer.stream is not buffer:
            vars(self)["_buffer"] = BufferProxy(buffer, self._number, self._see)
        return self._buffer

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """The class of the stream, so that `isinstance` tells them apart as little as anything else."""
        return type(self.stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.stream, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self.stream, name)

    def __enter__(self) -> Any:
        self.stream.__enter__()
        return self

    def __exit__(self, *error: Any) -> Any:
        return self.stream.__exit__(*error)

    def __repr__(self) -> str:
        return repr(self.stream)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Makes it the same stream of the process that loads it."""
        return getattr, (sys, "stdout" if self._number == 1 else "stderr")


class BufferProxy(StreamProxy):
    """Stands in for the buffer of a text stream."""

    def write(self, data: Any) -> int:
        """Writes bytes, as the buffer does."""
        count: int = self.stream.write(data)
        self._see(self._number, bytes(memoryview(data).cast("B")[:count]))
        return count


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
            self._is_nested = self.outer is not None
            if self._is_nested:
                begin_nested()
            self._proxies = [(name, proxy) for name, number in STREAMS if (proxy := _put_in(name, number))]

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
            new = (
                InlineOutputBuffer(attempt, self._capture, self._pace)
                if self._wake is None
                else OutputBuffer(attempt, self._capture, self._wake)
            )
            buffer = self._buffers.setdefault(attempt, new)  # another thread may be quicker
        return buffer

    def whole(self, run_id: str) -> OutputBuffer:
        """Returns the output of the run that belongs to no single attempt."""
        with _lock:  # two threads may print their first line at once
            if self._whole is None:
                self._whole = OutputBuffer(AttemptId(run_id, NO_TASK, 0), self._capture)
        return self._whole

    def close(self) -> None:
        """Ends all attempts, and takes the proxies away that no other run needs."""
        for attempt in [attempt for attempt, capture in tuple(_attempts.items()) if capture is self]:
            self.end(attempt)
        if self._whole is not None:
            self._whole.end()
        with _lock:
            _captures.discard(self)
            if self._is_nested:
                self._is_nested = False
                end_nested()
            for name, proxy in self._proxies:
                _take_away(name, proxy)
            self._proxies = []


def _put_in(name: str, number: int) -> StreamProxy | None:
    """Returns the proxy that is in place of a stream, and puts one in unless there is one; None without a stream."""
    stream = getattr(sys, name)
    if stream is None:
        return None
    if type(stream) is StreamProxy:  # another run's, or one that a redirection has put back after its run
        proxy = stream
    else:
        proxy = StreamProxy(stream, number, _add)
        setattr(sys, name, proxy)
        lead_handlers(stream, proxy)
    vars(proxy)["users"] += 1
    return proxy


def _take_away(name: str, proxy: StreamProxy) -> None:
    """Puts the stream back, unless another run needs the proxy, or the program has replaced it meanwhile."""
    vars(proxy)["users"] -= 1
    if proxy.users:
        return
    if getattr(sys, name) is proxy:
        setattr(sys, name, proxy.stream)
    lead_handlers(proxy, proxy.stream)


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
    """Returns "stdout" or "stderr" for a stream that has a proxy now, or is one; None for all others."""
    for name, _ in STREAMS:
        current = getattr(sys, name)
        if current is stream or (type(current) is StreamProxy and current.stream is stream):
            return name
    return None


def set_mark(mark: Callable[[bool], object]) -> None:
    """Sets the function that marks, in a worker process, whether the output from now on is not of the attempt.

    Its coordinator takes all other output for that of the attempt.
    """
    global _depth, _mark
    _depth, _mark = 0, mark


def begin_nested() -> None:
    """Begins the output of a run within the attempt."""
    global _depth
    _depth += 1
    if _depth == 1:
        _mark(True)


def end_nested() -> None:
    """Ends it."""
    global _depth
    _depth -= 1
    if not _depth:
        _mark(False)


def lead_handlers(before: Any, after: Any) -> None:
    """Makes the handlers that write to *before* write to *after*. Does not import logging."""
    logging = sys.modules.get("logging")
    if logging is None:
        return
    for handler in set(_handlers(logging)):
        if vars(handler).get("stream") is before:
            try:
                handler.setStream(after)
            except Exception:  # the user's class; or its stream can't be flushed, and setStream stops there
                handler.stream = after


def _handlers(logging: Any) -> Iterator[Any]:
    loggers = (logging.root, *logging.root.manager.loggerDict.values())
    for logger in loggers:
        yield from getattr(logger, "handlers", ())  # a placeholder has none
    if logging.lastResort is not None:
        yield logging.lastResort


@in_forked_child
def _forget() -> None:
    """Captures nothing in a forked child: what it prints can't reach the history of its parent."""
    global _lock
    _lock = threading.RLock()
    _attempts.clear()
    _captures.clear()
