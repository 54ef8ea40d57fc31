"""Large pipes for the output of workers, and writing to a descriptor."""

import contextlib
import os
import select
from collections.abc import Callable, Iterable
from typing import Final

PIPE_SIZE: Final = 262_144  # bytes; a step waits only for a coordinator that is this far behind
READ_SIZE: Final = 65_536  # bytes; Python allocates them first, and for more the allocator asks the system each time
F_SETPIPE_SZ: Final = 1031  # <linux/fcntl.h>


def open_pipe() -> tuple[int, int]:
    """Returns the reading end, which does not block, and the writing end of a pipe."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    with contextlib.suppress(ImportError, OSError):  # not Linux, or the user has too many large pipes
        import fcntl

        fcntl.fcntl(writing, F_SETPIPE_SZ, PIPE_SIZE)
    return reading, writing


def write_all(descriptor: int, data: bytes) -> None:
    """Writes to a descriptor, which may not block. Data is lost where it is closed, or no process reads it."""
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:
            _poll(descriptor, select.POLLOUT, None)
        except OSError:
            return


def poll_for_input(descriptors: Iterable[int]) -> Callable[[int], object]:
    """Returns a function that returns what is true if one of them is readable, or ends, within so many milliseconds."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return poll.poll


def wait_readable(descriptor: int, seconds: float) -> bool:
    """Waits until there is something to read, or the end; returns False after so many seconds without."""
    return _poll(descriptor, select.POLLIN, seconds)


def _poll(descriptor: int, event: int, seconds: float | None) -> bool:
    poll = select.poll()
    poll.register(descriptor, event)
    return bool(poll.poll(None if seconds is None else seconds * 1000))
