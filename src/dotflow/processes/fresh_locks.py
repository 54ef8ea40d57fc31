"""Locks of a program's own code, as a worker process gets them: new ones of the same kind, which no thread holds.

A lock guards the memory of one process, so a copy of its state means nothing in another one.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from dotflow.cpython import LOCK_ARGUMENTS

Reduced = tuple[Callable[..., Any], tuple[Any, ...]]


class FreshLock(NamedTuple):
    """Stands for a lock in what is pickled: it is loaded as a new one of the same kind."""

    lock: Any


def make_event(is_set: bool) -> threading.Event:
    """Makes an event that is set, or is not."""
    event = threading.Event()
    if is_set:
        event.set()
    return event


def _reducer(kind: type, arguments: Callable[[Any], tuple[Any, ...]]) -> Callable[[Any], Reduced]:
    return lambda lock: (kind, arguments(lock))


#: By kind: how a new one is made. A bounded semaphore gets its initial value; a plain one does not keep it.
REDUCERS: Final[Mapping[type, Callable[[Any], Reduced]]] = {
    type(threading.Lock()): lambda lock: (threading.Lock, ()),
    type(threading.RLock()): lambda lock: (threading.RLock, ()),
    threading.local: lambda local: (threading.local, ()),
    threading.Event: lambda event: (make_event, (event.is_set(),)),
    **{kind: _reducer(kind, arguments) for kind, arguments in LOCK_ARGUMENTS.items()},
}
