"""Worker output on its way to a caller that has redirected its stdout or stderr."""

import io
import threading
from collections.abc import Callable
from typing import Any, Final

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
