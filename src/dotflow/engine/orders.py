"""OrderWatch: looks for orders from outside, once a second for all runs of a process."""

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from dotflow import clock
from dotflow.abc.history import History
from dotflow.abc.operations import Order
from dotflow.errors import HistoryError

INTERVAL: Final = 1.0  # seconds between two looks

_found: Final["weakref.WeakKeyDictionary[History, tuple[float, Mapping[str, Sequence[Order]]]]"] = (
    weakref.WeakKeyDictionary()
)


class OrderWatch:
    """Looks for orders to a run, in its thread, before attempts begin and while it waits.

    Args:
        obey: Carries out an order.
        history: Where the orders are.
        check: Called at each look, before.
        log_line: Writes a line into the log.
    """

    def __init__(
        self,
        obey: Callable[[Order], None],
        history: History,
        check: Callable[[], object],
        log_line: Callable[..., None],
    ) -> None:
        self._obey = obey
        self._check = check
        self._log_line = log_line
        self._trouble = ""  # why the last look failed
        self._history = history
        self._next = clock.ticks() + INTERVAL
        self._heeded: set[Order] = set()

    def settle(self, run_id: str, begins: bool) -> float | None:
        """Carries out the orders that have come. Returns the seconds until the next look; a virtual clock has none.

        In virtual time each call is a look: a second of it may last a microsecond.
        """
        now = clock.ticks()
        if clock.source is None and now < self._next:
            return self._next - now
        self._next = now + INTERVAL
        try:
            self._check()
            orders = _orders(self._history, now).get(run_id, ())
            self._trouble = ""
        except HistoryError as error:  # the next look may succeed
            if str(error) != self._trouble:
                self._trouble = str(error)
                self._log_line(self._trouble, None)
            orders = ()
        for order in orders:
            if order not in self._heeded:
                self._heeded.add(order)
                self._obey(order)
        return INTERVAL if clock.source is None else None


def _orders(history: History, now: float) -> Mapping[str, Sequence[Order]]:
    """Returns the open orders by run, as they were at most INTERVAL ago."""
    looked_at, orders = _found.get(history, (-INTERVAL, {}))
    if now - looked_at >= INTERVAL or clock.source is not None:
        _found[history] = now, orders  # before the look, so that no other run looks, too
        queue = history.operations()
        orders = {} if queue is None else queue.orders()
        _found[history] = now, orders
    return orders
