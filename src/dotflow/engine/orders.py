"""OrderWatch: looks for orders from outside, once a second for all runs of a process."""

import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from dotflow import clock
from dotflow.abc.history import History
from dotflow.abc.operations import Order

INTERVAL: Final = 1.0  # seconds between two looks

_lock: Final = threading.Lock()
_found: Final["weakref.WeakKeyDictionary[History, tuple[float, Mapping[str, Sequence[Order]]]]"] = (
    weakref.WeakKeyDictionary()
)


class OrderWatch:
    """Looks for orders to a run, in its thread, before attempts begin and while it waits.

    Args:
        obey: Carries out an order.
        history: Where the orders are.
    """

    def __init__(self, obey: Callable[[Order], None], history: History) -> None:
        self._obey = obey
        self._history = history
        self._next = clock.ticks() + INTERVAL
        self._heeded: set[Order] = set()

    def settle(self, run_id: str, begins: bool) -> float | None:
        """Carries out the orders that have come. Returns the seconds until the next look; a virtual clock has none."""
        if clock.source is not None:
            return None
        now = clock.ticks()
        if now < self._next:
            return self._next - now
        self._next = now + INTERVAL
        for order in _orders(self._history, now).get(run_id, ()):
            if order not in self._heeded:
                self._heeded.add(order)
                self._obey(order)
        return INTERVAL


def _orders(history: History, now: float) -> Mapping[str, Sequence[Order]]:
    """Returns the open orders by run, as they were at most INTERVAL ago."""
    with _lock:
        looked_at, orders = _found.get(history, (-INTERVAL, {}))
        if now - looked_at >= INTERVAL:
            queue = history.operations()
            orders = {} if queue is None else queue.orders()
            _found[history] = now, orders
        return orders
