"""An attempt that the history watches: its step knows its id, so that the runs it starts know their parent."""

from collections.abc import Callable, Coroutine
from typing import Any, Final

from dotflow.core.call import Call, Watch
from dotflow.core.origin import AttemptId, current_attempt
from dotflow.core.outcome import Outcome
from dotflow.worker.deadline import Limit
from dotflow.worker.loops import Loop

new: Final = tuple.__new__  # makes a named tuple in half the time: there is one for every attempt


def watched(watch: Watch, call: Call, loop: Loop, attempt: Callable[[Call, Loop], Outcome]) -> Outcome:
    """Makes an attempt as `attempt` does, within the context that *watch* asks for."""
    token = current_attempt.set(watch.attempt)
    try:
        return attempt(new(Call, (*call[:-1], None)), WatchedLoop(loop, watch.attempt))
    finally:
        current_attempt.reset(token)


class WatchedLoop:
    """A loop whose coroutines know their attempt, too: they do not see the calling thread's context variables."""

    def __init__(self, loop: Loop, attempt: AttemptId) -> None:
        self._loop = loop
        self._attempt = attempt

    def run(self, coroutine: Coroutine[Any, Any, Any], limit: Limit) -> Any:
        return self._loop.run(_run_within(self._attempt, coroutine), limit)

    def close(self) -> None:
        self._loop.close()


async def _run_within(attempt: AttemptId, coroutine: Coroutine[Any, Any, Any]) -> Any:
    current_attempt.set(attempt)  # without a reset: each coroutine of the loop sets its own
    return await coroutine
