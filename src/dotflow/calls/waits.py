"""sleep: a wait in the body of a durable step, which occupies no worker and survives the end of its process."""

from typing import Final

from dotflow import clock
from dotflow.calls.body import Body
from dotflow.core.action import AnyAction
from dotflow.core.calls import OPEN, SCOPE
from dotflow.core.decorator import action
from dotflow.core.durations import Duration, as_seconds
from dotflow.cpython import has_running_loop
from dotflow.errors import CallRefused


def sleep(duration: Duration) -> None:
    """Waits; in a durable step without a worker, and to the same moment after a kill or a resume.

    Its end is kept when it begins. Once all that runs in the step only waits, the step is parked: it leaves its worker,
    and goes on from its top when the first wait is over, as the same attempt. Shorter waits stay where they are.
    Within an action, and outside of durable steps, it is a plain sleep.

    Args:
        duration: Seconds, or a text such as "90s" or "3d"; at most ten years.

    Raises:
        InvalidArgument: It is no duration.
        CallRefused: It would block the loop of a coroutine, which awaits `asleep` instead.
    """
    seconds = as_seconds("duration", duration)
    body = _body_here("sleep")
    if body is None:
        clock.sleep(seconds)
        return
    if has_running_loop():
        raise CallRefused("sleep", "it would block the loop of its coroutine", "Await dotflow.asleep.")
    body.wait(SLEEP, (seconds,), seconds)


async def asleep(duration: Duration) -> None:
    """Does what `sleep` does, in a coroutine.

    Args:
        duration: Seconds, or a text such as "90s" or "3d"; at most ten years.

    Raises:
        InvalidArgument: It is no duration.
    """
    import asyncio

    seconds = as_seconds("duration", duration)
    body = _body_here("asleep")
    if body is not None:
        await body.wait_async(SLEEP, (seconds,), seconds)
    elif clock.source is None:
        await asyncio.sleep(seconds)
    else:  # a virtual clock counts the sleeps of threads
        await asyncio.to_thread(clock.sleep, seconds)


def _body_here(name: str) -> Body | None:
    """Returns the body of the durable step that calls; None outside of one."""
    scope = (SCOPE.get() or OPEN[-1].of_thread(name)) if OPEN else None
    return scope if isinstance(scope, Body) else None


def _sleep(duration: float) -> None:
    clock.sleep(duration)


_sleep.__qualname__ = "sleep"
SLEEP: Final[AnyAction] = action(_sleep)
