"""Holding interrupts back: signals, and the exceptions that one thread raises in another.

A process, socket or pipe that an interrupt loses between its start and the line that stores it would stay for ever. So
what opens and closes such things runs with interrupts held. That takes milliseconds; then they come.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Final

from dotflow.cpython import ALL_SIGNALS, set_mask

_lock = threading.RLock()
#: By thread that holds them: the signals that were blocked before.
_held: Final[dict[int, set[int]]] = {}


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Lets no interrupt into the calling thread. Those that come meanwhile are raised at the end.

    CPython raises what has come before within this function, so each line of it may be the last.
    """
    ident = threading.get_ident()
    is_outermost = ident not in _held
    before = set_mask(signal.SIG_BLOCK, ())
    try:
        set_mask(signal.SIG_BLOCK, ALL_SIGNALS)
        with _lock:
            if is_outermost:
                _held[ident] = before
        yield
    finally:
        try:
            if is_outermost:
                _held.pop(ident, None)
        finally:
            set_mask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def interrupts_let_through() -> Iterator[None]:
    """Lets interrupts come for a while, within `interrupts_held`: what takes long can be interrupted."""
    ident = threading.get_ident()
    before = _held.pop(ident, None)
    if before is None:
        yield
        return
    try:
        set_mask(signal.SIG_SETMASK, before)
        yield
    finally:
        try:
            set_mask(signal.SIG_BLOCK, ALL_SIGNALS)
        finally:
            with _lock:
                _held[ident] = before


def are_held() -> bool:
    """Returns whether the calling thread holds interrupts."""
    return threading.get_ident() in _held


@contextlib.contextmanager
def may_interrupt(ident: int) -> Iterator[bool]:
    """Whether the thread may be interrupted now; within, it can't begin to hold interrupts."""
    with _lock:
        yield ident not in _held


def _forget() -> None:
    """A forked child has one thread, which runs something else now; no other one will give the lock back."""
    global _lock
    _lock = threading.RLock()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
