"""Looks for orders from outside, once a second for all runs of a process."""

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


def watch_orders(
    obey: Callable[[Order], None],
    history: History,
    check: Callable[[], object],
    check_contact: Callable[[], object],
    log_line: Callable[..., None],
) -> Callable[[str, bool], float | None]:
    """Returns what looks for orders to a run, in its thread, before attempts begin and while it waits.

    It carries out the orders that have come, and returns the seconds until the next look; a virtual clock has none. In
    virtual time each call is a look: a second of it may last a microsecond.

    Args:
        obey: Carries out an order.
        history: Where the orders are.
        check: Called at each look, before.
        check_contact: Called before each attempt too, without a look: it asks no history.
        log_line: Writes a line into the log.
    """
    look_at = clock.ticks() + INTERVAL
    trouble = ""  # why the last look failed
    heeded: set[Order] = set()

    def look(run_id: str, begins: bool) -> float | None:
        nonlocal look_at, trouble
        check_contact()
        now = clock.ticks()
        if clock.source is None and now < look_at:
            return look_at - now
        look_at = now + INTERVAL
        try:
            check()
            orders = _orders(history, now).get(run_id, ())
            trouble = ""
        except HistoryError as error:  # the next look may succeed
            if str(error) != trouble:
                trouble = str(error)
                log_line(trouble, None)
            orders = ()
        for order in orders:
            if order not in heeded:
                heeded.add(order)
                obey(order)
        return INTERVAL if clock.source is None else None

    return look


def _orders(history: History, now: float) -> Mapping[str, Sequence[Order]]:
    """Returns the open orders by run, as they were at most INTERVAL ago."""
    looked_at, orders = _found.get(history, (-INTERVAL, {}))
    if now - looked_at >= INTERVAL or clock.source is not None:
        _found[history] = now, orders  # before the look, so that no other run looks, too
        queue = history.operations()
        orders = {} if queue is None else queue.orders()
        _found[history] = now, orders
    return orders
