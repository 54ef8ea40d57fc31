"""The exit codes of the command line."""

from enum import IntEnum


class Exit(IntEnum):
    """The exit codes."""

    COMPLETED = 0
    FAILED = 1  #: a task failed
    WRONG_USAGE = 2  #: wrong usage, or a refused run: nothing was run
    PAUSED = 3  #: the run waits: it is paused, and no task failed
    NOT_REPLAYED = 3  #: `dotflow replay` has imported or run code, but not the step
    INTERRUPTED = 130  #: Ctrl-C: 128 + SIGINT, as in shells
    TERMINATED = 143  #: 128 + SIGTERM
