"""PerProcess: a client of a service, made when it is first needed, and by each process for itself."""

import os
import threading
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Final, Generic, TypeVar

from dotflow.errors import MissingExtra

T = TypeVar("T")

_lock = threading.Lock()
#: Clients of the parent process, kept after a fork: closing one could disturb the parent.
_inherited: Final[list[object]] = []


class PerProcess(Generic[T]):
    """A client that any thread may ask for. A forked process makes its own, and so does one that this is sent to."""

    def __init__(self) -> None:
        self._client: tuple[int, T] | None = None

    def get(self, make: Callable[[], T]) -> T:
        """The client; *make* makes it where there is none yet."""
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
    """Raises MissingExtra, naming what to install, unless a module is there. It is not loaded."""
    try:
        spec = find_spec(module)
    except ModuleNotFoundError:  # not even its package is there
        spec = None
    if spec is None or spec.origin is None:  # a folder that only has its name, such as /tmp/ray, has no origin
        raise MissingExtra(provider, module.replace(".", "-"), extra)


def _reset_lock() -> None:
    """In a forked process no other thread will ever open the lock."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_lock)
