"""An attempt that the history watches: it is measured, and the runs that its step starts know their parent."""

from collections.abc import Callable, Coroutine
from typing import Any, Final

from dotflow.core.attempt_id import AttemptId, current_attempt
from dotflow.core.call import Call, Watch
from dotflow.core.outcome import Interrupted, Outcome, Returned
from dotflow.worker.deadline import Limit
from dotflow.worker.loops import Loop
from dotflow.worker.usage import CoroutineMeter, Meter, begin, metered

new: Final = tuple.__new__  # makes a named tuple in half the time: there is one for every attempt


def watched(watch: Watch, call: Call, loop: Loop, attempt: Callable[[Call, Loop, bool], Outcome]) -> Outcome:
    """Makes an attempt as `attempt` does, within the context that *watch* asks for."""
    token = current_attempt.set(watch.attempt)
    meter = begin()
    try:
        return with_usage(attempt(call, WatchedLoop(loop, watch.attempt, meter), True), meter)
    finally:
        current_attempt.reset(token)


async def watched_async(watch: Watch, attempt: Coroutine[Any, Any, Outcome]) -> Outcome:
    """Awaits an attempt that is a coroutine, within the context that *watch* asks for."""
    current_attempt.set(watch.attempt)  # without a reset: its asyncio task has context variables of its own
    meter = CoroutineMeter()
    return with_usage(await metered(attempt, meter), meter)


def with_usage(outcome: Outcome, meter: Meter) -> Outcome:
    """Returns the outcome with what the meter has measured."""
    if outcome.__class__ is Returned:
        value, repeated, _ = outcome
        return new(Returned, (value, repeated, meter.read()))
    return outcome if isinstance(outcome, Interrupted) else outcome._replace(usage=meter.read())


class WatchedLoop:
    """A loop whose coroutines know their attempt, too: they do not see the calling thread's context variables."""

    __slots__ = ("_attempt", "_loop", "_meter")

    def __init__(self, loop: Loop, attempt: AttemptId, meter: Meter) -> None:
        self._loop = loop
        self._attempt = attempt
        self._meter = meter

    def run(self, coroutine: Coroutine[Any, Any, Any], limit: Limit) -> Any:
        return self._loop.run(_run_within(self._attempt, coroutine, self._meter), limit)

    def close(self) -> None:
        self._loop.close()


async def _run_within(attempt: AttemptId, coroutine: Coroutine[Any, Any, Any], meter: Meter) -> Any:
    current_attempt.set(attempt)  # without a reset: each coroutine of the loop sets its own
    return await metered(coroutine, meter)
