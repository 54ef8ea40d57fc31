"""Entering and leaving a tracer's context around a step and its coroutines.

The carrier names the function that enters it, so no tracer is imported here. If that function fails, each process logs
it once, through Python's own logging, and the step runs without a trace context.
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

INTERRUPTS: Final = (KeyboardInterrupt, DeadlinePassed, Stopped)  # Ctrl-C, and the end of an outer step


def enter(carrier: Carrier) -> Leave:
    """Enters the carrier's context, and returns the function that leaves it. Both suppress the entry's errors."""
    try:
        leave = _entry(carrier.entry)(carrier.headers)
    except INTERRUPTS:
        raise
    except BaseException as error:  # the tracer's code; the step does not depend on it
        _report(carrier.entry, f"{type(error).__name__}: {error}")
        return _nothing
    return partial(_leave, leave, carrier.entry)


def _leave(leave: Leave, entry: str) -> None:
    try:
        leave()
    except INTERRUPTS:
        raise
    except BaseException as error:  # the tracer's code; the step does not depend on it
        _report(entry, f"{type(error).__name__}: {error}")


@cache
def _entry(path: str) -> Callable[[Any], Leave]:
    module, _, name = path.partition(":")
    function: Callable[[Any], Leave] = getattr(import_module(module), name)
    return function


_reported: Final[set[str]] = set()


def _report(entry: str, reason: str) -> None:
    if entry in _reported:
        return
    _reported.add(entry)
    import logging  # here, since few need it

    logging.getLogger("dotflow").warning("The tracer's entry %s failed, so steps run without it: %s", entry, reason)


def _nothing() -> None: ...


class TracedLoop:
    """A loop whose coroutines enter the carrier's context, too.

    They do not see the calling thread's context variables: a loop has those of the time when it was made.
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
    except GeneratorExit:  # it was dropped, and the garbage collector closes it in another context
        raise
    except BaseException:  # raised by the step
        leave()
        raise
    leave()
    return value
