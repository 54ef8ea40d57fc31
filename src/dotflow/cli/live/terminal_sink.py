"""TerminalSink: a terminal during a run, as the collector writes it: the output and, below it, the view.

The collector is a process of its own, so it works whatever happens to the run: code that holds the interpreter's lock
can't delay prints, the last output appears after a crash, `kill -9` leaves the cursor visible, and a program that a
step left behind can print.
"""

import contextlib
import json
import os
import re
import signal
import socket
import unicodedata
from collections.abc import Collection, Sequence
from typing import Final

from dotflow.capture.collector_main import Sink
from dotflow.capture.pipes import write_all

MAX_SHOWN: Final = 4096  # bytes of a partial line
MAX_KEPT: Final = 1 << 20  # bytes of a partial line that returns to its beginning, as progress bars do
MAX_READ: Final = 65_536  # bytes
HIDE_CURSOR, SHOW_CURSOR, ERASE_BELOW = b"\x1b[?25l", b"\x1b[?25h", b"\x1b[J"
ESCAPES: Final = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b.")


class TerminalSink(Sink):
    """The terminal, the output above and the view below.

    A view is a line with a JSON array of [line, width]. An empty line, or the end of the socket, ends the view.

    Args:
        terminal: The terminal.
        views: The socket that receives views.
        sender: The run's end of it, which the collector closes.
    """

    def __init__(self, terminal: int, views: socket.socket, sender: socket.socket) -> None:
        self._terminal, self._views, self._sender = terminal, views, sender
        self._received = b""  # an incomplete view
        self._view: list[tuple[str, int]] = []
        self._widths: list[int] = []  # of the lines in the terminal
        self._drawn: list[str] = []
        self._output = b""  # that is not in the terminal yet
        self._partial = bytearray()  # output after the last line break
        self._is_finished = False
        self._is_paused = False  # by Ctrl-Z
        self._is_hidden = False

    def begin(self) -> None:
        self._sender.close()
        self._is_shown = {stream: os.isatty(stream) for stream in (1, 2)}
        self._wakeup, wakeup_writer = os.pipe()
        for descriptor in (self._wakeup, wakeup_writer):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(wakeup_writer)  # ends a wait, which Python would resume after the handler
        for number in (signal.SIGTSTP, signal.SIGCONT):
            signal.signal(number, self._set_paused)
        self.descriptors: Sequence[int] = (self._views.fileno(), self._wakeup)
        write_all(self._terminal, HIDE_CURSOR)

    def update(self, ready: Collection[int]) -> None:
        if self._is_finished:
            return
        if self._wakeup in ready:
            os.read(self._wakeup, MAX_READ)
        if self._is_paused is not self._is_hidden:
            self._toggle()
        if self._views.fileno() in ready:
            self._receive()

    def write(self, stream: int, data: bytes) -> None:
        if not self._is_shown[stream]:
            write_all(stream, data)
        elif not self.descriptors:
            write_all(self._terminal, data)
        else:
            self._output += data

    def draw(self) -> None:
        """Writes the output since the last time above the view; at its end, erases the view."""
        if not self.descriptors:
            return
        output, self._output = self._output, b""
        complete = self._complete_lines(output)
        columns = self._columns()
        lines = [] if self._is_finished or self._is_hidden else [*self._partial_line(columns), *self._view]
        drawn = [line for line, _ in lines]
        if complete or drawn != self._drawn:
            erase = self._erase_sequence(columns)
            self._drawn, self._widths = drawn, [width for _, width in lines]
            write_all(self._terminal, erase + complete + "\n".join(drawn).encode("utf-8", "replace"))
        if self._is_finished:
            self.descriptors = ()
            write_all(self._terminal, SHOW_CURSOR)

    def _receive(self) -> None:
        """Receives the newest view."""
        data = b""
        with contextlib.suppress(OSError):
            data = self._views.recv(MAX_READ)
        *complete, self._received = (self._received + data).split(b"\n")
        if not data or b"" in complete:
            self._is_finished = True
        elif complete:
            self._view = json.loads(complete[-1])

    def _complete_lines(self, output: bytes) -> bytes:
        """Returns the lines that are complete, at the end of the view all output, and keeps the rest."""
        end = len(output) if self._is_finished else output.rfind(b"\n") + 1
        if not end and not self._is_finished:
            self._partial += output
            if len(self._partial) > MAX_KEPT and (begin := self._partial.rfind(b"\r", 0, -1)) > 0:
                del self._partial[:begin]
            return b""
        complete = bytes(self._partial) + output[:end]
        self._partial = bytearray(output[end:])
        return complete if not complete or complete.endswith(b"\n") else complete + b"\n"

    def _partial_line(self, columns: int) -> list[tuple[str, int]]:
        """Returns the incomplete line, a progress bar, say, cut to the terminal."""
        tail = bytes(self._partial[-MAX_SHOWN:]).decode("utf-8", "replace")
        text = "".join(char for char in ESCAPES.sub("", tail.rstrip("\r").rpartition("\r")[2]) if char.isprintable())
        width = 0
        for index, char in enumerate(text):
            char_width = 2 if unicodedata.east_asian_width(char) in "WF" else 1
            if width + char_width > columns - 1:
                return [(text[:index], width)]
            width += char_width
        return [(text, width)] if text else []

    def _erase_sequence(self, columns: int) -> bytes:
        """Returns the escape sequence that erases the view, whose lines a narrower terminal has wrapped."""
        height = sum(max(1, -(-width // columns)) for width in self._widths)
        return b"\r" + (b"\x1b[%dA" % (height - 1) if height > 1 else b"") + ERASE_BELOW

    def _columns(self) -> int:
        with contextlib.suppress(OSError):
            return os.get_terminal_size(self._terminal).columns or 80
        return 80

    def _set_paused(self, number: int, frame: object) -> None:
        self._is_paused = number == signal.SIGTSTP

    def _toggle(self) -> None:
        """Erases the view at Ctrl-Z, and draws it again after `fg`.

        The collector itself goes on, so that the run never waits for a stopped process.
        """
        self._is_hidden = not self._is_hidden
        cursor = SHOW_CURSOR if self._is_hidden else HIDE_CURSOR
        write_all(self._terminal, self._erase_sequence(self._columns()) + cursor)
        self._drawn, self._widths = [], []
