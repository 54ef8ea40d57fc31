"""Large pipes for the output of workers, and writing to a descriptor."""

import contextlib
import os
import select
import sys
from collections.abc import Callable, Iterable
from typing import Any, Final

PIPE_SIZE: Final = 262_144  # bytes; a step waits only for a coordinator that is this far behind
READ_SIZE: Final = 65_536  # bytes; Python allocates them first, and for more the allocator asks the system each time
F_SETPIPE_SZ: Final = 1031  # <linux/fcntl.h>
#: Descriptors of this process: its ends of the workers' parent-death pipes and outputs. A forked worker closes them.
own_ends: Final[set[int]] = set()

PASS_ON: Final = "import os\nwhile data := os.read(0, 65536):\n    os.write(1, data)"


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
            poll_for(select.POLLOUT, (descriptor,))(None)
        except OSError:
            return


def poll_for(event: int, descriptors: Iterable[int]) -> Callable[[float | None], list[tuple[int, int]]]:
    """Returns a function that returns where a `select` event came, or the end, within so many milliseconds."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, event)
    return poll.poll


def readable(descriptors: Iterable[int], seconds: float | None) -> set[int]:
    """Waits until some are readable, or have ended, and returns them; none after so many seconds."""
    return {number for number, _ in poll_for(select.POLLIN, descriptors)(None if seconds is None else seconds * 1000)}


def wait_readable(descriptor: int, seconds: float) -> bool:
    """Waits until there is something to read, or the end; returns False after so many seconds without."""
    return bool(poll_for(select.POLLIN, (descriptor,))(seconds * 1000))


def wait_closed(descriptor: int, seconds: float) -> bool:
    """Waits until the other end of a socket is closed; returns False after so many seconds."""
    return bool(poll_for(0, (descriptor,))(seconds * 1000))  # POLLHUP is always reported


def read_available(descriptor: int) -> tuple[bytes, bool]:
    """Returns what is in a pipe that does not block, at most what a pipe holds, and whether the pipe has ended."""
    data, has_ended = b"", False
    with contextlib.suppress(BlockingIOError):
        while len(data) < PIPE_SIZE and not has_ended:
            part = os.read(descriptor, READ_SIZE)
            data, has_ended = data + part, not part
    return data, has_ended


def pass_on_later(descriptor: int, stream: int) -> None:
    """Starts a process that passes on what a program prints that a step left behind, and ends with it."""
    import subprocess  # here: most processes need it for nothing else

    os.set_blocking(descriptor, True)
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", PASS_ON], stdin=descriptor, stdout=stream, start_new_session=True
    )
    process.returncode = 0  # keeps Popen from a warning


def close_own_end(descriptor: int) -> None:
    """Closes the coordinator's end of a parent-death pipe or an output."""
    os.close(descriptor)
    own_ends.discard(descriptor)


def write_out(number: int, data: bytes) -> None:
    """Writes a worker's output to the caller's stdout or stderr."""
    stream = sys.stdout if number == 1 else sys.stderr
    with contextlib.suppress(OSError, ValueError):  # the caller has closed it
        stream.write(data.decode("utf-8", "backslashreplace"))


def redirected_streams() -> tuple[bool, bool]:
    """Returns whether sys.stdout and sys.stderr write elsewhere than to the descriptors that a child inherits."""
    return is_redirected(sys.stdout, 1), is_redirected(sys.stderr, 2)


def is_redirected(stream: Any, descriptor: int) -> bool:
    """Returns whether a stream writes elsewhere than to the descriptor that a child inherits."""
    try:
        return bool(stream.fileno() != descriptor)
    except (AttributeError, OSError, ValueError):
        return stream is not None
