"""The display: the live view at the bottom of the terminal, and all output whole above it."""

import contextlib
import io
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, TextIO

from rich.cells import cell_len
from rich.console import Console, ConsoleDimensions, RenderableType

from dotflow.cli.live.terminal_writer import TerminalWriter
from dotflow.own_descriptor import OwnDescriptor

if TYPE_CHECKING:
    from dotflow.capture.scribe import Scribe
    from dotflow.capture.scribe_main import Recorder

WRITER_SCRIPT: Final = Path(__file__).with_name("terminal_writer.py")
REFRESH_INTERVAL: Final = 0.1  # seconds
EXIT_TIMEOUT: Final = 0.5  # seconds; the writer goes on after it while a program left behind still prints
ESCAPES: Final = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")

#: Returns the view for so many columns and lines; the third argument says whether it has to be ASCII.
Draw = Callable[[int, int, bool], RenderableType]


class Display:
    """Shows the view while it is entered, and draws it ten times a second.

    Meanwhile stdout and stderr of the process, if they are the terminal, lead into a pipe. terminal_writer.py, a
    process of its own, writes the output above the view: prints, old log handlers, C code, programs, workers. A thread
    draws the view, so a timeout can't leave one of its locks held.

    Args:
        stream: stdout, a terminal.
        draw: Draws the view.
        scribe: Does what the writer does, where a history records the output.
    """

    def __init__(self, stream: TextIO, draw: Draw, scribe: "Scribe | None" = None) -> None:
        self._draw = draw
        self._scribe = scribe
        self._stream = stream
        self._ascii_only = not (stream.encoding or "").lower().startswith("utf")
        self._console = Console(file=io.StringIO(), force_terminal=True)
        self._opened = contextlib.ExitStack()
        self._terminal: OwnDescriptor
        self._writer: socket.socket
        self._own_writer: OwnDescriptor
        self._captured: list[tuple[OwnDescriptor, OwnDescriptor]] = []
        self._stopped = threading.Event()

    def __enter__(self) -> "Display":
        _flush()
        _open_closed_streams()
        with contextlib.ExitStack() as opened:
            self._terminal = OwnDescriptor(os.dup(self._stream.fileno()))
            opened.callback(self._terminal.close)
            if self._scribe is None:
                self._lead_to_writer(opened)
            else:
                self._control(_start_scribe(self._terminal.number, self._scribe, opened), opened)
            thread = threading.Thread(target=self._refresh, name="dotflow-live", daemon=True)
            thread.start()
            opened.callback(thread.join)
            opened.callback(self._stopped.set)
            self._opened = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _flush()
        self._opened.close()

    def _lead_to_writer(self, opened: contextlib.ExitStack) -> None:
        output, input_end = os.pipe()
        opened.callback(OwnDescriptor(output).close)  # open here too, so that prints don't fail if the writer is killed
        self._control(_start_writer(self._terminal.number, output, opened), opened)
        opened.callback(self._restore)
        for descriptor in (1, 2):
            if os.isatty(descriptor):
                before = OwnDescriptor(os.dup(descriptor))
                os.dup2(input_end, descriptor)
                self._captured.append((before, OwnDescriptor(descriptor)))
        os.close(input_end)

    def _control(self, writer: socket.socket, opened: contextlib.ExitStack) -> None:
        self._writer, self._own_writer = writer, OwnDescriptor(writer.fileno())
        opened.callback(self._finish)

    def _refresh(self) -> None:
        previous: list[tuple[str, int]] | None = None
        while not self._stopped.is_set():
            lines = self._render()
            if lines != previous and not self._send(json.dumps(lines).encode() + b"\n"):
                return
            previous = lines
            self._stopped.wait(REFRESH_INTERVAL)

    def _send(self, data: bytes) -> bool:
        if not self._own_writer.is_open():  # a step has closed it
            return False
        try:
            self._writer.sendall(data)
        except OSError:  # the writer was killed: output goes directly to the terminal again, that of a scribe by itself
            self._restore()
            return False
        return True

    def _restore(self) -> None:
        """Leads the descriptors back that a step has not led elsewhere."""
        captured, self._captured = self._captured, []
        for before, pipe in captured:
            if pipe.is_open() and before.is_open():
                os.dup2(before.number, pipe.number)
            before.close()

    def _finish(self) -> None:
        """Waits until all output is in the terminal, and the view is erased."""
        if not self._own_writer.is_open():
            self._writer.detach()
            return
        with contextlib.suppress(OSError):  # the writer was killed
            self._writer.sendall(b"\n")
            self._writer.recv(1)
        self._writer.close()

    def _render(self) -> list[tuple[str, int]]:
        """Returns the lines of the view and their widths, one less than the terminal's, so that none is wrapped."""
        columns, lines = self._terminal_size()
        self._console.size = ConsoleDimensions(columns - 1, lines)
        try:
            with self._console.capture() as captured:
                self._console.print(self._draw(columns - 1, lines, self._ascii_only), end="")
        except Exception as error:  # a view that fails must not fail the run
            message = f"(no progress is shown: {type(error).__name__}: {error})".splitlines()[0][: columns - 1]
            return [(message, len(message))]
        rendered = captured.get().rstrip("\n").splitlines()[: lines - 1]
        if self._ascii_only:
            rendered = [line.encode("ascii", "replace").decode() for line in rendered]
        return [(line, cell_len(ESCAPES.sub("", line))) for line in rendered]

    def _terminal_size(self) -> tuple[int, int]:
        with contextlib.suppress(OSError):
            columns, lines = os.get_terminal_size(self._terminal.number)
            if columns > 1 and lines > 1:
                return columns, lines
        return 80, 24


def _start_writer(terminal: int, output: int, opened: contextlib.ExitStack) -> socket.socket:
    """Starts the writer, has *opened* end it, and returns the socket that controls it."""
    own, other = socket.socketpair()
    with other:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(WRITER_SCRIPT), str(terminal), str(output), str(other.fileno())],
            pass_fds=(terminal, output, other.fileno()),
            stdin=subprocess.DEVNULL,
            stdout=terminal,
            stderr=terminal,
        )
    opened.callback(_wait_or_detach, process)
    return own


def _start_scribe(terminal: int, scribe: "Scribe", opened: contextlib.ExitStack) -> socket.socket:
    """Has the scribe write to the terminal, and returns the socket that controls that."""
    targets = [terminal if os.isatty(descriptor) else descriptor for descriptor in (1, 2)]
    own, other = socket.socketpair()

    def serve(recorder: "Recorder", pipes: Sequence[int]) -> None:
        own.close()  # its end is that of the run
        outputs = {pipe: (number, targets[number - 1]) for number, pipe in enumerate(pipes, 1)}
        TerminalWriter(terminal, outputs, other.fileno(), recorder).run()

    scribe.serve = serve
    with other:
        opened.enter_context(scribe)
    return own


def _wait_or_detach(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(EXIT_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.returncode = 0  # keeps Popen from a warning; the writer ends with the last program that prints


def _open_closed_streams() -> None:
    """Opens /dev/null for closed standard streams, so that no other file gets their descriptors."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
