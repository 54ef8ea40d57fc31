"""A terminal to run commands in: what a person would see, kept by an emulator."""

import contextlib
import fcntl
import os
import pty
import struct
import termios
import threading
import time
from collections.abc import Callable
from typing import Final

import pyte

TIMEOUT: Final = 15.0  # seconds; what takes longer hangs


class Terminal:
    """A screen of so many columns and lines, with all that has scrolled off its top.

    Attributes:
        theirs: The descriptor for the command's stdin, stdout and stderr.
        sent: Everything that came, as bytes.
    """

    def __init__(self, columns: int, lines: int) -> None:
        self._emulator_end, self.descriptor = pty.openpty()
        self._screen = pyte.HistoryScreen(columns, lines, history=10_000)
        self._stream = pyte.ByteStream(self._screen)
        self._changed = threading.Condition()
        self.sent = b""
        self.resize(columns, lines)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def resize(self, columns: int, lines: int) -> None:
        """What a person does with the mouse; the emulator cuts lines where some terminals would wrap them."""
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        with self._changed:
            self._screen.resize(lines, columns)

    def see(self, condition: Callable[[list[str]], bool]) -> list[str]:
        """Waits until what stands on the screen satisfies *condition*, and gives it."""
        until = time.monotonic() + TIMEOUT
        with self._changed:
            while not condition(self._lines()):
                assert self._changed.wait(until - time.monotonic()), "\n".join(self._lines())
            return self._lines()

    def all(self) -> list[str]:
        """Every line, those that have scrolled away first."""
        with self._changed:
            history = [
                "".join(line[place].data for place in range(self._screen.columns)).rstrip()
                for line in self._screen.history.top
            ]
            return history + self._lines()

    @property
    def shows_cursor(self) -> bool:
        """Whether the cursor can be seen."""
        return not self._screen.cursor.hidden

    def close(self) -> None:
        """The window is closed; what has come by then has been read."""
        os.close(self.descriptor)
        self._thread.join(TIMEOUT)
        os.close(self._emulator_end)

    def _lines(self) -> list[str]:
        return [line.rstrip() for line in self._screen.display]

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # the other side is closed
            while data := os.read(self._emulator_end, 65_536):
                with self._changed:
                    self.sent += data
                    self._stream.feed(data)
                    self._changed.notify_all()
