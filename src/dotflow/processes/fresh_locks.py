"""Locks of a program's own code in a worker process: new ones of the same kind, which no thread holds.

A lock guards the memory of one process, so its state means nothing in another one.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from dotflow.cpython import LOCK_ARGUMENTS

Reduced = tuple[Callable[..., Any], tuple[Any, ...]]


class FreshLock(NamedTuple):
    """A lock in a pickle that is loaded as a new one of the same kind."""

    lock: Any


def make_event(is_set: bool) -> threading.Event:
    """Returns a new event, set or not."""
    event = threading.Event()
    if is_set:
        event.set()
    return event


def _reducer(kind: type, arguments: Callable[[Any], tuple[Any, ...]]) -> Callable[[Any], Reduced]:
    return lambda lock: (kind, arguments(lock))


#: By kind, how a new lock is made.
REDUCERS: Final[Mapping[type, Callable[[Any], Reduced]]] = {
    type(threading.Lock()): lambda lock: (threading.Lock, ()),
    type(threading.RLock()): lambda lock: (threading.RLock, ()),
    threading.local: lambda local: (threading.local, ()),
    threading.Event: lambda event: (make_event, (event.is_set(),)),
    **{kind: _reducer(kind, arguments) for kind, arguments in LOCK_ARGUMENTS.items()},
}
