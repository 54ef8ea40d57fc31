"""Live: a picture at the bottom of the terminal, and above it, whole, whatever anybody prints meanwhile."""

import contextlib
import io
import os
import re
import selectors
import sys
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Final, TextIO

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.text import Text

from dotflow.providers.bell import Bell

TICK: Final = 0.1  # seconds between two pictures
CHUNK: Final = 65_536  # bytes: what a pipe holds on Linux, unless it was enlarged
LAST_CHUNKS: Final = 16  # a pipe holds no more than these, fs.pipe-max-size
ESCAPES: Final = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
HIDE_CURSOR, SHOW_CURSOR, ERASE_BELOW = b"\x1b[?25l", b"\x1b[?25h", b"\x1b[J"

#: Makes the picture for so many columns and lines.
Draw = Callable[[int, int], RenderableType]


class Live:
    """While it is entered, the terminal shows the picture, made anew ten times a second.

    The process's own stdout and stderr, where they are that terminal, lead into a pipe meanwhile, and what comes out of
    it is written above the picture: prints, log handlers made long before, C code, programs that steps start, workers.
    A thread of its own does all this, so that neither the picture nor a timeout can disturb the other.

    Args:
        stream: stdout or stderr, a terminal.
        draw: Makes the picture.
    """

    def __init__(self, stream: TextIO, draw: Draw) -> None:
        self._draw: Draw | None = draw
        self._terminal = os.dup(stream.fileno())
        self._console = Console(file=_Like(stream, self._terminal), force_terminal=True)
        self._streams: list[tuple[int, int]] = []  # descriptor, and a copy of what it was
        self._pipe = -1
        self._bell = Bell()
        self._over = False
        self._rest = b""  # what was printed of a line that has no end yet
        self._shown: list[str] = []
        self._thread = threading.Thread(target=self._work, name="dotflow-live", daemon=True)

    def __enter__(self) -> "Live":
        _flush()
        self._pipe, writing = os.pipe()
        os.set_blocking(self._pipe, False)
        for descriptor in (1, 2):
            if os.isatty(descriptor):
                self._streams.append((descriptor, os.dup(descriptor)))
                os.dup2(writing, descriptor)
        os.close(writing)
        self._write(HIDE_CURSOR)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _flush()
        for descriptor, before in self._streams:
            os.dup2(before, descriptor)
            os.close(before)
        self._streams.clear()
        self._over = True
        self._bell.ring()
        self._thread.join()
        self._write(SHOW_CURSOR)
        self._bell.close()
        os.close(self._pipe)
        os.close(self._terminal)

    def _work(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._pipe, selectors.EVENT_READ)
            selector.register(self._bell, selectors.EVENT_READ)
            while not self._over:
                selector.select(TICK)
                self._paint(self._printed())
        self._draw = None  # the last time, nothing stays below what was printed
        printed = self._printed()
        if not (self._rest + printed).endswith(b"\n"):
            printed += b"\n" if self._rest + printed else b""
        self._paint(printed)

    def _printed(self) -> bytes:
        """What has come through the pipe, up to a chunk; at the end all that it held by then."""
        chunks = []
        with contextlib.suppress(BlockingIOError):
            for _ in range(LAST_CHUNKS if self._over else 1):
                chunks.append(os.read(self._pipe, CHUNK))
        return b"".join(chunks)

    def _paint(self, printed: bytes) -> None:
        columns, lines = self._size()
        whole, end, self._rest = (self._rest + printed).rpartition(b"\n")
        picture = list(self._picture(columns, lines))
        if whole + end or picture != self._shown:
            erase = _way_up(self._shown, columns) + ERASE_BELOW
            text = "\n".join(picture).encode(self._console.encoding, "replace")
            self._shown = picture
            self._write(erase + whole + end + text)

    def _picture(self, columns: int, lines: int) -> Iterator[str]:
        """Its lines, narrower by one than the terminal, so that none is ever wrapped."""
        if self._draw is None:
            return
        if begun := self._rest.rpartition(b"\r")[2]:
            yield Text.from_ansi(begun.decode(errors="replace")).plain[: columns - 1]
        try:
            with self._console.capture() as captured:
                self._console.print(self._draw(columns - 1, lines), width=columns - 1, end="")
        except Exception as error:  # no picture is worth a run: what is printed still gets through
            self._draw = None
            yield f"(no more progress is shown: {type(error).__name__}: {error})"[: columns - 1]
            return
        yield from captured.get().rstrip("\n").splitlines()[: lines - 1]

    def _size(self) -> tuple[int, int]:
        with contextlib.suppress(OSError):
            columns, lines = os.get_terminal_size(self._terminal)
            if columns > 1 and lines > 1:
                return columns, lines
        return 80, 24

    def _write(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # the terminal is gone: nobody looks any more
            while data:
                data = data[os.write(self._terminal, data) :]


class _Like(io.StringIO):
    """A file that is only asked what a terminal can do: rich finds out by the stream."""

    def __init__(self, stream: TextIO, descriptor: int) -> None:
        super().__init__()
        self._encoding = stream.encoding or "utf-8"
        self._descriptor = descriptor

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return True


def _way_up(shown: list[str], columns: int) -> bytes:
    """From the end of what is shown to its beginning. A terminal made narrower has wrapped its lines meanwhile."""
    height = sum(max(1, -(-cell_len(ESCAPES.sub("", line)) // columns)) for line in shown)
    return b"\r" + (b"\x1b[%dA" % (height - 1) if height > 1 else b"")


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
