"""Limits and budgets of the actions that durable steps call."""

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, DotFlow, NotYet, Throttled, action, clock, used
from dotflow.abc.history import Listener
from dotflow.abc.limits import Holder
from dotflow.control import Control
from dotflow.core.events import AttemptHeld, AttemptWaits, Event
from dotflow.core.limits import ONE, Wanted, parse_limits
from dotflow.core.types import TypeStatus
from dotflow.errors import BudgetExceeded
from dotflow.providers import (
    ExecutorAsync,
    ExecutorInline,
    ExecutorProcess,
    ExecutorThread,
    HistorySQLite,
    LogDefault,
    StorageFile,
)
from dotflow.testing import virtual_clock

pytestmark = pytest.mark.databases("sqlite", "postgres")

EXECUTORS = (ExecutorInline, ExecutorThread, ExecutorProcess, ExecutorAsync)


MADE: list[Any] = []  # what calls have noted: no name of their own, which would count as an argument


@pytest.fixture(autouse=True)
def _nothing_made() -> None:
    MADE.clear()


class Waits(Listener):
    """Collects what attempts and calls wait for."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.held: list[AttemptHeld] = []
        self.when_held: Any = bool

    def record(self, run_id: str, event: Event) -> None:
        if isinstance(event, AttemptWaits):
            self.notes.append(event.note.partition(" until ")[0])
        elif isinstance(event, AttemptHeld):
            self.held.append(event)
            self.when_held(event)


def flow(history: Any = None, executor: Any = None, **more: Any) -> tuple[DotFlow, Waits]:
    waits = Waits()
    config = Config(history=history, executor=executor, log=LogDefault(output="none"), **more)
    config.listeners.append(waits)
    return DotFlow(config, workflow_id="agent"), waits


def holds(history: Any, name: str, number: str = "one") -> Any:
    """Takes a place of a name, and returns the store."""
    (limit,) = parse_limits(f"{name}: 1 at once")
    store = history.limits()
    assert store.ask([Wanted(name, name, limit.parts)], Holder(number, "other", "train")).wait is None
    return store


@action(limit="durable: 4/s")
def fetch(number: int) -> float:
    return time.monotonic()


@action(limit="durable: 4/s")
async def fetch_async(number: int) -> float:
    return time.monotonic()


@action(durable=True)
def fetches() -> list[float]:
    return [fetch(number) for number in range(6)]


@action(durable=True)
async def gathers() -> list[float]:
    return sorted(await asyncio.gather(*map(fetch_async, range(6))))


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("step", [fetches, gathers])
def test_calls_wait_for_their_limit(executor: Any, step: Any, histories: Any) -> None:
    workflow, _ = flow(histories.open(), executor())
    workflow.task.add(step)
    run = workflow.start().raise_for_failure()

    moments = run.value(step.name)
    assert moments[4] - moments[0] > 0.95, "but for the way of one to its body"


@action(limit="durable: 1 at once")
def alone(number: int, folder: str) -> int:
    """Returns how many ran beside it."""
    own = Path(folder, str(number))
    own.touch()
    time.sleep(0.02)
    count = len([*Path(folder).iterdir()])
    own.unlink()
    return count


@action(durable=True)
def calls_alone(number: int, folder: str) -> list[int]:
    return [alone(10 * number + nth, folder) for nth in range(3)]


@pytest.mark.parametrize("executor", [ExecutorThread, ExecutorProcess])
def test_a_place_is_one_for_all_calls(executor: Any, histories: Any, tmp_path: Path) -> None:
    (tmp_path / "running").mkdir()
    workflow, _ = flow(histories.open(), executor())
    workflow.task.add(calls_alone, each=[1, 2, 3], params={"folder": str(tmp_path / "running")})
    run = workflow.start(mode="parallel").raise_for_failure()

    assert run.value("calls_alone") == [[1, 1, 1]] * 3


def test_a_long_wait_parks_the_step() -> None:
    """It has no worker, goes on as the same attempt, and no call is made twice."""

    @action(limit="1/h")
    def ask(number: int) -> int:
        MADE.append(number)
        return number

    @action(durable=True)
    def agent() -> list[int]:
        return [ask(number) for number in range(3)]

    workflow, waits = flow()
    workflow.task.add(agent)
    with virtual_clock() as virtual:
        began = virtual.monotonic()
        run = workflow.start().raise_for_failure()
        took = virtual.monotonic() - began

    assert MADE == [0, 1, 2]
    assert 7100 < took <= 7300
    assert run.task("agent").attempt == 1
    assert {note.partition(" (")[0] for note in waits.notes} == {f"waits for {ask.identity}"}


@pytest.mark.parametrize("is_async", [False, True])
def test_a_refused_call_closes_the_name_and_is_made_again(is_async: bool, histories: Any) -> None:
    """No retry of it counts, and what was used in vain does."""

    def make(number: int) -> int:
        MADE.append(clock.monotonic())
        used(tokens=2)
        if len(MADE) == 1:
            raise Throttled(0.3)
        return number

    if is_async:

        @action(limit="api: 1000/s, 100 tokens/day")
        async def call(number: int) -> int:
            return make(number)

        @action(durable=True)
        async def agent() -> int:
            return await call(7)
    else:

        @action(limit="api: 1000/s, 100 tokens/day")
        def call(number: int) -> int:
            return make(number)

        @action(durable=True)
        def agent() -> int:
            return call(7)

    history = histories.open()
    workflow, _ = flow(history)
    workflow.task.add(agent)
    run = workflow.start().raise_for_failure()

    assert run.value("agent") == 7
    assert MADE[1] - MADE[0] >= 0.3
    assert run.task("agent").attempt == 1
    (use,) = [use for use in history.limits().uses() if use.name == "api"]
    assert [one.used for one in use.parts if one.part.unit] == [4 * ONE]
    assert use.held == []


def test_ten_refusals_of_a_call_are_a_failure_that_its_body_may_catch() -> None:

    @action(limit="api: 1000/s")
    def call() -> None:
        MADE.append(1)
        raise Throttled(0.01)

    @action(durable=True)
    def agent() -> str:
        try:
            call()
        except Throttled as error:
            return str(error)
        return ""

    workflow, _ = flow()
    workflow.task.add(agent)
    run = workflow.start().raise_for_failure()

    assert run.value("agent") == "api has refused 10 attempts since one got through"
    assert len(MADE) == 10


def test_a_budget_refuses_a_call_and_a_resume_asks_again(tmp_path: Path, histories: Any) -> None:
    """It raises in the body. What is paid stays paid, also where the body has caught it and has gone on."""
    history = histories.open()

    def run_with(text: str) -> Any:
        @action(budget=f"llm: {text}")
        def ask(number: int) -> int:
            MADE.append(number)
            return number

        @action
        def last() -> None:
            if text.startswith("3"):
                raise ValueError("not yet")

        @action(durable=True)
        def agent() -> list[int]:
            answers = []
            for number in range(5):
                try:
                    answers.append(ask(number))
                except BudgetExceeded:
                    answers.append(-1)
            last()
            return answers

        workflow, _ = flow(history, storage=StorageFile(tmp_path / "values"))
        workflow.task.add(agent)
        return workflow.start(resume=text.startswith("9"))

    first, second = run_with("3/run"), run_with("9/run")

    assert first.task("agent").errors[-1].message == "not yet"
    assert second.value("agent") == [0, 1, 2, 3, 4]
    assert MADE == [0, 1, 2, 3, 4]


@action(budget="llm: 2/run")
def buy(number: int) -> int:
    return number


@action(durable=True)
def buys() -> list[Any]:
    bought: list[Any] = []
    for number in range(3):
        try:
            bought.append(buy(number))
        except BudgetExceeded as error:
            bought.append(str(error))
    return bought


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_budget_raises_in_the_body(executor: Any) -> None:
    workflow, _ = flow(executor=executor())
    workflow.task.add(buys)

    assert workflow.start().raise_for_failure().value("buys") == [
        0,
        1,
        "llm has used 2 of 2/run. Raise budget= and resume: what is finished stays.",
    ]


def test_each_call_counts_what_it_has_used_itself(histories: Any) -> None:
    """Also beside others, in threads and after a failure."""
    history = histories.open()

    @action(limit="llm: 1000 tokens/day", uses=lambda number: {"tokens": 100})
    async def ask(number: int) -> int:
        used(tokens=number)
        await asyncio.sleep(0.01)
        await asyncio.to_thread(used, tokens=1)
        if number == 3:
            raise ValueError("three")
        return number

    @action(durable=True)
    async def agent() -> list[Any]:
        return [str(one) for one in await asyncio.gather(*map(ask, (1, 2, 3)), return_exceptions=True)]

    workflow, _ = flow(history)
    workflow.task.add(agent)
    run = workflow.start().raise_for_failure()

    assert run.value("agent") == ["1", "2", "three"]
    (use,) = history.limits().uses()
    assert use.parts[0].used == (1 + 2 + 3 + 3) * ONE


@pytest.mark.parametrize("executor", [ExecutorThread, ExecutorProcess])
def test_a_step_that_is_cut_off_gives_its_places_back(executor: Any, histories: Any) -> None:
    history = histories.open()
    workflow, _ = flow(history, executor())
    workflow.task.add(cut_off)
    run = workflow.start()

    assert run.status is TypeStatus.FAILED
    holds(history, "gpu")


@action(limit="gpu: 1 at once")
def train() -> None:
    time.sleep(30)


@action(durable=True, timeout=0.3)
def cut_off() -> None:
    train()


def test_a_run_is_paused_and_cancelled_while_a_call_waits(histories: Any) -> None:
    history = histories.open()
    store = holds(history, "gpu")

    @action(limit="gpu: 1 at once")
    def train() -> None: ...

    @action(durable=True)
    def agent() -> None:
        train()

    workflow, waits = flow(history, ExecutorThread())
    waits.when_held = lambda event: threading.Timer(0.01, lambda: Control(history).pause(workflow.last.run_id)).start()
    workflow.task.add(agent)
    run = workflow.start(mode="parallel")

    assert run.status is TypeStatus.PAUSED
    assert [one.name for one in waits.held] == ["gpu"]
    assert len(store.uses()[0].held) == 1


def test_what_uses_raises_fails_the_call() -> None:
    @action(limit="1000 tokens/s", uses=lambda number: {"tokens": 1 // number})
    def ask(number: int) -> int:
        return number

    @action(durable=True)
    def agent() -> int:
        return ask(0)

    workflow, _ = flow()
    workflow.task.add(agent)
    (error,) = workflow.start().task("agent").errors

    assert error.exception == "ZeroDivisionError"
    assert "It was raised for the limits of" in error.traceback


def test_each_call_of_a_call_with_poll_counts(histories: Any) -> None:
    history = histories.open()

    @action(limit="api: 100/day", poll=0.01)
    def ask() -> int:
        MADE.append(1)
        if len(MADE) < 3:
            raise NotYet("3 files")
        return 7

    @action(durable=True)
    def agent() -> int:
        return ask()

    workflow, _ = flow(history)
    workflow.task.add(agent)

    assert workflow.start().raise_for_failure().value("agent") == 7
    assert history.limits().uses()[0].parts[0].used == 3 * ONE


def test_a_call_that_is_not_kept_is_limited_too(histories: Any) -> None:
    history = histories.open()

    @action(limit="api: 100/day", checkpoint=False)
    def ask() -> int:
        return 7

    @action(limit="api: 100/day", checkpoint=False)
    async def ask_async() -> int:
        return 8

    @action(durable=True)
    async def agent() -> list[int]:
        return [ask(), await ask_async()]

    workflow, _ = flow(history)
    workflow.task.add(agent)

    assert workflow.start().raise_for_failure().value("agent") == [7, 8]
    assert history.limits().uses()[0].parts[0].used == 2 * ONE


def test_a_call_that_is_given_back_asks_nothing(tmp_path: Path) -> None:
    history = HistorySQLite(tmp_path / "history.db")

    @action(limit="api: 100/day")
    def ask(number: int) -> int:
        return number

    @action(durable=True, retry=2, retry_delay=0)
    def agent() -> int:
        ask(1)
        if not MADE:
            MADE.append(1)
            raise ValueError
        return ask(2)

    workflow, _ = flow(history, storage=StorageFile(tmp_path / "values"))
    workflow.task.add(agent)

    assert workflow.start().raise_for_failure().value("agent") == 2
    assert history.limits().uses()[0].parts[0].used == 2 * ONE
