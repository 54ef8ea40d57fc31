"""A map in rounds: each round has a list of its own, in every mode, with failures, kills, resumes and the cache."""

import json
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, DotFlow, action
from dotflow.cli.main import main
from dotflow.core.item_counts import item_counts
from dotflow.errors import InvalidLink, NotInHistory
from dotflow.providers import HistorySQLite, LogDefault
from dotflow.records.record import RunRecord
from tests.histories import FOURTH_FORMAT
from tests.integration.modes import COMPLETED, FAILED, MODES, NOT_STARTED, SKIPPED, StepsLab, start
from tests.marks import in_any_worker
from tests.plan_fuzz import ThreeMethods

MakeWorkflow = Callable[..., DotFlow]
WAIT = 45.0  # seconds, for what happens at once
LINKS = {"/": ["/a", "/b"], "/a": ["/", "/c"], "/b": ["/c", "/d"], "/c": ["/e"]}


class Crawl(StepsLab):
    """A crawl by levels."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.first: Any = ["/"]

    def fetch(self, url: str) -> list[str]:
        self.note(f"fetch {url}")
        return LINKS.get(url, [])

    def size(self, fetch: list[str]) -> int:
        self.note(f"size {len(fetch)}")
        return len(fetch)

    def seen(self, known: list[str], urls: list[str]) -> list[str]:
        self.note("seen")
        return known + urls

    def linked(self, fetch: list[list[str]], seen: list[str]) -> list[str]:
        self.note("linked")
        return sorted({link for links in fetch for link in links}.difference(seen))

    def report(self, sizes: list[int]) -> str:
        self.note(f"report {sizes}")
        return f"{sizes}"

    def level(self, **options: Any) -> DotFlow:
        """The steps of a level: a map over its urls, a map over that, and what is found."""
        inner = DotFlow(params={"urls": ..., "known": []})
        inner.task.add(action(self.fetch), name="fetch", **{"each": {"url": "urls"}, **options})
        inner.task.add(action(self.size), name="size", each={"fetch": "fetch"})
        inner.task.add(action(self.seen), name="seen").add(action(self.linked), name="linked")
        inner.task.add(action(lambda linked: not linked), name="is_last")
        return inner

    def workflow(self, inner: DotFlow | None = None, **options: Any) -> DotFlow:
        workflow = self.new()
        workflow.task.add(action(lambda: self.first), name="start")
        default = {"repeat": 5, "until": "is_last", "carry": {"urls": "linked", "known": "seen"}}
        inner = inner or self.level()
        workflow.task.add(inner, name="level", needs={"urls": "start"}, **(options or default))
        if "size" in [task.name for task in inner.task]:
            workflow.task.add(action(self.report), name="report", needs={"sizes": "level.size"})
        return workflow

    def of(self, step: str) -> list[str]:
        return sorted(call for call in self.ran if call.startswith(step))


@pytest.fixture
def crawl(tmp_path: Path) -> Crawl:
    return Crawl(tmp_path)


PAGES = [f"fetch /{name}" for name in ("", "a", "b", "c", "d", "e")]


# Values


@pytest.mark.parametrize("mode", MODES)
def test_a_map_in_rounds_goes_through_the_list_of_each_round(crawl: Crawl, mode: str) -> None:
    """Its items count on through all rounds, and from outside it is the last round's list."""
    run = crawl.start(crawl.workflow(), mode)

    assert (run.status, crawl.of("fetch")) == (COMPLETED, PAGES)
    items = run["level.fetch"].items
    assert [(item.item, item.round, item.input) for item in items] == [
        (0, 0, "/"),
        (1, 1, "/a"),
        (2, 1, "/b"),
        (3, 2, "/c"),
        (4, 2, "/d"),
        (5, 3, "/e"),
    ]
    assert (run.value("level.fetch"), run.value("report"), run.value("level")) == ([[]], "[0]", [])


def test_a_round_of_a_map_and_its_items_have_addresses(crawl: Crawl) -> None:
    """`level[1].fetch` is the map in the second round, `level.fetch[3]` the fourth item of all."""
    run = crawl.start(crawl.workflow())

    assert run["level[1].fetch"].value == [["/", "/c"], ["/c", "/d"]]
    assert [item.input for item in run["level[2].fetch"].items] == ["/c", "/d"]
    assert (run["level.fetch[3]"].name, run["level.fetch#3"].value) == ("level[2].fetch[0]", ["/e"])
    assert run["level[1].linked"].value == ["/c", "/d"]


@in_any_worker
@pytest.mark.parametrize("mode", MODES)
def test_a_map_in_rounds_runs_in_any_worker(make_workflow: MakeWorkflow, mode: str) -> None:
    """The values of a round reach the workers of the next one."""
    workflow = make_workflow()
    inner = DotFlow(params={"numbers": ...})
    inner.task.add(double, each="numbers", max_parallel=2).add(largest).add(is_large)
    one, two = ("one", "two") if mode == "groups" else ("default", "default")
    options: dict[str, Any] = {"repeat": 8, "until": is_large, "carry": {"numbers": "double"}}
    workflow.task.add(inner, name="round", params={"numbers": [1, 2]}, group_name=one, **options)
    workflow.task.add(largest, needs={"double": "round.double"}, name="end", group_name=two)

    run = start(workflow, mode)

    assert run.status is COMPLETED
    assert [item.value for item in run["round.double"].items] == [2, 4, 4, 8, 8, 16]
    assert (run.value("round.double"), run.value("end")) == ([8, 16], 16)


@action
def double(number: int) -> int:
    return number * 2


@action
def largest(double: list[int]) -> int:
    return max(double)


@action
def is_large(largest: int) -> bool:
    return largest > 10


def test_the_items_of_a_round_run_side_by_side_up_to_the_limit(crawl: Crawl) -> None:
    """Both pages of a level are fetched at once, and the next level waits for both."""
    together = threading.Barrier(2, timeout=WAIT)
    crawl.first = ["/x", "/y"]

    def fetch(url: str) -> list[str]:
        together.wait()
        return [f"{url}/"] if len(url) < 4 else []

    crawl.fetch = fetch  # type: ignore[method-assign]

    run = crawl.start(crawl.workflow(crawl.level(max_parallel=2)), "parallel")

    assert (run.status, len(run["level.fetch"].items)) == (COMPLETED, 6)


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_the_list_of_a_map_may_be_the_value_of_a_round(crawl: Crawl, mode: str) -> None:
    """It is carried to the next round, and lists in step, crosses, outputs and contexts go by round, too."""
    crawl.first = [1, 2]
    inner = DotFlow(params={"urls": ..., "rate": 10})
    inner.task.add(
        action(lambda one, rate: (one + 1, one * rate)), name="both", each={"one": "urls"}, outputs=["x", "y"]
    )
    inner.task.add(action(lambda a, b: a + b), name="pairs", cross={"a": "x", "b": [0, 100]})
    inner.task.add(action(lambda x, y: x + y), name="sums", each={"x": "x", "y": "y"})
    inner.task.add(action(lambda both_context: both_context.entries), name="entries")
    inner.task.add(action(lambda x, pairs: x), name="next")

    run = crawl.start(crawl.workflow(inner, repeat=2, carry={"urls": "next"}), mode)

    assert run.status is COMPLETED
    assert run["level[0].pairs"].value == [2, 102, 3, 103]
    assert run["level[1].pairs"].value == [3, 103, 4, 104]
    assert [item.value for item in run["level.sums"].items] == [12, 23, 23, 34]
    assert [item.value for item in run["level.entries"].items] == [[1, 2], [2, 3]]
    assert run.value("level.x") == [3, 4]


def test_a_map_outside_goes_through_the_last_round_of_one_in_rounds(crawl: Crawl) -> None:
    """That is a list of values: no item of it follows an item of an earlier round."""
    workflow = crawl.workflow(crawl.level(), repeat=2, carry={"urls": "linked", "known": "seen"})
    workflow.task.add(action(lambda links: len(links)), name="count", each={"links": "level.fetch"})
    workflow.task.add(action(lambda: 1), name="one", when="level.fetch")

    for mode in ("sequential", "parallel"):
        run = crawl.start(workflow, mode)
        assert run.value("count") == [2, 2]
        assert run.value("one") == 1


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_a_round_with_an_empty_list_has_an_empty_value(crawl: Crawl, mode: str) -> None:
    """What takes the list runs, and the rounds go on."""
    crawl.first = []
    inner = DotFlow(params={"urls": ...})
    inner.task.add(action(lambda one: one), name="same", each={"one": "urls"})
    inner.task.add(action(lambda same: [*same, len(same)][-1:]), name="more")

    run = crawl.start(crawl.workflow(inner, repeat=3, carry={"urls": "more"}), mode)

    assert (run.status, run.value("level")) == (COMPLETED, [1])
    assert [item.round for item in run["level.same"].items] == [1, 2]
    assert run["level[0].same"].value == []


def test_many_rounds_of_empty_lists_are_no_recursion(crawl: Crawl) -> None:
    """Rounds that end at once follow each other."""
    crawl.first = []
    inner = DotFlow(params={"urls": ...})
    inner.task.add(action(lambda one: one), name="same", each={"one": "urls"})

    run = crawl.start(crawl.workflow(inner, repeat=3000))

    assert (run.status, run.value("level")) == (COMPLETED, [])


def test_a_map_may_be_skipped_in_a_round(crawl: Crawl) -> None:
    """A condition decides by round; who requires its list is skipped in that round."""
    crawl.first = [1, 2]
    inner = DotFlow(params={"urls": ...})
    inner.task.add(action(lambda urls: urls == [1, 2]), name="is_first")
    inner.task.add(action(lambda one: one + 1), name="more", each={"one": "urls"}, when="is_first")
    inner.task.add(action(lambda more=None: more), name="seen").add(action(lambda more: len(more)), name="count")

    run = crawl.start(crawl.workflow(inner, repeat=2, carry={"urls": "seen"}))

    assert [run[f"level[{number}].more"].status for number in (0, 1)] == [COMPLETED, SKIPPED]
    assert [item.value for item in run["level.seen"].items] == [[2, 3], None]
    assert [item.status for item in run["level.count"].items] == [COMPLETED, SKIPPED]
    assert (run["level.more"].status, run["level.more"].reason) == (SKIPPED, "is_first was False")


def test_a_fallback_of_an_item_gets_its_entry_and_what_is_of_the_round(crawl: Crawl) -> None:
    """From the second round on, it gets what is carried."""
    crawl.first = [1, 2]
    inner = DotFlow(params={"urls": ..., "known": 0})
    fallback = action(lambda one, total, known, error: one + total + known)
    inner.task.add(action(lambda urls: sum(urls)), name="total")
    inner.task.add(action(lambda one: one / 0), name="divide", each={"one": "urls"}, fallback=fallback)

    run = crawl.start(crawl.workflow(inner, repeat=2, carry={"urls": "divide", "known": "total"}))

    assert [item.value for item in run["level.divide"].items] == [4, 5, 4 + 9 + 3, 5 + 9 + 3]


# What goes wrong


@pytest.mark.parametrize("keep_going", [False, True])
@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_an_item_that_fails_ends_the_rounds_and_a_resume_runs_it_alone(
    crawl: Crawl, mode: str, keep_going: bool
) -> None:
    """The round is the last, and with `keep_going` its other tasks get what came."""
    crawl.red = {"fetch /b"}
    run = crawl.start(crawl.workflow(), mode, keep_going=keep_going)

    why = "'level' stopped after 1 of 5 rounds: 'level[1].fetch' failed."
    assert (run.status, run["level.fetch"].error.message) == (FAILED, why)
    assert (run["level.fetch"].has_value, run["report"].status) == (False, SKIPPED if keep_going else NOT_STARTED)
    assert (run["level[1].fetch"].status, run["level[1].fetch"].items[0].value) == (FAILED, ["/", "/c"])
    if keep_going:
        assert run["level[1].size"].value == [2]
        assert run["level[1].linked"].value == ["/c"]
    crawl.red = set()
    run = crawl.start(crawl.workflow(), mode, resume=True)

    assert (run.status, run.value("report")) == (COMPLETED, "[0]")
    assert crawl.of("fetch") == ["fetch /b", "fetch /c", "fetch /d", "fetch /e"]


@pytest.mark.parametrize(("first", "number", "source"), [("/", 0, "start"), (["/"], 1, "level[0].linked")])
@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_a_round_without_a_list_ends_the_rounds_and_the_error_says_why(
    crawl: Crawl, mode: str, first: Any, number: int, source: str
) -> None:
    """What is no list, in the first round or a later one, fails the map in that round."""
    crawl.first = first
    crawl.linked = lambda fetch, seen: "/c"  # type: ignore[method-assign, assignment]

    run = crawl.start(crawl.workflow(), mode, keep_going=True)

    message = run["level.fetch"].error.message
    assert message.startswith(f"'level' stopped after {number} of 5 rounds: 'level[{number}].fetch' failed: ")
    assert f"'{source}', whose value is of type str" in message


def test_a_cancel_amid_a_map_in_rounds_keeps_what_has_ended(crawl: Crawl) -> None:
    """A resume goes on with the items that have not."""
    begun, cancelled, fetch = threading.Event(), threading.Event(), crawl.fetch

    def waiting(url: str) -> list[str]:
        if url == "/b" and not cancelled.is_set():
            begun.set()
            cancelled.wait(WAIT)
        return fetch(url)

    crawl.fetch = waiting  # type: ignore[method-assign]
    run = crawl.workflow().start(mode="background")
    assert begun.wait(WAIT)
    run.cancel()
    cancelled.set()
    run.wait(WAIT)

    assert "after 1 of at most 5 rounds" in run["level.size"].error.message
    run = crawl.start(crawl.workflow(), resume=True)
    assert (run.status, crawl.of("fetch")[-3:]) == (COMPLETED, ["fetch /c", "fetch /d", "fetch /e"])
    assert {"fetch /", "fetch /a"}.isdisjoint(crawl.ran)


def test_a_cleanup_of_a_round_runs_for_rounds_of_which_an_item_ran(crawl: Crawl) -> None:
    """A resume closes what it has opened, and nothing of rounds that are restored."""

    def workflow() -> DotFlow:
        inner = DotFlow(params={"urls": ...})
        inner.task.add(action(checkpoint=False)(lambda: crawl.note("open")), name="open")
        inner.task.add(action(lambda url, open: crawl.fetch(url)), name="fetch", each={"url": "urls"})
        inner.task.add(action(lambda fetch: sorted({link for links in fetch for link in links})), name="linked")
        inner.task.add(action(lambda: crawl.note("close")), name="close", always=True)
        return crawl.workflow(inner, repeat=3, carry={"urls": "linked"})

    crawl.red = {"fetch /c"}
    crawl.start(workflow())
    assert (crawl.of("open"), crawl.of("close")) == (["open"] * 3, ["close"] * 3)
    crawl.red = set()
    run = crawl.start(workflow(), resume=True)

    assert (run.status, crawl.of("open"), crawl.of("close")) == (COMPLETED, ["open"], ["close"])
    assert crawl.of("fetch") == ["fetch /c", "fetch /d"]


# Resume, keys, plan and cache


@pytest.mark.exhaustive(keep_every=4)
@pytest.mark.parametrize("mode", ["sequential", "parallel"])
@pytest.mark.parametrize("kind", ["file", "three methods"])
def test_a_resume_restores_rounds_and_items(crawl: Crawl, mode: str, kind: str) -> None:
    """What has completed does not run again, in a storage of three methods, too; a new start leaves nothing of it."""
    crawl.storage = ThreeMethods(crawl.storage) if kind == "three methods" else crawl.storage
    crawl.red = {"fetch /d"}
    crawl.start(crawl.workflow(), mode, keep_going=True)
    crawl.red = set()

    run = crawl.start(crawl.workflow(), mode, resume=True)
    assert (run.status, crawl.of("fetch"), crawl.of("report")) == (COMPLETED, ["fetch /d", "fetch /e"], ["report [0]"])
    run = crawl.start(crawl.workflow(), mode, resume=True)
    assert (run.status, crawl.ran, run.value("report")) == (COMPLETED, [], "[0]")
    crawl.first = ["/d"]
    crawl.start(crawl.workflow(), mode)
    assert crawl.of("fetch") == ["fetch /d"]
    crawl.first = ["/"]
    crawl.start(crawl.workflow(), mode, resume=True, rerun="start")
    assert crawl.of("fetch") == PAGES


def test_the_key_of_an_item_has_its_round(crawl: Crawl) -> None:
    """It is that of the task, `-r` and the round, and the key of the entry. A task that is gone has one name."""
    crawl.start(crawl.workflow())
    first = sorted(key for key in crawl.storage.list_keys("w/level.fetch"))

    assert [key.rpartition("-")[0] for key in first] == [f"w/level.fetch-r{number}" for number in (0, 1, 1, 2, 2, 3)]
    crawl.first = ["/d"]
    crawl.start(crawl.workflow())
    assert len(list(crawl.storage.list_keys("w/level.fetch"))) == 1
    only = DotFlow(Config(storage=crawl.storage, log=LogDefault(output="none")), workflow_id="w")
    only.task.add(action(lambda: 1), name="start")
    assert only.plan().removed == sorted(["report", *(f"level.{task.name}" for task in crawl.level().task)])


def test_a_rerun_makes_a_map_and_what_follows_anew(crawl: Crawl) -> None:
    """`rerun` of the map begins with the first round; of what the next round's list comes from, too."""
    crawl.start(crawl.workflow())

    crawl.start(crawl.workflow(), resume=True, rerun="level.fetch")
    assert (crawl.of("fetch"), len(crawl.of("seen"))) == (PAGES, 3)
    crawl.start(crawl.workflow(), resume=True, rerun="level.linked")
    assert (crawl.of("fetch"), len(crawl.of("seen"))) == (PAGES[1:], 3)
    crawl.storage.delete(next(key for key in crawl.storage.list_keys("w/level.fetch-r2")))
    crawl.start(crawl.workflow(), resume=True)
    assert len(crawl.of("fetch")) == 2


def test_items_of_a_round_are_known_by_value_if_their_list_is_made_anew(crawl: Crawl) -> None:
    """Within a round only its items that are new run, whatever their order."""
    crawl.first = ["b", "c"]

    def workflow() -> DotFlow:
        inner = DotFlow(params={"urls": ...})
        inner.task.add(action(lambda urls: list(crawl.first)), name="listed")
        inner.task.add(action(crawl.fetch), name="fetch", each={"url": "listed"})
        return crawl.workflow(inner, repeat=1, carry={})

    crawl.start(workflow())
    crawl.start(workflow(), resume=True, rerun="level.listed")
    assert crawl.ran == []
    crawl.first = ["c", "a", "b"]
    run = crawl.start(workflow(), resume=True, rerun="level.listed")
    assert (crawl.ran, len(run.value("level"))) == (["fetch a"], 3)


def test_a_plan_of_a_map_in_rounds_is_open(crawl: Crawl) -> None:
    """Its lists are known only in the run; rounds that are restored are counted."""
    plan = crawl.workflow().plan()
    assert [(str(task.decision), task.reason) for task in plan.tasks][1:3] == [
        ("open", "after start, at most 5 rounds"),
        ("open", "after level.fetch, at most 5 rounds"),
    ]
    crawl.red = {"fetch /d"}
    crawl.start(crawl.workflow())
    plan = crawl.workflow().plan(resume=True)
    assert (str(plan.tasks[1].decision), plan.tasks[1].reason) == ("open", "2 rounds restored, at most 5")
    crawl.red = set()
    crawl.start(crawl.workflow(), resume=True)
    plan = crawl.workflow().plan(resume=True)
    assert [(str(task.decision), task.reason) for task in plan.tasks][1:3] == [("restore", "4 rounds")] * 2


def test_the_cache_keeps_items_of_maps_in_rounds_by_their_arguments(crawl: Crawl) -> None:
    """Another run takes all from there, and a round takes what an earlier one has made."""

    def workflow() -> DotFlow:
        inner = DotFlow(params={"urls": ...})
        inner.task.add(action(cache=True)(lambda url: crawl.fetch(url)), name="fetch", each={"url": "urls"})
        inner.task.add(action(lambda fetch: ["/", *fetch[0]]), name="linked")
        return crawl.workflow(inner, repeat=3, carry={"urls": "linked"})

    assert crawl.start(workflow()).status is COMPLETED
    assert crawl.of("fetch") == PAGES[:3]
    run = crawl.start(workflow())

    assert (run.status, crawl.of("fetch")) == (COMPLETED, [])
    assert run["level.fetch"].restored_from == "cache"


# Log and history


def test_the_history_has_one_row_for_a_map_in_rounds(crawl: Crawl, tmp_path: Path) -> None:
    """With the items of all rounds, their number, and the first moment; the log counts items, too."""
    history = HistorySQLite(path=tmp_path / "history.db")
    workflow = crawl.workflow()
    workflow.config.history = history
    run = crawl.start(workflow)
    task = history.load().find("level.fetch")[0]

    assert (task.count, len(task.attempts), [one[0].glimpse for one in task.items.values()][3]) == (6, 1, "['/e']")
    assert task.attempts[0].began == run["level.fetch"].started_at <= run["level.fetch[0]"].started_at
    assert str(item_counts(run["level.fetch"])) == "6 of 6 items"
    with pytest.raises(NotInHistory, match="it has 6 items"):
        history.load().find("level.fetch#6")


ROUNDS = [0, 1, 1, 2, 2, 3]  # of the items of a crawl


def recorded(crawl: Crawl, tmp_path: Path, **options: Any) -> HistorySQLite:
    """Runs a crawl with a history, and returns that."""
    history = HistorySQLite(path=tmp_path / "history.db")
    workflow = crawl.workflow()
    workflow.config.history = history
    crawl.start(workflow, **options)
    return history


def rounds_of(run: RunRecord, step: str = "level.fetch") -> list[int]:
    return list(run.find(step)[0].item_rounds.values())


def test_the_history_has_a_map_in_one_round(crawl: Crawl, tmp_path: Path) -> None:
    """`level[2].fetch` is the map in the third round, with the items of that round, and no item `level.fetch#2`."""
    history = recorded(crawl, tmp_path)
    run = history.load()

    found = run.find_all("level[2]")
    assert [(task.name_of(item), list(task.items)) for task, item in found[:2]] == [
        ("level[2].fetch", [3, 4]),
        ("level[2].size", [3, 4]),
    ]
    assert [task.name_of(item) for task, item in found[2:]] == ["level.seen#2", "level.linked#2", "level.is_last#2"]
    (task, item), ((same, _),) = run.find("level[2].fetch"), run.find_all("level[2].fetch")
    assert (task.count, task.state, item, same.items) == (2, "Completed", None, task.items)
    assert (run.find("level[2].linked")[1], run.find("level.fetch[2]")[1]) == (2, 2)
    assert (rounds_of(run), rounds_of(run, "level.size"), rounds_of(run, "level.linked")) == (ROUNDS, ROUNDS, [])
    with pytest.raises(NotInHistory, match=r"values of 'level\[2\].fetch': it is a map\. Name an item: level\.fetch#3"):
        history.copies(run.run_id, "level[2].fetch")
    with pytest.raises(NotInHistory, match="Can't find round 9 of"):
        run.find_all("level[9]")
    for finds in (run.find, lambda step: history.output("last", step)):
        with pytest.raises(NotInHistory, match=r"Can't find 'level\[9\].fetch': it has no items in that round"):
            finds("level[9].fetch")


def test_a_map_in_rounds_is_told_from_one_that_stands_beside_rounds(tmp_path: Path) -> None:
    """`alone[1].double` is the second round of it, `outer[1].double` its second item, and no step has to show which."""

    def double(number: int) -> int:
        return number * 2

    config = Config(log=LogDefault(output="none"), history=HistorySQLite(tmp_path / "history.db"))
    alone, outer, inner = (DotFlow(params={"numbers": [1, 2]}) for _ in range(3))
    for mapped in (alone, outer):
        mapped.task.add(action(double), each={"number": "numbers"})
    inner.task.add(action(double), name="keeps", params={"number": 1})
    outer.task.add(inner, name="inner", repeat=2)
    workflow = DotFlow(config, params={"numbers": [1, 2]})
    workflow.task.add(alone, name="alone", repeat=3, carry={"numbers": "double"})
    workflow.task.add(outer, name="outer")
    workflow.start()

    run = HistorySQLite(tmp_path / "history.db").load()
    ((task, item),) = run.find_all("alone[1]")
    assert (task.name_of(item), list(task.items)) == ("alone[1].double", [2, 3])
    assert run.find("outer[1].double")[1] == 1
    with pytest.raises(NotInHistory, match=r"Name a task of it: alone\[9\]\.double"):
        run.find_all("alone[9]")
    with pytest.raises(NotInHistory, match=r"it is a map\. Name an item: alone\[1\]\.double\[0\]"):
        task.attempts_of(None, 1)


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_the_history_knows_the_rounds_of_restored_and_failed_items(crawl: Crawl, mode: str, tmp_path: Path) -> None:
    """The last round of a run that failed has all of its items, also those that have not begun."""
    crawl.red = {"fetch /c"}
    failed = recorded(crawl, tmp_path, mode=mode).load()
    crawl.red = set()
    resumed = recorded(crawl, tmp_path, mode=mode, resume=True).load()

    assert rounds_of(failed)[:4] == ROUNDS[:4]
    assert [task.name_of(item) for task, item in failed.find_all("level[2]")][:1] == ["level[2].fetch"]
    task, _ = failed.find("level[2].fetch")
    assert (task.state, task.count, task.items[3][-1].state) == ("Failed", 2, "Failed")
    assert (rounds_of(resumed), resumed.find("level[1].fetch")[0].state) == (ROUNDS, "Restored")
    with closing(sqlite3.connect(tmp_path / "history.db")) as database:
        rows = database.execute("SELECT item FROM attempt_list WHERE step = 'level.fetch' AND round = 2").fetchall()
    assert set(rows) == {(3,), (4,)}


def test_a_round_of_a_map_without_items_is_left_out(crawl: Crawl, tmp_path: Path) -> None:
    """The other tasks of that round are there."""
    crawl.first = []
    crawl.linked = lambda fetch, seen: ["/x"] if not seen else []  # type: ignore[method-assign]
    run = recorded(crawl, tmp_path).load()

    assert [task.name for task, _ in run.find_all("level[0]")] == ["level.seen", "level.linked", "level.is_last"]
    assert [task.name_of(item) for task, item in run.find_all("level[1]")][:2] == ["level[1].fetch", "level[1].size"]


def test_a_run_without_a_history_knows_the_rounds_of_its_items(crawl: Crawl) -> None:
    """Its report has them, too."""
    run = crawl.start(crawl.workflow())

    assert rounds_of(run._record("")) == ROUNDS


def test_the_command_shows_a_map_in_one_round(crawl: Crawl, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its items, what they printed, their errors, and all of it as JSON; they are named by round and index."""
    fetch = crawl.fetch

    def printing(url: str) -> list[str]:
        print("fetching", url)
        return fetch(url)

    crawl.fetch, crawl.red = printing, {"fetch /d"}  # type: ignore[method-assign]
    path = str(recorded(crawl, tmp_path, keep_going=True).path)
    capsys.readouterr()

    def show(step: str, *options: str) -> str:
        assert main(["show", "last", step, *options, "--history", path]) == 0
        return capsys.readouterr().out

    shown = show("level[2]")
    assert all(name in shown for name in ("level[2].fetch", "level[2].size", "level.seen#2"))
    assert "1 of 2 items completed, 1 failed" in shown
    assert show("level[2].fetch", "--output").splitlines() == ["fetching /c", "fetching /d"]
    assert show("level[2].fetch", "--error").endswith("ValueError: fetch /d is red\n")
    assert main(["show", "last", "level[2].size", "--output", "--history", path]) == 0
    assert capsys.readouterr().err == "The history has no output of 'level[2].size' (task 2).\n"
    lines = [json.loads(line) for line in show("level[2].fetch", "--json").splitlines()]
    assert [(line["item"], line["round"], line["state"]) for line in lines] == [(3, 2, "Completed"), (4, 2, "Failed")]
    assert "level[2].fetch[1]" in show("level.fetch")
    assert show("level.fetch#4") == show("level[2].fetch[1]")
    assert main(["replay", "last", "level[2].fetch", "--history", path]) == 2
    assert "Can't replay 'level[2].fetch': it is a map. Name an item: level[2].fetch[1]." in capsys.readouterr().err


def test_a_run_of_a_history_without_rounds_shows_a_map_as_a_whole(crawl: Crawl, tmp_path: Path) -> None:
    """A file of the fourth format, before and after its upgrade."""
    history = recorded(crawl, tmp_path)
    run_id = history.load().run_id
    history.close()
    with closing(sqlite3.connect(history.path)) as database:
        database.executescript(FOURTH_FORMAT)

    for _ in range(2):
        run = history.load(run_id)
        assert [(task.name, item) for task, item in run.find_all("level[2]")][:3] == [
            ("level.fetch", None),
            ("level.size", None),
            ("level.seen", 2),
        ]
        for finds in (run.find_all, run.find, lambda step: history.copies(run_id, step)):
            with pytest.raises(
                NotInHistory, match=r"the history has no rounds of its items\. Name 'level\.fetch', or an"
            ):
                finds("level[2].fetch")
        recorded(crawl, tmp_path)
    assert rounds_of(history.load()) == ROUNDS


# What is refused


def refused(step: Any, **options: Any) -> DotFlow:
    """A workflow with a list, a condition for each of its items, an unsaved list, and a task with options."""
    inner = DotFlow(params={"urls": ...})
    inner.task.add(action(lambda: [1]), name="list").add(action(checkpoint=False)(lambda: [1]), name="unsaved")
    inner.task.add(action(lambda one: True), name="flag", each={"one": "list"})
    inner.task.add(step, name="inner", **options)
    return inner


@pytest.mark.parametrize(
    ("step", "options", "message"),
    [
        (action(lambda one: one), {"each": "list", "when": "flag"}, "has a condition for each item"),
        (action(lambda one: one), {"each": "list", "always": True}, "has each and always"),
        (action(approve="ok?")(lambda one: one), {"each": "list"}, "has each and approve"),
        (action(lambda one: one), {"each": "unsaved"}, "each in rounds can't use .* which has checkpoint=False"),
        (action(checkpoint=False)(lambda one: one), {"each": "list"}, "each in rounds can't use .* checkpoint=False"),
    ],
)
def test_what_a_map_in_rounds_can_not_be_is_refused_at_add(
    crawl: Crawl, step: Any, options: dict[str, Any], message: str
) -> None:
    """A resume would not have its list, or would not know its items."""
    with pytest.raises(InvalidLink, match=message):
        crawl.workflow(refused(step, **options), repeat=2, carry={})


def test_until_is_no_map(crawl: Crawl) -> None:
    """A list of bools does not decide about a round."""
    with pytest.raises(InvalidLink, match=r"until can't be .* which is mapped"):
        crawl.workflow(repeat=2, until="size", carry={})


def test_the_types_of_a_carried_list_are_compared(crawl: Crawl) -> None:
    """What is carried to a map has to list what an item takes, and what a map gives is a list."""

    @action
    def read(url: str) -> int:
        return len(url)

    inner = DotFlow(params={"urls": ...})
    inner.task.add(read, each="urls")

    with pytest.raises(InvalidLink, match=r"takes 'url' from task .*: it returns int"):
        crawl.workflow(inner, repeat=2)
    assert crawl.workflow(crawl.level())
