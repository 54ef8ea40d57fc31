"""Budgets and units: what attempts have used, estimated and settled, over steps, runs and processes."""

import random
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, DotFlow, Run, Throttled, action, clock, used
from dotflow.abc.limits import Ended, Holder
from dotflow.abc.notify import Notify
from dotflow.core.limits import ONE, Wanted, parse_limits
from dotflow.core.task import Task
from dotflow.core.types import TypeStatus
from dotflow.errors import BudgetExceeded, InvalidPolicy
from dotflow.providers import (
    ExecutorAsync,
    ExecutorInline,
    ExecutorProcess,
    ExecutorThread,
    HistorySQLite,
    LogDefault,
    StorageFile,
)
from dotflow.providers.histories.sql.limits import memory_limits
from dotflow.testing import virtual_clock

pytestmark = pytest.mark.databases("sqlite", "postgres")

EXECUTORS = (ExecutorInline, ExecutorThread, ExecutorProcess, ExecutorAsync)


def flow(history: Any = None, executor: Any = None, **options: Any) -> DotFlow:
    return DotFlow(Config(history=history, executor=executor, log=LogDefault(output="none"), **options))


def wanted(text: str, option: str = "limit", run: str = "", **amounts: float) -> list[Wanted]:
    needs = {unit: round(amount * ONE) for unit, amount in amounts.items()}
    return [Wanted(limit.name, limit.name, limit.parts, needs, run) for limit in parse_limits(text, option)]


def uses_of(store: Any, name: str) -> dict[str, float]:
    """Returns what is used of the parts of a name, by their texts."""
    return {one.part.text: one.used / ONE for use in store.uses() if use.name == name for one in use.parts}


def settle(store: Any, number: str, want: list[Wanted], **amounts: float) -> None:
    store.end([Ended(number, want, {unit: round(amount * ONE) for unit, amount in amounts.items()})])


@action(limit="model: 1000 tokens/day", uses=lambda text: {"tokens": len(text)}, retry=2, retry_delay=0)
def ask(text: str) -> int:
    used(tokens=1)
    used(tokens=len(text) // 2 - 1)
    if text.startswith("fails"):
        raise ConnectionError
    return len(text)


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("has_history", [True, False])
def test_what_was_used_counts_instead_of_the_estimate(executor: Any, has_history: bool, tmp_path: Path) -> None:
    """In each mode, of attempts that fail, too; and the sum is a note of the attempt."""
    workflow = flow(HistorySQLite(tmp_path / "history.db") if has_history else None, executor())
    workflow.task.add(ask, each=["x" * 100, "fails" + "x" * 95], keep_going=True)
    store = workflow.config._find_limits()
    before = uses_of(store, "model").get("1000 tokens/day", 0)
    run = workflow.start(mode="parallel")

    assert [item.status for item in run.task("ask").items] == [TypeStatus.COMPLETED, TypeStatus.FAILED]
    assert uses_of(store, "model")["1000 tokens/day"] - before == 50 + 2 * 50
    assert all(use.held == [] for use in store.uses())
    if has_history:
        record = workflow.config.history.load(run.run_id)
        assert [attempt.notes for attempt in record.steps[0].items[1]] == [{"tokens": 50}] * 2


def test_a_window_of_a_unit_lets_wait_for_its_amounts(tmp_path: Path) -> None:
    """An attempt that needs half of it begins when half of it is free, on a clock that jumps."""

    @action(limit="model: 100 tokens/h", uses=lambda size: {"tokens": size})
    def ask_for(size: int) -> float:
        return clock.monotonic()

    workflow = flow(executor=ExecutorInline())
    workflow.task.add(ask_for, each=[60, 60, 40, 60])
    with virtual_clock():
        began = clock.monotonic()
        moments = [moment - began for moment in workflow.start().raise_for_failure().value("ask_for")]

    hour = 3600 * (1 + 2 / 64)
    assert moments[0] < 1
    assert all(3600 <= moment < hour for moment in moments[1:3])
    assert 2 * 3600 <= moments[3] < 2 * hour


def test_who_estimates_nothing_waits_while_all_is_used(histories: Any) -> None:
    """The overshoot is what is in flight; what is settled as less frees the rest."""
    store = histories.open().limits()
    want = wanted("model: 100 tokens/day")

    assert store.ask(want, Holder("1", "run", "a")).wait is None
    assert store.ask(want, Holder("2", "run", "b")).wait is None
    settle(store, "1", want, tokens=120)
    refused = store.ask(want, Holder("3", "run", "c"))
    assert (refused.wait, refused.reason) == (1.0, "100 tokens/day"), "others may settle: it is asked again in a second"
    settle(store, "2", want, tokens=0)
    assert store.ask(want, Holder("3", "run", "c")).wait
    assert uses_of(store, "model") == {"100 tokens/day": 120}


def test_more_than_a_limit_ever_has_fails_at_once(tmp_path: Path) -> None:
    """It would wait for ever."""

    @action(limit="model: 100 tokens/h", uses=lambda size: {"tokens": size}, retry=3)
    def ask_for(size: int) -> int:
        return size

    workflow = flow()
    workflow.task.add(ask_for, params={"size": 101})
    task = workflow.start().task("ask_for")

    assert task.errors[-1].exception == "LimitTooSmall"
    assert task.errors[-1].message == (
        "'ask_for' needs 101 tokens, and model allows 100 tokens/h: it would wait for ever. Split it, or raise the "
        "limit."
    )
    assert task.attempt <= 1


@pytest.mark.parametrize("broken", [lambda text: {}[text], lambda text: text, lambda text: {"tokens": -1}])
def test_an_estimate_that_fails_fails_the_task(broken: Any) -> None:
    """Before the attempt; the note says what it was for."""

    @action(limit="model: 100 tokens/h", uses=broken)
    def ask_for(text: str) -> None:
        raise AssertionError("not reached")

    workflow = flow()
    workflow.task.add(ask_for, params={"text": "x"})
    error = workflow.start().task("ask_for").errors[-1]

    assert error.exception in {"KeyError", "TypeError"}
    assert "for the limits of 'ask_for', before the attempt" in error.traceback


def test_a_name_and_an_estimate_take_the_defaults_of_the_step(tmp_path: Path) -> None:
    """Of the parameters that nothing fills."""

    @action(limit="crm/{customer}: 100 units/day", uses=lambda size: {"units": size})
    def fetch(customer: str = "acme", size: int = 7) -> None: ...

    workflow = flow(HistorySQLite(tmp_path / "history.db"))
    workflow.task.add(fetch)
    workflow.start().raise_for_failure()

    assert uses_of(workflow.config.history.limits(), "crm/acme") == {"100 units/day": 7}


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_a_budget_of_calls_stops_and_goes_on_when_it_is_raised(mode: Any, tmp_path: Path) -> None:
    """Fifty of a run with those that go on with it; what was paid is not paid again, and a new run has its own."""
    paid: list[int] = []

    def build(text: str) -> DotFlow:
        @action(budget=text)
        def call(number: int) -> int:
            paid.append(number)
            return number

        config = Config(
            history=HistorySQLite(tmp_path / "history.db"),
            storage=StorageFile(tmp_path / "values"),
            executor=ExecutorThread(max_workers=4),
            log=LogDefault(output="none"),
        )
        workflow = DotFlow(config, workflow_id="calls")
        workflow.task.add(call, each=list(range(100)), keep_going=True)
        return workflow

    run = build("50/run").start(mode=mode)
    assert len(paid) == 50
    errors = {error.message for item in run.task("call").items for error in item.errors}
    (message,) = errors
    assert message.endswith("has used 50 of 50/run. Raise budget= and resume: what is finished stays.")
    assert {item.errors[-1].exception for item in run.task("call").items if item.errors} == {"BudgetExceeded"}

    assert len([*build("50/run").start(resume=True, mode=mode).task("call").items]) == 100
    assert len(paid) == 50, "the budget counts over the runs that go on"

    build("80/run").start(resume=True, mode=mode)
    assert len(paid) == 80
    assert len(set(paid)) == 80, "nothing is paid for twice"

    build("10/run").start(mode=mode)
    assert len(paid) == 90, "a run of its own"


def test_a_refusal_is_final_for_retries_and_stops_the_run(tmp_path: Path) -> None:
    """Without keep_going what comes after is skipped; no attempt was made, and a fallback does not take its place."""

    @action(budget="llm: $1/run", uses=lambda: {"usd": 0.75})
    def pay() -> str:
        used(usd=0.5)
        return "paid"

    @action(budget="llm: $1/run", uses=lambda: {"usd": 0.75}, retry=5, retry_delay=0)
    def again(pay: str) -> str:
        raise AssertionError("not reached")

    @action
    def free() -> str:
        return "free"

    workflow = flow(HistorySQLite(tmp_path / "history.db"))
    workflow.task.add(pay).add(again, fallback=free)
    run = workflow.start()

    assert run.task("pay").status is TypeStatus.COMPLETED
    assert run.task("again").status is TypeStatus.FAILED
    assert run.task("again").errors[-1].message == (
        "llm has used $0.50 of $1/run, and 'again' needs $0.75. Raise budget= and resume: what is finished stays."
    )


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("attempts", [1, 2])
def test_a_fallback_that_names_the_refusal_follows_it(executor: Any, attempts: int, tmp_path: Path) -> None:
    """Of the first attempt or of a later one. It has a budget of its own, or none."""

    @action(budget=f"${2 * attempts - 1}/run", uses=lambda: {"usd": 2.0}, retry=3, retry_delay=0)
    def pay() -> str:
        raise ConnectionError("refused")

    @action
    def free(error: Any) -> str:
        return f"free after {error.exception}"

    workflow = flow(HistorySQLite(tmp_path / "history.db"), executor())
    workflow.task.add(action(lambda: None), name="before", fallback=free)
    workflow.task.add(pay, fallback={ConnectionError: action(lambda: "no"), BudgetExceeded: free})
    run = workflow.start(mode="parallel")

    task = run.task("pay")
    assert (run.status, task.value) == (TypeStatus.COMPLETED, "free after BudgetExceeded")
    assert [error.exception for error in task.errors] == [*["ConnectionError"] * (attempts - 1), "BudgetExceeded"]
    assert task.attempt == attempts + 1


def test_a_budget_of_a_period_says_when_it_fits_again(histories: Any) -> None:
    """By the oldest of what counts."""
    store = histories.open().limits()
    want = wanted("llm: $5/2h", "budget", "run", usd=3)

    assert store.ask(want, Holder("1", "run", "a")).wait is None
    settle(store, "1", want, usd=4)
    verdict = store.ask(want, Holder("2", "run", "b"))

    assert verdict.wait is None
    assert verdict.excess is not None
    assert (verdict.excess.used, verdict.excess.needs) == (4 * ONE, 3 * ONE)
    assert verdict.excess.again == pytest.approx(7200, abs=60)


def test_it_waits_for_what_is_only_estimated(histories: Any) -> None:
    """Refusals are by what was used: with both in one sum, calls of $0.02 that estimate $0.20 stop at $0.50."""
    store = histories.open().limits()
    want = wanted("llm: $0.50/run", "budget", "4c1e", usd=0.2)

    assert store.ask(want, Holder("1", "4c1e", "a")).wait is None
    assert store.ask(want, Holder("2", "4c1e", "b")).wait is None
    waits = store.ask(want, Holder("3", "4c1e", "c"))
    assert waits.is_place
    assert waits.reason == "$0.50/run, of which $0.40 are estimated"
    settle(store, "1", want, usd=0.02)
    assert store.ask(want, Holder("3", "4c1e", "c")).wait is None
    other = wanted("llm: $0.50/run", "budget", "8a1e", usd=0.2)
    assert store.ask(other, Holder("9", "8a1e", "a")).wait is None, "another run has its own"
    for number in ("2", "3"):
        settle(store, number, want, usd=0.3)

    assert store.ask(want, Holder("4", "4c1e", "d")).excess is not None
    (use,) = store.uses()
    assert {(one.part.text, one.run, one.used / ONE, one.estimated / ONE) for one in use.parts} == {
        ("$0.50/run", "4c1e", 0.62, 0),
        ("$0.50/run", "8a1e", 0.2, 0.2),
    }


def test_a_limit_and_a_budget_of_one_name_count_apart(histories: Any) -> None:
    """And are listed together."""
    store = histories.open().limits()
    both = wanted("llm: 100 tokens/day", "budget", "run", tokens=60) + wanted("llm: 1000 tokens/day", tokens=60)

    assert store.ask(both, Holder("1", "run", "a")).wait is None
    assert store.ask(wanted("llm: 1000 tokens/day", tokens=500), Holder("2", "run", "b")).wait is None

    assert uses_of(store, "llm") == {"1000 tokens/day": 560, "100 tokens/day": 60}


def test_a_cleanup_begins_though_the_budget_is_used_up(tmp_path: Path) -> None:
    """It is counted."""

    @action(budget="llm: 1/run")
    def work() -> None: ...

    @action(budget="llm: 1/run")
    def fails(work: None) -> None: ...

    @action(budget="llm: 1/run")
    def clean() -> str:
        return "clean"

    workflow = flow(HistorySQLite(tmp_path / "history.db"))
    workflow.task.add(work).add(fails).add(clean, always=True)
    run = workflow.start()

    assert run.task("fails").errors[-1].exception == "BudgetExceeded"
    assert run.task("clean").status is TypeStatus.COMPLETED
    assert uses_of(workflow.config.history.limits(), "llm") == {"1/run": 2}


def test_a_refusal_by_the_service_counts_the_call(tmp_path: Path) -> None:
    """It was made. What it has used settles."""
    answers = iter([True, False])

    @action(limit="llm: 100 tokens/day", budget="llm: 2/run", uses=lambda: {"tokens": 30})
    def call() -> str:
        if next(answers):
            used(tokens=0)
            raise Throttled(0.01)
        return "there"

    workflow = flow(HistorySQLite(tmp_path / "history.db"))
    workflow.task.add(call)
    workflow.start().raise_for_failure()

    assert uses_of(workflow.config.history.limits(), "llm") == {"100 tokens/day": 30, "2/run": 2}


def test_what_a_workflow_says_of_a_name_is_one_text(tmp_path: Path) -> None:
    """Two are a mistake, which is found at start; and a budget over runs needs a history."""
    workflow = flow()
    workflow.task.add(action(limit="crm: 1/s")(lambda: None), name="a")
    workflow.task.add(action(limit="crm: 2/s")(lambda: None), name="b")
    with pytest.raises(InvalidPolicy, match="one text for 'crm'"):
        workflow.start()

    workflow = flow()
    workflow.task.add(action(budget="$5/day")(lambda: None), name="a")
    with pytest.raises(InvalidPolicy, match="'/run' alone without a history"):
        workflow.start()


def test_what_a_chain_has_used_is_forgotten_with_its_last_run(histories: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a row for each run would stay for ever."""
    monkeypatch.setattr("dotflow.providers.histories.sql.retention.INTERVAL", -1)
    monkeypatch.setattr("dotflow.providers.histories.postgres.history.SWEEP_BUDGET", 30.0)

    @action(budget="llm: 9/run, 20/day")
    def step() -> None: ...

    history = histories.open(keep="2 runs")
    workflow = flow(history)
    workflow.task.add(step)
    for _ in range(5):
        workflow.start().raise_for_failure()

    (use,) = history.limits().uses()
    assert {one.run for one in use.parts if one.run} == {run.run_id for run in history.runs()}
    assert len(use.parts) == 3
    assert uses_of(history.limits(), "llm")["20/day"] == 5


class Alerts(Notify):
    """Keeps the alerts."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def send(self, task: Task) -> None: ...

    def alert(self, message: str) -> None:
        self.messages.append(message)


@pytest.mark.parametrize("has_history", [True, False])
def test_at_80_and_100_percent_people_are_told_once(has_history: bool, histories: Any, tmp_path: Path) -> None:
    """By the log and by the notifier; and again, once the text was raised."""
    alerts, texts, storage = Alerts(), ["llm: 5/run"], StorageFile(path=tmp_path)

    def start(number: int, **options: Any) -> Run:
        @action(budget=texts[-1])
        def call(number: int) -> int:
            return number

        history = histories.open() if has_history else None
        config = Config(history=history, storage=storage, notify=alerts, log=LogDefault(output="none"))
        workflow = DotFlow(config, workflow_id="w")
        workflow.task.add(call, each=[*range(number)], keep_going=True)
        return workflow.start(mode="parallel", **options)

    run = start(9)

    assert [message.replace(run.run_id[:8], "RUN") for message in alerts.messages] == [
        "llm has used 4 of 5/run in run RUN (80 %).",
        "llm has used 5 of 5/run in run RUN (100 %). What needs more is refused.",
    ]
    if has_history:
        texts.append("llm: 6/run")
        resumed = start(9, resume=True)
        assert [message.replace(resumed.run_id[:8], "RUN") for message in alerts.messages[2:]] == [
            "llm has used 6 of 6/run in run RUN (100 %). What needs more is refused.",
        ]


def test_what_is_only_estimated_tells_nobody(histories: Any) -> None:
    """What is settled does; and a refusal says that it is used up, though a little is left."""
    store = histories.open().limits()
    want = wanted("llm: $10/day", "budget", "4c1e", usd=4.5)

    def told(reached: Any) -> list[tuple[float, int]]:
        return [(one.used / ONE, one.level) for one in reached]

    for number in ("1", "2"):
        assert told(store.ask(want, Holder(number, "4c1e", "a")).reached) == []
    first = store.end([Ended("1", want, {"usd": 8 * ONE})])
    second = store.end([Ended("2", want, {"usd": 1 * ONE})])
    refused = [store.ask(want, Holder("3", "4c1e", "a")) for _ in range(2)]

    assert (told(first), told(second)) == ([(8, 80)], [])
    assert [told(one.reached) for one in refused] == [[(9, 100)], []]


def test_it_is_told_again_in_the_next_period() -> None:
    """Of a window, by the clock of the store."""
    want = wanted("llm: 1/h", "budget", "4c1e")
    with virtual_clock():
        store, levels = memory_limits(clock.source), []
        for number in range(3):
            verdict = store.ask(want, Holder(str(number), "4c1e", "a"))
            levels.append([one.level for one in verdict.reached])
            clock.sleep(3700 if number else 10)

    assert levels == [[100], [], [100]]


def test_a_call_of_a_durable_step_tells_it(histories: Any) -> None:
    """Where it begins, and where it ends."""
    alerts = Alerts()

    @action(budget=["mail: 2/run", "llm: $5/run"])
    def call(number: int) -> int:
        used(usd=number)
        return number

    @action(durable=True)
    def body() -> int:
        return call(1) + call(3)

    workflow = DotFlow(Config(history=histories.open(), notify=alerts, log=LogDefault(output="none")))
    workflow.task.add(body)
    run = workflow.start()
    run.raise_for_failure()

    assert [message.replace(run.run_id[:8], "RUN") for message in alerts.messages] == [
        "mail has used 2 of 2/run in run RUN (100 %). What needs more is refused.",
        "llm has used $4 of $5/run in run RUN (80 %).",
    ]


RANDOM = 200


@pytest.mark.slow
def test_random_estimates_settle_within_the_budget(histories: Any) -> None:
    """Four threads of two processes' stores: never more is settled than the budget and what is in flight at once."""
    chance, most, flights = random.Random(7), 50.0, 4
    stores = [histories.open().limits() for _ in range(2)]
    spent, lock = [0.0], threading.Lock()

    def work(number: int) -> None:
        store = stores[number % 2]
        for index in range(RANDOM):
            with lock:
                estimate, actual = chance.uniform(0, 1), chance.uniform(0, 1)
            want, name = wanted(f"llm: ${most}/run", "budget", "run", usd=estimate), f"{number} {index}"
            while True:
                verdict = store.ask(want, Holder(name, "run", "task"))
                if verdict.excess is not None:
                    return
                if verdict.wait is None:
                    break
                time.sleep(0.002)
            with lock:
                spent[0] += round(actual * ONE) / ONE
            settle(store, name, want, usd=actual)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(flights)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert spent[0] <= most + flights
    assert spent[0] >= most * 0.95
    assert uses_of(stores[0], "llm") == {f"${most:.0f}/run": pytest.approx(spent[0])}
