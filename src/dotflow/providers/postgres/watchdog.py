"""Cuts calls to a server that do not return: it was stopped, or the network swallows what is sent."""

import contextlib
import os
import socket
import threading
import weakref
from typing import Any, Final

from dotflow import clock
from dotflow.worker.interrupts import in_forked_child

LOOK: Final = 1.0  # seconds between two looks


class Watched:
    """The socket of a connection, by a descriptor of its own: the connection may close its one at any time.

    Args:
        connection: A psycopg.Connection.
        seconds: How long a call may take.
    """

    def __init__(self, connection: Any, seconds: float) -> None:
        self._seconds = seconds
        self._descriptor = os.dup(connection.fileno())
        self._until: float | None = None
        self._lock = threading.Lock()
        self.was_cut = False
        _watch(self)

    def __enter__(self) -> None:
        self._until = clock.ticks() + self._seconds

    def __exit__(self, *args: object) -> None:
        self._until = None

    def look(self) -> None:
        """Shuts the socket down where a call takes too long: the call raises then."""
        with self._lock:
            if self._until is None or clock.ticks() < self._until or self._descriptor < 0:
                return
            self.was_cut = True
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self._descriptor)) as stopped:
                stopped.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Closes the descriptor."""
        with self._lock, contextlib.suppress(OSError):
            descriptor, self._descriptor = self._descriptor, -1
            if descriptor >= 0:
                os.close(descriptor)


_watched: weakref.WeakSet[Watched] = weakref.WeakSet()
_lock = threading.Lock()
_thread: threading.Thread | None = None


def _watch(watched: Watched) -> None:
    global _thread
    with _lock:
        _watched.add(watched)
        if _thread is None:
            _thread = threading.Thread(target=_look, name="dotflow-postgres-watchdog", daemon=True)
            _thread.start()


def _look() -> None:
    global _thread
    pause = threading.Event()
    while True:
        pause.wait(LOOK)
        with _lock:
            found = list(_watched)
            if not found:
                _thread = None
                return
        for watched in found:
            watched.look()
        del found


@in_forked_child
def _after_fork_in_child() -> None:
    global _lock, _thread, _watched
    _lock, _thread, _watched = threading.Lock(), None, weakref.WeakSet()
