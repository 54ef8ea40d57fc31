"""SharedLock: a lock that a process acquires once for all of its runs."""

import os
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Hashable
from typing import Any, Generic, TypeVar

from dotflow.worker.interrupts import in_forked_child

T = TypeVar("T")


class _Entry(Generic[T]):
    """What the locks of this process with one key share.

    Attributes:
        turn: Held while the resource is acquired or released.
        entered: The locks that have been entered and not left.
        resource: What they share; None where nothing is acquired.
    """

    def __init__(self) -> None:
        self.turn = threading.Lock()
        self.process = os.getpid()
        self.entered: set[SharedLock[T]] = set()
        self.resource: T | None = None


# An entry lives while a lock refers to it. No resource is acquired or released under the guard.
_guard = threading.Lock()
_entries: "weakref.WeakValueDictionary[tuple[type, Hashable], _Entry[Any]]" = weakref.WeakValueDictionary()


class SharedLock(ABC, Generic[T]):
    """A lock that the runs of one process share: the first to enter acquires it, the last to leave releases it.

    Entering returns the key. Leaving may be repeated, in case it was interrupted.
    A forked process holds none of its parent's locks.

    Args:
        key: What is locked. Locks of one class with equal keys share one resource.
    """

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self._entry: _Entry[T] | None = None

    @abstractmethod
    def make(self) -> T:
        """Returns the resource, not yet acquired."""

    def acquire(self, resource: T) -> None:
        """Acquires the resource. If this raises, `release` is called."""

    def release(self, resource: T) -> None:
        """Releases the resource. May be called repeatedly, and for a resource that was not acquired."""

    @property
    def resource(self) -> T:
        """The shared resource. Only an entered lock has one."""
        assert self._entry is not None
        assert self._entry.resource is not None
        return self._entry.resource

    @classmethod
    def held(cls, key: Hashable) -> T | None:
        """Returns the resource that this process has acquired under a key; None if it has none."""
        entry = _entries.get((cls, key))
        return entry.resource if entry is not None and entry.entered else None

    def __enter__(self) -> Hashable:
        try:
            self._enter()
            return self.key
        except BaseException:  # Ctrl-C too: a run that can't go on holds nothing
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        entry = self._entry
        if entry is None or entry.process != os.getpid():
            return
        with entry.turn:
            entry.entered.discard(self)
            if not entry.entered:
                self._release(entry)
        self._entry = None

    def _enter(self) -> None:
        with _guard:
            self._entry = entry = _entries.setdefault((type(self), self.key), _Entry())
        with entry.turn:
            if not entry.entered:
                self._release(entry)  # an interrupt may have left one
                entry.resource = self.make()  # stored before it is acquired, so that an interrupt can't lose it
                self.acquire(entry.resource)
            entry.entered.add(self)

    def _release(self, entry: _Entry[T]) -> None:
        if entry.resource is not None:
            self.release(entry.resource)
            entry.resource = None


@in_forked_child
def _begin_anew() -> None:
    """Resets the module in a forked process, where the guard may be locked by a thread that is gone."""
    global _guard
    _guard = threading.Lock()
    _entries.clear()
