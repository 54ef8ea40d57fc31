"""The calls of durable steps on the command line."""

import json
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, DotFlow, Run, action
from dotflow.cli.main import main
from dotflow.providers import HistorySQLite, LogDefault, StorageDefault, StorageFile

HISTORY = ".output/history.db"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@action
def search(query: str, page: int = 1) -> list[str]:
    return [query] * page


@action
def charge(account: str, note: str = "") -> str:
    if not Path("open").exists():
        raise PermissionError(f"{account} is closed")
    return f"charged {account}"


@action(durable=True)
def inner() -> int:
    return len(search("inner"))


@action(durable=True)
def agent() -> str:
    for number in range(1, 24):
        search(f"query {number}")
    inner()
    return charge("a1", note="x" * 20_000)


def start(**options: Any) -> Run:
    storage = options.pop("storage", None) or StorageFile("values")
    config = Config(storage=storage, history=HistorySQLite(HISTORY), log=LogDefault(output="none"))
    workflow = DotFlow(config, workflow_id="w")
    workflow.task.add(agent)
    return workflow.start(**options)


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*words: str, code: int = 0) -> str:
        capsys.readouterr()
        assert main(["show", *words]) == code
        printed = capsys.readouterr()
        return printed.err if code else printed.out

    return run


def test_a_step_shows_its_last_calls(show: Any) -> None:
    """Each with its number, and those in durable calls indented; all of them with --all."""
    start()

    lines = show("last", "agent").splitlines()

    (at,) = [number for number, line in enumerate(lines) if line.split()[:2] == ["Number", "Call"]]
    shown = lines[at + 1 : at + 22]
    assert [line.split()[0] for line in shown[:-1]] == [str(number) for number in range(7, 27)]
    assert shown[0].split()[:3] == ["7", "search('query", "7',"]
    assert "made" in shown[0]
    assert "  search('inner', 1)" in shown[18]
    assert "failed" in shown[19]
    assert "PermissionError: a1 is closed" in shown[19]
    assert shown[20] == "and 6 earlier calls; --all lists them"
    assert "search('query 1', 1)" in show("last", "agent", "--all")
    assert "earlier call" not in show("last", "agent", "--all")


def test_the_counts_of_calls_are_no_notes_of_the_step(show: Any) -> None:
    """They have a line of their own; and neither the JSON nor the trends of the page have them among the notes."""
    start()
    assert "calls    25 kept" in show("last", "agent")
    Path("open").touch()
    start(resume=True)

    lines = show("last", "agent")

    assert "calls    1 kept, 24 given back" in lines
    assert "noted" not in lines
    assert json.loads(show("last", "--json"))["tasks"][0]["notes"] == {}
    history = HistorySQLite(HISTORY)
    assert history.noted_numbers([history.load("last").run_id]) == [[]]


def test_a_call_shows_what_the_storage_has_kept(show: Any) -> None:
    """Its arguments by name, and its value; of one that failed, the traceback."""
    start()

    text = show("last", "agent@3")
    assert text.startswith("Made  search('query 3', 1)  call agent@3 of run ")
    assert 'given    query = "query 3"' in text
    assert "given    page = 1" in text
    assert 'value    ["query 3"]' in text
    assert json.loads(show("last", "agent@3", "--value")) == ["query 3"]
    assert json.loads(show("last", "agent@3", "--input")) == {"query": "query 3", "page": 1}

    failed = show("last", "agent@26")
    assert failed.startswith("Failed  charge('a1', \"xxx")
    assert "the storage has nothing of it any more" in failed  # as its arguments are too large for the history
    assert "in charge\n" in failed
    assert show("last", "agent@26", "--error").endswith("PermissionError: a1 is closed\n")
    assert "it has none" in show("last", "agent@3", "--error", code=2)
    assert "the history has no such call" in show("last", "agent@27", code=2)
    assert "Can't find the step 'agent@0'" in show("last", "agent@0", code=2)


def test_a_call_that_was_given_back_is_found_where_it_was_made(show: Any) -> None:
    """The numbers go on in the run that resumes."""
    first = start()
    Path("open").touch()
    second = start(resume=True).raise_for_failure()

    assert f"call agent@3 of run {first.run_id}" in show(second.run_id, "agent@3")
    charged = show(second.run_id, "agent@26")
    assert f"call agent@26 of run {second.run_id}" in charged
    assert "its arguments were not kept: they have more than 16 KB" in charged
    assert 'value    "charged a1"' in charged


def test_without_a_storage_that_lasts_a_call_shows_its_row(show: Any) -> None:
    """And says why there is no more."""
    start(storage=StorageDefault())

    text = show("last", "agent@3")

    assert "value    ['query 3']" in text
    assert "only StorageFile and StorageSQLite can be read here" in text


def test_calls_as_json(show: Any) -> None:
    """With the run, with each attempt, and alone."""
    run = start()

    document = json.loads(show("last", "--json"))
    (attempt,) = map(json.loads, show("last", "agent", "--json", "--all").splitlines())
    call = json.loads(show("last", "agent@26", "--json"))

    calls = document["tasks"][0]["calls"]
    assert (calls["total"], [one["number"] for one in calls["listed"]]) == (26, [*range(7, 27)])
    assert [one["number"] for one in attempt["calls"]["listed"]] == [*range(1, 27)]
    assert (call["run_id"], call["address"], call["name"], call["item"]) == (run.run_id, "agent@26", "agent", None)
    assert call["call"] == calls["listed"][-1]
    assert call["call"]["error"]["exception"] == "PermissionError"
    assert "in charge:" in call["call"]["error"]["raised_at"]
    made = json.loads(show("last", "agent@3", "--json"))
    assert made["kept"] == {
        "arguments": {"query": "query 3", "page": 1},
        "value": ["query 3"],
        "has_value": True,
        "note": "",
    }


def test_a_comparison_names_calls_by_their_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever their numbers; those that earlier runs of the chain have made count."""
    first = start()
    Path("open").touch()
    second = start(resume=True)
    third = start()
    capsys.readouterr()

    assert main(["diff", second.run_id, third.run_id, "--json"]) == 0
    assert '"call"' not in capsys.readouterr().out
    assert main(["diff", first.run_id, third.run_id, "--json"]) == 0
    lines = map(json.loads, capsys.readouterr().out.splitlines())
    (call,) = [line for line in lines if line["kind"] == "call"]
    assert call["name"].startswith("agent charge('a1', ")
    assert (call["before"], call["after"]) == ("PermissionError: a1 is closed", "'charged a1'")


@action(durable=True)
def visit(site: str) -> list[str]:
    return search(site)


@action(durable=True)
def pay() -> str:
    return charge("a1")


def test_a_call_of_an_item_is_named_by_both(show: Any) -> None:
    """Each item has numbers of its own."""
    config = Config(storage=StorageFile("values"), history=HistorySQLite(HISTORY), log=LogDefault(output="none"))
    workflow = DotFlow(config, workflow_id="w")
    workflow.task.add(visit, each=["a.org", "b.org"])
    workflow.start().raise_for_failure()

    assert "call visit#1@1 of run" in show("last", "visit#1@1")
    assert json.loads(show("last", "visit#1@1", "--input")) == {"query": "b.org", "page": 1}
    assert "search('b.org', 1)" in show("last", "visit#1")


def test_the_page_of_a_failed_step_names_the_command_that_makes_its_call_again(show: Any) -> None:
    """With the arguments that the history has."""
    config = Config(storage=StorageFile("values"), history=HistorySQLite(HISTORY), log=LogDefault(output="none"))
    workflow = DotFlow(config, workflow_id="w")
    workflow.task.add(pay)
    run = workflow.start()

    assert f"dotflow replay {run.run_id[:8]} pay@1  # call charge again, with today's code" in show("last", "pay")
