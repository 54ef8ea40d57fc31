"""The process that writes to the terminal while a run is shown: what is printed, and below it the picture.

It runs as a script and imports nothing of ours. It is a process of its own so that nothing that happens to the run can
hurt what is seen of it: code that holds the interpreter's lock can't keep prints back, what was printed last is there
after a crash, the cursor comes back after `kill -9`, and a program that a step has left behind may go on printing.

python painter.py TERMINAL TEXT CONTROL, three descriptors: the terminal; a pipe of what is printed; and a socket on
which pictures come, each a JSON array of [line, its width] on a line of its own. An empty line, or its end, is the end
of the picture; then a byte is sent back, and what is still printed is passed on until nobody can print any more.
"""

import contextlib
import json
import os
import re
import select
import signal
import sys
import unicodedata

CHUNK = 65_536  # bytes: what a pipe holds on Linux, unless it was enlarged
LAST_CHUNKS = 16  # a pipe holds no more than these, fs.pipe-max-size
SHOWN_OF_A_LINE = 4096  # bytes of a line that has no end yet
KEPT_OF_A_LINE = 1 << 20  # bytes, where the line returns to its beginning: the older ones have been written over
HIDE_CURSOR, SHOW_CURSOR, ERASE_BELOW = b"\x1b[?25l", b"\x1b[?25h", b"\x1b[J"
ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b.")


class Painter:
    """The terminal, what is printed above, and the picture below."""

    def __init__(self, terminal: int, text: int, control: int) -> None:
        self._terminal, self._text, self._control = terminal, text, control
        self._asked = b""  # a picture that has not come as a whole
        self._picture: list[tuple[str, int]] = []
        self._widths: list[int] = []  # of the lines that stand in the terminal
        self._shown: list[str] = []
        self._rest = bytearray()  # what was printed of a line that has no end yet
        self._is_over = False
        self._is_paused = False  # by Ctrl-Z
        self._is_hidden = False
        self._waking, self._woken = os.pipe()

    def work(self) -> None:
        """Paints until the picture's end, then passes on what is printed until nobody can print any more."""
        for descriptor in (self._text, self._waking, self._woken):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(self._woken)  # so that a wait ends, which Python would go on with after the handler
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # those are the run's: its end is told
        for number in (signal.SIGTSTP, signal.SIGCONT):
            signal.signal(number, self._note)
        self._write(HIDE_CURSOR)
        while not self._is_over:
            ready, _, _ = select.select([self._text, self._control, self._waking], [], [])
            if self._waking in ready:
                os.read(self._waking, CHUNK)
            if self._is_paused is not self._is_hidden:
                self._turn()
            if self._control in ready:
                self._listen()
            self._paint(self._printed(LAST_CHUNKS if self._is_over else 1))
        self._write(SHOW_CURSOR)
        with contextlib.suppress(OSError):  # it is gone
            os.write(self._control, b".")
        os.set_blocking(self._text, True)
        while chunk := os.read(self._text, CHUNK):
            self._write(chunk)

    def _listen(self) -> None:
        """Takes the newest picture."""
        try:
            told = os.read(self._control, CHUNK)
        except OSError:
            told = b""
        *whole, self._asked = (self._asked + told).split(b"\n")
        if not told or b"" in whole:
            self._is_over = True
        elif whole:
            self._picture = json.loads(whole[-1])

    def _printed(self, chunks: int) -> bytes:
        found = []
        with contextlib.suppress(BlockingIOError):
            for _ in range(chunks):
                found.append(os.read(self._text, CHUNK))
        return b"".join(found)

    def _paint(self, printed: bytes) -> None:
        whole = self._whole_lines(printed)
        columns = self._columns()
        lines = [] if self._is_over or self._is_hidden else [*self._begun(columns), *self._picture]
        shown = [line for line, _ in lines]
        if whole or shown != self._shown:
            erase = self._way_up(columns)
            self._shown, self._widths = shown, [width for _, width in lines]
            self._write(erase + whole + "\n".join(shown).encode("utf-8", "replace"))

    def _whole_lines(self, printed: bytes) -> bytes:
        """What can be written above the picture now; at its end all there is, ended."""
        end = len(printed) if self._is_over else printed.rfind(b"\n") + 1
        if not end and not self._is_over:
            self._rest += printed
            if len(self._rest) > KEPT_OF_A_LINE and (begin := self._rest.rfind(b"\r", 0, -1)) > 0:
                del self._rest[:begin]
            return b""
        whole = bytes(self._rest) + printed[:end]
        self._rest = bytearray(printed[end:])
        return whole if not whole or whole.endswith(b"\n") else whole + b"\n"

    def _begun(self, columns: int) -> list[tuple[str, int]]:
        """A line that has no end yet, as far as it can be shown on one: that of a progress bar, say."""
        tail = bytes(self._rest[-SHOWN_OF_A_LINE:]).decode("utf-8", "replace")
        text = "".join(char for char in ESCAPES.sub("", tail.rstrip("\r").rpartition("\r")[2]) if char.isprintable())
        width = 0
        for place, char in enumerate(text):
            wide = 2 if unicodedata.east_asian_width(char) in "WF" else 1
            if width + wide > columns - 1:
                return [(text[:place], width)]
            width += wide
        return [(text, width)] if text else []

    def _way_up(self, columns: int) -> bytes:
        """To the picture's beginning, and away with it. A terminal made narrower has wrapped its lines meanwhile."""
        height = sum(max(1, -(-width // columns)) for width in self._widths)
        return b"\r" + (b"\x1b[%dA" % (height - 1) if height > 1 else b"") + ERASE_BELOW

    def _columns(self) -> int:
        with contextlib.suppress(OSError):
            return os.get_terminal_size(self._terminal).columns or 80
        return 80

    def _note(self, number: int, frame: object) -> None:
        self._is_paused = number == signal.SIGTSTP

    def _turn(self) -> None:
        """Ctrl-Z: the shell gets the terminal as it was; after `fg` the picture comes again.

        This process itself is not stopped: whoever waits for it, once the run goes on, must not wait in vain.
        """
        self._is_hidden = not self._is_hidden
        self._write(self._way_up(self._columns()) + (SHOW_CURSOR if self._is_hidden else HIDE_CURSOR))
        self._shown, self._widths = [], []

    def _write(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # the terminal is gone: nobody looks any more
            while data:
                data = data[os.write(self._terminal, data) :]


if __name__ == "__main__":
    Painter(*map(int, sys.argv[1:])).work()
