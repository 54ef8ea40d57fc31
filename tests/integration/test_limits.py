"""Limits: attempts that wait for their turn, over steps, runs and processes."""

import signal
import time
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, DotFlow, Throttled, action, clock, serve
from dotflow.abc.history import Listener
from dotflow.abc.limits import Ended, Holder
from dotflow.cli.main import main
from dotflow.core.events import AttemptHeld, AttemptStarted, AttemptWaits, Event
from dotflow.core.limits import ONE, Wanted, parse_limits
from dotflow.core.types import TypeStatus
from dotflow.core.types.run_state import TypeRunState
from dotflow.errors import HistoryError
from dotflow.providers import (
    ExecutorAsync,
    ExecutorInline,
    ExecutorProcess,
    ExecutorThread,
    HistorySQLite,
    LogDefault,
    StorageFile,
)
from dotflow.report.document import attempt_object
from dotflow.testing import virtual_clock
from tests.integration.children import Scripts

pytestmark = pytest.mark.databases("sqlite", "postgres")

EXECUTORS = (ExecutorInline, ExecutorThread, ExecutorProcess, ExecutorAsync)


class Begun(Listener):
    """Collects when attempts begin, and what they wait for."""

    def __init__(self) -> None:
        self.at: list[float] = []
        self.notes: list[str] = []
        self.held: list[AttemptHeld] = []

    def record(self, run_id: str, event: Event) -> None:
        if isinstance(event, AttemptStarted):
            self.at.append(clock.monotonic())
        elif isinstance(event, AttemptWaits):
            self.notes.append(event.note)
        elif isinstance(event, AttemptHeld):
            self.held.append(event)


def flow(history: Any = None, executor: Any = None, lines: list[str] | None = None) -> tuple[DotFlow, Begun]:
    begun, log = Begun(), LogDefault(output="none")
    if lines is not None:
        log.report = lines.append  # type: ignore[method-assign]
    config = Config(history=history, executor=executor, log=log)
    config.listeners.append(begun)
    return DotFlow(config), begun


def wanted(text: str) -> list[Wanted]:
    return [Wanted(limit.name, limit.name, limit.parts) for limit in parse_limits(text)]


@action
def numbers(count: int = 12) -> list[int]:
    return list(range(count))


@action(limit="1000/s, 2 at once")
def at_once(number: int, folder: str) -> int:
    """Returns how many ran beside it."""
    own = Path(folder, str(number))
    own.touch()
    time.sleep(0.02)
    count = len([*Path(folder).iterdir()])
    own.unlink()
    return count


@pytest.mark.parametrize("executor", EXECUTORS)
def test_so_many_run_at_once(executor: Any, tmp_path: Path) -> None:
    """In each mode, also where there is room for more."""
    (tmp_path / "running").mkdir()
    workflow, _ = flow(HistorySQLite(tmp_path / "history.db"), executor())
    workflow.task.add(numbers)
    workflow.task.add(at_once, each=numbers, params={"folder": str(tmp_path / "running")})
    run = workflow.start(mode="parallel").raise_for_failure()

    assert max(run.value("at_once")) <= 2
    assert workflow.config.history.limits().uses()[0].held == []


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_a_window_spaces_what_begins(mode: Any, tmp_path: Path) -> None:
    """Items, retries and other steps of one name count together. The virtual clock jumps to when there is room."""
    failures = iter([True, True, False])

    @action(limit="crm: 3/h", retry=3, retry_delay=0)
    def again() -> None:
        if next(failures):
            raise ConnectionError

    @action(limit="crm: 3/h")
    def fetch(number: int) -> int:
        return number

    workflow, _ = flow(HistorySQLite(tmp_path / "history.db"), ExecutorThread())
    workflow.task.add(again).add(numbers).add(fetch, each=numbers)
    with virtual_clock():
        began = clock.monotonic()
        run = workflow.start(mode=mode).raise_for_failure()
        took = clock.monotonic() - began

    assert run.value("fetch") == list(range(12))
    assert 4 * 3600 <= took < 4 * 3600 * (1 + 2 / 64)
    assert workflow.config.history.limits().uses() == [], "virtual time leaves nothing in the history"


def test_each_value_has_a_limit_of_its_own(tmp_path: Path) -> None:
    """Beside one that all share; and a name with what tells nothing apart fails the item alone."""

    @action(limit=["crm/{customer}: 1 at once", "crm: 100/s"])
    def fetch(customer: Any) -> str:
        return str(customer)

    workflow, _ = flow(HistorySQLite(tmp_path / "history.db"), ExecutorThread())
    workflow.task.add(fetch, each=["a", "b", 3, [4]], keep_going=True)
    run = workflow.start(mode="parallel")

    statuses = [item.status for item in run.task("fetch").items]
    assert statuses == [TypeStatus.COMPLETED] * 3 + [TypeStatus.FAILED]
    assert "{customer} is a list" in run.task("fetch").items[3].errors[-1].message
    uses = {use.name: use for use in workflow.config.history.limits().uses()}
    assert uses["crm"].parts[0].used == 3 * ONE


def test_each_call_of_a_step_that_waits_counts(tmp_path: Path) -> None:
    """Between two calls it holds nothing."""
    answers = iter([None, None, "there"])

    @action(limit="mail: 10/min, 1 at once", poll=60)
    def look() -> str | None:
        return next(answers)

    workflow, _ = flow()
    workflow.task.add(look)
    with virtual_clock():
        run = workflow.start().raise_for_failure()

        assert run.value("look") == "there"
        assert workflow.config._find_limits().uses()[0].parts[0].used == 1 * ONE, "those before are over"


def test_other_tasks_go_on_meanwhile(tmp_path: Path) -> None:
    """What waits holds no worker and no lane of others."""

    @action(limit="slow: 1/h")
    def limited() -> float:
        return clock.monotonic()

    @action
    def free() -> float:
        return clock.monotonic()

    workflow, _ = flow(executor=ExecutorThread(max_workers=1))
    for number in range(2):
        workflow.task.add(limited, name=f"limited{number}", after=[])
    workflow.task.add(free, name="free", after=[])
    with virtual_clock():
        run = workflow.start(mode="parallel").raise_for_failure()

    first, second, free_at = (run.value(name) for name in ("limited0", "limited1", "free"))
    assert second - first >= 3600
    assert free_at - first < 60


def test_a_refusal_closes_the_name_for_all(tmp_path: Path) -> None:
    """No attempt is counted, and none of that name begins before its time."""
    refused = iter([True, *[False] * 20])

    @action(limit="api: 100/s")
    def ask(number: int) -> float:
        if next(refused):
            raise Throttled("30")
        return clock.monotonic()

    workflow, begun = flow(executor=ExecutorInline())
    workflow.task.add(numbers).add(ask, each=numbers)
    with virtual_clock():
        began = clock.monotonic()
        run = workflow.start().raise_for_failure()

    assert min(run.value("ask")) - began >= 30
    assert [item.attempt for item in run.task("ask").items] == [1] * 12
    assert begun.notes == ["api is closed for 30.0 s"]


def test_a_step_without_a_limit_waits_alone() -> None:
    """1 s, 2 s and so on, where the service names no time."""
    calls: list[float] = []

    @action
    def ask() -> int:
        calls.append(clock.monotonic())
        if len(calls) < 4:
            raise Throttled
        return len(calls)

    workflow, _ = flow()
    workflow.task.add(ask)
    with virtual_clock():
        run = workflow.start().raise_for_failure()

    assert [round(after - before) for before, after in pairwise(calls)] == [1, 2, 4]
    assert run.task("ask").attempt == 1


@pytest.mark.parametrize("limit", [None, "api: 100/s"])
def test_ten_refusals_are_a_failure(limit: str | None) -> None:
    """Which `retry` repeats, as any."""
    calls: list[int] = []

    @action(limit=limit, retry=2, retry_delay=0)
    def ask() -> None:
        calls.append(1)
        raise Throttled(timedelta(seconds=5))

    workflow, _ = flow()
    workflow.task.add(ask)
    with virtual_clock():
        run = workflow.start()

    assert len(calls) == 11
    assert [error.exception for error in run.task("ask").errors] == ["Throttled"] * 2
    assert "has refused 10 attempts since one got through" in run.task("ask").errors[0].message


def test_an_attempt_that_gets_through_ends_the_count() -> None:
    """Of others of the name, too: bad luck of one among many is no failure."""
    calls: dict[int, int] = {}

    @action(limit="api: 100/s")
    def ask(number: int) -> int:
        calls[number] = calls.get(number, 0) + 1
        if calls[number] < 4:
            raise Throttled(1)
        return number

    workflow, _ = flow(executor=ExecutorInline())
    workflow.task.add(numbers).add(ask, each=numbers)
    with virtual_clock():
        workflow.start().raise_for_failure()

    assert sum(calls.values()) == 48, "36 refusals"


@pytest.mark.parametrize("how", ["cancel", "pause", "failure", "timeout"])
def test_a_run_that_only_waits_ends_at_once(how: str, tmp_path: Path) -> None:
    """Nothing waits for its turn any more, but cleanups, which begin without one."""
    cleaned: list[int] = []

    @action(limit="never: 1/day")
    def waits(number: int) -> int:
        return number

    @action(limit="never: 1/day")
    def clean() -> None:
        cleaned.append(1)

    @action
    def fails(go: str) -> None:
        until = time.monotonic() + 10
        while not Path(go).exists():
            assert time.monotonic() < until
            time.sleep(0.01)
        raise ValueError("no")

    workflow, begun = flow(HistorySQLite(tmp_path / "history.db"), ExecutorThread())
    workflow.task.add(waits, each=[1, 2, 3])
    if how == "failure":
        workflow.task.add(fails, params={"go": str(tmp_path / "go")}, after=[])
    workflow.task.add(clean, always=True, after=["waits"])
    options: dict[str, Any] = {"timeout": 1} if how == "timeout" else {}
    run = workflow.launch(lambda: None, mode="parallel", **options)
    until = time.monotonic() + 10
    while not begun.at:
        assert time.monotonic() < until
        time.sleep(0.01)
    (tmp_path / "go").touch()
    if how in ("cancel", "pause"):
        getattr(run, how)()

    assert run.wait(10)
    states = {"cancel": "Cancelled", "pause": "Paused", "failure": "Failed", "timeout": "Failed"}
    assert run.state == states[how]
    assert cleaned == [1]


def test_it_goes_on_after_a_pause(tmp_path: Path) -> None:
    """What has completed is not asked for again, and restored items are not counted."""

    @action(limit="few: 4/day")
    def fetch(number: int) -> int:
        return number

    history = HistorySQLite(tmp_path / "history.db")
    workflow, begun = flow(history, ExecutorThread())
    workflow.set_id("fetching")
    workflow.task.add(fetch, each=[1, 2, 3, 4, 5])
    run = workflow.start(mode="background")
    until = time.monotonic() + 10
    while len(begun.at) < 4:
        assert time.monotonic() < until
        time.sleep(0.01)
    run.pause()
    assert run.wait(10)

    assert history.limits().uses()[0].parts[0].used == 4 * ONE


@pytest.mark.parametrize("step", ["crm: 2/h", "crm: 9/h"])
def test_of_two_texts_the_stricter_one_counts(step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lower one at once, a higher one a minute after the last process has asked with the lower one."""
    history = HistorySQLite(tmp_path / "history.db")
    history.limits().ask(wanted("crm: 4/h"), Holder("other", "run", "task"))
    other = HistorySQLite(tmp_path / "history.db").limits()

    granted = [other.ask(wanted(step), Holder(str(number), "run", "task")).wait is None for number in range(9)]

    assert sum(granted) == (1 if step == "crm: 2/h" else 3)


def test_a_raised_limit_counts_a_minute_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept for ever, no limit could be raised."""
    store = HistorySQLite(tmp_path / "history.db").limits()
    store.ask(wanted("crm: 1/day"), Holder("old", "run", "task"))
    assert store.ask(wanted("crm: 5/day"), Holder("new", "run", "task")).wait
    monkeypatch.setattr("dotflow.providers.histories.sql.limits.TEXT_LIFE", 0.0)
    monkeypatch.setattr("dotflow.providers.histories.sql.limits.TEXTS_AGE", 0.0)

    assert store.ask(wanted("crm: 5/day"), Holder("new", "run", "task")).wait is None


def test_several_limits_are_granted_together_or_not_at_all(histories: Any) -> None:
    """What the one refuses is not taken from the other."""
    store = histories.open().limits()
    both = wanted("a: 5/day") + wanted("b: 1/day")

    assert store.ask(both, Holder("1", "run", "task")).wait is None
    refused = store.ask(both, Holder("2", "run", "task"))

    assert (refused.name, refused.reason) == ("b", "1/day")
    assert refused.wait == pytest.approx(86_400, abs=60)
    assert {use.name: use.parts[0].used for use in store.uses()} == {"a": ONE, "b": ONE}


def test_places_are_given_back(histories: Any) -> None:
    """And what is left open is listed with its run and step."""
    store = histories.open().limits()
    assert store.ask(wanted("gpu: 1 at once"), Holder("1", "4c1e", "train[3]")).wait is None
    refused = store.ask(wanted("gpu: 1 at once"), Holder("2", "8a1e", "train"))
    assert refused.is_place
    assert [(held.run, held.task) for held in store.uses()[0].held] == [("4c1e", "train[3]")]

    store.end([Ended("1")])

    assert store.ask(wanted("gpu: 1 at once"), Holder("2", "8a1e", "train")).wait is None


def test_a_place_is_set_aside_for_who_has_waited_for_long(histories: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else who holds it takes it again at once, and others never get one. Who waits is shown, dead ones are not."""
    for name, seconds in (("PATIENCE", 0.1), ("SEEN", 0.5)):
        monkeypatch.setattr(f"dotflow.providers.histories.sql.limits.{name}", seconds)
    busy, patient = histories.open().limits(), histories.open().limits()
    want = wanted("gpu: 1 at once")
    assert busy.ask(want, Holder("1", "4c1e", "train")).wait is None
    until = time.monotonic() + 0.3
    while time.monotonic() < until:
        assert patient.ask(want, Holder("2", "8a1e", "sync")).is_place
        time.sleep(0.02)
    assert [(one.run, one.task) for one in busy.uses()[0].waits] == [("8a1e", "sync")]

    busy.end([Ended("1")])
    assert busy.ask(want, Holder("3", "4c1e", "train")).is_place, "it is set aside"
    assert patient.ask(want, Holder("2", "8a1e", "sync")).wait is None

    assert busy.uses()[0].waits == []
    patient.end([Ended("2")])
    assert busy.ask(want, Holder("3", "4c1e", "train")).wait is None
    while not busy.uses()[0].waits:
        patient.ask(want, Holder("4", "8a1e", "sync"))
    busy.end([Ended("3")])
    time.sleep(0.6)  # without another look, as a process that was killed
    assert busy.ask(want, Holder("5", "4c1e", "train")).wait is None


@pytest.mark.parametrize("as_call", [False, True])
def test_a_place_is_set_aside_for_the_run_with_the_highest_priority(
    as_call: bool, histories: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though others have waited for longer; and a call of a durable step waits with the priority of its run."""
    monkeypatch.setattr("dotflow.providers.histories.sql.limits.PATIENCE", 0.05)
    history, order = histories.open(), list[str]()
    store = history.limits()

    def await_waiting(count: int) -> None:
        until = time.monotonic() + 20
        while len(store.uses()[0].waits) < count and time.monotonic() < until:
            time.sleep(0.02)

    @action(limit="gpu: 1 at once", key=["name"])
    def train(name: str) -> None:
        order.append(name)
        if name == "first":
            workflow.submit({"name": "patient"})
            await_waiting(1)
            workflow.submit({"name": "urgent"}, priority=5)
            await_waiting(2)

    @action(durable=True)
    def body(name: str) -> None:
        train(name)

    storage, log = StorageFile(path=tmp_path / "values"), LogDefault(output="none")
    config = Config(history=history, storage=storage, executor=ExecutorThread(), log=log)
    workflow = DotFlow(config, params={"name": "first"}, workflow_id="train")
    workflow.task.add(body if as_call else train)
    workflow.submit({"name": "first"})
    summaries = serve(workflow, once=True, max_runs=3)

    assert order == ["first", "urgent", "patient"]
    assert [one.state for one in summaries] == [TypeRunState.COMPLETED] * 3
    assert all(use.waits == [] for use in store.uses())


def test_a_grant_whose_answer_was_lost_counts_once(histories: Any) -> None:
    """The attempt asks again, and has its place already."""
    store = histories.open().limits()

    assert [store.ask(wanted("gpu: 1 at once"), Holder("1", "run", "task")).wait for _ in range(2)] == [None, None]
    assert len(store.uses()[0].held) == 1


def test_a_closing_can_be_taken_back(histories: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Without that, a wrong Retry-After of 20 hours could not."""
    history = histories.open()
    store, ask = history.limits(), wanted("openai: 10/s")
    store.throttle(["openai"], 72_000.0, Holder("1", "4f0c", "ask[17]"))
    verdict = store.ask(ask, Holder("2", "run", "ask"))
    assert verdict.wait == pytest.approx(72_000, abs=60)
    assert verdict.reason.startswith("closed until")
    where = ["--history", str(history.path)] if isinstance(history, HistorySQLite) else None
    if where is None:
        assert store.open("openai")
    else:
        assert main(["limits", *where]) == 0
        assert "by 4f0c ask[17]" in capsys.readouterr().out
        assert main(["limits", "--open", "openai", *where]) == 0
        assert main(["limits", "--open", "openai", *where]) == 2

    assert store.ask(ask, Holder("2", "run", "ask")) == verdict._replace(wait=None, name="", reason="", refused=1)


def test_nothing_begins_while_the_history_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who limits wants no more than that. It is said once, and once when it is over."""
    monkeypatch.setattr("dotflow.engine.limiting.AGAIN", 0.01)
    history, lines = HistorySQLite(tmp_path / "history.db"), list[str]()
    store = history.limits()
    ask, left = store.ask, [3]

    def fail(*args: Any, **more: Any) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise HistoryError("The history can't be used", "the disk is full")
        return ask(*args, **more)

    monkeypatch.setattr(store, "ask", fail)

    @action(limit="1/s")
    def step() -> str:
        return "ran"

    workflow, _ = flow(history, lines=lines)
    workflow.task.add(step)
    assert workflow.start().raise_for_failure().value("step") == "ran"

    assert [line.partition(":")[0] for line in lines] == [
        "Nothing under a limit begins, and it is tried again",
        "The history can be used again",
    ]


def test_without_a_history_it_counts_in_this_process() -> None:
    """Said once, where the limit has a name that others could share."""
    lines: list[str] = []

    @action(limit="mine: 1000/s")
    def step() -> None: ...

    workflow, _ = flow(lines=lines)
    workflow.task.add(step)
    workflow.start().raise_for_failure()

    assert lines == ["Without a history, limits count in this process alone: Config(history=...) shares them."]


def test_the_log_says_what_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a minute, and each ten minutes."""
    lines: list[str] = []

    @action(limit="1/h")
    def fetch(number: int) -> int:
        return number

    workflow, _ = flow(lines=lines, executor=ExecutorInline())
    workflow.task.add(fetch, each=[1, 2, 3])
    with virtual_clock():
        workflow.start(mode="parallel").raise_for_failure()

    assert any("has waited" in line and "(1/h)" in line for line in lines)


@pytest.mark.databases("sqlite", "postgres")
def test_a_wait_is_kept_with_its_attempt(histories: Any) -> None:
    """Of those that had to wait: for how long, in `show`, its JSON and the tables."""
    history = histories.open()

    @action(limit="1/s")
    def fetch(number: int) -> int:
        return number

    @action
    def free() -> None: ...

    workflow, _ = flow(history, executor=ExecutorInline())
    workflow.task.add(free).add(fetch, each=[1, 2, 3], after=free)
    run = workflow.start(mode="parallel").raise_for_failure()

    first, fetched = history.load(run.run_id).steps
    waited = [item[-1].waited for item in fetched.items.values()]
    assert first.last.waited is None
    assert waited[0] is None
    assert 0 < waited[1] < waited[2]
    document = attempt_object(history.load(run.run_id), fetched.items[2][-1])
    assert document["waited"] == float(f"{waited[2]:.3g}")


def test_listeners_are_told_who_waits() -> None:
    """Of the first one of a line, at most once a second, with how many wait behind it."""

    @action(limit="1/min")
    def fetch(number: int) -> int:
        return number

    workflow, begun = flow(executor=ExecutorInline())
    workflow.task.add(fetch, each=[1, 2, 3])
    with virtual_clock():
        workflow.start(mode="parallel").raise_for_failure()

    assert [(one.item, one.waiting, one.reason) for one in begun.held] == [(1, 2, "1/min"), (2, 1, "1/min")]
    assert all(58 < one.due - one.tick <= 60 for one in begun.held)


def test_a_short_wait_is_not_told() -> None:
    @action(limit="10/s")
    def fetch(number: int) -> int:
        clock.sleep(0.05)
        return number

    workflow, begun = flow(executor=ExecutorInline())
    workflow.task.add(fetch, each=list(range(15)))
    with virtual_clock():
        workflow.start(mode="parallel").raise_for_failure()

    assert begun.held == []


def test_the_log_names_who_holds_a_place(histories: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dotflow.engine.limiting.REPORT_AFTER", 0.1)
    history = histories.open()
    other = history.limits()
    other.ask(wanted("gpu: 1 at once"), Holder("one", "4c1e77aa", "train[2]"))

    class Lines(list[str]):
        def append(self, line: str) -> None:
            super().append(line)
            other.end([Ended("one")])

    @action(limit="gpu: 1 at once")
    def train() -> None: ...

    lines = Lines()
    workflow, _ = flow(history, lines=lines, executor=ExecutorInline())
    workflow.task.add(train)
    workflow.start().raise_for_failure()

    (line,) = lines
    assert line.endswith("for gpu (1 at once), held by 4c1e77aa train[2].")


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_refused_call_of_a_durable_step_is_made_again(executor: Any, tmp_path: Path) -> None:
    """The step waits, in the same attempt, and its other calls are given back; the call's retries are left."""

    @action
    def first(folder: str) -> None:
        with Path(folder, "first").open("a") as file:
            file.write("x")

    @action(retry=2)
    def call(folder: str) -> int:
        if not (mark := Path(folder, "refused")).exists():
            mark.touch()
            raise Throttled(0.1)
        return 7

    @action(durable=True)
    def agent(folder: str) -> int:
        first(folder)
        return call(folder)

    workflow, begun = flow(executor=executor())
    workflow.task.add(agent, params={"folder": str(tmp_path)})
    run = workflow.start().raise_for_failure()

    assert run.value("agent") == 7
    assert run.task("agent").attempt == 1
    assert (tmp_path / "first").read_text() == "x"
    assert begun.notes == ["refused, and called again after 0.10 s"]


def test_a_refused_action_of_a_class_lets_its_step_wait() -> None:
    refused: list[int] = []

    @action
    class Steps:
        @action(retry=2)
        def call(self) -> int:
            refused.append(1)
            if len(refused) == 1:
                raise Throttled(0.1)
            return 7

    workflow, begun = flow()
    workflow.task.add(Steps)
    run = workflow.start().raise_for_failure()

    assert run.tasks[0].attempt == 1
    assert begun.notes == ["refused, and called again after 0.10 s"]


SHARED = """
import sys, time
from dotflow import Config, DotFlow, action
from dotflow.providers import ExecutorThread, LogDefault
from dotflow.providers.histories.default import history_at

@action(limit="crm: 20/s")
def fetch(number: int) -> float:
    return time.time()

workflow = DotFlow(Config(history=history_at(sys.argv[1]), executor=ExecutorThread(), log=LogDefault(output="none")))
workflow.task.add(fetch, each=list(range(30)))
for moment in workflow.start(mode="parallel").raise_for_failure().value("fetch"):
    print(moment)
"""


@pytest.mark.slow
def test_processes_share_a_limit(scripts: Scripts, histories: Any) -> None:
    """Three of them, each with thirty items: in no second more than twenty, but for the way of one to its worker."""
    where = histories.where()
    running = [scripts.start(SHARED, where) for _ in range(3)]
    moments = sorted(float(line) for one in running for line in one.end().out.split())

    assert len(moments) == 90
    busiest = max(sum(1 for other in moments if moment <= other < moment + 0.95) for moment in moments)
    assert busiest <= 20
    assert moments[-1] - moments[0] < 30, "4 s, on a machine that does nothing else"


HOLDS = """
import sys, time
from pathlib import Path
from dotflow import Config, DotFlow, action
from dotflow.providers import ExecutorThread, HistorySQLite, LogDefault

@action(limit="gpu: 1 at once")
def train() -> None:
    Path("holding").touch()
    time.sleep(600)

config = Config(history=HistorySQLite("history.db"), executor=ExecutorThread(), log=LogDefault(output="none"))
workflow = DotFlow(config)
workflow.task.add(train)
workflow.start()
"""


@pytest.mark.slow
def test_who_dies_gives_its_place_back(scripts: Scripts) -> None:
    """Another process sees it within seconds, and the living keep theirs."""
    with scripts.start(HOLDS) as holder:
        until = time.monotonic() + 30
        while not (scripts.folder / "holding").exists():
            assert time.monotonic() < until
            time.sleep(0.02)
        store = HistorySQLite(scripts.folder / "history.db").limits()
        for _ in range(30):
            assert store.ask(wanted("gpu: 1 at once"), Holder("2", "run", "train")).is_place
            time.sleep(0.1)
        holder.process.send_signal(signal.SIGKILL)
        holder.process.wait()
        killed = time.monotonic()
        while store.ask(wanted("gpu: 1 at once"), Holder("2", "run", "train")).wait is not None:
            assert time.monotonic() < killed + 20
            time.sleep(0.05)
