"""A workflow for each item: add(other, each=list) runs its tasks from end to end, item by item."""

import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, DotFlow, Run, action
from dotflow.errors import InvalidLink, NotInHistory, UnknownTask
from dotflow.providers import HistorySQLite, LogDefault, StorageFile
from tests.integration.modes import COMPLETED, FAILED, MODES, NOT_STARTED, SKIPPED, StepsLab, named, start
from tests.marks import in_any_worker

MakeWorkflow = Callable[..., DotFlow]
WAIT = 45.0  # seconds, for what happens at once


class Lab(StepsLab):
    """Workflows of steps that note their names and first values."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.urls: Any = ["a", "b", "c"]
        self.salt = ""

    def step(self, name: str, *parameters: str, **options: Any) -> Any:
        """Makes a step that takes these parameters; the first one says which item it is."""

        def run(**values: Any) -> str:
            first = values[parameters[0].partition("=")[0]] if parameters else None
            url = first if isinstance(first, str) else "none"
            self.note(f"{name} {url}")
            return f"{name}({url}){self.salt if name == 'fetch' else ''}"

        arguments = ", ".join(parameters)
        passed = ", ".join(f"{one}={one}" for one in (parameter.partition("=")[0] for parameter in parameters))
        scope: dict[str, Any] = {"run": run}
        exec(f"def {name}({arguments}):\n    return run({passed})", scope)
        return action(**options)(scope[name])

    def page(self) -> DotFlow:
        page = DotFlow(params={"url": ...})
        page.task.add(self.step("fetch", "url")).add(self.step("parse", "fetch")).add(
            self.step("store", "parse", "url")
        )
        return page

    def workflow(self, page: DotFlow | None = None, **options: Any) -> DotFlow:
        workflow = self.new()
        workflow.task.add(action(lambda: self.urls), name="urls")
        workflow.task.add(page or self.page(), name="page", each="urls", **options)
        workflow.task.add(action(lambda page: page), name="summary")
        return workflow


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def item_statuses(run: Run, name: str) -> list[Any]:
    return [item.status for item in named(run, name).items]


# Values and order


@action
def urls() -> list[str]:
    return ["a", "b", "c"]


@action
def fetch(url: str) -> str:
    return f"<{url}>"


@action
def parse(fetch: str, url: str) -> tuple[str, str]:
    return url, fetch


@action
def summary(page: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return page


@in_any_worker
@pytest.mark.parametrize("mode", MODES)
def test_a_workflow_for_each_item(make_workflow: MakeWorkflow, mode: str) -> None:
    """Its value is the list of its last task's values; each of its tasks has a record for each item."""
    page = DotFlow(params={"url": ...})
    page.task.add(fetch).add(parse)
    workflow = make_workflow()
    workflow.task.add(urls, group_name="one" if mode == "groups" else "default")
    workflow.task.add(page, name="page", each=urls, max_parallel=2, group_name="two" if mode == "groups" else "default")
    workflow.task.add(summary, group_name="one" if mode == "groups" else "default")

    run = start(workflow, mode)

    assert run.status is COMPLETED
    assert named(run, "summary").value == [("a", "<a>"), ("b", "<b>"), ("c", "<c>")]
    assert [item.name for item in named(run, "page.parse").items] == ["page[0].parse", "page[1].parse", "page[2].parse"]
    assert [item.input for item in named(run, "page.fetch").items] == ["a", "b", "c"]


@pytest.mark.parametrize("mode", ["sequential", "background"])
def test_one_item_runs_from_end_to_end_and_then_the_next(lab: Lab, mode: str) -> None:
    """Where tasks run one at a time, so do items: the first one ends before the second one begins."""
    page = lab.page()
    page.task.add(lab.step("alone", "url"))  # takes nothing of the tasks before it

    lab.start(lab.workflow(page), mode)

    tasks = ("fetch {}", "parse fetch({})", "store parse(fetch({}))", "alone {}")
    assert lab.ran == [text.format(url) for url in "abc" for text in tasks]


def test_no_more_items_than_max_parallel_have_begun_and_are_not_over(lab: Lab) -> None:
    """The limit counts items from their first task to their last, and the lowest index goes first."""
    lab.urls = [f"{number:02}" for number in range(12)]
    lock, open_items, most = threading.Lock(), Counter[str](), list[int]()

    def first(url: str) -> str:
        with lock:
            open_items[url] += 1
            most.append(len(+open_items))
        return url

    def last(middle: str) -> str:
        with lock:
            open_items[middle] -= 1
        return middle

    page = DotFlow(params={"url": ...})
    page.task.add(action(first)).add(action(lambda first: first), name="middle").add(action(last))

    run = lab.start(lab.workflow(page, max_parallel=3), "parallel")

    assert run.status is COMPLETED
    assert max(most) == 3
    started = [item.started_at for item in named(run, "page.first").items]
    assert started == sorted(started)
    assert named(run, "summary").value == lab.urls


def test_an_item_waits_only_for_its_own(lab: Lab) -> None:
    """The second task of one item runs while the first task of another one still does."""
    done = threading.Event()

    def wait(url: str) -> str:
        if url == "a":
            assert done.wait(WAIT)
        return url

    def tell(wait: str) -> str:
        if wait == "b":
            done.set()
        return wait

    page = DotFlow(params={"url": ...})
    page.task.add(action(wait)).add(action(tell))

    assert lab.start(lab.workflow(page), "parallel").status is COMPLETED


@pytest.mark.parametrize("mode", MODES)
def test_inside_all_goes_by_item(lab: Lab, mode: str) -> None:
    """Values, optional parameters, contexts, conditions, order and fallbacks are those of the item itself."""
    lab.red = {"fetch b", "check c"}
    page = DotFlow(params={"url": ...})
    page.task.add(lab.step("fetch", "url"))
    page.task.add(action(lambda fetch=None: fetch), name="maybe")
    page.task.add(action(lambda fetch_context=None: fetch_context and fetch_context.storage), name="context")
    page.task.add(action(lambda url: url != "a"), name="wanted")
    page.task.add(lab.step("when", "url"), when="wanted")
    page.task.add(lab.step("unless", "url"), unless={"url": "c"})
    page.task.add(lab.step("check", "url"), fallback=action(lambda url, fetch: ("mended", url, fetch)))
    page.task.add(lab.step("strict", "url"), needs=["fetch"])
    page.task.add(lab.step("later", "url"), after=["fetch"])
    workflow = lab.workflow(page)

    run = lab.start(workflow, "sequential" if mode == "groups" else mode, keep_going=True)

    def values(name: str) -> list[Any]:
        items = named(run, f"page.{name}").items
        return [item.value if item.has_value else item.reason or str(item.status) for item in items]

    needs = "it needs 'page[1].fetch', which failed"
    assert values("maybe") == ["fetch(a)", None, "fetch(c)"]
    assert values("context") == ["fetch(a)", None, "fetch(c)"]
    assert values("when") == ["wanted was False", "when(b)", "when(c)"]
    assert values("unless") == ["unless(a)", "unless(b)", "url was 'c'"]
    assert values("check") == ["check(a)", "check(b)", ("mended", "c", "fetch(c)")]
    assert values("strict") == ["strict(a)", needs, "strict(c)"]
    assert values("later") == ["later(a)", "later(b)", "later(c)"]
    assert run.status is FAILED


@pytest.mark.parametrize("mode", MODES)
def test_what_comes_from_outside_is_waited_for_once(lab: Lab, mode: str) -> None:
    """A value from outside is the same for all items, and a task whose need outside fails is SKIPPED whole."""
    lab.red = {"broken none"}
    page = DotFlow(params={"url": ..., "model": ..., "broken": ...})
    page.task.add(action(lambda url, model: f"{url} by {model}"), name="use")
    page.task.add(lab.step("lost", "broken"))
    page.task.add(action(lambda use, lost=None: (use, lost)), name="both")
    workflow = lab.new()
    workflow.task.add(action(lambda: "m1"), name="model")
    workflow.task.add(lab.step("broken", "url=None"), keep_going=True)
    workflow.task.add(page, name="page", each={"url": lab.urls})

    run = lab.start(workflow, "sequential" if mode == "groups" else mode, keep_going=True)

    assert named(run, "page.lost").status is SKIPPED
    assert named(run, "page.both").value == [(f"{url} by m1", None) for url in "abc"]


@pytest.mark.parametrize("mode", MODES)
def test_options_of_the_whole_hold_for_each_of_its_tasks(lab: Lab, mode: str) -> None:
    """`when` of the whole skips all of its tasks, or, in step, those of single items; `after` and `needs` wait."""
    mode = "sequential" if mode == "groups" else mode
    workflow = lab.new()
    workflow.task.add(action(lambda: self_urls), name="urls").add(
        action(lambda url: url != "b"), name="ok", each="urls"
    )
    workflow.task.add(action(lambda: False), name="no")
    workflow.task.add(lab.page(), name="page", each="urls", when="ok")
    workflow.task.add(lab.page(), name="none", each="urls", when="no")

    run = lab.start(workflow, mode)

    assert run.status is COMPLETED
    for name in ("fetch", "parse", "store"):
        assert item_statuses(run, f"page.{name}") == [COMPLETED, SKIPPED, COMPLETED]
        assert named(run, f"none.{name}").status is SKIPPED
    assert {item.reason for item in named(run, "page.store").items} == {"", "ok was False"}


self_urls = ["a", "b", "c"]


@pytest.mark.parametrize("mode", MODES)
def test_an_empty_list(lab: Lab, mode: str) -> None:
    """No item runs, the value is an empty list, and the reduce runs."""
    lab.urls = []

    run = lab.start(lab.workflow(), "sequential" if mode == "groups" else mode)

    assert run.status is COMPLETED
    assert named(run, "summary").value == []


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_no_list(lab: Lab, mode: str) -> None:
    """A source that returns no list fails the first task, once; the others are SKIPPED."""
    lab.urls = "abc"

    run = lab.start(lab.workflow(), mode, keep_going=True)

    assert [task.status for task in run.tasks] == [COMPLETED, FAILED, SKIPPED, SKIPPED, SKIPPED]
    assert named(run, "page.fetch").errors[0].exception == "NotAList"
    assert named(run, "page.parse").reason == "it needs 'page.fetch', which failed"


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_unequal_lists(lab: Lab, mode: str) -> None:
    """Lists in step of unequal lengths fail the first task."""
    page = DotFlow(params={"url": ..., "size": ...})
    page.task.add(action(lambda url, size: url * size), name="use")
    workflow = lab.new()
    workflow.task.add(action(lambda: ["a", "b"]), name="urls")
    workflow.task.add(page, name="page", each={"url": "urls", "size": [1, 2, 3]})

    run = lab.start(workflow, mode)

    assert run.tasks[1].errors[0].exception == "UnequalLists"


@pytest.mark.parametrize("mode", MODES)
def test_lists_in_step_and_equal_items(lab: Lab, mode: str) -> None:
    """Several lists go in step, and equal items are items of their own."""
    page = DotFlow(params={"url": ..., "size": ...})
    page.task.add(action(lambda url, size: url * size), name="use").add(action(lambda use: use + "!"), name="end")
    workflow = lab.new()
    workflow.task.add(page, name="page", each={"url": ["a", "b", "a"], "size": [2, 1, 2]})

    run = lab.start(workflow, "sequential" if mode == "groups" else mode)

    assert named(run, "page.end").value == ["aa!", "b!", "aa!"]


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_a_map_over_it_and_it_over_a_map(lab: Lab, mode: str) -> None:
    """It goes item by item over a map, and so does a map over it; item k that fails beneath is SKIPPED above."""
    lab.red = {"clean b"}
    workflow = lab.new()
    workflow.task.add(lab.step("clean", "url"), each=["a", "b", "c"])
    workflow.task.add(lab.page(), name="page", each={"url": "clean"})
    workflow.task.add(action(lambda one: one.upper()), name="over", each="page")

    run = lab.start(workflow, mode, keep_going=True)

    for name in ("page.fetch", "page.parse", "page.store", "over"):
        assert item_statuses(run, name) == [COMPLETED, SKIPPED, COMPLETED], name
    assert named(run, "over").value == [f"STORE(PARSE(FETCH(CLEAN({url}))))" for url in "AC"]


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_every_combination_and_a_list_of_the_run(lab: Lab, mode: str) -> None:
    """cross= runs it for every combination, the last list fastest, and a list may be a run parameter."""
    page = DotFlow(params={"city": ..., "day": ...})
    page.task.add(action(lambda city, day: f"{city}{day}"), name="use").add(action(lambda use: use + "!"), name="end")
    workflow = DotFlow(Config(log=LogDefault(output="none")), params={"days": [1, 2]})
    workflow.task.add(page, name="page", cross={"city": ["a", "b"], "day": "days"})

    run = lab.start(workflow, mode)

    assert named(run, "page.end").value == ["a1!", "a2!", "b1!", "b2!"]


# Failures, stops and cleanups


@pytest.mark.parametrize("mode", MODES)
def test_a_failed_item_skips_who_requires_it(lab: Lab, mode: str) -> None:
    """With keep_going the other items go on, the value has those that came, and the run is FAILED."""
    lab.red = {"parse fetch(b)"}
    workflow = lab.workflow(keep_going=True)
    workflow.task.add(action(lambda: 0), name="strict", needs=["page"])

    run = lab.start(workflow, "sequential" if mode == "groups" else mode)

    assert run.status is FAILED
    assert item_statuses(run, "page.parse") == [COMPLETED, FAILED, COMPLETED]
    assert item_statuses(run, "page.store") == [COMPLETED, SKIPPED, COMPLETED]
    assert named(run, "summary").value == ["store(parse(fetch(a)))", "store(parse(fetch(c)))"]
    assert named(run, "strict").status is SKIPPED


@pytest.mark.parametrize("mode", ["sequential", "background"])
def test_a_failure_begins_no_new_item(lab: Lab, mode: str) -> None:
    """Without keep_going no other item begins, and what follows is not reached."""
    lab.red = {"parse fetch(b)"}

    run = lab.start(lab.workflow(), mode)

    assert lab.ran[-2:] == ["fetch b", "parse fetch(b)"]
    assert [task.status for task in run.tasks] == [COMPLETED, FAILED, FAILED, FAILED, NOT_STARTED]
    assert "after 2 of 3 items" in named(run, "page.store").errors[0].message
    assert "1 of 3" in named(run, "page.parse").errors[0].message


def with_browser(lab: Lab, *, saved: bool = False) -> DotFlow:
    page = DotFlow(params={"url": ...})
    page.task.add(lab.step("open", "url", checkpoint=saved))
    page.task.add(lab.step("use", "url", "open")).add(lab.step("more", "url", "use", "open"))
    page.task.add(lab.step("close", "url", "open"), always=True)
    return page


@pytest.mark.parametrize("mode", MODES)
def test_a_cleanup_runs_after_the_tasks_of_its_item(lab: Lab, mode: str) -> None:
    """always=True inside cleans up each item when its tasks are over; the value is that of the last task before it."""
    lab.red = {"use b"}

    run = lab.start(lab.workflow(with_browser(lab), keep_going=True), "sequential" if mode == "groups" else mode)

    assert item_statuses(run, "page.close") == [COMPLETED] * 3
    if mode != "parallel":
        assert lab.ran == [
            *(
                "open a",
                "use a",
                "more a",
                "close a",
                "open b",
                "use b",
                "close b",
                "open c",
                "use c",
                "more c",
                "close c",
            )
        ]
    assert named(run, "summary").value == ["more(a)", "more(c)"]


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_a_cleanup_that_waits_for_one_task_cleans_up_after_all_of_its_item(lab: Lab, mode: str) -> None:
    """Only `open` runs again, and it is cleaned up after, though `close` names another task. The plan knows it."""
    page = DotFlow(params={"url": ...})
    page.task.add(lab.step("open", "url")).add(lab.step("use", "url"))
    page.task.add(lab.step("close", "url"), always=True, after=["use"])
    workflow = lab.workflow(page)
    lab.start(workflow, mode)
    again: dict[str, Any] = {"resume": "changed", "rerun": ["page.open"]}
    plan = workflow.plan(mode, **again)  # type: ignore[arg-type]

    lab.start(workflow, mode, **again)

    assert sorted(lab.ran) == [f"{step} {url}" for step in ("close", "open") for url in "abc"]
    assert [str(task.decision) for task in plan.tasks] == ["restore", "run", "restore", "run", "restore"]


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_a_failure_cleans_up_the_items_that_have_begun(lab: Lab, mode: str) -> None:
    """When a failure stops the run, the items that have begun are cleaned up, and no other one."""
    lab.urls = [f"{number}" for number in range(8)]
    lab.red = {"use 1"}

    run = lab.start(lab.workflow(with_browser(lab), max_parallel=2), mode)

    opened = {text.split()[1] for text in lab.ran if text.startswith("open")}
    closed = [text.split()[1] for text in lab.ran if text.startswith("close")]
    assert sorted(closed) == sorted(opened)
    assert len(opened) <= 3
    assert run.status is FAILED
    assert named(run, "page.close").status is COMPLETED


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
@pytest.mark.parametrize("end", ["interrupt", "cancel"])
def test_an_end_in_the_middle_of_an_item_cleans_up_those_that_have_begun(lab: Lab, mode: str, end: str) -> None:
    """After an interrupt or cancel() the cleanups of the items that have begun run, and nothing else."""
    lab.urls = [f"{number}" for number in range(6)]
    page, runs, begun = DotFlow(params={"url": ...}), list[Run](), threading.Event()
    over = threading.Event()
    page.task.add(lab.step("open", "url"))

    def use(url: str, open: str) -> str:
        lab.ran.append(f"use {url}")
        if url == "1":
            if end == "interrupt":
                os.kill(os.getpid(), signal.SIGINT)
            else:
                assert begun.wait(WAIT)
                runs[0].cancel()
            over.set()
        elif mode == "parallel":  # or all others might be over before this one has begun
            assert over.wait(WAIT)
        return url

    page.task.add(action(use)).add(lab.step("close", "url", "open"), always=True)
    workflow = lab.workflow(page, max_parallel=2)

    if end == "interrupt":
        with pytest.raises(KeyboardInterrupt):
            workflow.start(mode)
        run = workflow.result_task()
    else:
        launched = workflow.launch(lambda: None, mode="background" if mode == "sequential" else mode)
        runs.append(launched)
        begun.set()
        launched.wait()
        run = workflow.result_task()

    opened = {text.split()[1] for text in lab.ran if text.startswith("open")}
    closed = {text.split()[1] for text in lab.ran if text.startswith("close")}
    assert "1" in closed
    assert closed <= opened
    assert len(opened) < 6
    assert run[1].status is FAILED


# Resume


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
@pytest.mark.parametrize("known", [True, False], ids=["list known", "list made anew"])
def test_only_what_depends_on_the_item_runs_again(lab: Lab, mode: str, known: bool) -> None:
    """Where one item of a task runs again, so do those of that item that take it, and no other item."""
    run = lab.start(lab.workflow(), mode)
    suffix = named(run, "page.fetch").items[1].key_suffix
    lab.storage.delete(f"w/page.parse-{suffix}")

    plan = lab.workflow().plan(mode, resume=True, rerun=() if known else ["urls"])
    run = lab.start(lab.workflow(), mode, resume=True, rerun=() if known else ["urls"])

    assert lab.ran == ["parse fetch(b)", "store parse(fetch(b))"]
    assert named(run, "summary").attempt == 1
    if known:
        assert [(task.items, task.items_done) for task in plan.tasks[1:4]] == [(3, 3), (3, 2), (3, 2)]


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_a_list_that_grows_keeps_the_others(lab: Lab, mode: str) -> None:
    """A new item runs, in the order of the list; those that were there are restored."""
    lab.start(lab.workflow(), mode)
    lab.urls = ["c", "x", "a"]

    run = lab.start(lab.workflow(), mode, resume=True, rerun=["urls"])

    assert lab.ran == ["fetch x", "parse fetch(x)", "store parse(fetch(x))"]
    assert named(run, "summary").value == [f"store(parse(fetch({url})))" for url in "cxa"]


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_a_resume_goes_on_in_the_item_that_failed(lab: Lab, mode: str) -> None:
    """What the item has finished is restored, and the rest of it runs."""
    lab.red = {"parse fetch(b)"}
    lab.start(lab.workflow(), mode, keep_going=True)
    lab.red = set()

    run = lab.start(lab.workflow(), mode, resume=True)

    assert lab.ran == ["parse fetch(b)", "store parse(fetch(b))"]
    assert run.status is COMPLETED


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
@pytest.mark.parametrize("known", [True, False], ids=["list known", "list made anew"])
def test_an_unsaved_value_is_made_anew_only_for_items_that_run(lab: Lab, mode: str, known: bool) -> None:
    """One open item of many means one browser, and only that one is closed."""
    lab.urls = list("abcdef")
    lab.red = {"more d"}
    lab.start(lab.workflow(with_browser(lab)), mode, keep_going=True)
    lab.red = set()

    again = {} if known else {"rerun": ["urls"]}
    plan = lab.workflow(with_browser(lab)).plan(mode, resume=True, **again)
    run = lab.start(lab.workflow(with_browser(lab)), mode, resume=True, **again)

    assert lab.ran == ["open d", "more d", "close d"]
    assert run.status is COMPLETED
    if known:
        assert [(task.items, task.items_done) for task in plan.tasks[1:5]] == [(6, 5), (6, 6), (6, 5), (6, 5)]
    assert lab.start(lab.workflow(with_browser(lab)), mode, resume=True).status is COMPLETED
    assert lab.ran == []


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
@pytest.mark.parametrize("known", [True, False], ids=["list known", "list made anew"])
def test_unsaved_values_of_unsaved_values_that_no_item_needs_are_not_made(lab: Lab, mode: str, known: bool) -> None:
    """A task may take an unsaved value from another unsaved one: neither runs for items that need neither."""

    def workflow() -> DotFlow:
        page = DotFlow(params={"url": ...})
        page.task.add(lab.step("open", "url", checkpoint=False)).add(lab.step("log_in", "open", checkpoint=False))
        page.task.add(lab.step("use", "url", "log_in")).add(lab.step("more", "use"))
        return lab.workflow(page)

    lab.red = {"more use(b)"}
    lab.start(workflow(), mode, keep_going=True)
    lab.red = set()

    lab.start(workflow(), mode, resume=True, **({} if known else {"rerun": ["urls"]}))

    assert lab.ran == ["more use(b)"]


@pytest.mark.parametrize("reds", [["more use(b)"], ["more use(b)", "use c"]], ids=["of none", "of one"])
def test_a_plan_counts_the_cleanups_of_unsaved_values_that_are_made(lab: Lab, reds: list[str]) -> None:
    """No cleanup runs for an item whose browser the resume does not open; a task of which no item runs is skipped."""

    def workflow() -> DotFlow:
        page = DotFlow(params={"url": ...})
        page.task.add(lab.step("open", "url", checkpoint=False)).add(lab.step("use", "url", "open"))
        page.task.add(lab.step("more", "use")).add(lab.step("close", "url", "open"), always=True)
        return lab.workflow(page)

    lab.red = {*reds}
    lab.start(workflow(), keep_going=True)
    lab.red = set()

    planned = workflow().plan(resume=True).tasks[4]
    lab.start(workflow(), resume=True)

    closed = [text for text in lab.ran if text.startswith("close")]
    assert closed == ["close c"][: len(reds) - 1]
    assert (str(planned.decision), planned.items_skipped) == ("run" if closed else "skip", 3 - len(closed))


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_a_new_item_opens_and_closes_what_only_its_cleanup_takes(lab: Lab, mode: str) -> None:
    """Of a list that the resume makes anew, too: an unsaved task of a new item runs, though nothing else takes it."""

    def workflow() -> DotFlow:
        page = DotFlow(params={"url": ...})
        page.task.add(lab.step("open", "url", checkpoint=False)).add(lab.step("use", "url"))
        page.task.add(lab.step("close", "url", "open"), always=True)
        page.task.add(lab.step("report", "use"))
        return lab.workflow(page)

    lab.start(workflow(), mode)
    lab.urls = [*lab.urls, "d"]

    lab.start(workflow(), mode, resume=True, rerun=["urls"])

    ran = [text for text in lab.ran if text.endswith(" d")]
    assert (sorted(ran), ran[-1]) == (["close d", "open d", "use d"], "close d")


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_a_task_that_needs_the_whole_opens_and_closes_no_finished_item(lab: Lab, mode: str) -> None:
    """What it needs has completed: the cleanups of items are not repeated, so nothing is opened for them."""

    def workflow() -> DotFlow:
        page = DotFlow(params={"url": ...})
        page.task.add(lab.step("open", "url", checkpoint=False)).add(lab.step("use", "open", "url"))
        page.task.add(lab.step("close", "open", "url"), always=True)
        workflow = lab.workflow(page, keep_going=True)
        workflow.task.add(lab.step("publish"), needs=["page"])
        return workflow

    lab.red = {"publish none"}
    lab.start(workflow(), mode)
    lab.red = set()

    run = lab.start(workflow(), mode, resume=True)

    assert (lab.ran, run.status) == (["publish none"], COMPLETED)


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_a_task_that_takes_its_item_no_longer_runs_again(lab: Lab, mode: str) -> None:
    """A checkpoint counts only while its task takes the same: the item's key does not show whether it takes it."""
    page = DotFlow(params={"url": ...})
    page.task.add(lab.step("use", "url"), name="use")
    lab.start(lab.workflow(page), mode)
    other = DotFlow(params={"url": ...})
    other.task.add(lab.step("use", "url=None"), name="use", params={"url": "all"})

    run = lab.start(lab.workflow(other), mode, resume=True)

    assert lab.ran == ["use all"] * 3
    assert named(run, "summary").value == ["use(all)"] * 3


def test_order_edges_void_nothing(lab: Lab) -> None:
    """An item that is restored stays, whatever becomes of the item that it needs in this run."""
    page = DotFlow(params={"url": ...})
    page.task.add(lab.step("tests", "url")).add(lab.step("deploy", "url"), needs=["tests"])
    lab.start(lab.workflow(page))
    lab.red = {"tests b"}

    run = lab.start(lab.workflow(page), resume=True, rerun=["page.tests"], keep_going=True)

    assert lab.ran == ["tests a", "tests b", "tests c"]
    assert item_statuses(run, "page.deploy") == [COMPLETED] * 3
    assert run.status is FAILED


def test_rerun_of_the_whole_means_all_of_its_tasks(lab: Lab) -> None:
    """rerun="page" repeats its tasks for all items; that of one task repeats it and what takes it."""
    lab.start(lab.workflow())

    lab.start(lab.workflow(), resume=True, rerun=["page.parse"])
    assert Counter(text.split()[0] for text in lab.ran) == {"parse": 3, "store": 3}

    lab.start(lab.workflow(), resume=True, rerun=["page"])
    assert Counter(text.split()[0] for text in lab.ran) == {"fetch": 3, "parse": 3, "store": 3}


def test_cached_values_by_item(lab: Lab) -> None:
    """A cached task inside is looked up by the item's own arguments, and a hit leaves the gate."""
    page = DotFlow(params={"url": ...})
    page.task.add(lab.step("fetch", "url", cache=True, version="1")).add(
        lab.step("parse", "fetch", cache=True, version="1")
    )
    lab.start(lab.workflow(page, max_parallel=1), "parallel")
    assert len(lab.ran) == 6
    lab.urls = ["b", "x", "a"]

    run = lab.start(lab.workflow(page, max_parallel=1), "parallel")

    assert lab.ran == ["fetch x", "parse fetch(x)"]
    assert named(run, "summary").value == ["parse(fetch(b))", "parse(fetch(x))", "parse(fetch(a))"]


# Refused at add


def inner(build: Callable[[DotFlow], object], **params: Any) -> DotFlow:
    workflow = DotFlow(params=params or {"url": ...})
    build(workflow)
    return workflow


@pytest.mark.parametrize(
    ("other", "options", "message"),
    [
        (inner(lambda w: w.task.add(action(lambda previous_context: 0))), {}, "has previous_context.*Name a parameter"),
        (inner(lambda w: w.task.add(fetch, group_name="g")), {}, "has group_name.*Remove it"),
        (
            inner(lambda w: w.task.add(fetch, name="b", repeat=2)),
            {},
            "has repeat, and its workflow.*Use one of them",
        ),
        (inner(lambda w: w.task.add(fetch)), {"fallback": urls}, "fallback is for one task"),
        (inner(lambda w: w.task.add(fetch)), {"always": True}, "always is for one task"),
        (inner(lambda w: w.task.add(urls), a=..., b=...), {}, "nothing fills 'a' and 'b'.*Name the one"),
        (inner(lambda w: w.task.add(urls), a=..., b=...), {"each": {"c": [1]}}, "no parameter 'c'"),
        (inner(lambda w: w.task.add(fetch)), {"each": {"url": ["a"]}, "needs": {"url": "urls"}}, "Both needs and each"),
        (inner(lambda w: w.task.add(fetch)), {"each": {}}, "names no list"),
        (inner(lambda w: w.task.add(fetch)), {"each": None, "max_parallel": 2}, "max_parallel limits the items"),
    ],
)
def test_refused_at_add(make_workflow: MakeWorkflow, other: DotFlow, options: dict[str, Any], message: str) -> None:
    """What can't run for each item is refused, with what to write instead; nothing is added."""
    workflow = make_workflow()
    workflow.task.add(urls)

    with pytest.raises(InvalidLink, match=message):
        workflow.task.add(other, **{"name": "page", "each": ["a", "b"], **options})

    assert workflow.task.count() == 1


def test_the_item_fills_the_parameter_that_is_left_open(make_workflow: MakeWorkflow) -> None:
    """What names and `needs` fill is not open, and a parameter with a default only if there is no other one."""
    page = inner(
        lambda w: w.task.add(action(lambda url, model, depth: (url, model, depth)), name="f"),
        url=...,
        model=...,
        depth=1,
    )
    workflow = make_workflow()
    workflow.task.add(action(lambda: "m"), name="model").add(page, name="page", each=["a", "b"])
    workflow.task.add(page, name="by_depth", needs={"model": "model", "url": "model"}, each=[7])

    workflow.start()

    assert workflow.result_storage()[1:] == [[("a", "m", 1), ("b", "m", 1)], [("m", "m", 7)]]


def test_the_plan_of_a_task_whose_items_are_restored_or_skipped(lab: Lab) -> None:
    """It runs for none of them, also where one of its sources runs again: the plan says that it is restored."""
    page = DotFlow(params={"url": ...})
    page.task.add(lab.step("fetch", "url")).add(lab.step("parse", "fetch", "url"), when="url")
    workflow = lab.new()
    workflow.task.add(page, name="page", each={"url": ["", "a"]})
    first = workflow.start()
    storage = workflow.config.storage
    storage.delete(f"{storage.key(first['page.fetch'])}-{first['page[0].fetch'].key_suffix}")  # type: ignore[attr-defined]

    plan = workflow.plan(resume=True)

    assert [str(task.decision) for task in plan.tasks] == ["run", "restore"]
    lab.start(workflow, resume=True)
    assert lab.ran == ["fetch "]


# Addresses


def test_the_address_of_an_item(lab: Lab) -> None:
    """run["page[1].fetch"] is the item; an order edge or `rerun` takes tasks only, and says so."""
    workflow = lab.workflow()
    run = lab.start(workflow)

    assert run["page[1].fetch"] is run["page.fetch"].items[1] is run["page.fetch#1"] is run["page.fetch[1]"]
    assert run.value("page[2]") == "store(parse(fetch(c)))"
    with pytest.raises(UnknownTask, match=r"No task is called 'page\[7\].fetch'. Did you mean 'page\[2\].fetch'"):
        run["page[7].fetch"]
    with pytest.raises(InvalidLink, match=r"'page\[1\].fetch' is an item.*only in the run. Name 'page.fetch'"):
        workflow.task.add(action(lambda: 0), name="late", needs=["page[1].fetch"])
    with pytest.raises(InvalidLink, match="is an item"):
        workflow.start(resume=True, rerun=["page[1].fetch"])


def test_the_history_finds_the_tasks_of_an_item(lab: Lab, tmp_path: Path) -> None:
    """`page[1]` is that item of each of its tasks, `page[1].parse` one of them; one that isn't there is an error."""
    history = HistorySQLite(path=tmp_path / "history.db")
    workflow = DotFlow(Config(history=history, log=LogDefault(output="none")))
    workflow.task.add(lab.page(), name="page", each=["a", "b"])
    workflow.start()
    run = history.load()

    assert [(task.name, item) for task, item in run.find_all("page[1]")] == [
        ("page.fetch", 1),
        ("page.parse", 1),
        ("page.store", 1),
    ]
    assert [(task.name, item) for task, item in run.find_all("page[1].parse")] == [("page.parse", 1)]
    with pytest.raises(NotInHistory, match=r"Can't find item 7 of 'page\.fetch': it has 2 items"):
        run.find_all("page[7]")
    for step, names in (("page", "page.fetch, page.parse"), ("page[1]", r"page\[1\].fetch, page\[1\].parse")):
        with pytest.raises(NotInHistory, match=f"it is an added workflow. Name a task of it: {names}"):
            run.find(step)


def test_the_names_of_items_in_an_added_workflow(lab: Lab) -> None:
    """The name of the workflow that it was added to comes first, as in the names of its tasks and in a drawing."""
    shop = DotFlow()
    shop.task.add(lab.page(), name="page", each={"url": ["a", "b"]})
    workflow = lab.new()
    workflow.task.add(shop, name="shop")

    run = lab.start(workflow)

    assert [item.name for item in named(run, "shop.page.fetch").items] == ["shop.page[0].fetch", "shop.page[1].fetch"]
    assert run["shop.page[1].fetch"].value == "fetch(b)"
    with pytest.raises(UnknownTask, match=re.escape("'shop[1].page.fetch'. Did you mean 'shop.page[1].fetch'")):
        run["shop[1].page.fetch"]
    assert "page<br/>× each" in str(workflow.task.graph())


@pytest.mark.parametrize("link", [{"each": {"row": "rows"}}, {"needs": {"row": "rows"}}])
@pytest.mark.parametrize("mode", MODES)
def test_a_resume_keeps_what_is_made_from_the_value_of_a_cleanup(mode: str, link: Any, tmp_path: Path) -> None:
    """No checkpoint keeps the value of a cleanup: a resume runs it again for the task of its item that takes it."""

    def workflow() -> DotFlow:
        inner = DotFlow(params={"page": ...})
        inner.task.add(action(lambda: 1), name="begin")
        inner.task.add(action(lambda: [1, 2]), name="rows", always=True)
        inner.task.add(action(lambda row, page=0: row), name="size", **link)
        job = DotFlow(Config(storage=StorageFile(tmp_path), log=LogDefault(output="none")), workflow_id="job")
        job.task.add(inner, name="pages", each={"page": [1, 2]})
        return job

    first = start(workflow(), mode)
    planned = {task.name: task.decision for task in workflow().plan(resume=True).tasks}
    again = start(workflow(), mode, resume=True)

    assert first["pages.size"].value == again["pages.size"].value == [[1, 2], [1, 2]]
    assert planned["pages.rows"] == "run"
    assert again["pages.begin"].restored_from == "checkpoint"
