"""What the command line's exit codes mean."""

from enum import IntEnum


class Exit(IntEnum):
    """The exit codes."""

    COMPLETED = 0
    FAILED = 1  #: a task failed
    WRONG_USAGE = 2  #: wrong usage, or what was asked for was refused: nothing was run
    INTERRUPTED = 130  #: Ctrl-C: 128 + SIGINT, as shells have it
    TERMINATED = 143  #: 128 + SIGTERM
