"""Holding interrupts: signals, and exceptions that one thread raises in another.

An interrupt between the call that opens a process, socket or pipe and the line that stores it would leave it open. So
dotflow holds interrupts while it opens and closes such things, for milliseconds.

The mask of the thread holds signals. The kernel may deliver one to another thread; then CPython handles it at once.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

from dotflow.cpython import ALL_SIGNALS, set_mask

F = TypeVar("F", bound=Callable[[], Any])

_lock = threading.RLock()
#: The threads that hold interrupts, each with the signals that were blocked before.
_held: Final[dict[int, set[int]]] = {}


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Keeps interrupts from the calling thread; signals that come meanwhile are handled at the end.

    CPython may raise an earlier interrupt at any line of this function.
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
    """Allows interrupts within `interrupts_held`, for what takes long."""
    ident = threading.get_ident()
    before = _held.get(ident)
    if before is None:
        yield
        return
    try:
        _held.pop(ident)  # one may come right after it
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
    """Yields whether the thread may be interrupted; within, it can't begin to hold interrupts."""
    with _lock:
        yield ident not in _held


def in_forked_child(function: F) -> F:
    """Calls a function in each child that this process forks, where the system can fork."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)
    return function


@in_forked_child
def _forget() -> None:
    """Resets a forked child: another thread may have held the lock."""
    global _lock
    _lock = threading.RLock()
    _held.clear()
