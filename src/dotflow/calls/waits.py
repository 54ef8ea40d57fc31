"""sleep, ask: waits in the body of a durable step, which occupy no worker and survive the end of its process."""

from collections.abc import Mapping
from typing import Any, Final

from dotflow import clock
from dotflow.calls.body import Body
from dotflow.core.action import AnyAction
from dotflow.core.approval import Approval, fields_of
from dotflow.core.calls import OPEN, SCOPE, Asking
from dotflow.core.decorator import action
from dotflow.core.durations import Duration, as_seconds
from dotflow.cpython import has_running_loop
from dotflow.errors import CallRefused, InvalidArgument


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


def ask(question: str, /, *, within: Duration | None = None, **values: Any) -> Approval:
    """Asks people, in the body of a durable step: `ask("Send {draft}?", draft=draft).is_approved`.

    The step waits as one that sleeps. Where nothing else is left to do, the run is paused until `dotflow approve`, the
    page or `Control` answers; the continuation is given the answer. A no is returned, too, and so is a question whose
    time is up. A question is known by its text and its values, and has one answer.

    Args:
        question: The text, whose braces name values: they are shown as one line each.
        within: The time for an answer, in seconds or as a text such as "2d"; None for no limit.
        **values: Plain data, without secrets.

    Raises:
        InvalidArgument: The braces name something else, or within is no duration.
        CallRefused: It is not the body of a durable step that calls; or it would block the loop of a coroutine, which
            awaits `aask` instead.
    """
    body, asking = _asking("ask", question, within, values)
    if has_running_loop():
        raise CallRefused("ask", "it would block the loop of its coroutine", "Await dotflow.aask.")
    return Approval(*body.wait(ASK, (question, values), asking))


async def aask(question: str, /, *, within: Duration | None = None, **values: Any) -> Approval:
    """Does what `ask` does, in a coroutine.

    Args:
        question: The text, whose braces name values: they are shown as one line each.
        within: The time for an answer, in seconds or as a text such as "2d"; None for no limit.
        **values: Plain data, without secrets.

    Raises:
        InvalidArgument: The braces name something else, or within is no duration.
        CallRefused: It is not the body of a durable step that calls.
    """
    body, asking = _asking("aask", question, within, values)
    return Approval(*await body.wait_async(ASK, (question, values), asking))


def _asking(name: str, question: str, within: Duration | None, values: Mapping[str, Any]) -> tuple[Body, Asking]:
    try:
        unknown = [field for field in fields_of(question) if field not in values]
    except ValueError as error:
        raise InvalidArgument("question", question, f"a text whose braces name values. Here {error}") from None
    if unknown or not question.strip():
        accepted = f"a text whose braces name values that are passed: not {{{unknown[0]}}}" if unknown else "a text"
        raise InvalidArgument("question", question, accepted)
    seconds = None if within is None else as_seconds("within", within, above=0)
    body = _body_here(name)
    if body is None:
        raise CallRefused(name, "only the body of a durable step can ask", "Call it there, outside of its actions.")
    return body, Asking(question, values, seconds)


def _body_here(name: str) -> Body | None:
    """Returns the body of the durable step that calls; None outside of one."""
    scope = (SCOPE.get() or OPEN[-1].of_thread(name)) if OPEN else None
    return scope if isinstance(scope, Body) else None


def _sleep(duration: float) -> None:
    clock.sleep(duration)


def _ask(question: str, values: Mapping[str, Any]) -> None:
    raise CallRefused("ask", "only the body of a durable step can ask", f"It asked {question!r}.")


_sleep.__qualname__, _ask.__qualname__ = "sleep", "ask"
SLEEP: Final[AnyAction] = action(_sleep)
ASK: Final[AnyAction] = action(_ask)
