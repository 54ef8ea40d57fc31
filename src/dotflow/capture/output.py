"""Worker output on its way to the caller: to one that has redirected its stdout or stderr, or that captures it."""

import contextlib
import ctypes
import io
import sys
import threading
from collections.abc import Callable
from functools import cache, partial
from typing import Any, Final

from dotflow.capture.marks import NESTED, NO_ATTEMPT, mark
from dotflow.capture.pipes import write_all
from dotflow.capture.streams import lead_handlers, set_mark

ENCODING: Final = "utf-8"


class Relay(io.TextIOBase):
    """A stream that sends text to the caller in whole lines, so that the lines of several workers don't mix.

    Args:
        send: Sends encoded text to the caller.
    """

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self._unfinished: dict[int, str] = {}  # by thread: a line without its end
        self.buffer = RelayBytes(self)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the bytes that are sent."""
        return ENCODING

    def write(self, text: str) -> int:
        """Sends whole lines at once."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        thread = threading.get_ident()
        lines, end, unfinished = (self._unfinished.pop(thread, "") + text).rpartition("\n")
        if unfinished:
            self._unfinished[thread] = unfinished
        self._send_text(lines + end)
        return len(text)

    def flush(self) -> None:
        """Sends the unfinished line of the calling thread."""
        self._send_text(self._unfinished.pop(threading.get_ident(), ""))

    def flush_all(self) -> None:
        """Sends the unfinished lines of all threads, at the end of an attempt."""
        for thread in tuple(self._unfinished):
            self._send_text(self._unfinished.pop(thread, ""))

    def writable(self) -> bool:
        return True

    def _send_text(self, text: str) -> None:
        if text:
            self._send(text.encode(ENCODING, "surrogatepass"))


class RelayBytes(io.RawIOBase):
    """The `buffer` of a Relay, as `sys.stdout.buffer` is of `sys.stdout`."""

    def __init__(self, text: Relay) -> None:
        self._text = text

    def write(self, data: Any) -> int:
        """Sends bytes as text."""
        self._text.write(bytes(data).decode(ENCODING, "backslashreplace"))
        return len(data)

    def flush(self) -> None:
        """Sends the unfinished line of the calling thread."""
        self._text.flush()

    def writable(self) -> bool:
        return True


def print_to_descriptors() -> None:
    """Makes sys.stdout, sys.stderr and the words of a crash go to the descriptors 1 and 2, which are captured."""
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        try:
            leads_there = stream is None or stream.fileno() == descriptor
        except (AttributeError, OSError, ValueError):  # the caller has redirected it
            leads_there = False
        if not leads_there:
            captured = open(descriptor, "w", encoding=ENCODING, errors="surrogatepass", closefd=False)  # noqa: SIM115
            setattr(sys, name, captured)
            lead_handlers(stream, captured)
    import faulthandler  # here: the caller's side does not need it

    if not faulthandler.is_enabled():
        faulthandler.enable(2)
    set_mark(_mark_nested)


def _mark_nested(is_nested: bool) -> None:
    flush_all()
    for descriptor in (1, 2):
        write_all(descriptor, mark(NESTED) if is_nested else NO_ATTEMPT)


def flush_streams() -> None:
    """Writes what is in the buffers of sys.stdout and sys.stderr."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream.__class__ is Relay:
                stream.flush_all()
            stream.flush()
        except (AttributeError, OSError, ValueError):  # None, broken or closed
            continue


def flush_all() -> None:
    """Writes what is in the buffers of Python's and of C's stdout; those of C's stderr are always empty."""
    flush_streams()
    _flush_c_stdout()()


@cache
def _flush_c_stdout() -> Callable[[], object]:
    """Returns a function that writes C's buffer. Other streams are left alone: a thread may wait for input of one."""
    library = ctypes.CDLL(None)
    for name in ("stdout", "__stdoutp"):  # glibc and musl; macOS
        with contextlib.suppress(ValueError):
            return partial(library.fflush, ctypes.c_void_p.in_dll(library, name))
    return int
