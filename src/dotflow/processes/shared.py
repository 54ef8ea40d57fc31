"""Shared arguments, which a worker is sent once, for several calls."""

from typing import Final, TypeVar

MAX_SHARED: Final = 8  # that a worker keeps: maps take turns, and their values may be large

K = TypeVar("K")
V = TypeVar("V")


def keep_shared(kept: dict[K, V], key: K, value: V) -> None:
    """Adds to the shared arguments that are kept, and drops the oldest. Both ends of a channel do the same."""
    kept.pop(key, None)
    kept[key] = value
    if len(kept) > MAX_SHARED:
        del kept[next(iter(kept))]
