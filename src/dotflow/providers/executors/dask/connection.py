"""The connections to Dask's schedulers: a process keeps one for each address, and its runs share it."""

import atexit
import contextlib
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from dotflow.worker.interrupts import in_forked_child

if TYPE_CHECKING:
    from distributed import Client

EXIT_TIMEOUT: Final = 1.0  # seconds that the interpreter's exit waits for the end of a connection

_making: Final = threading.Lock()  # held while a connection is made, so that runs that begin together share it
_lock: Final = threading.Lock()


class Link:
    """A client's connection to its scheduler, until that is lost.

    A client that has connected again has none of the tasks, data and subscriptions of before: that is another link.

    Args:
        client: The client.

    Attributes:
        client: The client.
        comm: What Dask has of the connection; None if there is none.
    """

    def __init__(self, client: "Client") -> None:
        self.client = client
        self.comm = client.scheduler_comm

    @property
    def is_whole(self) -> bool:
        """Whether it was never lost."""
        return self.client.status == "running" and self.client.scheduler_comm is self.comm


class _Connection:
    """A client and the number of runs that use it."""

    def __init__(self, client: "Client", options: Mapping[str, Any]) -> None:
        self.client = client
        self.options = options
        self.users = 1
        self._link = Link(client)

    @property
    def is_whole(self) -> bool:
        """Whether further runs may use it."""
        return self._link.is_whole


_kept: Final[dict[str, _Connection]] = {}  # by address: those that further runs may use
_open: Final[set[_Connection]] = set()  # those, and others that runs still use
in_forked_child(_kept.clear)  # the threads of its clients do not exist there


def connect(address: str, options: Mapping[str, Any], make: "Callable[[], Client]") -> "Client":
    """Returns this process's client of a scheduler, a new one if there is none, or if it was lost.

    Args:
        address: The scheduler's address.
        options: The options of the client. One with others is replaced when its runs have ended.
        make: Makes a client.

    The caller calls `disconnect` later.
    """
    with _making:
        with _lock:
            kept = _kept.get(address)
            if kept is not None and kept.is_whole and kept.options == options:
                kept.users += 1
                return kept.client
            unused = _kept.pop(address) if kept is not None and not kept.users else None
        if unused is not None:
            _close(unused, EXIT_TIMEOUT)
        made = _Connection(make(), options)
        with _lock:
            _kept[address] = made
            _open.add(made)
        return made.client


def disconnect(client: "Client", timeout: float) -> None:
    """Ends a run's use of a client that `connect` returned. It stays open for further runs, unless it was lost."""
    with _lock:
        connection = next((each for each in _open if each.client is client), None)
        if connection is None:  # a client of the user's own
            return
        connection.users -= 1
        address = next((address for address, kept in _kept.items() if kept is connection), None)
        if connection.users or (address is not None and connection.is_whole):
            return
        if address is not None:
            del _kept[address]
    _close(connection, timeout)


def _close(connection: _Connection, timeout: float) -> None:
    with _lock:
        _open.discard(connection)
    with contextlib.suppress(TimeoutError):  # it must not hide what ended the run
        connection.client.close(timeout=timeout)


@atexit.register
def _close_all() -> None:
    for connection in tuple(_kept.values()):
        if connection.is_whole:  # Dask would log a traceback for one that tries to connect again
            _close(connection, EXIT_TIMEOUT)
