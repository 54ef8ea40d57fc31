"""What is around a step and its coroutines: the tracer's context, the id of the attempt, and the meter of its usage.

Runs that the step starts know their parent by the id of the attempt. A call's carrier names the function that enters
the tracer's context, so no tracer is imported here. If that function fails, each process logs it once, through Python's
own logging, and the step runs without a trace context.
"""

from collections.abc import Callable, Coroutine
from functools import cache, partial
from importlib import import_module
from typing import Any, Final, NamedTuple

from dotflow.core.attempt_id import current_attempt
from dotflow.core.call import Call, Carrier
from dotflow.core.outcome import Interrupted, Outcome, Returned
from dotflow.worker.deadline import DeadlinePassed, Limit
from dotflow.worker.deadline_thread import Stopped
from dotflow.worker.loops import Loop
from dotflow.worker.notes import NOTED, take_notes, take_used
from dotflow.worker.usage import Meter, begin, metered

Leave = Callable[[], object]

new: Final = tuple.__new__  # makes a named tuple in half the time: there is one for every attempt
INTERRUPTS: Final = (KeyboardInterrupt, DeadlinePassed, Stopped)  # Ctrl-C, and the end of an outer step


def attempt_within(call: Call, loop: Loop, attempt: Callable[..., Outcome]) -> Outcome:
    """Makes an attempt as `attempt` does, within what the call's carrier and watch ask for."""
    carrier, watch = call.carrier, call.watch
    leave = None if carrier is None else enter(carrier)
    token = meter = None
    try:
        if watch is not None:
            token = current_attempt.set(watch[0])
            meter = begin()
        outcome = attempt(call, new(LoopWithin, (loop, call, meter)), int, True)
        return outcome if meter is None else with_usage(outcome, meter)
    finally:
        if token is not None:
            current_attempt.reset(token)
        if leave is not None:
            leave()


def with_usage(outcome: Outcome, meter: Meter) -> Outcome:
    """Returns the outcome with what the meter has measured, and what the step has noted."""
    usage = meter.read()
    if NOTED:
        usage = usage._replace(notes=take_notes(), used=take_used())
    if outcome.__class__ is Returned:
        value, repeated, _, files = outcome
        return new(Returned, (value, repeated, usage, files))
    return outcome if isinstance(outcome, Interrupted) else outcome._replace(usage=usage)


def enter(carrier: Carrier) -> Leave:
    """Enters the carrier's context, and returns the function that leaves it. Both suppress the entry's errors."""
    leave = _try(carrier.entry, lambda: _entry(carrier.entry)(carrier.headers))
    return _nothing if leave is None else partial(_try, carrier.entry, leave)


def _try(entry: str, function: Callable[[], Any]) -> Any:
    """Returns what the function of an entry returns; None if it fails."""
    try:
        return function()
    except INTERRUPTS:
        raise
    except BaseException as error:  # the tracer's code; the step does not depend on it
        _report(entry, f"{type(error).__name__}: {error}")
        return None


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


class LoopWithin(NamedTuple):
    """A loop whose coroutines are within it, too.

    They do not see the calling thread's context variables: a loop has those of the time when it was made.
    """

    loop: Loop
    call: Call
    meter: Meter | None

    def run(self, coroutine: Coroutine[Any, Any, Any], limit: Limit) -> Any:
        return self.loop.run(_run_within(self.call, coroutine, self.meter), limit)

    def close(self) -> None:
        self.loop.close()


async def _run_within(call: Call, coroutine: Coroutine[Any, Any, Any], meter: Meter | None) -> Any:
    leave = _nothing if call.carrier is None else enter(call.carrier)
    if call.watch is not None:
        current_attempt.set(call.watch.attempt)  # without a reset: each coroutine of the loop sets its own
    try:
        value = await (coroutine if meter is None else metered(coroutine, meter))
    except GeneratorExit:  # it was dropped, and the garbage collector closes it in another context
        raise
    except BaseException:  # raised by the step
        leave()
        raise
    leave()
    return value
