"""Entering and leaving what a tracer gave an attempt to take along, around the step and around its coroutines.

Nothing in here knows a tracer: the carrier names what is called. What goes wrong with it is reported once in each
process, to Python's own logging, and the step runs without.
"""

from collections.abc import Callable, Coroutine
from functools import cache, partial
from importlib import import_module
from typing import Any, Final

from dotflow.core.call import Carrier
from dotflow.worker.deadline import DeadlinePassed, Limit
from dotflow.worker.deadline_thread import Stopped
from dotflow.worker.loops import Loop

Leave = Callable[[], object]

INTERRUPTS: Final = (KeyboardInterrupt, DeadlinePassed, Stopped)  # Ctrl-C, and the end of a step that this one is in


def enter(carrier: Carrier) -> Leave:
    """Calls the carrier's entry here and now; returns what leaves it again. Neither raises what the entry raises."""
    try:
        leave = _entry(carrier.entry)(carrier.headers)
    except INTERRUPTS:
        raise
    except BaseException as error:  # somebody else's code: the step does not depend on it
        _report(carrier.entry, f"{type(error).__name__}: {error}")
        return _nothing
    return partial(_leave, leave, carrier.entry)


def _leave(leave: Leave, entry: str) -> None:
    try:
        leave()
    except INTERRUPTS:
        raise
    except BaseException as error:  # somebody else's code: the step does not depend on it
        _report(entry, f"{type(error).__name__}: {error}")


@cache
def _entry(path: str) -> Callable[[Any], Leave]:
    module, _, name = path.partition(":")
    found: Callable[[Any], Leave] = getattr(import_module(module), name)
    return found


_reported: Final[set[str]] = set()


def _report(entry: str, reason: str) -> None:
    if entry in _reported:
        return
    _reported.add(entry)
    import logging  # here, since few need it

    logging.getLogger("dotflow").warning("The tracer's entry %s failed, so steps run without it: %s", entry, reason)


def _nothing() -> None: ...


class TracedLoop:
    """A loop whose coroutines enter the carrier too.

    The thread's own context variables do not reach them: a loop that serves many attempts keeps those that were current
    when it was made.
    """

    def __init__(self, loop: Loop, carrier: Carrier) -> None:
        self._loop = loop
        self._carrier = carrier

    def run(self, coroutine: Coroutine[Any, Any, Any], limit: Limit) -> Any:
        return self._loop.run(_run_within(self._carrier, coroutine), limit)

    def close(self) -> None:
        self._loop.close()


async def _run_within(carrier: Carrier, coroutine: Coroutine[Any, Any, Any]) -> Any:
    leave = enter(carrier)
    try:
        value = await coroutine
    except GeneratorExit:  # it was dropped, and is closed by whoever collects it, where there is nothing to leave
        raise
    except BaseException:  # the step's own, which goes on its way
        leave()
        raise
    leave()
    return value
