"""The process that writes to the terminal during a run: the output and, below it, the view.

It runs as a script and imports the standard library only. As a process of its own it works whatever happens to the run:
code that holds the interpreter's lock can't delay prints, the last output appears after a crash, `kill -9` leaves the
cursor visible, and a program that a step left behind can print.

python terminal_writer.py TERMINAL OUTPUT CONTROL, three descriptors: the terminal, a pipe with the output, and a socket
that receives views. A view is a line with a JSON array of [line, width]. An empty line, or the end of the socket, ends
the view. The writer answers with a byte, and passes output on until the pipe is closed.

Where a history records the output, the scribe does this, which has a pipe for each stream.
"""

import contextlib
import json
import os
import re
import select
import signal
import sys
import time
import unicodedata
from collections.abc import Mapping
from typing import Any

CHUNK = 65_536  # bytes: the capacity of a pipe on Linux by default
MAX_PIPE_CHUNKS = 16  # the capacity at most, in chunks: fs.pipe-max-size
MAX_SHOWN = 4096  # bytes of a partial line
MAX_KEPT = 1 << 20  # bytes of a partial line that returns to its beginning, as progress bars do
BATCH_DELAY = 0.002  # seconds; waking it for each mark would take the run longer than writing the mark
HIDE_CURSOR, SHOW_CURSOR, ERASE_BELOW = b"\x1b[?25l", b"\x1b[?25h", b"\x1b[J"
ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b.")


class TerminalWriter:
    """The terminal, the output above and the view below.

    Args:
        terminal: The terminal.
        outputs: The pipes with the output, each with its stream and the descriptor where it leads.
        control: The socket that receives views.
        recorder: The scribe's Recorder; None without one.
    """

    def __init__(
        self, terminal: int, outputs: Mapping[int, tuple[int, int]], control: int, recorder: Any = None
    ) -> None:
        self._terminal, self._outputs, self._control = terminal, dict(outputs), control
        self._recorder = recorder
        self._received = b""  # an incomplete view
        self._view: list[tuple[str, int]] = []
        self._widths: list[int] = []  # of the lines in the terminal
        self._drawn: list[str] = []
        self._partial = bytearray()  # output after the last line break
        self._is_finished = False
        self._is_paused = False  # by Ctrl-Z
        self._is_hidden = False
        self._wakeup, self._wakeup_writer = os.pipe()

    def run(self) -> None:
        """Writes output and views until the end of the view, then output until the pipe is closed."""
        for descriptor in (*self._outputs, self._wakeup, self._wakeup_writer):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(self._wakeup_writer)  # ends select(), which Python would resume after the handler
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # they are for the run, which ends the view
        for number in (signal.SIGTSTP, signal.SIGCONT):
            signal.signal(number, self._set_paused)
        self._write(self._terminal, HIDE_CURSOR)
        while not self._is_finished:
            ready = self._wait(self._control, self._wakeup)
            if self._wakeup in ready:
                os.read(self._wakeup, CHUNK)
            if self._is_paused is not self._is_hidden:
                self._toggle()
            if self._control in ready:
                self._receive()
            requests = self._requests()
            self._draw(self._read_output(MAX_PIPE_CHUNKS if self._is_finished or requests else 1))
            self._record(requests)
        self._write(self._terminal, SHOW_CURSOR)
        with contextlib.suppress(OSError):  # the run has ended
            os.write(self._control, b".")
        while self._outputs:
            self._wait()
            requests = self._requests()
            self._write(self._terminal, self._read_output(MAX_PIPE_CHUNKS if requests else 1))
            self._record(requests)

    def _wait(self, *others: int) -> list[int]:
        recorder = self._recorder
        if recorder is None:
            return select.select([*self._outputs, *others], [], [])[0]
        control = [recorder.control] if recorder.is_connected else []
        ready = select.select([*self._outputs, *others, *control], [], [], recorder.timeout)[0]
        if recorder.control in ready:
            recorder.receive()
        return ready

    def _requests(self) -> int:
        return 0 if self._recorder is None else int(self._recorder.requests)

    def _record(self, requests: int) -> None:
        if self._recorder is not None:
            self._recorder.step(requests)
            time.sleep(BATCH_DELAY)

    def _receive(self) -> None:
        """Receives the newest view."""
        try:
            data = os.read(self._control, CHUNK)
        except OSError:
            data = b""
        *complete, self._received = (self._received + data).split(b"\n")
        if not data or b"" in complete:
            self._is_finished = True
        elif complete:
            self._view = json.loads(complete[-1])

    def _read_output(self, max_chunks: int) -> bytes:
        """Returns the output for the terminal; writes the rest to where it leads."""
        parts = []
        for pipe, (stream, target) in tuple(self._outputs.items()):
            with contextlib.suppress(BlockingIOError):
                for _ in range(max_chunks):
                    data = os.read(pipe, CHUNK)
                    if not data:  # no process has the pipe any more
                        del self._outputs[pipe]
                        break
                    if self._recorder is not None:
                        data = self._recorder.feed(stream, data)
                    if target == self._terminal:
                        parts.append(data)
                    else:
                        self._write(target, data)
        return b"".join(parts)

    def _draw(self, output: bytes) -> None:
        complete = self._complete_lines(output)
        columns = self._columns()
        lines = [] if self._is_finished or self._is_hidden else [*self._partial_line(columns), *self._view]
        drawn = [line for line, _ in lines]
        if complete or drawn != self._drawn:
            erase = self._erase_sequence(columns)
            self._drawn, self._widths = drawn, [width for _, width in lines]
            self._write(self._terminal, erase + complete + "\n".join(drawn).encode("utf-8", "replace"))

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

        The writer itself goes on, so that the run never waits for a stopped process.
        """
        self._is_hidden = not self._is_hidden
        cursor = SHOW_CURSOR if self._is_hidden else HIDE_CURSOR
        self._write(self._terminal, self._erase_sequence(self._columns()) + cursor)
        self._drawn, self._widths = [], []

    @staticmethod
    def _write(descriptor: int, data: bytes) -> None:
        with contextlib.suppress(OSError):  # the terminal was closed
            while data:
                data = data[os.write(descriptor, data) :]


def main(terminal: int, output: int, control: int) -> None:
    """Runs as a script."""
    TerminalWriter(terminal, {output: (1, terminal)}, control).run()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
