"""A durable step that runs again from one of its calls on."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from dotflow import Config, Control, DotFlow, Run, action
from dotflow.cli.main import main
from dotflow.errors import InvalidLink, StorageError, UnknownTask
from dotflow.providers import HistorySQLite, LogDefault, StorageFile
from tests.storages import StorageThree


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def note(text: str) -> None:
    with Path("made").open("a") as file:
        file.write(f"{text}\n")


def made() -> list[str]:
    """The calls that were made since it was asked last."""
    file = Path("made")
    lines = file.read_text().split() if file.exists() else []
    file.unlink(missing_ok=True)
    return lines


@action
def fetch(number: int, idempotency_key: str = "") -> int:
    note(f"{number}:{idempotency_key[:8]}" if Path("keys").exists() else str(number))
    return number


@action(durable=True)
def crawl() -> int:
    return sum(fetch(number) for number in range(1, 6))


@action(durable=True)
def pair(number: int) -> int:
    return fetch(number) + fetch(number + 1)


@action(durable=True)
def nested() -> int:
    return fetch(1) + pair(2) + pair(4)


@action
def report(total: int) -> str:
    note("report")
    return f"{total} pages"


@action
def plain() -> None: ...


def flow(step: Any = crawl, **options: Any) -> DotFlow:
    config = Config(
        storage=options.pop("storage", None) or StorageFile("values"),
        history=HistorySQLite("history.db"),
        log=LogDefault(output="none"),
    )
    workflow = DotFlow(config, workflow_id="w")
    workflow.task.add(step, name="agent", **options)
    workflow.task.add(report, needs={"total": "agent"} if not options else None)
    return workflow


def start(step: Any = crawl, **options: Any) -> Run:
    return flow(step).start(**options).raise_for_failure()


def test_calls_from_a_number_on_are_made_again() -> None:
    """Those before count, though the step has completed. What needs its value runs again."""
    start()
    made()

    plan = flow().plan(rerun="agent@4")
    run = start(rerun="agent@4")

    assert made() == ["4", "5", "report"]
    assert "goes on with 3 calls" in plan.tasks[0].reason
    calls = HistorySQLite("history.db").calls(run.run_id, "agent").calls
    assert [(call.number, call.arguments) for call in calls] == [(4, "4"), (5, "5")]
    assert start(resume=True).status == "Completed"
    assert made() == []


def test_calls_that_are_made_again_have_new_idempotency_keys() -> None:
    """As those of a step that runs again; the next resume keeps them."""
    Path("keys").touch()
    start()
    first = made()
    start(rerun="agent@4")
    second = made()
    start(rerun="agent@5")
    third = made()

    assert [line.partition(":")[0] for line in second] == ["4", "5", "report"]
    assert not {*first[3:5]} & {*second}
    assert third[0] not in (first[4], second[1])


def test_a_durable_call_around_a_voided_one_is_made_again() -> None:
    """The calls in it count up to that one."""
    start(nested)
    assert made() == ["1", "2", "3", "4", "5", "report"]

    start(nested, rerun="agent@4")  # fetch(3), in pair(2)

    assert made() == ["3", "4", "5", "report"]


KILLED: Final = """
import os, signal
from tests.integration import test_durable_rerun as module
from dotflow.resume import calls

def kill(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

WHERE = {where!r}
if WHERE == "before":
    module.StorageFile.delete = kill
else:
    calls.NodeCalls.keep = kill
module.flow().start(rerun="agent@3")
"""


@pytest.mark.parametrize("where", ["before", "between"])
def test_a_kill_forgets_no_call_that_was_voided(where: str) -> None:
    """Neither before the first one is deleted, nor before the first one is made again."""
    start()
    made()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    program = [sys.executable, "-c", KILLED.format(where=where)]
    assert subprocess.run(program, env=environment, check=False).returncode == -signal.SIGKILL
    assert made() == ([] if where == "before" else ["3"])

    start(resume=True)

    assert made() == ["3", "4", "5", "report"]


def test_a_run_in_the_queue_goes_on_from_a_call() -> None:
    """The order to resume has the number."""
    run = start()
    made()
    Control(HistorySQLite("history.db")).resume(run.run_id, "agent@5")

    start(resume=True)  # takes it from the queue

    assert made() == ["5", "report"]


def test_the_command_line_takes_a_call(capsys: pytest.CaptureFixture[str]) -> None:
    """To start and to plan."""
    words = ["--step", "tests.integration.test_durable_rerun.crawl", "--storage", "file", "--workflow-id", "w"]
    assert main(["start", *words]) == 0
    made()

    assert main(["plan", *words, "--rerun", "crawl@5"]) == 0
    assert "goes on with 4 calls" in capsys.readouterr().out
    assert main(["start", *words, "--rerun", "crawl@5"]) == 0
    assert made() == ["5"]


def test_what_makes_no_calls_is_refused() -> None:
    """With what to name instead."""
    start()
    with pytest.raises(UnknownTask, match="crowd"):
        start(rerun="crowd@3")
    with pytest.raises(InvalidLink, match=r"'report@3' is a call, and 'report' is not durable\. Name 'report'"):
        start(rerun="report@3")
    workflow = DotFlow(workflow_id="w")
    workflow.task.add(pair, name="agent", each=[1, 2])
    with pytest.raises(InvalidLink, match="each item of 'agent' has its own"):
        workflow.start(rerun="agent@3")
    storage = StorageThree()
    flow(storage=storage).start().raise_for_failure()
    with pytest.raises(StorageError, match="it lists no keys"):
        flow(storage=storage).start(rerun="agent@3")
