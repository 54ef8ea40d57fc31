"""The summary of a run: counts of items, failed ones, skipped tasks and fallbacks."""

import io
from collections.abc import Callable
from typing import Any

import pytest

from dotflow import Context, DotFlow, action
from dotflow.cli.live.view import print_summary
from dotflow.cli.summary import summary_lines
from tests.unit.conftest import FakeTime

MakeWorkflow = Callable[..., DotFlow]

FAILING = {2, 3, 4, 6, 7, 8, 9}


@action
def urls() -> list[str]:
    return [f"page/{number}" for number in range(10)]


@action(retry=2, retry_delay=0)
def fetch(url: str) -> int:
    number = int(url[5:])
    if number in FAILING:
        raise ConnectionError(f"{number} is away")
    return number


@action
def parse(page: int) -> int:
    return page


@action
def total(parse: list[int]) -> int:
    return sum(parse)


@action
def deploy(total: int) -> None: ...


@action
def previous_rates() -> int:
    return 1


@action(retry=2, retry_delay=0)
def rates() -> int:
    raise ValueError("the service moved")


@pytest.fixture
def workflow(make_workflow: MakeWorkflow, fake_time: FakeTime) -> DotFlow:
    """A map with failures, a map over it, a reduce, a branch that is not taken, and a fallback."""
    workflow = make_workflow()
    workflow.task.add(urls).add(fetch, each=urls, keep_going=True).add(parse, each=fetch).add(total)
    workflow.task.add(deploy, unless=total).add(rates, fallback=previous_rates)
    workflow.start(keep_going=True)
    return workflow


def printed(workflow: DotFlow, monkeypatch: pytest.MonkeyPatch, columns: int) -> list[str]:
    """The lines of the table in a terminal of so many columns."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "dumb")
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdout", stream)
    print_summary("Failed", workflow.result_task(), 3.0, "")
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def test_plain_lines(workflow: DotFlow) -> None:
    """The first failed items have their inputs and the line that raised, once; a skipped task has its reason."""
    lines = list(summary_lines("Failed", workflow.result_task(), 3.0))

    where = lines[3].strip()
    assert where.startswith("tests/unit/test_cli_summary.py:")
    assert where.endswith('in fetch: raise ConnectionError(f"{number} is away")')
    assert [line for line in lines if "test_cli_summary.py" not in line] == [
        "task 0 urls: Completed, 0.00 s",
        "task 1 fetch: Failed, 3 of 10 items, 7 failed, 7 retries, 0.00 s",
        "    [2] 'page/2': ConnectionError: 2 is away",
        "    [3] 'page/3': ConnectionError: 3 is away",
        "    [4] 'page/4': ConnectionError: 4 is away",
        "    [6] 'page/6': ConnectionError: 6 is away",
        "    [7] 'page/7': ConnectionError: 7 is away",
        "    and 2 more failed items",
        "task 2 parse: Completed, 3 of 10 items, 7 skipped, 0.00 s",
        "task 3 total: Completed, 0.00 s",
        "task 4 deploy: Skipped, total was 6",
        "task 5 rates: Completed after 3 attempts, by its fallback previous_rates, 0.00 s",
        "    ValueError: the service moved",
        "Failed: 4 of 6 tasks completed, 1 failed, 1 skipped, in 3.00 s",
    ]


@pytest.mark.parametrize("columns", [60, 80, 140])
def test_the_table(workflow: DotFlow, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    """Counts and reasons stand in its last column, which is broken into lines where it has to be."""
    lines = printed(workflow, monkeypatch, columns)

    text = " ".join(" ".join(lines).split())
    table = lines[1 : lines.index("", 1)]
    assert all(len(line) <= columns for line in table)
    assert {"10", "failed,", "retries", "skipped", "by", "its", "fallback"} <= set(" ".join(table).split())
    assert "[2] 'page/2': ConnectionError: 2 is away" in text
    assert "and 2 more failed items" in text
    assert "+ task 5 rates, by its fallback previous_rates ValueError: the service moved" in text.replace("✓", "+")
    assert any("rates" in line and "3/3" in line and "by its" in line for line in lines)
    assert any("deploy" in line and "Skipped" in line and "total was 6" in line for line in lines)
    assert not any("fetch" in line and "/2" in line for line in lines if "Failed" in line)
    if columns == 140:
        assert any(line.endswith("3 of 10 items, 7 failed, 7 retries") for line in lines)


def test_of_many_tasks_that_completed_none_is_listed(
    make_workflow: MakeWorkflow, fake_time: FakeTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is there a number of more."""
    workflow = make_workflow()
    for _ in range(51):
        workflow.task.add(previous_rates)
    workflow.start()

    assert printed(workflow, monkeypatch, 80)[:3] == ["", "", "Failed: 51 of 51 tasks completed, in 3.00 s"]


def test_a_map_that_failed_as_a_whole(make_workflow: MakeWorkflow, fake_time: FakeTime) -> None:
    """Its own error is shown, and the first failed items of one that was stopped."""
    workflow = make_workflow()
    workflow.task.add(action(lambda: {"a": 1}), name="urls").add(fetch, each="urls")
    workflow.start()

    lines = list(summary_lines("Failed", workflow.result_task(), 1.0))

    assert lines[1] == "task 1 fetch: Failed, 0.00 s"
    assert lines[2].startswith("    NotAList: Task 'fetch' is mapped over 'urls', whose value is of type dict.")


def test_items_that_a_fallback_mended(make_workflow: MakeWorkflow, fake_time: FakeTime) -> None:
    """They count as completed, and no error is listed."""
    workflow = make_workflow()
    workflow.task.add(urls).add(
        fetch,
        each=urls,
        fallback=action(
            lambda url: -1,
        ),
    )
    workflow.start()

    lines = list(summary_lines("Completed", workflow.result_task(), 1.0))

    assert lines[1] == ("task 1 fetch: Completed, 10 of 10 items, 14 retries, 7 by its fallback <lambda>, 0.00 s")
    assert lines[2].startswith("Completed: 2 of 2 tasks completed")


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_an_input_without_a_repr(make_workflow: MakeWorkflow, fake_time: FakeTime) -> None:
    """The name of its class stands for it, and the run goes on."""

    @action
    def broken(item: Any) -> Context:
        raise ValueError("no")

    workflow = make_workflow()
    workflow.task.add(broken, each=[Unshowable()])
    workflow.start()

    lines = list(summary_lines("Failed", workflow.result_task(), 1.0))
    assert "    [0] <Unshowable: its repr raised RuntimeError>: ValueError: no" in lines
