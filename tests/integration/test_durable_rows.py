"""The calls of durable steps as rows of the history, in each way of running them."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from dotflow import Config, DotFlow, Secret, action
from dotflow.providers import (
    ExecutorAsync,
    ExecutorInline,
    ExecutorProcess,
    ExecutorThread,
    HistorySQLite,
    LogDefault,
    StorageDefault,
    StorageFile,
)
from dotflow.records.record import CallPage

EXECUTORS: Final = {
    "sequential": ExecutorInline,
    "threads": ExecutorThread,
    "loop": ExecutorAsync,
    "processes": ExecutorProcess,
}
TOKEN: Final = "s3cr3t-of-the-shop"


@pytest.fixture
def history(tmp_path: Path) -> HistorySQLite:
    return HistorySQLite(path=tmp_path / "history.db")


def flow(history: HistorySQLite, step: Any, executor: str = "sequential", **options: Any) -> DotFlow:
    """A workflow of one step, over the files beside the history."""
    storage = options.pop("storage", None) or StorageFile(history.path.parent / "values")
    config = Config(storage=storage, history=history, executor=EXECUTORS[executor](), log=LogDefault(output="none"))
    workflow = DotFlow(config, workflow_id="w")
    workflow.task.add(step, name="agent", **options)
    return workflow


def shown(page: CallPage) -> list[tuple[int, str, str, str]]:
    return [(call.number, call.shown, str(call.state), call.glimpse or call.exception) for call in page.calls]


@action
def search(query: str, page: int = 1) -> list[str]:
    return [query] * page


@action
async def search_later(query: str) -> str:
    await asyncio.sleep(0)
    return query


@action
def charge(account: str) -> str:
    raise PermissionError(f"{account} is closed, {TOKEN}")


@action(durable=True)
def agent(token: str = Secret("SHOP_TOKEN")) -> int:
    search("weather")
    try:
        charge("a1")
    except PermissionError:
        search(f"with {token}", page=2)
    return 3


@action(durable=True)
async def agent_later() -> None:
    await asyncio.gather(*(search_later(query) for query in "ab"))


@pytest.mark.parametrize("executor", EXECUTORS)
def test_each_call_is_a_row(executor: str, history: HistorySQLite, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its arguments, its value or its failure, and without the secrets in them."""
    monkeypatch.setenv("SHOP_TOKEN", TOKEN)
    run = flow(history, agent, executor).start().raise_for_failure()

    page = history.calls(run.run_id, "agent")

    assert shown(page) == [
        (1, "search('weather', 1)", "Made", "['weather']"),
        (2, "charge('a1')", "Failed", "PermissionError"),
        (3, "search('with ***', 2)", "Made", "['with ***', 'with ***']"),
    ]
    failed = page.calls[1]
    assert failed.message == "a1 is closed, ***"
    assert "in charge\n" in failed.traceback
    assert TOKEN not in failed.traceback
    assert all(call.duration is not None and call.duration < 60 and call.depth == 0 for call in page.calls)
    (keys,) = [[call.key for call in page.calls]]
    assert all(StorageFile(history.path.parent / "values").contains(f"w/agent-call-{key}") for key in keys)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_calls_of_a_coroutine_are_rows(executor: str, history: HistorySQLite) -> None:
    """Also of those side by side."""
    run = flow(history, agent_later, executor).start().raise_for_failure()

    calls = history.calls(run.run_id, "agent").calls

    assert [call.number for call in calls] == [1, 2]
    assert sorted((call.shown, call.glimpse, str(call.state)) for call in calls) == [
        ("search_later('a')", "'a'", "Made"),
        ("search_later('b')", "'b'", "Made"),
    ]


@action
def flaky(number: int) -> int:
    if number == 3 and not Path(os.environ["OPEN"]).exists():
        raise ConnectionError(number)
    return number


@action(durable=True)
def crawl() -> int:
    return sum(flaky(number) for number in range(1, 6))


@action(durable=True)
def inner(number: int) -> int:
    return flaky(number) + flaky(number + 1)


@action(durable=True)
def outer() -> int:
    return inner(4) + flaky(6)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_numbers_go_on_in_the_run_that_resumes(
    executor: str, history: HistorySQLite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure that the step ended with is a row, too. What is given back is none."""
    monkeypatch.setenv("OPEN", str(tmp_path / "open"))
    first = flow(history, crawl, executor).start()
    (tmp_path / "open").touch()
    second = flow(history, crawl, executor).start(resume=True).raise_for_failure()

    assert shown(history.calls(first.run_id, "agent")) == [
        *((1, "flaky(1)", "Made", "1"), (2, "flaky(2)", "Made", "2")),
        (3, "flaky(3)", "Failed", "ConnectionError"),
    ]
    assert [call[:2] for call in shown(history.calls(second.run_id, "agent"))] == [
        *((3, "flaky(3)"), (4, "flaky(4)"), (5, "flaky(5)")),
    ]


def test_numbers_go_on_where_the_body_asks_for_a_new_call_first(
    history: HistorySQLite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No kept call has the number of another one."""
    monkeypatch.setenv("OPEN", str(tmp_path / "open"))
    flow(history, crawl).start()
    (tmp_path / "open").touch()

    @action(durable=True)
    def edited() -> int:
        return flaky(0) + sum(flaky(number) for number in range(1, 6))

    second = flow(history, edited).start(resume=True).raise_for_failure()

    assert [call.number for call in history.calls(second.run_id, "agent").calls] == [3, 4, 5, 6]


def test_calls_in_a_durable_call_have_a_depth(history: HistorySQLite, tmp_path: Path) -> None:
    """The numbers are in the order in which the calls begin."""
    os.environ["OPEN"] = str(tmp_path)
    run = flow(history, outer).start().raise_for_failure()

    calls = history.calls(run.run_id, "agent").calls

    assert [(call.number, call.name, call.depth) for call in calls] == [
        *((1, "inner", 0), (2, "flaky", 1), (3, "flaky", 1), (4, "flaky", 0)),
    ]


@action
def ask_model(messages: list[str]) -> str:
    return f"{len(messages)} messages"


def test_large_arguments_show_their_beginning(history: HistorySQLite) -> None:
    """Whatever of it a line has room for."""

    @action(durable=True)
    def long() -> None:
        ask_model(["tell me " * 10] * 1_000)

    run = flow(history, long).start().raise_for_failure()

    (call,) = history.calls(run.run_id, "agent").calls
    assert call.arguments.startswith('["tell me tell me')
    assert len(call.arguments) < 250


def test_a_history_without_values_shows_none_of_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither arguments nor values."""
    monkeypatch.setenv("SHOP_TOKEN", TOKEN)
    history = HistorySQLite(tmp_path / "history.db", values="none")
    run = flow(history, agent).start().raise_for_failure()

    assert [(call.shown, call.glimpse) for call in history.calls(run.run_id, "agent").calls] == [
        ("search()", ""),
        ("charge()", ""),
        ("search()", ""),
    ]


KILLED: Final = """
import os, signal
from dotflow import Config, DotFlow, action
from dotflow.providers import HistorySQLite, LogDefault

@action
def fatal(number):
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number

@action(durable=True)
def agent():
    for number in range(1, 6):
        fatal(number)

workflow = DotFlow(Config(history=HistorySQLite("history.db"), log=LogDefault(output="none")), workflow_id="w")
workflow.task.add(agent)
workflow.start()
"""


def test_the_call_that_a_process_died_in_is_there(tmp_path: Path) -> None:
    """It is in the history before its first line runs."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, env=environment, check=False)
    assert ended.returncode == -signal.SIGKILL

    calls = HistorySQLite(tmp_path / "history.db").calls("last", "agent").calls

    assert [(call.number, str(call.state)) for call in calls] == [(1, "Made"), (2, "Made"), (3, "Cut off")]


def test_rows_of_calls_are_forgotten_with_their_run(history: HistorySQLite) -> None:
    """None is left in the file."""
    first = flow(history, agent_later, storage=StorageDefault()).start()
    second = flow(history, agent_later, storage=StorageDefault()).start()
    assert len(history.all_calls(first.run_id)) == 1

    history.forget(first.run_id)

    rows = history.database.file.run("SELECT COUNT(*) FROM calls", ())
    assert rows == [(2,)]
    assert history.calls(second.run_id, "agent").total == 2
