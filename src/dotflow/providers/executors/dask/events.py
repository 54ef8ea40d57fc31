"""The events that Dask's workers log when an attempt begins. A client subscribes once, for all of its runs."""

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
    """Calls *listener* with each event of a run, in a thread of Dask's."""
    with _lock:
        listeners = _listeners.setdefault(client, {})
        is_first = not listeners
        listeners[run] = listener
        if is_first:
            client.subscribe_topic(TOPIC, lambda event: _dispatch(listeners, event))


def unsubscribe(client: "Client", run: str) -> None:
    """Ends the subscription of a run, if there is one."""
    with _lock:
        listeners = _listeners.get(client, {})
        was_last = listeners.pop(run, None) is not None and not listeners
        if was_last and client.status == "running":  # under the lock: another run may be about to subscribe
            client.unsubscribe_topic(TOPIC)


def _dispatch(listeners: dict[str, Listener], event: tuple[float, Any]) -> None:
    _, message = event  # the first is the time
    listener = listeners.get(message["run"])
    if listener is not None:
        listener(message)
