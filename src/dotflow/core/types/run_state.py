"""TypeRunState: the state of a run."""

from enum import StrEnum


class TypeRunState(StrEnum):
    """RUNNING -> COMPLETED | FAILED | CANCELLED | INTERRUPTED | PAUSED. A resume of a paused run is a new run.

    A history adds CRASHED: the process ended before the run; and UNKNOWN: the end of the run could not be written.
    """

    RUNNING = "Running"
    PAUSED = "Paused"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELLED = "Cancelled"
    INTERRUPTED = "Interrupted"
    CRASHED = "Crashed"
    UNKNOWN = "Unknown"
