"""What a worker prints, sent to a caller who has redirected the stream."""

import io
import threading
from collections.abc import Callable
from typing import Any, Final

ENCODING: Final = "utf-8"


class Relay(io.TextIOBase):
    """Stands in for a stream: what is written here goes to the caller, in whole lines, so that workers don't mix.

    Args:
        send: Sends bytes of text to the caller.
    """

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self._unfinished: dict[int, str] = {}  # by thread: a line that has no end yet
        self.buffer = RelayBytes(self)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """That of the bytes."""
        return ENCODING

    def write(self, text: str) -> int:
        """Sends whole lines on at once."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        thread = threading.get_ident()
        lines, end, unfinished = (self._unfinished.pop(thread, "") + text).rpartition("\n")
        if unfinished:
            self._unfinished[thread] = unfinished
        self._send_text(lines + end)
        return len(text)

    def flush(self) -> None:
        """Sends what the calling thread has begun."""
        self._send_text(self._unfinished.pop(threading.get_ident(), ""))

    def flush_all(self) -> None:
        """Sends what all threads have begun: the attempt is over."""
        for thread in tuple(self._unfinished):
            self._send_text(self._unfinished.pop(thread, ""))

    def writable(self) -> bool:
        """It is there to be written to."""
        return True

    def _send_text(self, text: str) -> None:
        if text:
            self._send(text.encode(ENCODING, "surrogatepass"))


class RelayBytes(io.RawIOBase):
    """The same for bytes, as `sys.stdout.buffer` is to `sys.stdout`."""

    def __init__(self, text: Relay) -> None:
        self._text = text

    def write(self, data: Any) -> int:
        """Sends them on as text."""
        self._text.write(bytes(data).decode(ENCODING, "backslashreplace"))
        return len(data)

    def flush(self) -> None:
        """Sends what was begun."""
        self._text.flush()

    def writable(self) -> bool:
        """It is there to be written to."""
        return True
