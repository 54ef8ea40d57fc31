"""Worker output on its way to the caller, which captures it."""

import contextlib
import ctypes
import sys
from collections.abc import Callable
from functools import cache, partial

from dotflow.capture.marks import NESTED, NO_ATTEMPT, mark
from dotflow.capture.pipes import is_redirected, write_all
from dotflow.capture.streams import STREAMS, lead_handlers, set_mark


def print_to_descriptors() -> None:
    """Makes sys.stdout, sys.stderr and the words of a crash go to the descriptors 1 and 2, which are captured."""
    for name, descriptor in STREAMS:
        stream = getattr(sys, name)
        if is_redirected(stream, descriptor):
            captured = open(descriptor, "w", encoding="utf-8", errors="surrogatepass", closefd=False)  # noqa: SIM115
            setattr(sys, name, captured)
            lead_handlers(stream, captured)
    import faulthandler  # here: the caller's side does not need it

    if not faulthandler.is_enabled():
        faulthandler.enable(2)
    set_mark(_mark_nested)


def _mark_nested(is_nested: bool) -> None:
    flush_all()
    for descriptor in (1, 2):
        write_all(descriptor, mark(NESTED) if is_nested else NO_ATTEMPT)


def buffer_lines(**options: bool) -> None:
    """Makes stdout and stderr write line by line: a kill would lose all that is in their buffers.

    Args:
        options: Others of `reconfigure`.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True, **options)


def flush_streams() -> None:
    """Writes what is in the buffers of sys.stdout and sys.stderr."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):  # None, broken or closed
            continue


def flush_all() -> None:
    """Writes what is in the buffers of Python's and of C's stdout; those of C's stderr are always empty."""
    flush_streams()
    _flush_c_stdout()()


@cache
def _flush_c_stdout() -> Callable[[], object]:
    """Returns a function that writes C's buffer. Other streams are left alone: a thread may wait for input of one."""
    library = ctypes.CDLL(None)
    for name in ("stdout", "__stdoutp"):  # glibc and musl; macOS
        with contextlib.suppress(ValueError):
            return partial(library.fflush, ctypes.c_void_p.in_dll(library, name))
    return int
