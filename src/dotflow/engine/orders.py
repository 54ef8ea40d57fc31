"""Looks for orders from outside, once a second for all runs of a process."""

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from dotflow import clock
from dotflow.abc.history import History, HistoryUnavailable
from dotflow.abc.operations import Order
from dotflow.errors import HistoryError

INTERVAL: Final = 1.0  # seconds between two looks

Orders = Mapping[str, Sequence[Order]]  # by run

#: When the orders were looked for, and what the last answer was: those that are open, or why they can't be read.
_found: Final["weakref.WeakKeyDictionary[History, tuple[float, Orders | HistoryError]]"] = weakref.WeakKeyDictionary()


def watch_orders(
    obey: Callable[[Order], None],
    history: History,
    check: Callable[[], object],
    check_contact: Callable[[], object],
) -> Callable[[str, bool], float | None]:
    """Returns what looks for orders to a run, in its thread, before attempts begin and while it waits.

    It carries out the orders that have come, and returns the seconds until the next look; a virtual clock has none. In
    virtual time each call is a look: a second of it may last a microsecond. It raises HistoryUnavailable while the last
    look failed.

    Args:
        obey: Carries out an order.
        history: Where the orders are.
        check: Called at each look, before.
        check_contact: Called before each attempt too, without a look: it asks no history.
    """
    look_at = clock.ticks() + INTERVAL
    refusal: HistoryError | None = None  # of the last look
    heeded: set[Order] = set()

    def look(run_id: str, begins: bool) -> float | None:
        nonlocal look_at, refusal
        check_contact()
        now = clock.ticks()
        if clock.source is None and now < look_at:
            if refusal is not None:
                raise HistoryUnavailable(refusal.what, refusal.reason)
            return look_at - now
        look_at = now + INTERVAL
        try:
            check()
            orders = _orders(history, now).get(run_id, ())
        except HistoryError as error:  # the next look may succeed
            refusal = error
            raise HistoryUnavailable(error.what, error.reason) from None
        refusal = None
        for order in orders:
            if order not in heeded:
                heeded.add(order)
                obey(order)
        return INTERVAL if clock.source is None else None

    return look


def _orders(history: History, now: float) -> Orders:
    """Returns the open orders, as they were at most INTERVAL ago. Raises HistoryError if they could not be read."""
    looked_at, answer = _found.get(history, (-INTERVAL, {}))
    if now - looked_at >= INTERVAL or clock.source is not None:
        _found[history] = now, answer  # before the look, so that no other run looks, too
        queue = history.operations()
        try:
            answer = {} if queue is None else queue.orders()
        except HistoryError as error:
            answer = error
        _found[history] = now, answer
    if isinstance(answer, HistoryError):
        raise HistoryError(answer.what, answer.reason)
    return answer
