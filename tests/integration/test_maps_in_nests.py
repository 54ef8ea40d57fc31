"""A map in a workflow for each item: each item has a list of its own, in every mode, with failures, kills and edits."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, DotFlow, action
from dotflow.errors import InvalidLink
from dotflow.providers import HistorySQLite, LogDefault
from tests.integration.modes import COMPLETED, FAILED, MODES, SKIPPED, StepsLab, start
from tests.plan_fuzz import ThreeMethods

MakeWorkflow = Callable[..., DotFlow]


class Sites(StepsLab):
    """Sites with pages, and pages with sizes."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.given: Any = ["ab", "", "c"]

    def sites(self) -> Any:
        self.note("sites")
        return self.given

    def pages(self, site: str) -> list[str]:
        self.note(f"pages {site}")
        return [f"{site}/{name}" for name in site]

    def fetch(self, page: str, site: str) -> str:
        self.note(f"fetch {page}")
        return page.upper()

    def size(self, text: str) -> int:
        self.note(f"size {text}")
        return len(text)

    def total(self, size: list[int], site: str) -> str:
        self.note(f"total {site}")
        return f"{site}: {sum(size)}"

    def report(self, site: list[str]) -> list[str]:
        self.note("report")
        return site

    def site(self, **options: Any) -> DotFlow:
        """The steps of a site: its pages, a map over them, a map over that, and what takes all of these."""
        inner = DotFlow(params={"site": ...})
        inner.task.add(action(self.pages), name="pages")
        inner.task.add(action(self.fetch), name="fetch", **{"each": {"page": "pages"}, **options})
        inner.task.add(action(self.size), name="size", each={"text": "fetch"})
        inner.task.add(action(self.total), name="total")
        return inner

    def workflow(self, **options: Any) -> DotFlow:
        workflow = self.new()
        workflow.task.add(action(self.sites), name="sites")
        workflow.task.add(self.site(), name="site", **{"each": {"site": "sites"}, **options})
        workflow.task.add(action(self.report), name="report")
        return workflow


@pytest.fixture
def sites(tmp_path: Path) -> Sites:
    return Sites(tmp_path)


@pytest.mark.parametrize("mode", MODES)
def test_each_item_has_a_list_of_its_own(sites: Sites, mode: str) -> None:
    """Its maps go through it, one over the other, and what takes their values takes those of the item."""
    run = sites.start(sites.workflow(), mode)

    assert run.status == COMPLETED
    assert run.value("report") == ["ab: 8", ": 0", "c: 3"]
    assert run.value("site.size") == [[4, 4], [], [3]]
    first = ["pages ab", "fetch ab/a", "fetch ab/b", "size AB/A", "size AB/B", "total ab"]
    third = ["pages c", "fetch c/c", "size C/C", "total c"]
    assert sorted(sites.ran) == sorted(["sites", *first, "pages ", "total ", *third, "report"])


def test_in_order_an_item_runs_from_end_to_end(sites: Sites) -> None:
    """All of its own items run before its last task, and before the next item."""
    sites.start(sites.workflow())

    assert sites.ran == [
        *["sites", "pages ab", "fetch ab/a", "fetch ab/b", "size AB/A", "size AB/B", "total ab"],
        *["pages ", "total ", "pages c", "fetch c/c", "size C/C", "total c", "report"],
    ]


def test_the_items_are_counted_on_and_named_by_their_item(sites: Sites) -> None:
    """The task has all of them. `site[0].fetch` is the map in that item; its key has both entries."""
    run = sites.start(sites.workflow())

    assert [item.value for item in run["site.fetch"].items] == ["AB/A", "AB/B", "C/C"]
    assert [item.value for item in run["site[0].fetch"].items] == ["AB/A", "AB/B"]
    assert run.value("site[2].fetch") == ["C/C"]
    assert [item.input for item in run["site.fetch"].items] == ["ab/a", "ab/b", "c/c"]
    keys = {key.removeprefix("w/site.fetch-") for key in sites.storage.list_keys("w/site.fetch-")}
    assert len(keys) == 3
    assert all(len(key) == 41 and key[20] == "-" for key in keys)


@pytest.mark.parametrize("mode", MODES)
def test_a_resume_runs_what_has_failed(sites: Sites, mode: str) -> None:
    """Only the item of the inner list runs again, and what takes it, of its outer item."""
    sites.red = {"fetch ab/b"}
    failed = sites.start(sites.workflow(keep_going=True), mode)
    assert failed["site.fetch"].status == FAILED
    assert failed.value("report") == ["ab: 4", ": 0", "c: 3"]
    sites.red = set()

    run = sites.start(sites.workflow(keep_going=True), mode, resume=True)

    assert sites.ran == ["fetch ab/b", "size AB/B", "total ab", "report"]
    assert run.value("report") == ["ab: 8", ": 0", "c: 3"]


@pytest.mark.parametrize("mode", MODES)
def test_a_failure_stops_the_run(sites: Sites, mode: str) -> None:
    """The map fails with its items; a resume goes on."""
    sites.red = {"fetch ab/a"}
    failed = sites.start(sites.workflow(), mode)
    error = failed["site.fetch"].error
    assert error is not None
    assert "ItemsFailed" in error.exception
    sites.red = set()

    run = sites.start(sites.workflow(), mode, resume=True)

    assert "fetch ab/a" in sites.ran
    assert run.value("report") == ["ab: 8", ": 0", "c: 3"]


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_an_edit_of_the_outer_list_keeps_the_inner_items(sites: Sites, mode: str) -> None:
    """Items are known by their values, at both levels."""
    sites.start(sites.workflow(), mode)
    sites.given = ["c", "ab", "d"]

    run = sites.start(sites.workflow(), mode, resume=True, rerun=["sites"])

    assert sites.ran == ["sites", "pages d", "fetch d/d", "size D/D", "total d", "report"]
    assert run.value("report") == ["c: 3", "ab: 8", "d: 3"]


def test_the_plan_has_a_row_for_each_task(sites: Sites) -> None:
    """Items of all inner lists are counted together; nothing is left over."""
    sites.red = {"fetch ab/b"}
    sites.start(sites.workflow(keep_going=True))

    plan = sites.workflow(keep_going=True).plan(resume=True)

    rows = {task.name: (str(task.decision), task.items, task.items_done) for task in plan.tasks}
    assert rows["site.pages"] == ("restore", 3, 3)
    assert rows["site.fetch"] == ("run", 3, 2)
    assert rows["site.total"] == ("run", 3, 2)
    assert plan.removed == []


def test_an_inner_list_may_be_the_item_itself(make_workflow: MakeWorkflow) -> None:
    """A list of lists: the outer map gives each of them to an inner one."""
    row = DotFlow(params={"row": ...})
    row.task.add(action(lambda cell: cell + 1), name="add", each={"cell": "row"})
    workflow = make_workflow()
    workflow.task.add(row, name="table", each=[[1, 2], [], [3]]).add(action(lambda table: table), name="end")

    run = workflow.start()

    assert run.value("end") == [[2, 3], [], [4]]


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_a_map_over_the_workflow_goes_on_item_by_item(make_workflow: MakeWorkflow, mode: str) -> None:
    """Its items are the lists of the inner maps."""
    row = DotFlow(params={"row": ...})
    row.task.add(action(lambda cell: cell + 1), name="add", each={"cell": "row"})
    workflow = make_workflow()
    workflow.task.add(row, name="table", each=[[1, 2], [3]])
    workflow.task.add(action(lambda values: sum(values)), name="sums", each={"values": "table"})

    run = start(workflow, mode)

    assert run.value("sums") == [5, 4]


def test_a_map_over_the_workflow_runs_again_with_an_inner_item(sites: Sites) -> None:
    """The key of its item shows the outer entry only; what the inner items are now counts, too."""

    def workflow(add: int) -> DotFlow:
        row = DotFlow(params={"row": ..., "add": ...})
        row.task.add(action(lambda cell, add: cell + add, version=str(add)), name="more", each={"cell": "row"})
        new = sites.new()
        new.task.add(action(lambda: [[1, 2], [3]], version="1"), name="rows")
        new.task.add(row, name="table", each="rows", params={"add": add})
        new.task.add(action(lambda values: sum(values), version="1"), name="sums", each={"values": "table"})
        return new

    assert workflow(1).start().value("sums") == [5, 4]

    assert workflow(2).start(resume=True, rerun=["rows"]).value("sums") == [7, 5]


def test_an_empty_inner_list_counts_in_the_value(sites: Sites) -> None:
    """What takes the list of lists runs again, though no inner item is there in either run."""

    def workflow(rows: list[list[int]]) -> DotFlow:
        row = DotFlow(params={"row": ...})
        row.task.add(action(lambda cell: cell), name="same", each={"cell": "row"})
        new = sites.new()
        new.task.add(row, name="table", each=rows)
        new.task.add(action(lambda table: len(table)), name="count")
        return new

    assert workflow([[], []]).start().value("count") == 2

    assert workflow([[]]).start(resume=True).value("count") == 1


def test_a_condition_skips_the_map_of_an_item(make_workflow: MakeWorkflow) -> None:
    """What takes its values is skipped for this item only."""
    row = DotFlow(params={"row": ...})
    row.task.add(action(lambda row: len(row) > 1), name="is_long")
    row.task.add(action(lambda cell: cell), name="cells", each={"cell": "row"}, when="is_long")
    row.task.add(action(lambda cells: sum(cells)), name="total")
    workflow = make_workflow()
    workflow.task.add(row, name="table", each=[[1, 2], [3]])

    run = workflow.start()

    assert [item.status for item in run["table.total"].items] == [COMPLETED, SKIPPED]
    assert run.value("table") == [3]


@pytest.mark.parametrize("kind", ["file", "three methods"])
def test_a_new_start_leaves_nothing_of_the_items(sites: Sites, kind: str) -> None:
    """A resume restores them before, in a storage of three methods, too."""
    files = sites.storage
    sites.storage = ThreeMethods(files) if kind == "three methods" else files
    sites.start(sites.workflow())
    assert sites.start(sites.workflow(), resume=True).status == COMPLETED
    assert sites.ran == []
    sites.given = ["d"]

    sites.start(sites.workflow())

    values = [files.get(key).storage for key in files.list_keys("w/site.fetch-") if not key.endswith("-items")]
    assert [value for value in values if value is not None] == ["D/D"]


def test_the_history_has_the_map_of_an_item(tmp_path: Path) -> None:
    """`site[2].fetch` has the items of that item, and `site[2]` all of its tasks."""
    sites, history = Sites(tmp_path / "values"), HistorySQLite(tmp_path / "history.db")
    workflow = DotFlow(Config(storage=sites.storage, history=history, log=LogDefault(output="none")), workflow_id="w")
    workflow.task.add(action(sites.sites), name="sites")
    workflow.task.add(sites.site(), name="site", each={"site": "sites"})
    workflow.start(mode="parallel")
    record = history.load()

    task, item = record.find("site[2].fetch")
    assert (item, task.count, [len(one) for one in task.items.values()]) == (None, 1, [1])
    assert record.find("site[2].pages")[1] == 2
    assert {(of.name, index) for of, index in record.find_all("site[2]")} == {
        *[("site.pages", 2), ("site.fetch", None), ("site.size", None), ("site.total", 2)]
    }


@pytest.mark.parametrize(
    ("step", "options", "message"),
    [
        (action(lambda x: x), {"always": True}, "has each and always"),
        (action(lambda x: x, approve="Go on?"), {}, "has each and approve"),
        (action(lambda x: x, checkpoint=False), {}, "each for each item can't use"),
    ],
)
def test_refused_inside(make_workflow: MakeWorkflow, step: Any, options: dict[str, Any], message: str) -> None:
    """What a map in an item can't be is refused as in rounds."""
    inner = DotFlow(params={"row": ...})
    inner.task.add(step, name="x", each={"x": "row"}, **options)

    with pytest.raises(InvalidLink, match=message):
        make_workflow().task.add(inner, name="table", each=[[1]])
