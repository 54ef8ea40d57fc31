"""TypeRunState: the state of a run."""

from enum import StrEnum


class TypeRunState(StrEnum):
    """RUNNING -> COMPLETED | FAILED | CANCELLED | INTERRUPTED; a history adds CRASHED: the process ended before.

    PAUSED is for later versions.
    """

    RUNNING = "Running"
    PAUSED = "Paused"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELLED = "Cancelled"
    INTERRUPTED = "Interrupted"
    CRASHED = "Crashed"
