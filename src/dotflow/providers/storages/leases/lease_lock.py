"""Holding a workflow by a lease: taken by the first run of this process, given back by the last."""

import os
import threading
import weakref
from collections.abc import Hashable
from typing import Any, Final

from dotflow.providers.storages.leases.lease import Lease, Register

_guard = threading.Lock()  # of the turns, and never held while a service is asked
_turns: Final[weakref.WeakValueDictionary[Hashable, threading.Lock]] = weakref.WeakValueDictionary()
_held: Final[dict[Hashable, "_Held"]] = {}


class _Held:
    """A lease that this process has, for all of its runs that are going on."""

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.runs: set[LeaseLock] = set()


class LeaseLock:
    """Keeps other processes off a workflow until it is left, on every machine; other runs of this process may join.

    Entered, it gives the name of the place, by which other runs of this process know that they share it. Leaving may be
    done again, where an interrupt came into the middle of it.

    Args:
        register: Where the lease is written.
        workflow_id: The workflow.
        seconds: That the lease lasts without being renewed.
        **defaults: What has to be kept beside it, if it isn't yet.

    Entering raises WorkflowBusy where another process has it, and StorageError where nobody can tell.
    """

    def __init__(self, register: Register, workflow_id: str, seconds: float, **defaults: Any) -> None:
        self._register = register
        self._workflow_id = workflow_id
        self._seconds = seconds
        self._defaults = defaults

    def __enter__(self) -> Hashable:
        try:
            self._join()
        except BaseException:  # Ctrl-C on its way in or out: who can't go on holds nothing
            self.__exit__()
            raise
        return self._register.name

    def __exit__(self, *_: object) -> None:
        with _turn(self._register.name):
            held = _held.get(self._register.name)
            if held is not None:
                held.runs.discard(self)
                if not held.runs:
                    held.lease.give_back()
                    _held.pop(self._register.name, None)

    def _join(self) -> None:
        name = self._register.name
        with _turn(name):
            held = _held.get(name)
            if held is not None and held.runs:
                held.runs.add(self)
                return
            lease = Lease(self._register, self._workflow_id, self._seconds)
            try:
                lease.take(**self._defaults)
                held = _held[name] = _Held(lease)  # now, and not before: who finds it here may write
                held.runs.add(self)
            except BaseException:  # an interrupt in the middle of it: what may have been taken is given back
                _held.pop(name, None)
                lease.give_back()
                raise


def _turn(name: Hashable) -> threading.Lock:
    """Whose turn it is to take or give back one place: others go on meanwhile. Nobody's is kept while it isn't used."""
    with _guard:
        return _turns.setdefault(name, threading.Lock())


def lease_on(name: Hashable) -> Lease | None:
    """The lease that this process has on a place, if any."""
    held = _held.get(name)
    return None if held is None else held.lease


def _begin_anew() -> None:
    """In a forked process: it holds nothing, and no thread of its parent's will ever open the lock."""
    global _guard
    _guard = threading.Lock()
    _turns.clear()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
