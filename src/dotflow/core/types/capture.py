"""TypeCapture: how the output of attempts is captured."""

from enum import StrEnum


class TypeCapture(StrEnum):
    """The ways of capturing output.

    AUTO: FD where the process is dotflow's own (workers, the command line), otherwise STREAMS. STREAMS: sys.stdout,
    sys.stderr and logging. FD: the file descriptors 1 and 2, so also C code and child processes. NONE: not at all.
    """

    AUTO = "auto"
    STREAMS = "streams"
    FD = "fd"
    NONE = "none"
