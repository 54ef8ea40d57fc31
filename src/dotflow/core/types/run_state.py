"""TypeRunState: the state of a run."""

from enum import StrEnum


class TypeRunState(StrEnum):
    """QUEUED -> RUNNING -> COMPLETED | FAILED | CANCELLED | INTERRUPTED | PAUSED. Another run continues it.

    A history adds CRASHED: the process ended before the run; and UNKNOWN: the end of the run could not be written.
    """

    QUEUED = "Queued"
    RUNNING = "Running"
    PAUSED = "Paused"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELLED = "Cancelled"
    INTERRUPTED = "Interrupted"
    CRASHED = "Crashed"
    UNKNOWN = "Unknown"
