"""TypeAttemptState: the state of an attempt in a history."""

from enum import StrEnum


class TypeAttemptState(StrEnum):
    """RUNNING -> COMPLETED, FAILED, or RETRY: it failed, and another one followed. CRASHED: its run ended before it.

    UNKNOWN: the history could not be written. RESTORED, CACHED and SKIPPED are tasks without an attempt: the value of a
    checkpoint or of the cache, or none. PAUSED: it failed, and its run paused before the next one; or the run paused
    before all items of the map had ended.
    """

    RUNNING = "Running"
    RETRY = "Retry"
    COMPLETED = "Completed"
    FAILED = "Failed"
    RESTORED = "Restored"
    CACHED = "Cached"
    SKIPPED = "Skipped"
    CRASHED = "Crashed"
    UNKNOWN = "Unknown"
    PAUSED = "Paused"
