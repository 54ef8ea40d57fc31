"""`@action(valid=...)`: whether what a step has made, and no file shows, is still there."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, DotFlow, action
from dotflow.abc.storage import Storage
from dotflow.errors import InvalidLink, InvalidPolicy, ValidityUnknown
from dotflow.providers import LogDefault, StorageDefault, StorageFile
from dotflow.resume import look

ran: list[Any] = []
asked: list[Any] = []
gone: set[Any] = set()


@pytest.fixture(autouse=True)
def _forget() -> None:
    ran.clear()
    asked.clear()
    gone.clear()


def is_there(value: Any) -> bool:
    asked.append(value)
    if "broken" in gone:
        raise ConnectionError("the database is down")
    return value not in gone


async def is_there_soon(value: Any) -> bool:
    await asyncio.sleep(0)
    return is_there(value)


@action(valid=is_there)
def table() -> str:
    ran.append("table")
    return "orders"


@action(valid=is_there_soon)
async def table_async() -> str:
    ran.append("table")
    return "orders"


@action
def report(table: str) -> str:
    ran.append("report")
    return f"of {table}"


@action(valid=is_there)
def partition(day: int) -> int:
    ran.append(day)
    return day


def flow(storage: Storage, *steps: Any, **options: Any) -> DotFlow:
    ran.clear()
    asked.clear()
    workflow = DotFlow(Config(storage=storage, log=LogDefault(output="none")), workflow_id="w")
    for step in steps:
        workflow.task.add(step, name=step.short_name.removesuffix("_async"), **options)
    return workflow


@pytest.mark.parametrize("step", [table, table_async])
@pytest.mark.parametrize("mode", ["sequential", "background", "parallel"])
def test_a_step_whose_value_is_no_longer_valid_runs_again(step: Any, mode: str) -> None:
    """So does what takes its value; a function and a coroutine are asked once, by the resume itself."""
    storage = StorageDefault()
    flow(storage, step, report).start(mode=mode).wait()
    workflow = flow(storage, step, report)
    workflow.start(mode=mode, resume=True).wait()
    assert (ran, asked) == ([], ["orders"])
    gone.add("orders")
    workflow = flow(storage, step, report)
    assert [task.decision for task in workflow.plan(mode, resume=True).tasks] == ["run", "run"]
    asked.clear()

    workflow.start(mode=mode, resume=True).wait()

    assert asked == ["orders"]
    assert [task.restored_from for task in workflow.result_task()] == [None, None]


def test_each_item_is_asked_for_itself() -> None:
    """Of three items, the one whose value is invalid runs."""
    storage = StorageDefault()
    flow(storage, partition, each=[1, 2, 3]).start()
    gone.add(2)

    workflow = flow(storage, partition, each=[1, 2, 3])
    plan = workflow.plan(resume=True)
    assert (plan.tasks[0].decision, plan.tasks[0].items_done) == ("run", 2)
    workflow.start(resume=True)

    assert ran == [2]


@action
def days() -> list[int]:
    return [1, 2, 3]


def test_items_of_a_list_that_is_made_anew_are_asked_too() -> None:
    """They are known only in the run."""
    storage = StorageDefault()

    def workflow() -> DotFlow:
        new = flow(storage, days)
        new.task.add(partition, each="days")
        return new

    workflow().start()
    gone.add(2)

    workflow().start(resume=True, rerun="days")

    assert ran == [2]


def empties(value: dict[str, int]) -> bool:
    value.clear()
    return True


@action(valid=empties)
def rows() -> dict[str, int]:
    ran.append("rows")
    return {"tea": 12}


@action
def total(rows: dict[str, int]) -> int:
    return sum(rows.values())


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_what_it_changes_in_the_value_changes_no_value(kind: str, tmp_path: Path) -> None:
    """It is given a copy, so the tasks after it are given what the step returned."""
    workflow = DotFlow(
        Config(storage=StorageDefault() if kind == "memory" else StorageFile(tmp_path), log=LogDefault(output="none")),
        workflow_id="w",
    )
    workflow.task.add(rows).add(total)
    workflow.start()

    run = workflow.start(resume=True, rerun=["total"])

    assert (ran, run.value(rows), run.value(total)) == (["rows"], {"tea": 12}, 12)


def test_what_runs_again_anyway_is_not_asked() -> None:
    """Nor is anything without a resume, or where a completed run begins anew."""
    storage = StorageDefault()
    flow(storage, table, report).start()
    flow(storage, table, report).start(resume=True, rerun="table")
    assert asked == []
    flow(storage, table, report).start(resume="unfinished")
    assert asked == []
    flow(storage, table, report).start()
    assert asked == []


def hangs(value: Any) -> bool:
    import time

    while True:
        time.sleep(0.001)


def says_nothing(value: Any) -> Any:
    return None


def ends(value: Any) -> bool:
    sys.exit(1)


@pytest.mark.parametrize(
    ("valid", "reason"),
    [
        (is_there, "valid() raised ConnectionError: the database is down"),
        (says_nothing, "valid() returned None"),
        (ends, "valid() raised SystemExit: 1"),
        (hangs, "valid() did not return within 0.05 s"),
    ],
)
def test_a_question_that_fails_stops_the_resume(
    valid: Callable[[Any], Any], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is deleted and nothing runs: a database that is down for a minute must not cost a finished step. A plan
    shows the task as open."""
    monkeypatch.setattr(look, "VALID_TIMEOUT", 0.05)
    storage = StorageFile(tmp_path / "kept")
    step = action(valid=valid)(table.function)
    flow(storage, step, report).start()
    gone.add("broken")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}

    with pytest.raises(ValidityUnknown) as raised:
        flow(storage, step, report).start(resume=True)
    plan = flow(storage, step, report).plan(resume=True)

    assert str(raised.value).startswith(f"Whether the value of task 0 table is still valid is unknown: {reason}")
    assert plan.tasks[0].decision == "open"
    assert ran == []
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json")} == before
    gone.clear()


def test_the_command_ends_with_2(tmp_path: Path) -> None:
    """As for all runs that were refused; the next one goes on."""
    (tmp_path / "job.py").write_text(
        """
from pathlib import Path
from dotflow import DotFlow, action

def is_there(value):
    if Path("down").exists():
        raise ConnectionError("down")
    return True

@action(valid=is_there)
def table():
    return "orders"

nightly = DotFlow(workflow_id="nightly")
nightly.task.add(table)
"""
    )

    def start(*options: str) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, "-m", "dotflow", "start", "--workflow", "job:nightly", "--storage", "file", *options]
        return subprocess.run(program, cwd=tmp_path, capture_output=True, text=True)

    assert start().returncode == 0
    (tmp_path / "down").touch()
    refused = start("--resume")
    (tmp_path / "down").unlink()

    assert (refused.returncode, "valid() raised ConnectionError: down" in refused.stderr) == (2, True)
    assert start("--resume").returncode == 0


@pytest.mark.parametrize("options", [{"cache": True}, {"checkpoint": False}, {"valid": 1}])
def test_it_is_refused_where_there_is_nothing_to_ask_about(options: Any) -> None:
    """With cache and checkpoint=False, and for anything but a function."""
    with pytest.raises(InvalidPolicy, match="valid"):
        action(**{"valid": is_there, **options})(table.function)


def test_a_cleanup_leaves_no_checkpoint_to_ask_about() -> None:
    """always=True and valid exclude each other."""
    with pytest.raises(InvalidLink, match="valid"):
        DotFlow().task.add(table, always=True)
