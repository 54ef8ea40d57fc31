"""PerProcess: a client of a service, made when it is first needed, and by each process for itself."""

import os
import threading
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Final, Generic, TypeVar

from dotflow.errors import MissingExtra

T = TypeVar("T")

_guard = threading.Lock()
_parents: Final[list[object]] = []  # clients of the process that this one was forked from: closing one could disturb it


class PerProcess(Generic[T]):
    """A client that any thread may ask for. A forked process makes its own, and so does one that this is sent to."""

    def __init__(self) -> None:
        self._made: tuple[int, T] | None = None

    def get(self, make: Callable[[], T]) -> T:
        """The client; *make* makes it where there is none yet."""
        made = self._made
        if made is None or made[0] != os.getpid():
            with _guard:
                made = self._made
                if made is None or made[0] != os.getpid():
                    if made is not None:
                        _parents.append(made)
                    made = self._made = os.getpid(), make()
        return made[1]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()


def require_extra(module: str, provider: str, extra: str) -> None:
    """Raises MissingExtra, naming what to install, unless a module is there. It is not loaded."""
    try:
        found = find_spec(module)
    except ModuleNotFoundError:  # not even its package is there
        found = None
    if found is None or found.origin is None:  # a folder that only has its name, such as /tmp/ray, has no origin
        raise MissingExtra(provider, module.replace(".", "-"), extra)


def _begin_anew() -> None:
    """In a forked process no other thread will ever open the lock."""
    global _guard
    _guard = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
