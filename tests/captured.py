"""Steps that print in every way, and a history that keeps its events. For test_capture.py and capture_table.py."""

import ctypes
import faulthandler
import logging
import multiprocessing
import os
import subprocess
import sys
import threading
import traceback
import warnings
from typing import Any, Final, NamedTuple

from dotflow import action
from dotflow.abc.history import History
from dotflow.core.events import AttemptOutput, Event
from dotflow.core.types.capture import TypeCapture

MEGABYTES: Final = b"".join(b"%08d 3 MB at once\n" % number for number in range(125_000))


class RecordingHistory(History):
    """Keeps all events.

    Attributes:
        events: The events, in order.
    """

    def __init__(
        self, capture: TypeCapture = TypeCapture.AUTO, output_limit: int = 10_000_000, *, measures_usage: bool = True
    ) -> None:
        self.capture = capture
        self.output_limit = output_limit
        self.measures_usage = measures_usage
        self.events: list[Event] = []

    def record(self, run_id: str, event: Event) -> None:
        self.events.append(event)

    def parts(self, task_id: int, stream: int, attempt: int | None = None, item: int | None = None) -> list[Any]:
        """Returns the output events of a task or an item, of all its attempts or of one."""
        return [
            event
            for event in self.events
            if isinstance(event, AttemptOutput)
            and (event.task_id, event.stream, event.item) == (task_id, stream, item)
            and attempt in (None, event.attempt)
        ]

    def output(self, task_id: int, stream: int = 1, attempt: int | None = None, item: int | None = None) -> bytes:
        """Returns the output of a task or an item, of all its attempts or of one."""
        return b"".join(event.data for event in self.parts(task_id, stream, attempt, item))

    def of(self, kind: type[Any]) -> list[Any]:
        """Returns the events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]


class Way(NamedTuple):
    """A way of printing.

    Attributes:
        step: Prints in this way.
        stdout, stderr: What it prints; of stderr, a part.
        by_descriptor: Whether it does without sys.stdout and sys.stderr.
    """

    step: Any
    stdout: bytes = b""
    stderr: bytes = b""
    by_descriptor: bool = False


@action
def with_print() -> None:
    print("with print")
    print("to stderr", file=sys.stderr)


@action
def with_buffer() -> None:
    sys.stdout.buffer.write(b"with the buffer\n")
    sys.stdout.buffer.flush()


@action
def with_logging() -> None:
    logging.getLogger("tests.captured").warning("with logging")


@action
def with_os_write() -> None:
    os.write(1, b"with os.write\n")


@action
def with_c() -> None:
    ctypes.CDLL(None).printf(b"with printf\n")


@action
def with_program() -> None:
    subprocess.run("echo with a program; echo its error >&2", shell=True, check=True)


@action
def with_grandchild() -> None:
    subprocess.run([sys.executable, "-I", "-S", "-c", "import os; os.system('echo with a grandchild')"], check=True)


@action
def with_dump() -> None:
    faulthandler.dump_traceback(2)


@action
def with_thread() -> None:
    thread = threading.Thread(target=print, args=("with a thread",))
    thread.start()
    thread.join()


def _print_in_child() -> None:
    print("with a process", flush=True)


@action
def with_process() -> None:
    process = multiprocessing.get_context("fork").Process(target=_print_in_child)
    process.start()
    process.join()


@action
def with_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = _show_warning  # pytest keeps warnings for itself
        warnings.warn("with a warning", stacklevel=1)


def _show_warning(message: Any, *rest: Any, **more: Any) -> None:
    print(f"warning: {message}", file=sys.stderr)


@action
def with_traceback() -> None:
    try:
        raise ValueError("with a traceback")
    except ValueError:
        traceback.print_exc()


@action
def with_partial_line() -> None:
    sys.stdout.write("with a line\nand a part")


@action
def with_invalid_text() -> None:
    sys.stdout.buffer.write(b"with \xff\xfe bytes\n")
    sys.stdout.buffer.flush()


@action
def with_progress() -> None:
    for percent in (10, 50, 100):
        print(f"\rwith progress {percent} %", end="", flush=True)
    print()


@action
def with_megabytes() -> None:
    ctypes.PyDLL(None).write(1, MEGABYTES, ctypes.c_size_t(len(MEGABYTES)))  # it holds the interpreter's lock


WAYS: Final[dict[str, Way]] = {
    "print": Way(with_print, b"with print\n", b"to stderr\n"),
    "sys.stdout.buffer": Way(with_buffer, b"with the buffer\n"),
    "logging": Way(with_logging, b"", b"with logging\n"),
    "os.write": Way(with_os_write, b"with os.write\n", by_descriptor=True),
    "C printf": Way(with_c, b"with printf\n", by_descriptor=True),
    "program": Way(with_program, b"with a program\n", b"its error\n", by_descriptor=True),
    "grandchild": Way(with_grandchild, b"with a grandchild\n", by_descriptor=True),
    "faulthandler": Way(with_dump, b"", b"in with_dump\n", by_descriptor=True),
    "thread": Way(with_thread, b"with a thread\n"),
    "multiprocessing": Way(with_process, b"with a process\n", by_descriptor=True),
    "warnings": Way(with_warning, b"", b"with a warning\n"),
    "traceback": Way(with_traceback, b"", b"ValueError: with a traceback\n"),
    "partial line": Way(with_partial_line, b"with a line\nand a part"),
    "invalid UTF-8": Way(with_invalid_text, b"with \xff\xfe bytes\n"),
    "progress bar": Way(with_progress, b"\rwith progress 10 %\rwith progress 50 %\rwith progress 100 %\n"),
    "3 MB at once": Way(with_megabytes, MEGABYTES, by_descriptor=True),
}


@action
def crash() -> None:
    """Ends its process by a segmentation fault."""
    print("last words", file=sys.stderr)
    ctypes.string_at(0)


@action(timeout=0.05)
def get_stuck() -> None:
    """Does not stop at its timeout, so its process is killed."""
    print("before it is stuck")
    ctypes.CDLL(None).printf(b"in C, too\n")
    ctypes.CDLL(None).fflush(None)
    ctypes.PyDLL(None).sleep(60)
