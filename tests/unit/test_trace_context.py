"""The trace context of an attempt is entered around the step, which runs also if that fails."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

import pytest

from dotflow import Context, action
from dotflow.core.action import action_of
from dotflow.core.call import Call, Carrier
from dotflow.core.outcome import Outcome, Raised, Returned
from dotflow.worker import attempt_context
from dotflow.worker.attempt import attempt
from dotflow.worker.attempt_async import attempt_async
from dotflow.worker.deadline import DeadlinePassed, Limit
from dotflow.worker.loops import Loops

#: Where the step is.
where: ContextVar[str] = ContextVar("where", default="nowhere")
#: What was called, in order.
called: list[str] = []


def enter(headers: Mapping[str, str]) -> Callable[[], None]:
    token = where.set(headers["place"])
    called.append(f"enter {headers['place']}")

    def leave() -> None:
        where.reset(token)
        called.append(f"leave {headers['place']}")

    return leave


def enter_and_break(headers: Mapping[str, str]) -> Callable[[], None]:
    raise LookupError("no such place")


def enter_and_not_leave(headers: Mapping[str, str]) -> Callable[[], None]:
    def leave() -> None:
        raise LookupError("no way out")

    return leave


def interrupted(headers: Mapping[str, str]) -> Callable[[], None]:
    raise KeyboardInterrupt


def late(headers: Mapping[str, str]) -> Callable[[], None]:
    raise DeadlinePassed(Limit(1))


def entry(function: Callable[..., Any]) -> str:
    return f"{__name__}:{function.__name__}"


@pytest.fixture(autouse=True)
def anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resets the recorded calls and reports."""
    called.clear()
    monkeypatch.setattr(attempt_context, "_reported", set())


def call(step: Any, place: str = "here", function: Callable[..., Any] = enter) -> Call:
    return Call(0, 0, action_of(action(step)), Context(), Context(), "w", Carrier(entry(function), {"place": place}))


def outcome_of(*calls: Call) -> list[Outcome]:
    loops = Loops()
    try:
        return [attempt(call, loops) for call in calls]
    finally:
        loops.close()


async def tell() -> str:
    await asyncio.sleep(0)
    return where.get()


async def fail() -> None:
    raise ValueError(where.get())


def test_a_function_is_inside() -> None:
    """The step runs between entering and leaving."""
    assert outcome_of(call(where.get)) == [Returned("here")]
    assert called == ["enter here", "leave here"]
    assert where.get() == "nowhere"


def test_a_failure_leaves_too() -> None:
    """The failure is the outcome, and the next step is outside again."""

    def step() -> None:
        raise ValueError(where.get())

    (outcome,) = outcome_of(call(step))

    assert isinstance(outcome, Raised)
    assert outcome.failure.message == "here"
    assert called == ["enter here", "leave here"]


def test_coroutines_one_after_the_other_are_each_in_their_own_place() -> None:
    """They share one event loop, but not its context."""
    assert outcome_of(call(tell, "first"), call(tell, "second")) == [Returned("first"), Returned("second")]


def test_a_coroutine_with_a_timeout_is_inside() -> None:
    """Its asyncio task has the step's context."""
    timed = call(tell)._replace(step=action(timeout=10)(tell))

    assert outcome_of(timed) == [Returned("here")]


def test_a_failed_coroutine_leaves() -> None:
    """Both the coroutine and its thread leave what they have entered, the inner one first."""
    (failed,) = outcome_of(call(fail))

    assert isinstance(failed, Raised)
    assert failed.failure.message == "here"
    assert called == ["enter here", "enter here", "leave here", "leave here"]


def test_actions_of_an_instance_are_inside() -> None:
    """Those of a class step belong to its attempt, coroutines included."""

    class Steps:
        @action
        def plain(self) -> str:
            return where.get()

        @action
        async def other(self) -> str:
            return await tell()

    (outcome,) = outcome_of(call(Steps))

    assert isinstance(outcome, Returned)
    assert [context.storage for context in outcome.value] == ["here", "here"]


def test_coroutines_side_by_side() -> None:
    """Each keeps its own context in a shared loop."""

    async def both() -> list[Outcome]:
        met = asyncio.Barrier(2)

        async def step() -> list[str]:
            before = where.get()
            await met.wait()
            return [before, where.get()]

        calls = [call(step, "first"), call(step, "second")]
        return list(await asyncio.gather(*(attempt_async(call, Loops()) for call in calls)))

    assert asyncio.run(both()) == [Returned(["first", "first"]), Returned(["second", "second"])]


def test_context_variables_of_a_step_stay() -> None:
    """A step's own context variables stay in its thread, with and without a tracer."""
    mine: ContextVar[str] = ContextVar("mine", default="unset")

    def sets() -> None:
        mine.set("set")

    assert outcome_of(call(sets), call(mine.get))[1] == Returned("set")


@pytest.mark.parametrize(
    "path",
    [entry(enter_and_break), entry(enter_and_not_leave), f"{__name__}:nothing", "no.such.module:enter", "", ":"],
)
@pytest.mark.parametrize("step", [lambda: "done", tell], ids=["function", "coroutine"])
def test_its_errors_are_reported_once(path: str, step: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The step runs without it, and the process logs the entry and the reason."""
    broken = call(step)._replace(carrier=Carrier(path, {"place": "here"}))

    with caplog.at_level(logging.WARNING, "dotflow"):
        outcomes = outcome_of(broken, broken, broken)

    assert all(isinstance(outcome, Returned) for outcome in outcomes)
    (record,) = caplog.records
    assert f"entry {path} failed" in record.getMessage()


@pytest.mark.parametrize(("function", "ending"), [(interrupted, KeyboardInterrupt), (late, DeadlinePassed)])
def test_an_interrupt_is_not_taken_for_its_error(function: Callable[..., Any], ending: type[BaseException]) -> None:
    """Ctrl-C and an outer attempt's deadline may come while the context is entered."""
    with pytest.raises(ending):
        outcome_of(call(where.get, function=function))
