"""A map with a number of items that may fail: within it the run completes, beyond it the map fails with the count."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from dotflow import DotFlow, action
from dotflow.cli.main import main
from dotflow.core.links import may_fail
from dotflow.errors import InvalidArgument, InvalidLink
from dotflow.providers import HistorySQLite, LogDefault
from dotflow.report.document import read_document
from tests.integration.modes import COMPLETED, FAILED, MODES, NOT_STARTED, SKIPPED, StepsLab, named

TEN = list(range(10))


class Lab(StepsLab):
    """Ten items, of which those in `red` fail."""

    def numbers(self) -> list[int]:
        self.note("numbers")
        return TEN

    def fetch(self, number: int) -> int:
        self.note(f"fetch {number}")
        return number

    def parse(self, fetched: int) -> int:
        self.note(f"parse {fetched}")
        return fetched

    def total(self, fetch: list[int]) -> int:
        self.note("total")
        return sum(fetch)

    def other(self) -> None:
        self.note("other")

    def workflow(self, keep_going: Any = None, **options: Any) -> DotFlow:
        workflow = self.new()
        workflow.task.add(action(self.numbers), name="numbers")
        workflow.task.add(action(self.fetch), name="fetch", each="numbers", keep_going=keep_going, **options)
        workflow.task.add(action(self.total), name="total")
        return workflow

    def inner(self, keep_going: Any = None) -> DotFlow:
        """A workflow for each number: two steps, and a map over three pages."""
        inner = DotFlow(params={"number": ...})
        inner.task.add(action(self.fetch), name="fetch")
        inner.task.add(action(self.parse), name="parse", needs={"fetched": "fetch"})
        inner.task.add(action(self.pages), name="pages")
        inner.task.add(action(self.page), name="page", each={"path": "pages"}, keep_going=keep_going)
        return inner

    def replace(self, number: int) -> int:
        return -1

    def pages(self, number: int) -> list[str]:
        return [f"{number}/{name}" for name in "abc"]

    def page(self, path: str) -> str:
        self.note(f"page {path}")
        return path

    def nested(self, keep_going: Any, inner: Any = None) -> DotFlow:
        workflow = self.new()
        workflow.task.add(action(self.numbers), name="numbers")
        workflow.task.add(self.inner(inner).task, name="site", each={"number": "numbers"}, keep_going=keep_going)
        return workflow


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path / "values")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("keep_going", [2, 0.8, 0.75])
def test_within_the_number_the_run_completes(lab: Lab, mode: str, keep_going: float) -> None:
    lab.red = {"fetch 3", "fetch 7"}

    run = lab.start(lab.workflow(keep_going), mode)

    assert run.status is COMPLETED
    assert [task.status for task in run.tasks] == [COMPLETED] * 3
    assert run.value("total") == sum(TEN) - 10
    fetch = named(run, "fetch")
    assert fetch.reason == "failed, as keep_going allows: [3] 3 ValueError, [7] 7 ValueError"
    assert fetch.current_context.errors.keys() == {3, 7}
    assert not fetch.errors
    run.raise_for_failure()


@pytest.mark.parametrize(("keep_going", "allowed"), [(1, 1), (0.9, 1), (0.85, 1), (0.95, 0)])
def test_beyond_it_the_map_fails_with_the_count_and_begins_no_further_item(
    lab: Lab, keep_going: float, allowed: int
) -> None:
    lab.red = {"fetch 3", "fetch 5"} if allowed else {"fetch 5"}

    run = lab.start(lab.workflow(keep_going))

    assert (run.status, named(run, "total").status) == (FAILED, NOT_STARTED)
    count = f"{allowed + 1} of 10 items failed, and keep_going={keep_going} allows {allowed}"
    assert str(named(run, "fetch").error.message).startswith(count)
    assert lab.ran == ["numbers", *[f"fetch {number}" for number in range(6)]]


@pytest.mark.parametrize("mode", MODES)
def test_beyond_it_a_run_that_keeps_going_skips_the_other_items(lab: Lab, mode: str) -> None:
    """The tasks behind the map go on with the values that came, and the lanes of the items end."""
    lab.red = {f"fetch {number}" for number in range(1, 4)}
    workflow = lab.workflow(2, max_parallel=1)
    workflow.task.add(action(lab.other), name="other", needs=["fetch"])
    workflow.task.add(action(lab.parse), name="parse", each={"fetched": "fetch"})

    run = lab.start(workflow, mode, keep_going=True)

    assert run.status is FAILED
    items = named(run, "fetch").items
    assert [item.status for item in items] == [COMPLETED, *[FAILED] * 3, *[SKIPPED] * 6]
    assert items[9].reason == "3 of 10 items failed, and keep_going=2 allows 2"
    assert run.value("total") == 0
    assert named(run, "other").status is SKIPPED
    assert [item.status for item in named(run, "parse").items] == [COMPLETED, *[SKIPPED] * 9]


def test_the_number_of_a_run_counts_for_each_map_that_says_nothing(lab: Lab) -> None:
    lab.red = {"fetch 3"}

    assert lab.start(lab.workflow(), keep_going=0.9).status is COMPLETED
    assert lab.start(lab.workflow(False), keep_going=0.9).status is FAILED
    assert lab.start(lab.workflow(True), keep_going=0.9).status is FAILED
    assert lab.start(lab.workflow(2), keep_going=False).status is COMPLETED


def test_after_the_failure_of_another_task_a_run_with_a_number_stops(lab: Lab) -> None:
    lab.red = {"numbers"}

    run = lab.start(lab.workflow(), keep_going=3)

    assert [task.status for task in run.tasks] == [FAILED, NOT_STARTED, NOT_STARTED]


@pytest.mark.parametrize("wrong", [0, 1.0, 0.0, -1, 1.5, -0.5, float("nan"), "3", 3 + 0j])
def test_other_numbers_are_refused_with_what_to_write(lab: Lab, wrong: Any) -> None:
    words = re.escape(f"keep_going={wrong!r} is not accepted. Pass True, False, the share") + ".* Write False where"

    with pytest.raises(InvalidArgument, match=words):
        lab.workflow(wrong)
    with pytest.raises(InvalidArgument, match=words):
        lab.workflow().start(keep_going=wrong)


def test_a_number_without_a_map_is_refused(lab: Lab) -> None:
    workflow, plain = lab.new(), DotFlow()
    plain.task.add(action(lab.other))

    for step, options in ((action(lab.other), {}), (action(lab.other), {"repeat": 2}), (plain, {"name": "plain"})):
        with pytest.raises(InvalidLink, match="keep_going=3 counts the items of a map, and there is none"):
            workflow.task.add(step, keep_going=3, **options)


@pytest.mark.parametrize(
    ("share", "count", "allowed"),
    [(0.95, 100, 5), (0.95, 19, 0), (0.95, 20, 1), (0.07, 100, 93), (0.29, 100, 71), (0.9, 0, 0), (0.001, 1, 0)],
)
def test_a_share_is_exact(share: float, count: int, allowed: int) -> None:
    assert may_fail(share, count) == allowed


@pytest.mark.parametrize("mode", MODES)
def test_of_a_workflow_for_each_item_the_items_count_whichever_task_fails(lab: Lab, mode: str) -> None:
    lab.red = {"fetch 3", "parse 7", "page 7/a"}

    run = lab.start(lab.nested(2), mode)
    assert run.status is COMPLETED
    assert {task.status for task in run.tasks} == {COMPLETED}
    assert [item.status for item in named(run, "site.parse").items][3] is SKIPPED
    assert named(run, "site.page").items[7 * 3 + 1].status is COMPLETED  # the others of an item go on

    run = lab.start(lab.nested(1), mode)
    assert run.status is FAILED
    failed = [task for task in run.tasks if task.status is FAILED]
    assert any("2 of 10 items failed, and keep_going=1 allows 1" in task.error.message for task in failed if task.error)


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_a_map_in_an_item_has_a_number_of_its_own(lab: Lab, mode: str) -> None:
    lab.red = {"page 3/b", "page 4/a"}
    assert lab.start(lab.nested(None, inner=1), mode).status is COMPLETED
    assert lab.start(lab.nested(False, inner=1), mode).status is COMPLETED

    lab.red = {"page 3/a", "page 3/b"}
    assert lab.start(lab.nested(None, inner=1), mode).status is FAILED
    run = lab.start(lab.nested(1, inner=1), mode)
    assert run.status is COMPLETED
    assert len(named(run, "site.page").current_context.errors) == 2


def test_of_an_added_workflow_a_number_counts_for_its_maps(lab: Lab) -> None:
    lab.red = {"page 3/b"}
    workflow = lab.new()
    workflow.task.add(lab.inner().task, name="site", params={"number": 3}, keep_going=1)

    assert lab.start(workflow).status is COMPLETED
    lab.red = {"page 3/b", "page 3/c"}
    assert lab.start(workflow).status is FAILED


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_a_round_goes_on_with_what_a_map_in_it_may_lack(lab: Lab, mode: str) -> None:
    def rounds(keep_going: Any) -> DotFlow:
        workflow = lab.new()
        workflow.task.add(lab.inner(keep_going).task, name="site", params={"number": 3}, repeat=2, carry={})
        return workflow

    lab.red = {"page 3/b"}
    run = lab.start(rounds(1), mode)
    assert run.status is COMPLETED
    assert lab.ran.count("page 3/a") == 2
    assert len(named(run, "site.page").items) == 6

    assert lab.start(rounds(1), mode, keep_going=True).status is COMPLETED
    assert lab.start(rounds(None), mode, keep_going=True).status is FAILED


def test_a_resume_tries_the_failed_items_again_and_what_takes_them(lab: Lab) -> None:
    lab.red = {"fetch 3"}
    workflow = lab.workflow(1)
    lab.start(workflow)
    lab.red = set()

    plan = {task.name: (task.items, task.items_done) for task in workflow.plan(resume=True).tasks}
    run = lab.start(workflow, resume=True)

    assert plan["fetch"] == (10, 9)
    assert lab.ran == ["fetch 3", "total"]
    assert (run.status, run.value("total"), named(run, "fetch").reason) == (COMPLETED, sum(TEN), "")
    lab.start(workflow, resume=True)
    assert lab.ran == []


def test_a_resume_counts_the_failures_of_its_own_items_only(lab: Lab) -> None:
    """What failed in the run before runs again, so a number that was too small once may be enough."""
    lab.red = {"fetch 3", "fetch 4"}
    workflow = lab.workflow(1)
    assert lab.start(workflow).status is FAILED
    lab.red = {"fetch 3"}

    run = lab.start(workflow, resume=True)

    assert run.status is COMPLETED
    assert named(run, "fetch").reason == "failed, as keep_going allows: [3] 3 ValueError"


def test_retries_and_fallbacks_come_before_the_number(lab: Lab) -> None:
    lab.red = {"fetch 3"}

    run = lab.start(lab.workflow(1, fallback=action(lab.replace)))

    assert run.status is COMPLETED
    assert (named(run, "fetch").items[3].value, named(run, "fetch").reason) == (-1, "")


def test_log_show_and_page_name_what_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "runs.db"
    history = HistorySQLite(path=path)
    log = LogDefault(output="file", path=tmp_path / "flow.log")
    lab = Lab(tmp_path / "values")
    lab.red = {"fetch 3"}
    workflow = lab.workflow(1)
    workflow.config.history, workflow.config.log = history, log

    run = workflow.start()

    ends = [line for line in (tmp_path / "flow.log").read_text().splitlines() if "task 1 fetch: Completed" in line]
    assert len(ends) == 1
    assert ends[0].endswith("(9 of 10 items, 1 failed): failed, as keep_going allows: [3] 3 ValueError")
    assert main(["show", "--history", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "fetch: 9 of 10 items completed, 1 failed" in shown
    assert "1 fetch#3 3\n    ValueError: fetch 3 is red" in shown
    assert re.search(r"dotflow show \w+ fetch#3", shown)
    document: Any = read_document(history, run.run_id)
    assert (document["run"]["state"], document["tasks"][1]["state"]) == ("Completed", "Completed")
    assert document["tasks"][1]["details"][0]["item"] == 3
    assert any("fetch#3" in entry["command"] for entry in document["commands"])


@pytest.mark.parametrize(("words", "code"), [("0.9", 0), ("1", 0), ("0.95", 1), ("0", 2), ("1.0", 2), ("many", 2)])
def test_the_command_takes_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], words: str, code: int
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jobs.py").write_text(
        "from dotflow import DotFlow, action\n"
        "invert = action(lambda number: 1 / number)\n"
        "workflow = DotFlow()\n"
        "workflow.task.add(invert, name='invert', each=[*range(10)])\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "jobs", raising=False)

    assert main(["start", "--workflow", "jobs:workflow", "--keep-going", words]) == code
    assert main(["start", "--workflow", "jobs:workflow", "--keep-going", "--no-history"]) == 1
