"""TypeStatus: the status of a task or a run."""

from enum import StrEnum


class TypeStatus(StrEnum):
    """NOT_STARTED -> IN_PROGRESS -> (RETRY -> IN_PROGRESS)* -> COMPLETED | FAILED | PAUSED; or SKIPPED.

    A run that is stopped while it pauses has no PAUSED task: they are FAILED.
    """

    NOT_STARTED = "Not started"
    IN_PROGRESS = "In progress"
    COMPLETED = "Completed"
    PAUSED = "Paused"
    RETRY = "Retry"
    FAILED = "Failed"
    SKIPPED = "Skipped"
