"""A workflow for each item inside of another one, or of rounds: in every mode, with failures and edits."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, DotFlow, Run, action
from dotflow.cli.main import main
from dotflow.errors import InvalidLink, NotInHistory, UnknownTask
from dotflow.providers import ExecutorThread, HistorySQLite, LogDefault, StorageFile
from tests.integration.modes import COMPLETED, FAILED, MODES, SKIPPED, StepsLab, start
from tests.plan_fuzz import ThreeMethods

MakeWorkflow = Callable[..., DotFlow]


class Sites(StepsLab):
    """Sites with pages, and two steps for each page."""

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
        self.note(f"fetch {page} of {site}")
        return page.upper()

    def size(self, fetch: str, page: str) -> int:
        self.note(f"size {page}")
        return len(fetch)

    def total(self, page: list[int], site: str) -> str:
        self.note(f"total {site}")
        return f"{site}: {sum(page)}"

    def report(self, site: list[str]) -> list[str]:
        self.note("report")
        return site

    def page(self) -> DotFlow:
        """The steps of a page."""
        page = DotFlow(params={"page": ..., "site": ...})
        page.task.add(action(self.fetch), name="fetch").add(action(self.size), name="size")
        return page

    def site(self, **options: Any) -> DotFlow:
        """The steps of a site: its pages, the workflow for each of them, and what takes all of their values."""
        site = DotFlow(params={"site": ...})
        site.task.add(action(self.pages), name="pages")
        site.task.add(self.page(), name="page", **{"each": {"page": "pages"}, **options})
        site.task.add(action(self.total), name="total")
        return site

    def workflow(self, options: Any = (), **more: Any) -> DotFlow:
        workflow = self.new()
        workflow.task.add(action(self.sites), name="sites")
        workflow.task.add(self.site(**dict(options)), name="site", **{"each": {"site": "sites"}, **more})
        workflow.task.add(action(self.report), name="report")
        return workflow


@pytest.fixture
def sites(tmp_path: Path) -> Sites:
    return Sites(tmp_path)


FIRST = ["pages ab", "fetch ab/a of ab", "size ab/a", "fetch ab/b of ab", "size ab/b", "total ab"]
THIRD = ["pages c", "fetch c/c of c", "size c/c", "total c"]


@pytest.mark.parametrize("mode", MODES)
def test_each_item_has_the_workflow_for_each_of_its_own(sites: Sites, mode: str) -> None:
    """Its steps take entries of both lists, and what takes the workflow takes the values of the item."""
    run = sites.start(sites.workflow(), mode)

    assert run.status == COMPLETED
    assert run.value("report") == ["ab: 8", ": 0", "c: 3"]
    assert run.value("site.page.size") == [[4, 4], [], [3]]
    assert sorted(sites.ran) == sorted(["sites", *FIRST, "pages ", "total ", *THIRD, "report"])


def test_in_order_an_inner_item_runs_from_end_to_end(sites: Sites) -> None:
    """Then the next one, and then the next outer item."""
    sites.start(sites.workflow())

    assert sites.ran == ["sites", *FIRST, "pages ", "total ", *THIRD, "report"]


def test_nodes_are_named_by_both_items(sites: Sites) -> None:
    """The task has all items. An address goes from outside to inside; keys have both entries."""
    run = sites.start(sites.workflow())

    assert [item.value for item in run["site.page.fetch"].items] == ["AB/A", "AB/B", "C/C"]
    assert run.value("site[0].page[1].fetch") == "AB/B"
    assert run.value("site[2].page[0].size") == 3
    assert run.value("site[0].page") == [4, 4]
    assert run["site[0].page.fetch"].name == "site[0].page.fetch"
    with pytest.raises(UnknownTask):
        run["site[2].page[1].fetch"]
    keys = {key.removeprefix("w/site.page.fetch-") for key in sites.storage.list_keys("w/site.page.fetch-")}
    assert len(keys) == 3
    assert all(len(key) == 41 and key[20] == "-" for key in keys)


@pytest.mark.parametrize("mode", MODES)
def test_a_resume_runs_what_has_failed(sites: Sites, mode: str) -> None:
    """Only the inner item runs again, and what takes it, of its outer item."""
    sites.red = {"fetch ab/b of ab"}
    failed = sites.start(sites.workflow(keep_going=True), mode)
    assert failed["site.page.fetch"].status == FAILED
    assert failed.value("report") == ["ab: 4", ": 0", "c: 3"]
    sites.red = set()

    run = sites.start(sites.workflow(keep_going=True), mode, resume=True)

    assert sites.ran == ["fetch ab/b of ab", "size ab/b", "total ab", "report"]
    assert run.value("report") == ["ab: 8", ": 0", "c: 3"]


@pytest.mark.parametrize("mode", MODES)
def test_a_failure_stops_the_run(sites: Sites, mode: str) -> None:
    """The maps fail with their items; a resume goes on."""
    sites.red = {"fetch ab/a of ab"}
    failed = sites.start(sites.workflow(), mode)
    error = failed["site.page.fetch"].error
    assert error is not None
    assert "ItemsFailed" in error.exception
    assert failed["report"].status != COMPLETED
    sites.red = set()

    run = sites.start(sites.workflow(), mode, resume=True)

    assert "fetch ab/a of ab" in sites.ran
    assert run.value("report") == ["ab: 8", ": 0", "c: 3"]


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_an_edit_of_a_list_keeps_what_is_known(sites: Sites, mode: str) -> None:
    """Items are known by their values, at both levels."""
    sites.start(sites.workflow(), mode)
    sites.given = ["c", "ab", "d"]

    run = sites.start(sites.workflow(), mode, resume=True, rerun=["sites"])

    assert sites.ran == ["sites", "pages d", "fetch d/d of d", "size d/d", "total d", "report"]
    assert run.value("report") == ["c: 3", "ab: 8", "d: 3"]


def test_a_reduce_runs_again_for_another_number_of_empty_values(sites: Sites) -> None:
    """Of items whose own items were all skipped, too."""

    def workflow(names: list[str]) -> DotFlow:
        page = DotFlow(params={"page": ...})
        page.task.add(action(lambda page: False), name="is_wanted")
        page.task.add(action(lambda page: page), name="kept", when="is_wanted")
        site = DotFlow(params={"site": ...})
        site.task.add(page, name="page", each={"page": [1]})
        workflow = sites.new()
        workflow.task.add(site, name="site", each=names).add(action(lambda site: site), name="report")
        return workflow

    assert sites.start(workflow(["a", "b"])).value("report") == [[], []]

    assert sites.start(workflow(["a"]), resume=True).value("report") == [[]]


def test_the_plan_has_a_row_for_each_task(sites: Sites) -> None:
    """Items of all inner lists are counted together; nothing is left over."""
    sites.red = {"fetch ab/b of ab"}
    sites.start(sites.workflow(keep_going=True))

    plan = sites.workflow(keep_going=True).plan(resume=True)

    rows = {task.name: (str(task.decision), task.items, task.items_done) for task in plan.tasks}
    assert rows["site.pages"] == ("restore", 3, 3)
    assert rows["site.page.fetch"] == ("run", 3, 2)
    assert rows["site.total"] == ("run", 3, 2)
    assert plan.removed == []


def test_the_plan_counts_no_items_of_lists_that_are_not_known(sites: Sites) -> None:
    """Those of a new run; of a resume whose inner lists are made anew, what runs is open."""
    row = next(row for row in sites.workflow().plan().tasks if row.name == "site.page.fetch")
    assert (str(row.decision), row.items) == ("run", None)
    sites.start(sites.workflow())

    plan = sites.workflow().plan(resume=True, rerun=["site.pages"])

    rows = {row.name: (str(row.decision), row.items) for row in plan.tasks}
    assert (rows["site.pages"], rows["site.page.fetch"]) == (("run", 3), ("open", None))


def test_max_parallel_counts_the_items_of_each_inner_workflow(sites: Sites) -> None:
    """With one at a time the pages of a site go one after the other, while sites go side by side."""
    run = sites.start(sites.workflow({"max_parallel": 1}, max_parallel=2), "parallel")

    assert run.value("report") == ["ab: 8", ": 0", "c: 3"]
    assert [step for step in sites.ran if "ab/" in step] == FIRST[1:-1]


def test_three_levels(make_workflow: MakeWorkflow) -> None:
    """Entries of all levels are there at the innermost one."""
    cell = DotFlow(params={"cell": ..., "row": ..., "table": ...})
    cell.task.add(action(lambda cell, row, table: (cell, len(row), len(table))), name="seen")
    row = DotFlow(params={"row": ..., "table": ...})
    row.task.add(cell, name="cell", each={"cell": "row"})
    table = DotFlow(params={"table": ...})
    table.task.add(row, name="row", each={"row": "table"})
    workflow = make_workflow()
    workflow.task.add(table, name="table", each=[[[1, 2]], [[3], []]]).add(action(lambda table: table), name="end")

    run = workflow.start()

    assert run.value("end") == [[[(1, 2, 1), (2, 2, 1)]], [[(3, 1, 2)], []]]
    assert run.value("table[1].row[0].cell[0].seen") == (3, 1, 2)


def test_a_resume_has_each_innermost_item_once(make_workflow: MakeWorkflow) -> None:
    """Also where the list of the middle level is known only in the run."""
    cell = DotFlow(params={"cell": ...})
    cell.task.add(action(lambda cell: cell + 1), name="more")
    row = DotFlow(params={"row": ...})
    row.task.add(cell, name="cell", each={"cell": "row"})
    table = DotFlow(params={"table": ...})
    table.task.add(action(lambda table: [[one] for one in table]), name="rows")
    table.task.add(row, name="row", each={"row": "rows"})
    workflow = make_workflow()
    workflow.task.add(table, name="table", each=[[1, 2], [3]])
    workflow.start()

    run = workflow.start(resume=True, rerun=["table.rows"])

    items = run["table.row.cell.more"].items
    assert [(item.value, item.status) for item in items] == [(2, COMPLETED), (3, COMPLETED), (4, COMPLETED)]
    assert run.value("table[1].row[0].cell[0].more") == 4


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_a_workflow_for_each_item_in_rounds(make_workflow: MakeWorkflow, mode: str) -> None:
    """Each round has items of its own, over the list that the round before has made."""
    cell = DotFlow(params={"cell": ...})
    cell.task.add(action(lambda cell: cell + 1), name="more").add(action(lambda more: more * 2), name="twice")
    inner = DotFlow(params={"cells": ...})
    inner.task.add(cell, name="cell", each={"cell": "cells"})
    workflow = make_workflow()
    workflow.task.add(inner, name="round", repeat=2, params={"cells": [1, 2]}, carry={"cells": "cell"})

    run = start(workflow, mode)

    assert run.value("round") == [10, 14]
    assert run.value("round[0].cell") == [4, 6]
    assert run.value("round[1].cell[1].more") == 7


def test_a_condition_skips_an_inner_item(make_workflow: MakeWorkflow) -> None:
    """It is decided by the inner item, or once for all of them by a step of the outer one."""
    cell = DotFlow(params={"cell": ...})
    cell.task.add(action(lambda cell: cell > 1), name="is_big")
    cell.task.add(action(lambda cell: cell), name="kept", when="is_big")
    row = DotFlow(params={"row": ...})
    row.task.add(action(lambda row: len(row) > 1), name="is_long")
    row.task.add(cell, name="cell", each={"cell": "row"}, when="is_long")
    row.task.add(action(lambda cell: sum(cell)), name="total")
    workflow = make_workflow()
    workflow.task.add(row, name="table", each=[[1, 2, 3], [4]])

    run = workflow.start()

    assert [item.status for item in run["table.cell.kept"].items] == [SKIPPED, COMPLETED, COMPLETED]
    assert [item.status for item in run["table.total"].items] == [COMPLETED, SKIPPED]
    assert run.value("table") == [5]


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_what_an_outer_item_makes_anew_counts_for_its_inner_ones(sites: Sites, mode: str) -> None:
    """Also where a task beside it, which does not take it, is restored."""

    def login(site: str) -> str:
        sites.note("login")
        return "secret"

    def use(page: int, login: str = "nobody") -> str:
        return f"{page} by {login}"

    def workflow() -> DotFlow:
        page = DotFlow(params={"page": ..., "login": ...})
        page.task.add(action(lambda page: page), name="other").add(action(use), name="use")
        site = DotFlow(params={"site": ...})
        site.task.add(action(login), name="login").add(page, name="page", each={"page": [1, 2]})
        workflow = sites.new()
        workflow.task.add(site, name="site", each=["a"], keep_going=True)
        return workflow

    sites.red = {"login"}
    assert sites.start(workflow(), mode)["site.page.use"].value == [["1 by nobody", "2 by nobody"]]
    sites.red = set()

    run = sites.start(workflow(), mode, resume=True)

    assert run["site.page.use"].value == [["1 by secret", "2 by secret"]]


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
@pytest.mark.parametrize("kind", ["items", "rounds"])
def test_a_task_that_an_outer_scope_skips_is_skipped_for_its_inner_items(
    make_workflow: MakeWorkflow, kind: str, mode: str
) -> None:
    """The tasks beside it run for them, and the outer item or round ends once all of these have."""
    cell = DotFlow(params={"cell": ..., "needed": ...})
    cell.task.add(action(lambda cell, needed: cell), name="first").add(action(lambda cell: cell), name="second")
    row = DotFlow(params={"row": ..., "needed": ...})
    row.task.add(action(lambda row: row), name="cells").add(cell, name="cell", each={"cell": "cells"})
    table = DotFlow(params={"table": ...})
    table.task.add(action(lambda table: len(table) > 1), name="is_long")
    table.task.add(action(lambda table: table), name="needed", when="is_long")
    table.task.add(row, name="row", each={"row": "table"}).add(action(lambda row: [[3]]), name="end")
    workflow = make_workflow()
    tables = [[[1, 2], []], [[3]]]
    options: Any = {"each": tables} if kind == "items" else {"repeat": 2, "params": {"table": tables[0]}}
    workflow.task.add(table, name="table", **options)

    run = start(workflow, mode)

    assert run.status == COMPLETED
    assert run.value("table") == ([[[3]], [[3]]] if kind == "items" else [[3]])
    assert sorted(item.value for item in run["table.row.cell.first"].items) == [1, 2]
    assert sorted(item.value for item in run["table.row.cell.second"].items) == [1, 2, 3]


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_a_task_of_an_inner_workflow_runs_though_those_beside_it_are_skipped_as_a_whole(
    make_workflow: MakeWorkflow, mode: str
) -> None:
    """Also if the task of the outer workflow that these would take is skipped with them."""

    def fails() -> int:
        raise ValueError

    cell = DotFlow(params={"cell": ..., "first": ..., "x": ...})
    cell.task.add(action(lambda cell, first, x: cell), name="a").add(action(lambda cell: cell), name="b")
    table = DotFlow(params={"table": ..., "x": ...})
    table.task.add(action(lambda table, x: table), name="first").add(cell, name="cell", each={"cell": [1, 2]})
    workflow = make_workflow()
    workflow.task.add(action(fails), name="x").add(table, name="table", each=[7, 8])
    workflow.task.add(action(lambda table: table), name="end")

    run = start(workflow, mode, keep_going=True)

    assert run.value("end") == [[1, 2], [1, 2]]
    assert [run[name].status for name in ("table.first", "table.cell.a")] == [SKIPPED, SKIPPED]


def test_a_fallback_takes_the_entries_of_both_levels(make_workflow: MakeWorkflow) -> None:
    """As the step itself does."""

    def fails(cell: int, row: list[int]) -> int:
        raise ValueError

    cell = DotFlow(params={"cell": ..., "row": ...})
    cell.task.add(action(fails), name="x", fallback=action(lambda cell, row: cell * len(row)))
    row = DotFlow(params={"row": ...})
    row.task.add(cell, name="cell", each={"cell": "row"})
    workflow = make_workflow()
    workflow.task.add(row, name="table", each=[[1, 2], [3]])

    assert workflow.start().value("table") == [[2, 4], [3]]


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

    keys = [key for key in files.list_keys("w/site.page.fetch-") if not key.endswith("-items")]
    values = [files.get(key).storage for key in keys]
    assert [value for value in values if value is not None] == ["D/D"]


def test_the_history_has_the_inner_items_of_an_item(tmp_path: Path) -> None:
    """`site[2]` has its tasks, those of the workflow in it with all of their items."""
    sites, history = Sites(tmp_path / "values"), HistorySQLite(tmp_path / "history.db")
    workflow = DotFlow(Config(storage=sites.storage, history=history, log=LogDefault(output="none")), workflow_id="w")
    workflow.task.add(action(sites.sites), name="sites")
    workflow.task.add(sites.site(), name="site", each={"site": "sites"})
    workflow.start(mode="parallel")
    record = history.load()

    task, item = record.find("site[2].page.fetch")
    assert (item, task.count, [len(one) for one in task.items.values()]) == (None, 1, [1])
    assert record.find("site[2].pages")[1] == 2


def recorded(sites: Sites, tmp_path: Path, **options: Any) -> HistorySQLite:
    """The history of a run of sites with pages, a step for each page and a map for each site."""
    history = HistorySQLite(tmp_path / "history.db")
    log = LogDefault(output="file", path=tmp_path / "flow.log")
    workflow = DotFlow(Config(storage=sites.storage, history=history, log=log), workflow_id="w")

    def check(link: int, site: str) -> int:
        sites.note(f"check {link} of {site}")
        print("checking", link, site)
        return link

    site = sites.site()
    site.task.add(action(check), each={"link": [1, 2]})
    workflow.task.add(action(sites.sites), name="sites").add(site, name="site", each={"site": "sites"})
    workflow.start(**options)
    return history


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_an_item_has_the_same_name_in_the_run_and_its_history(sites: Sites, tmp_path: Path, mode: str) -> None:
    """That of the items around it, and its own index: for a step of an inner workflow, and a map in an item."""
    history = recorded(sites, tmp_path, mode=mode)
    record = history.load()

    names = {
        task.name_of(item): attempts[-1].glimpse for task in record.steps[2:3] for item, attempts in task.items.items()
    }
    assert names == {
        "site[0].page[0].fetch": "'AB/A'",
        "site[0].page[1].fetch": "'AB/B'",
        "site[2].page[0].fetch": "'C/C'",
    }
    task, item = record.find("site[1].check[1]")
    assert task.name_of(item) == "site[1].check[1]"
    assert b"".join(chunk.data for chunk in history.output(record.run_id, "site[1].check[1]")) == b"checking 2 \n"
    found = [task.name_of(item) for task, item in record.find_all("site[0].page[1]")]
    assert found == ["site[0].page[1].fetch", "site[0].page[1].size"]
    assert record.find_all("site[0].page")[0][0].name_of(None) == "site[0].page.fetch"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("site[1].page[0].fetch", "no such item has begun"),
        ("site[1].page[0]", "no item of it has begun"),
        ("site.page[1].fetch", "Name all of its indices, as in 'site\\[0\\].page\\[0\\].fetch'"),
    ],
)
def test_an_item_that_does_not_exist_is_not_found(sites: Sites, tmp_path: Path, address: str, message: str) -> None:
    """The error says why, and how its name is written."""
    history = recorded(sites, tmp_path)

    with pytest.raises(NotInHistory, match=message):
        history.load().find_all(address)


def test_the_commands_take_and_print_the_name_of_an_inner_item(
    sites: Sites, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`show`, `replay` and `log`, and the page; an item that was skipped names the one that failed."""
    sites.red = {"fetch ab/b of ab", "check 2 of c"}
    path = str(recorded(sites, tmp_path, mode="parallel", keep_going=True).path)

    def run(*words: str) -> str:
        main([*words])
        out, err = capsys.readouterr()
        return out + err

    shown = run("show", "last", "--history", path)
    assert all(name in shown for name in ("site[0].page[1].fetch", "site[2].check[1]"))
    assert "it needs 'site[0].page[1].fetch', which failed" in run(
        "show", "last", "site[0].page[1].size", "--history", path
    )
    (line,) = run("show", "last", "site[2].check[1]", "--json", "--history", path).splitlines()
    assert (json.loads(line)["address"], json.loads(line)["state"]) == ("site[2].check[1]", "Failed")
    assert "Name an item: site[2].check[1]." in run("replay", "last", "site.check", "--history", path)
    log = ("log", "-n", "all", "--path", str(tmp_path / "flow.log"), "--step")
    assert "site[0].page[1].fetch: Failed" in run(*log, "site.page.fetch")
    assert "site[0].page[1].fetch: Failed" in run(*log, "site[0]")
    assert "site[2].check[1]: Failed" in run(*log, "site[2].check")
    assert "site[2]" not in run(*log, "site[0]")
    page = run("report", "last", "-o", str(tmp_path / "page.html"), "--history", path)
    assert "Can't" not in page
    assert "site[0].page[1].fetch" in (tmp_path / "page.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("step", "options", "message"),
    [
        (action(lambda x: x), {"always": True}, "has each and always"),
        (action(lambda x: x, approve="Go on?"), {}, "has each and approve"),
        (action(lambda x: x, checkpoint=False), {}, "each for each item can't use"),
        (action(lambda x: x), {"repeat": 2}, "has repeat"),
    ],
)
def test_refused_inside(make_workflow: MakeWorkflow, step: Any, options: dict[str, Any], message: str) -> None:
    """What the steps of an inner workflow can't be is refused when it is added."""
    inner = DotFlow(params={"x": ...})
    inner.task.add(step, name="x_" if "repeat" in options else "step", **options)
    middle = DotFlow(params={"row": ...})

    def add() -> None:
        middle.task.add(inner, name="cell", each={"x": "row"})
        make_workflow().task.add(middle, name="table", each=[[1]])

    with pytest.raises(InvalidLink, match=message):
        add()


def test_a_reduce_over_one_axis(tmp_path: Path) -> None:
    """One step for each city, with the values of its days in their order; a resume makes again what was short."""
    calls: list[tuple[str, Any]] = []
    away = {("Oslo", 2)}

    @action
    def temperature(city: str, day: int) -> int:
        calls.append((city, day))
        if (city, day) in away:
            raise ConnectionError
        return len(city) * day

    @action
    def mean(city: str, temperature: list[int]) -> list[int]:
        calls.append((city, "mean"))
        return temperature

    def go(cities: list[str], resume: bool) -> Run:
        calls.clear()
        one_city = DotFlow(params={"city": ..., "days": [1, 2, 3]})
        one_city.task.add(temperature, each={"day": "days"}).add(mean)
        config = Config(storage=StorageFile(tmp_path), log=LogDefault(output="none"), executor=ExecutorThread())
        workflow = DotFlow(config, workflow_id="climate")
        workflow.task.add(action(lambda: cities), name="cities")
        workflow.task.add(one_city.task, name="climate", each={"city": "cities"}, keep_going=True)
        return workflow.start("parallel", resume=resume)

    first = go(["Lima", "Oslo", "Rome"], resume=False)
    assert first.value("climate.mean") == [[4, 8, 12], [4, 12], [4, 8, 12]], "those that came"
    away.clear()

    run = go(["Rome", "Oslo", "Lima"], resume=True)
    assert run.value("climate.mean") == [[4, 8, 12]] * 3
    assert {city for city, _ in calls} == {"Oslo"}, "a city is known by its name, wherever it stands in the list"
    assert calls[-1] == ("Oslo", "mean")
