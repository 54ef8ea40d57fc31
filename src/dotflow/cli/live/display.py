"""The display: the live view at the bottom of the terminal, and all output whole above it."""

import contextlib
import io
import json
import os
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Final, TextIO

from rich.cells import cell_len
from rich.console import Console, ConsoleDimensions, RenderableType

from dotflow.capture.collector_main import Sink
from dotflow.capture.output import flush_streams
from dotflow.cli.live.terminal_sink import ESCAPES, TerminalSink
from dotflow.own_descriptor import OwnDescriptor

REFRESH_INTERVAL: Final = 0.1  # seconds

#: Returns the view for so many columns and lines.
Draw = Callable[[int, int], RenderableType]


class Display:
    """Shows the view while it is entered, and draws it ten times a second.

    Meanwhile stdout and stderr of the process lead to its collector, which writes the output above it: prints, old
    log handlers, C code, programs, workers. A thread draws the view, so a timeout can't leave one of its locks held.

    Args:
        stream: stdout, a terminal.
        draw: Draws the view.
        start: Returns the collector for a sink.
    """

    def __init__(
        self, stream: TextIO, draw: Draw, start: Callable[[Sink], contextlib.AbstractContextManager[object]]
    ) -> None:
        self._draw = draw
        self._start = start
        self._stream = stream
        self._console = Console(file=io.StringIO(), force_terminal=True)
        self._opened = contextlib.ExitStack()
        self._terminal: OwnDescriptor
        self._views: socket.socket
        self._own_views: OwnDescriptor
        self._stopped = threading.Event()

    def __enter__(self) -> "Display":
        _open_closed_streams()
        with contextlib.ExitStack() as opened:
            self._terminal = OwnDescriptor(os.dup(self._stream.fileno()))
            opened.callback(self._terminal.close)
            self._views, theirs = socket.socketpair()
            self._own_views = OwnDescriptor(self._views.fileno())
            with theirs:
                opened.enter_context(self._start(TerminalSink(self._terminal.number, theirs, self._views)))
            opened.callback(self._end_view)
            thread = threading.Thread(target=self._refresh, name="dotflow-live", daemon=True)
            thread.start()
            opened.callback(thread.join)
            opened.callback(self._stopped.set)
            self._opened = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def _refresh(self) -> None:
        previous: list[tuple[str, int]] | None = None
        while not self._stopped.is_set():
            lines = self._render()
            if lines != previous and not self._send(json.dumps(lines).encode()):
                return
            previous = lines
            self._stopped.wait(REFRESH_INTERVAL)

    def _send(self, view: bytes) -> bool:
        """Sends a view, the empty one last. Returns False where the socket was closed, or the collector was killed."""
        with contextlib.suppress(OSError):
            if self._own_views.is_open():
                self._views.sendall(view + b"\n")
                return True
        return False

    def _end_view(self) -> None:
        """Has the view erased, before the collector has shown all output."""
        flush_streams()
        self._send(b"")
        if self._own_views.is_open():
            self._views.close()
        else:
            self._views.detach()

    def _render(self) -> list[tuple[str, int]]:
        """Returns the lines of the view and their widths, one less than the terminal's, so that none is wrapped."""
        columns, lines = self._terminal_size()
        self._console.size = ConsoleDimensions(columns - 1, lines)
        try:
            with self._console.capture() as captured:
                self._console.print(self._draw(columns - 1, lines), end="")
        except Exception as error:  # a view that fails must not fail the run
            message = f"(no progress is shown: {type(error).__name__}: {error})".splitlines()[0][: columns - 1]
            return [(message, len(message))]
        rendered = captured.get().rstrip("\n").splitlines()[: lines - 1]
        return [(line, cell_len(ESCAPES.sub("", line))) for line in rendered]

    def _terminal_size(self) -> tuple[int, int]:
        with contextlib.suppress(OSError):
            columns, lines = os.get_terminal_size(self._terminal.number)
            if columns > 1 and lines > 1:
                return columns, lines
        return 80, 24


def _open_closed_streams() -> None:
    """Opens /dev/null for closed standard streams, so that no other file gets their descriptors."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
