"""TypeRunState: the state of a run. TypeWait: what a paused run waits for."""

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


class TypeWait(StrEnum):
    """What a paused run waits for. A run that a person has paused, or a shutdown, waits for nothing of these."""

    ANSWER = "Answer"
