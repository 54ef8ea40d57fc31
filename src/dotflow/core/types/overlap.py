"""TypeOverlap: the behaviour of a schedule that fires while a run is active."""

from enum import StrEnum


class TypeOverlap(StrEnum):
    """skip drops the new run, queue keeps one pending, parallel runs them side by side."""

    SKIP = "skip"
    QUEUE = "queue"
    PARALLEL = "parallel"
