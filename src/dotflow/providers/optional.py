"""Optional dependencies: a client per process, made on first use, and the error for a missing extra."""

import os
import threading
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Final, Generic, TypeVar

from dotflow.errors import MissingExtra
from dotflow.worker.interrupts import in_forked_child

T = TypeVar("T")

_lock = threading.Lock()
#: Clients of the parent process, kept after a fork: closing one could disturb the parent.
_inherited: Final[list[object]] = []


class PerProcess(Generic[T]):
    """A client for all threads of a process. A forked process makes its own, and so does an unpickled copy."""

    def __init__(self) -> None:
        self._client: tuple[int, T] | None = None

    def get(self, make: Callable[[], T]) -> T:
        """Returns the client of this process. The first call makes it."""
        client = self._client
        if client is None or client[0] != os.getpid():
            with _lock:
                client = self._client
                if client is None or client[0] != os.getpid():
                    if client is not None:
                        _inherited.append(client)
                    client = self._client = os.getpid(), make()
        return client[1]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()


def require_extra(module: str, provider: str, extra: str) -> None:
    """Raises MissingExtra, with the command to install it, unless a module can be found. It is not imported."""
    try:
        spec = find_spec(module)
    except ModuleNotFoundError:  # its package is missing, too
        spec = None
    if spec is None or spec.origin is None:  # a plain folder of that name, such as /tmp/ray, has no origin
        raise MissingExtra(provider, module.replace(".", "-"), extra)


@in_forked_child
def _reset_lock() -> None:
    """Makes a new lock in a forked process: a thread that held the old one does not exist there."""
    global _lock
    _lock = threading.Lock()
