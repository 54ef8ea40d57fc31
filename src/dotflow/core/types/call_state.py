"""TypeCallState: the state of a call of a durable step in a history."""

from enum import StrEnum


class TypeCallState(StrEnum):
    """RUNNING -> MADE or FAILED. CUT_OFF: its attempt ended before it, by a timeout or a kill, say.

    CACHED: its value came from the cache.
    """

    RUNNING = "Running"
    MADE = "Made"
    FAILED = "Failed"
    CUT_OFF = "Cut off"
    CACHED = "Cached"
