"""TypeDecision: what a run would do with a task."""

from enum import StrEnum


class TypeDecision(StrEnum):
    """What a run would do with a task."""

    RUN = "run"
    RESTORE = "restore"
    CACHED = "cached"
    SKIP = "skip"
    OPEN = "open"
