"""A terminal to run commands in, with an emulator of its screen."""

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

TIMEOUT: Final = 45.0  # seconds


class Terminal:
    """A screen of so many columns and lines, and the lines that have scrolled off its top.

    Attributes:
        descriptor: The descriptor for the command's stdin, stdout and stderr.
        sent: All bytes that it has received.
    """

    def __init__(self, columns: int, lines: int) -> None:
        self._emulator_end, self.descriptor = pty.openpty()
        self._screen = pyte.HistoryScreen(columns, lines, history=10_000)
        self._stream = pyte.ByteStream(self._screen)
        self._changed = threading.Condition()
        self._emulated = 0  # bytes of what was sent
        self.sent = b""
        self.resize(columns, lines)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def resize(self, columns: int, lines: int) -> None:
        """Changes the size; the emulator cuts lines that some terminals would wrap."""
        with self._changed:
            self._emulate()
            fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
            self._screen.resize(lines, columns)

    def see(self, condition: Callable[[list[str]], bool]) -> list[str]:
        """Waits until the lines on the screen satisfy *condition*, and returns them."""
        until = time.monotonic() + TIMEOUT
        with self._changed:
            while not condition(self._lines()):
                assert self._changed.wait(until - time.monotonic()), "\n".join(self._lines())
            return self._lines()

    def wait_for(self, data: bytes) -> None:
        """Waits until it has received *data*. Much output takes the emulator long, and this does without."""
        with self._changed:
            assert self._changed.wait_for(lambda: data in self.sent, TIMEOUT), self.sent[-1000:]

    def type(self, text: str) -> None:
        """Types text into the command's stdin."""
        os.write(self._emulator_end, text.encode())

    def all(self) -> list[str]:
        """Returns every line, those that have scrolled away first."""
        with self._changed:
            lines = self._lines()
            history = [
                "".join(line[column].data for column in range(self._screen.columns)).rstrip()
                for line in self._screen.history.top
            ]
            return history + lines

    @property
    def shows_cursor(self) -> bool:
        """Whether the cursor is visible."""
        with self._changed:
            self._emulate()
            return not self._screen.cursor.hidden

    def close(self) -> None:
        """Closes the terminal after it has received everything."""
        os.close(self.descriptor)
        self._thread.join(TIMEOUT)
        os.close(self._emulator_end)

    def _lines(self) -> list[str]:
        self._emulate()
        return [line.rstrip() for line in self._screen.display]

    def _emulate(self) -> None:
        self._stream.feed(self.sent[self._emulated :])
        self._emulated = len(self.sent)

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # the descriptor was closed
            while data := os.read(self._emulator_end, 65_536):
                with self._changed:
                    self.sent += data
                    self._changed.notify_all()
