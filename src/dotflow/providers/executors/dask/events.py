"""What Dask's workers tell of attempts that have begun: a client hears it once, for all runs that it serves."""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from distributed import Client

TOPIC: Final = "dotflow"

Listener = Callable[[Any], object]

_lock: Final = threading.Lock()
_listeners: "Final[WeakKeyDictionary[Client, dict[str, Listener]]]" = WeakKeyDictionary()


def subscribe(client: "Client", run: str, listener: Listener) -> None:
    """From now on *listener* is called, in a thread of Dask's, with each event of the run."""
    with _lock:
        listeners = _listeners.setdefault(client, {})
        is_first = not listeners
        listeners[run] = listener
        if is_first:
            client.subscribe_topic(TOPIC, lambda event: _dispatch(listeners, event))


def unsubscribe(client: "Client", run: str) -> None:
    """Ends that; nothing happens where it never began."""
    with _lock:
        listeners = _listeners.get(client, {})
        was_last = listeners.pop(run, None) is not None and not listeners
        if was_last and client.status == "running":  # before another run listens, whose subscription this would end
            client.unsubscribe_topic(TOPIC)


def _dispatch(listeners: dict[str, Listener], event: tuple[float, Any]) -> None:
    _, told = event  # the first is when it came
    listener = listeners.get(told["run"])
    if listener is not None:
        listener(told)
