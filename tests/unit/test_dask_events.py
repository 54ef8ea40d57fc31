"""What Dask's workers tell reaches each run of a client, whichever begins while another one ends."""

import threading
from collections.abc import Callable
from typing import Any

from dotflow.providers.executors.dask.connection import Link
from dotflow.providers.executors.dask.dask_session import subscribe, unsubscribe


class Comm:
    """A connection."""


class Client:
    """Subscribes to a topic as a client does, for all at once.

    Args:
        on_unsubscribe: Called before it takes effect.
    """

    status = "running"

    def __init__(self, on_unsubscribe: Callable[[], object] = lambda: None) -> None:
        self.on_unsubscribe = on_unsubscribe
        self.scheduler_comm = Comm()
        self.handler: Callable[[Any], object] | None = None

    def subscribe_topic(self, topic: str, handler: Callable[[Any], object]) -> None:
        """As Dask's."""
        self.handler = handler

    def unsubscribe_topic(self, topic: str) -> None:
        """As Dask's."""
        self.on_unsubscribe()
        self.handler = None


def test_each_run_hears_its_own() -> None:
    """One subscription serves them all, and ends with the last of them."""
    client, first, second = Client(), list[Any](), list[Any]()
    link = Link(client)
    subscribe(link, "first", first.append)
    subscribe(link, "second", second.append)
    assert client.handler is not None
    client.handler((0.0, {"run": "second"}))
    unsubscribe(link, "first")
    assert client.handler is not None
    unsubscribe(link, "second")

    assert (first, second) == ([], [{"run": "second"}])
    assert client.handler is None


def test_one_that_begins_while_the_last_one_ends() -> None:
    """It is not left without a subscription."""

    def begins() -> None:
        other.start()
        other.join(0.1)  # it is held up by whoever ends, or is done at once

    client = Client(begins)
    link = Link(client)
    other = threading.Thread(target=subscribe, args=(link, "second", lambda event: None))
    subscribe(link, "first", lambda event: None)
    unsubscribe(link, "first")
    other.join()

    assert client.handler is not None
