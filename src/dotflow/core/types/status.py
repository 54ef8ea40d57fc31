"""TypeStatus: the status of a task or a run."""

from enum import StrEnum


class TypeStatus(StrEnum):
    """NOT_STARTED -> IN_PROGRESS -> (RETRY -> IN_PROGRESS)* -> COMPLETED | FAILED | PAUSED; or SKIPPED."""

    NOT_STARTED = "Not started"
    IN_PROGRESS = "In progress"
    COMPLETED = "Completed"
    PAUSED = "Paused"
    RETRY = "Retry"
    FAILED = "Failed"
    SKIPPED = "Skipped"
