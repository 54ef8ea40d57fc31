"""What Dask's workers tell of attempts that have begun: a client hears it once, for all runs that it serves."""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from distributed import Client

TOPIC: Final = "dotflow"

Hear = Callable[[Any], object]

_lock: Final = threading.Lock()
_hearers: "Final[WeakKeyDictionary[Client, dict[str, Hear]]]" = WeakKeyDictionary()


def listen(client: "Client", run: str, hear: Hear) -> None:
    """From now on *hear* is called, in a thread of Dask's, with each event of the run."""
    with _lock:
        hearers = _hearers.setdefault(client, {})
        is_first = not hearers
        hearers[run] = hear
        if is_first:
            client.subscribe_topic(TOPIC, lambda event: _tell(hearers, event))


def silence(client: "Client", run: str) -> None:
    """Ends that; nothing happens where it never began."""
    with _lock:
        hearers = _hearers.get(client, {})
        was_last = hearers.pop(run, None) is not None and not hearers
        if was_last and client.status == "running":  # before another run listens, whose subscription this would end
            client.unsubscribe_topic(TOPIC)


def _tell(hearers: dict[str, Hear], event: tuple[float, Any]) -> None:
    _, told = event  # the first is when it came
    hear = hearers.get(told["run"])
    if hear is not None:
        hear(told)
