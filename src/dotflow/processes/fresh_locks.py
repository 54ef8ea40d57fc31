"""Locks of a program's own code, as a worker process gets them: new ones of the same kind, which no thread holds.

A lock guards the memory of one process, so a copy of its state means nothing in another one.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

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


#: By kind: what makes a new one. A bounded semaphore gets its initial value. A plain one does not keep it, and may be
#: held at this moment: then it gets one.
REDUCERS: Final[Mapping[type, Callable[[Any], Reduced]]] = {
    type(threading.Lock()): lambda lock: (threading.Lock, ()),
    type(threading.RLock()): lambda lock: (threading.RLock, ()),
    threading.local: lambda local: (threading.local, ()),
    threading.Event: lambda event: (make_event, (event.is_set(),)),
    threading.Condition: lambda condition: (threading.Condition, (condition._lock,)),
    threading.Semaphore: lambda semaphore: (threading.Semaphore, (max(1, semaphore._value),)),
    threading.BoundedSemaphore: lambda semaphore: (threading.BoundedSemaphore, (semaphore._initial_value,)),
    threading.Barrier: lambda barrier: (threading.Barrier, (barrier.parties, barrier._action, barrier._timeout)),
}
