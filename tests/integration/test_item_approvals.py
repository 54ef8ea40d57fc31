"""Approvals inside a workflow for each item, and in rounds: each item asks by itself, and the others go on."""

import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dotflow import Approval, Config, Control, DotFlow, Run, Task, action, serve
from dotflow.abc.notify import Notify
from dotflow.core.types.run_state import TypeRunState
from dotflow.core.types.status import TypeStatus
from dotflow.engine import runner
from dotflow.engine.run_graph import RunGraph
from dotflow.errors import OrderRefused
from dotflow.providers import ExecutorThread, HistorySQLite, LogDefault, StorageFile
from dotflow.providers.notifiers.message import details, headline
from dotflow.testing import virtual_clock

PAUSED, COMPLETED, FAILED, SKIPPED = TypeStatus.PAUSED, TypeStatus.COMPLETED, TypeStatus.FAILED, TypeStatus.SKIPPED
NOT_STARTED = TypeStatus.NOT_STARTED
MODES = ("sequential", "background", "parallel")
WINDOW = 0.02  # seconds in which an item without a place would begin

Make = Callable[..., DotFlow]

_ran: list[Any] = []
_urls: list[str] = []


@action
def urls() -> list[str]:
    return list(_urls)


@action
def fetch(url: str) -> str:
    _ran.append(f"fetch {url}")
    return url * 2


@action(approve="Store {fetch}?")
def check(fetch: str, approval: Approval) -> str:
    _ran.append(f"check {fetch}")
    return f"{fetch} by {approval.by}"


@action
def store(check: str) -> str:
    _ran.append(f"store {check}")
    return check


@action
def report(page: list[str]) -> str:
    return ", ".join(page)


@pytest.fixture(autouse=True)
def _anew() -> None:
    _ran.clear()
    _urls[:] = ["a", "b", "c"]


@pytest.fixture
def config(tmp_path: Path) -> Callable[[], Config]:
    """Returns a function that makes the providers, with a history."""

    def config(**more: Any) -> Config:
        history = HistorySQLite(str(tmp_path / "history.db"))
        storage = StorageFile(str(tmp_path / "values"))
        log = LogDefault(output="none")
        return Config(**{"storage": storage, "history": history, "log": log, "executor": ExecutorThread(), **more})

    return config


@pytest.fixture
def make(config: Callable[..., Config]) -> Make:
    """Returns a function that makes a workflow whose steps run for each url, of which one asks."""

    def make(*steps: Any, notify: Any = None, **options: Any) -> DotFlow:
        page = DotFlow(params={"url": ...})
        for step in steps or (fetch, check, store):
            page.task.add(step)
        workflow = DotFlow(config(**({} if notify is None else {"notify": notify})), workflow_id="pages")
        workflow.task.add(urls).add(page, name="page", each=urls, **options).add(report)
        return workflow

    return make


def start(workflow: DotFlow, **options: Any) -> Run:
    run = workflow.start(**options)
    run.wait()
    return run


def steps_of(run: Run) -> list[str]:
    return [question.step for question in run.questions]


def statuses(run: Run, name: str) -> list[TypeStatus]:
    return [item.status for item in run[name].items]


@pytest.mark.parametrize("mode", MODES)
def test_each_item_asks_and_the_others_go_on(make: Make, mode: Any) -> None:
    run = start(make(max_parallel=1), mode=mode)
    assert (run.status, run.state) == (PAUSED, TypeRunState.PAUSED)
    assert [(question.step, question.text) for question in run.questions] == [
        ("page[0].check", "Store aa?"),
        ("page[1].check", "Store bb?"),
        ("page[2].check", "Store cc?"),
    ]
    assert _ran == ["fetch a", "fetch b", "fetch c"]
    assert statuses(run, "page.check") == [PAUSED] * 3
    assert statuses(run, "page.store") == [NOT_STARTED] * 3
    assert {task.name: task.status for task in run.tasks} == {
        "urls": COMPLETED,
        "page.fetch": COMPLETED,
        "page.check": PAUSED,
        "page.store": PAUSED,
        "report": NOT_STARTED,
    }
    assert run["page.check"].items[1].reason == "waits for an approval: Store bb?"
    names = "'page[0].check', 'page[1].check', 'page[2].check'"
    assert run["page.check"].reason == run["page.store"].reason == f"waits for an approval: {names}"


@pytest.mark.parametrize("mode", MODES)
def test_a_yes_to_one_item_continues_that_one(make: Make, mode: Any) -> None:
    run = start(make(), mode=mode)
    control = Control(make())
    queued = control.approve(run.run_id, "page[1].check", by="anna")
    assert (queued.state, queued.trigger) == (TypeRunState.QUEUED, "answer")
    (ended,) = serve(make(), once=True)
    assert (ended.state, ended.reason) == (TypeRunState.PAUSED, "it waits for 'page[0].check', 'page[2].check'")
    assert _ran[3:] == ["check bb", "store bb by anna"]
    control.approve(run.run_id, "page.check#0", by="ben")
    control.approve(run.run_id, "page.check[2]", by="anna")
    run = start(make(), mode=mode, resume=True)
    assert run.value("report") == "aa by ben, bb by anna, cc by anna"
    assert Counter(_ran).most_common(1)[0][1] == 1  # none runs twice


def test_without_a_name_only_the_last_open_question_takes_an_answer(make: Make) -> None:
    _urls.extend("de")
    run, control = start(make()), Control(make())
    names = "'page[0].check', 'page[1].check', 'page[2].check' and 2 more"
    assert run.reason == f"it waits for {names}"
    for step in (None, "page.check"):
        with pytest.raises(OrderRefused) as refused:
            control.approve(run.run_id, step)
        assert refused.value.reason == f"{names} wait for an answer. Name one of them"
    with pytest.raises(
        OrderRefused, match=r"no task 'page\[7\].check' waits for an answer. Did you mean 'page\[\d\]\.check'\?$"
    ):
        control.approve(run.run_id, "page[7].check")
    for index in range(4):
        control.approve(run.run_id, f"page[{index}].check")
    control.approve(run.run_id)
    assert start(make(), resume=True).status is COMPLETED


@pytest.mark.parametrize("mode", MODES)
def test_a_no_to_one_item_fails_that_one_and_with_keep_going_the_others_are_waited_for(make: Make, mode: Any) -> None:
    workflow = make(keep_going=True)
    run, control = start(workflow, mode=mode), Control(workflow)
    control.reject(run.run_id, "page[0].check", by="ben", comment="empty")
    control.approve(run.run_id, "page[1].check", by="anna")
    run = start(make(keep_going=True), mode=mode, resume=True)
    assert (run.status, steps_of(run)) == (PAUSED, ["page[2].check"])
    assert statuses(run, "page.check") == [FAILED, COMPLETED, PAUSED]
    assert statuses(run, "page.store") == [SKIPPED, COMPLETED, NOT_STARTED]
    error = run["page.check"].items[0].error
    assert error is not None
    assert error.message == (
        "Step 'page[0].check' did not run: ben rejected it: empty. Pass rerun='page.check' to ask again."
    )
    control.approve(run.run_id, by="anna")
    run = start(make(keep_going=True), mode=mode, resume=True)
    assert (run.status, run.value("report")) == (FAILED, "bb by anna, cc by anna")


@pytest.mark.parametrize("mode", MODES)
def test_without_keep_going_a_no_ends_the_run_and_other_answers_are_kept(make: Make, mode: Any) -> None:
    run, control = start(make(), mode=mode), Control(make())
    control.reject(run.run_id, "page[0].check", by="ben")
    run = start(make(), mode=mode, resume=True)
    assert (run.status, run["page.check"].status) == (FAILED, FAILED)
    kept = control.approve(run.run_id, "page[1].check", by="anna")
    assert kept.state is TypeRunState.FAILED  # a resume goes on
    run = start(make(keep_going=True), mode=mode, resume=True)
    assert statuses(run, "page.check") == [FAILED, COMPLETED, PAUSED]


def test_the_time_for_the_answer_to_one_item_is_up(make: Make) -> None:
    @action(approve=True, approve_within="2d")
    def check(fetch: str) -> str:
        return fetch

    with virtual_clock() as clock:
        run = start(make(fetch, check, keep_going=True))
        Control(make()).approve(run.run_id, "page[1].check")
        clock.advance(2 * 86_400 + 1)
        serve(make(fetch, check, keep_going=True), once=True)
        run = start(make(fetch, check, keep_going=True), resume=True)
        assert statuses(run, "page.check") == [FAILED, COMPLETED, FAILED]
        error = run["page.check"].items[2].error
        assert error is not None
        assert "it was not approved within 2 d" in error.message


def test_a_server_continues_a_run_once_for_the_item_whose_time_is_up(make: Make) -> None:
    """The item has failed then, and the run waits for the others."""

    @action(approve=True, approve_within="1h")
    def check(fetch: str) -> str:
        return fetch

    def build() -> DotFlow:
        return make(fetch, check, keep_going=True)

    _urls[:] = ["a"]
    with virtual_clock() as clock:
        start(build())
        clock.advance(1800)
        _urls.append("b")
        start(build(), resume=True, rerun="urls")
        clock.advance(1900)
        (ended,) = serve(build(), once=True)
        assert (ended.state, ended.reason) == (TypeRunState.PAUSED, "it waits for 'page[1].check'")
        assert serve(build(), once=True) == []


@pytest.mark.parametrize("limit", [1, 2])
def test_an_item_that_waits_takes_no_place_of_max_parallel(make: Make, limit: int) -> None:
    """All items ask, although no more than some may be in the middle of their tasks."""
    _urls[:] = "abcdef"
    inside, lock, is_crowded = set[str](), threading.Lock(), threading.Event()

    @action
    def fetch(url: str) -> str:
        with lock:
            inside.add(url)
            if len(inside) > limit:
                is_crowded.set()
        return url

    @action
    def clean(fetch: str) -> str:
        is_crowded.wait(WINDOW)
        with lock:
            inside.discard(fetch)
        return fetch

    @action(approve=True)
    def check(clean: str) -> str:
        return clean

    run = start(make(fetch, clean, check, max_parallel=limit), mode="parallel")
    assert len(run.questions) == 6
    assert not is_crowded.is_set()


def test_an_item_keeps_its_place_while_another_task_of_it_runs(make: Make) -> None:
    """Of an item's tasks one asks and one runs: the next item begins when that has ended."""
    _urls[:] = ["a", "b"]
    next_began, overlaps = threading.Event(), list[bool]()

    @action(approve=True)
    def check(url: str) -> str:
        return url

    @action
    def quick(url: str) -> None:
        if url == "b":
            next_began.set()

    @action
    def slow(url: str) -> str:
        if url == "a":
            overlaps.append(next_began.wait(WINDOW))
        return url

    run = start(make(check, quick, slow, max_parallel=1), mode="parallel")
    assert (overlaps, next_began.is_set()) == ([False], True)
    assert steps_of(run) == ["page[0].check", "page[1].check"]


def test_an_answer_is_taken_while_other_items_run(make: Make) -> None:
    is_stored = threading.Event()

    @action
    def fetch(url: str) -> str:
        if url == "c":
            _answer_as_soon_as_asked(make, "page[0].check")
            assert is_stored.wait(60)
        return url * 2

    @action
    def store(check: str) -> str:
        is_stored.set()
        return check

    run = start(make(fetch, check, store), mode="parallel")
    assert run["page.store"].items[0].value == "aa by anna"
    assert steps_of(run) == ["page[1].check", "page[2].check"]


def test_one_after_the_other_an_answer_is_taken_when_the_other_items_have_ended(make: Make) -> None:
    """The same run goes on with the item: nothing has to continue it."""

    @action
    def fetch(url: str) -> str:
        _ran.append(f"fetch {url}")
        if url == "c":
            _answer_as_soon_as_asked(make, "page[0].check")
        return url * 2

    run = start(make(fetch, check, store))
    assert _ran == ["fetch a", "fetch b", "fetch c", "check aa", "store aa by anna"]
    assert steps_of(run) == ["page[1].check", "page[2].check"]


def _answer_as_soon_as_asked(make: Make, step: str) -> None:
    control, deadline = Control(make()), time.monotonic() + 60
    while not (found := [question for question in control.questions() if question.step == step]):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    control.approve(found[0].run_id, step, by="anna")


def test_a_rerun_asks_anew_for_each_item_and_a_resume_does_not(make: Make) -> None:
    run, control = start(make(keep_going=True)), Control(make())
    control.reject(run.run_id, "page[0].check", by="ben")
    control.approve(run.run_id, "page[1].check", by="anna")
    control.approve(run.run_id, "page[2].check", by="anna")
    for _ in range(2):
        assert start(make(keep_going=True), resume=True).questions == []
    run = start(make(keep_going=True), resume=True, rerun="page.check")
    assert steps_of(run) == ["page[0].check", "page[1].check", "page[2].check"]
    assert all(question.id.nth for question in run.questions)


def test_an_answer_belongs_to_the_item_and_not_to_its_place_in_the_list(make: Make) -> None:
    run, control = start(make()), Control(make())
    control.approve(run.run_id, "page[0].check", by="anna")  # a
    asked = {question.text: question.asked for question in run.questions}
    _urls[:] = ["x", "c", "a"]
    run = start(make(), resume=True, rerun="urls")
    assert [(question.step, question.text) for question in run.questions] == [
        ("page[0].check", "Store xx?"),
        ("page[1].check", "Store cc?"),
    ]
    assert [question.asked for question in run.questions[1:]] == [asked["Store cc?"]]
    assert run["page.store"].items[2].value == "aa by anna"
    waiting = [(question.step, question.text) for question in control.questions()]
    assert sorted(waiting) == [("page[0].check", "Store xx?"), ("page[1].check", "Store cc?")]  # and b no more
    control.approve(run.run_id, "page[1].check", by="ben")
    _urls[:] = ["c", "a", "b"]
    run = start(make(), resume=True, rerun="urls")
    assert [(question.step, question.asked) for question in run.questions] == [("page[2].check", asked["Store bb?"])]
    assert run["page.store"].items[0].value == "cc by ben"


def test_an_item_that_no_storage_can_keep_is_known_by_its_index_and_by_its_question(
    config: Callable[..., Config],
) -> None:
    """The yes to one connection is no yes to another one that has its place in the list now."""
    names, dropped = ["prod", "test"], list[str]()

    @action(checkpoint=False)
    def connections() -> list[dict[str, Any]]:
        return [{"name": name, "lock": threading.Lock()} for name in names]

    @action(approve="Drop {connection}?")
    def drop(connection: dict[str, Any]) -> None:
        dropped.append(connection["name"])

    def build() -> DotFlow:
        database = DotFlow(params={"connection": ...})
        database.task.add(drop)
        workflow = DotFlow(config(), workflow_id="databases")
        workflow.task.add(connections).add(database, name="database", each=connections)
        return workflow

    run = start(build())
    Control(build()).approve(run.run_id, "database[1].drop", by="anna")
    assert steps_of(start(build(), resume=True)) == ["database[0].drop"]
    names.reverse()
    Control(build()).approve(run.run_id, "database[0].drop", by="anna")
    assert steps_of(start(build(), resume=True)) == ["database[0].drop"]
    assert dropped == ["test"]


def test_what_has_left_the_list_waits_for_no_answer_also_where_the_list_is_empty(make: Make) -> None:
    @action(approve=True)
    def publish() -> None: ...

    def build() -> DotFlow:
        workflow = make()
        workflow.task.add(publish)
        return workflow

    run = start(build(), mode="parallel")
    assert len(run.questions) == 4
    _urls.clear()
    run = start(build(), mode="parallel", resume=True, rerun="urls")
    assert steps_of(run) == [question.step for question in Control(build()).questions()] == ["publish"]


def test_another_value_of_an_item_asks_again_for_that_one_only(make: Make) -> None:
    run, control = start(make()), Control(make())
    for step in steps_of(run):
        control.approve(run.run_id, step, by="anna")

    made = ["one"]

    @action
    def fetch(url: str) -> str:
        return url + made[0]

    @action(approve="Store {fetch}?")
    def check(fetch: str) -> str:
        raise OSError("away")

    run = start(make(fetch, check, keep_going=True), resume=False)
    control.approve(run.run_id, "page[0].check", by="anna")
    run = start(make(fetch, check, keep_going=True), resume=True)
    assert statuses(run, "page.check") == [FAILED, PAUSED, PAUSED]
    assert statuses(start(make(fetch, check, keep_going=True), resume=True), "page.check") == [FAILED, PAUSED, PAUSED]
    made[0] = "two"
    run = start(make(fetch, check, keep_going=True), resume=True, rerun="page.fetch")
    assert [question.text for question in run.questions] == ["Store atwo?", "Store btwo?", "Store ctwo?"]


def test_what_is_cached_restored_or_skipped_does_not_ask(make: Make) -> None:
    @action(approve=True, cache=True)
    def check(url: str) -> str:
        return url

    run = start(make(check))
    for step in steps_of(run):
        Control(make()).approve(run.run_id, step)
    assert start(make(check), resume=True).value("report") == "a, b, c"
    _urls.append("d")
    run = start(make(check))  # anew: three are in the cache
    assert steps_of(run) == ["page[3].check"]
    _urls.clear()
    assert start(make(check)).status is COMPLETED


def test_a_cleanup_of_each_item_runs_before_the_run_waits(config: Callable[..., Config]) -> None:
    closed: list[str] = []

    @action
    def close(fetch: str) -> None:
        closed.append(fetch)

    def build() -> DotFlow:
        page = DotFlow(params={"url": ...})
        page.task.add(fetch).add(check).add(store).add(close, always=True)
        workflow = DotFlow(config(), workflow_id="cleaning")
        workflow.task.add(urls).add(page, name="page", each=urls)
        return workflow

    run = start(build())
    assert (run.status, closed) == (PAUSED, ["aa", "bb", "cc"])
    for step in steps_of(run):
        Control(build()).approve(run.run_id, step, by="anna")
    run = start(build(), resume=True)
    assert (run.status, closed) == (COMPLETED, ["aa", "bb", "cc"] * 2)


@pytest.mark.parametrize("mode", MODES)
def test_after_a_failure_the_cleanups_of_items_that_wait_run_too(config: Callable[..., Config], mode: Any) -> None:
    """They have begun, though they have given their places of max_parallel to others."""
    closed: list[str] = []

    @action
    def fetch(url: str) -> str:
        if url == "b":
            raise OSError("away")
        return url

    @action
    def close(url: str) -> None:
        closed.append(url)

    page = DotFlow(params={"url": ...})
    page.task.add(fetch).add(check).add(close, always=True)
    workflow = DotFlow(config(), workflow_id="cleaning")
    workflow.task.add(page, name="page", each=["a", "b", "c"], max_parallel=1)
    run = start(workflow, mode=mode)
    assert (run.status, sorted(closed)) == (FAILED, ["a", "b"])
    assert (run["page.close"].status, steps_of(run)) == (COMPLETED, ["page[0].check"])


def test_an_answer_during_the_cleanup_is_for_the_run_that_continues(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the cleanup has closed is not used any more, and the item does not get lost."""
    looks = threading.Semaphore(0)
    answered = RunGraph.answered

    def looked(graph: RunGraph) -> Any:
        decisions = answered(graph)
        looks.release()
        return decisions

    monkeypatch.setattr(runner, "ASK_INTERVAL", 0.001)
    monkeypatch.setattr(RunGraph, "answered", looked)

    @action
    def close() -> None:
        control = Control(make())
        for question in control.questions():
            control.approve(question.run_id, question.step, by="anna")
        while looks.acquire(blocking=False):  # those before
            pass
        assert looks.acquire(timeout=60)
        assert looks.acquire(timeout=60)

    workflow = make()
    workflow.task.add(close, always=True)
    run = start(workflow, mode="parallel")
    assert (run.status, run["close"].status) == (PAUSED, COMPLETED)
    assert statuses(run, "page.check") == [PAUSED] * 3
    (ended,) = serve(make(), once=True)
    assert (ended.state, ended.continues) == (TypeRunState.COMPLETED, run.run_id)


def test_each_question_is_sent_with_the_commands_that_answer_it(make: Make) -> None:
    sent: list[Task] = []

    class NotifyList(Notify):
        def send(self, task: Task) -> None:
            sent.append(task)

    run = start(make(notify=NotifyList()))
    asking = [task for task in sent if task.question is not None]
    assert [headline(task) for task in asking] == [f"⏸️ Paused: task 2 page[{index}].check" for index in range(3)]
    assert details(asking[1]).splitlines() == [
        "workflow pages",
        "waits for an approval: Store bb?",
        f"dotflow approve {run.run_id[:8]} 'page[1].check' --history {run.questions[1].history}",
        f"dotflow reject {run.run_id[:8]} 'page[1].check' --history {run.questions[1].history}",
    ]


def test_a_question_whose_item_has_moved_is_sent_again(make: Make) -> None:
    """The commands of its message name another item now, also where it is sent late. The others are sent once."""
    sent: list[str] = []

    class NotifyList(Notify):
        def send(self, task: Task) -> None:
            if task.question is not None:
                sent.append(task.name)

    first = start(make(notify=NotifyList()))
    start(make(notify=NotifyList()), resume=True)
    assert sorted(sent) == ["page[0].check", "page[1].check", "page[2].check"]
    sent.clear()
    _urls[:] = ["a", "c"]
    moved = start(make(), resume=True, rerun="urls")
    for question in first.questions:  # by a notifier that has hung since then
        assert moved._approvals is not None
        moved._approvals.note_sent(question)
    start(make(notify=NotifyList()), resume=True)
    assert sent == ["page[1].check"]


@pytest.mark.parametrize("mode", MODES)
def test_each_round_asks_with_the_value_of_the_round_before(config: Callable[..., Config], mode: Any) -> None:
    """A person is in the loop: they say what to change, and when it is good."""

    @action
    def write() -> str:
        return "draft"

    @action(approve="What is missing in '{draft}'?")
    def refine(draft: str, approval: Approval) -> str:
        _ran.append(draft)
        return f"{draft}, {approval.value}"

    @action(approve="Is '{refine}' good?")
    def good(refine: str, approval: Approval) -> bool:
        return bool(approval.value)

    def build() -> DotFlow:
        essay = DotFlow(params={"draft": ...})
        essay.task.add(refine).add(good)
        workflow = DotFlow(config(), workflow_id="essay")
        workflow.task.add(write).add(essay, name="essay", needs={"draft": write}, repeat=4, until="good")
        return workflow

    run, asked = start(build(), mode=mode), list[str]()
    for value in ("a title", False, "an end", True):
        (question,) = run.questions
        asked.append(f"{question.step}: {question.text}")
        Control(build()).approve(run.run_id, by="anna", value=value)
        run = start(build(), mode=mode, resume=True)
    assert asked == [
        "essay[0].refine: What is missing in 'draft'?",
        "essay[0].good: Is 'draft, a title' good?",
        "essay[1].refine: What is missing in 'draft, a title'?",
        "essay[1].good: Is 'draft, a title, an end' good?",
    ]
    assert (run.status, run.value("essay")) == (COMPLETED, "draft, a title, an end")
    assert _ran == ["draft", "draft, a title"]  # no round runs twice


def test_a_no_in_a_round_ends_the_loop(config: Callable[..., Config]) -> None:
    @action(approve="Go on?")
    def refine(note: str = "") -> str:
        return note + "x"

    def build() -> DotFlow:
        workflow = DotFlow(config(), workflow_id="essay")
        workflow.task.add(refine, name="essay", repeat=3)
        return workflow

    run = start(build())
    assert steps_of(run) == ["essay[0].refine"]
    Control(build()).reject(run.run_id, "essay[0].refine", by="ben")
    run = start(build(), resume=True)
    assert run.status is FAILED
    error = run["essay"].error
    assert error is not None
    assert error.exception == "NotReached"


@pytest.mark.parametrize("how", ["pause", "cancel"])
def test_an_item_that_waits_has_not_failed_when_the_run_is_stopped(make: Make, how: str) -> None:
    runs: list[Run] = []
    has_run = threading.Event()

    @action
    def fetch(url: str) -> str:
        if url == "c" and not _ran:
            assert has_run.wait(60)
            _ran.append(how)
            getattr(runs[0], how)()
        return url * 2

    runs.append(make(fetch, check, store).launch())
    has_run.set()
    (run,) = runs
    run.wait()
    assert run.state is (TypeRunState.PAUSED if how == "pause" else TypeRunState.CANCELLED)
    assert statuses(run, "page.check")[:2] == [PAUSED, PAUSED]
    control = Control(make())
    if how == "cancel":
        with pytest.raises(OrderRefused, match="it was cancelled"):
            control.approve(run.run_id, "page[0].check")
    else:
        control.approve(run.run_id, "page[0].check", by="anna")
        assert statuses(start(make(fetch, check, store), resume=True), "page.check") == [COMPLETED, PAUSED, PAUSED]


KILLED = """
import os, signal, sys, threading, time
from pathlib import Path
from dotflow import Approval, Config, DotFlow, action
from dotflow.providers import ExecutorThread, HistorySQLite, LogDefault, StorageFile

folder, when = Path(sys.argv[1]), sys.argv[2]

def note(text):
    with (folder / "ran").open("a") as file:
        file.write(f"{text}\\n")

def kill():
    os.kill(os.getpid(), signal.SIGKILL)

@action
def urls():
    return ["a", "b", "c"]

@action
def fetch(url):
    if when == "running" and url == "c":
        kill()  # while a and b wait
    note(f"fetch {url}")
    return url * 2

@action(approve="Store {fetch}?")
def check(fetch, approval: Approval):
    if when == "answered":
        kill()  # between the answer and the end of the item
    note(f"check {fetch} {approval.by}")
    return fetch

page = DotFlow(params={"url": ...})
page.task.add(fetch).add(check)
history, storage = HistorySQLite(folder / "history.db"), StorageFile(folder / "values")
config = Config(history=history, storage=storage, log=LogDefault(output="none"), executor=ExecutorThread())
workflow = DotFlow(config, workflow_id="pages")
workflow.task.add(urls).add(page, name="page", each=urls)
if __name__ == "__main__":
    run = workflow.start(resume=True)
    print(run.status, *[question.step for question in run.questions])
"""


@pytest.mark.exhaustive
def test_after_a_kill_at_any_moment_the_same_answers_count(tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(KILLED)

    def run(when: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(script), str(tmp_path), when]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    control = Control(str(tmp_path / "history.db"))
    assert run("running").returncode == -signal.SIGKILL
    asked = control.questions()
    assert [question.step for question in asked] == ["page[0].check", "page[1].check"]
    control.approve(asked[0].run_id, "page[0].check", by="anna")  # of a run that was killed
    assert run("answered").returncode == -signal.SIGKILL
    assert run("").stdout.split() == ["Paused", "page[1].check", "page[2].check"]
    assert [question.asked for question in control.questions()[:1]] == [asked[1].asked]  # asked once
    for step in ("page[1].check", "page[2].check"):
        control.approve(asked[0].run_id, step, by="ben")
    assert run("answered").returncode == -signal.SIGKILL
    assert run("").stdout.split() == ["Completed"]
    ran = (tmp_path / "ran").read_text().splitlines()
    assert sorted(ran) == ["check aa anna", "check bb ben", "check cc ben", "fetch a", "fetch b", "fetch c"]


@pytest.mark.exhaustive
def test_answers_at_any_moment_are_taken_once_each(make: Make) -> None:
    """A person answers while the run begins, ends and goes on: each item runs once, and none is forgotten."""
    for seed in range(8):
        _ran.clear()
        _urls[:] = [f"{seed}{letter}" for letter in "abcd"]
        workflow, chance = make(max_parallel=2), random.Random(seed)
        run_id = workflow.submit()
        server = threading.Thread(target=_serve_until_over, args=(workflow, run_id))
        server.start()
        control, answered = Control(workflow), set[str]()
        while len(answered) < 4:
            for question in control.questions():
                if question.step not in answered:
                    time.sleep(chance.random() * 0.02)
                    control.approve(question.run_id, question.step, by="anna")
                    answered.add(question.step)
        server.join()
        assert control.run(run_id).state is TypeRunState.COMPLETED, seed
        assert sorted(_ran) == sorted({*_ran}), seed
        assert len(_ran) == 12, seed


def _serve_until_over(workflow: DotFlow, run_id: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and Control(workflow).run(run_id).state is not TypeRunState.COMPLETED:
        serve(workflow, once=True)
