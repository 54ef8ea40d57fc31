"""dotflow replay of durable steps and of their calls."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, Control, DotFlow, Run
from dotflow.cli.main import main
from dotflow.providers import HistorySQLite, LogDefault, StorageFile
from dotflow.providers.histories.sqlite.history import DEFAULT_PATH
from dotflow.testing import virtual_clock
from tests.integration.children import Scripts
from tests.integration.terminals import Terminal

SHOP = """\
from pathlib import Path
from dotflow import action

def note(text):
    with Path("made").open("a") as file:
        file.write(f"{text}\\n")

@action
def search(query, page=1):
    note(f"search-{query}")
    return [query] * page

@action
def charge(account, note_text="", idempotency_key=""):
    note(f"charge-{account}-{idempotency_key}")
    if not Path("open").exists():
        raise PermissionError(f"{account} is closed")
    return f"charged {account}"

@action(key=["query"])
def ask(client, query):
    note(f"ask-{query}")
    return query

@action
def many(**fields):
    note(f"many-{len(fields)}")
    return fields

@action(durable=True)
def inner(query):
    note("inner")
    return len(search(query)) + len(many(a=1, b=2))

@action(durable=True)
def agent():
    note("body")
    found = search("storks")
    ask(object(), "herons")
    inner("cranes")
    search("large" * 4000)
    return charge(found[0])
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    Path("shop.py").write_text(SHOP)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("shop", None)
    yield
    sys.modules.pop("shop", None)


def start(**options: Any) -> Run:
    import shop  # type: ignore[import-not-found]

    config = Config(storage=StorageFile("values"), history=HistorySQLite(DEFAULT_PATH), log=LogDefault(output="none"))
    workflow = DotFlow(config, workflow_id="w")
    workflow.task.add(shop.agent)
    run = workflow.start(**options)
    Path("made").unlink(missing_ok=True)
    return run


def made() -> list[str]:
    file = Path("made")
    lines = file.read_text().split() if file.exists() else []
    file.unlink(missing_ok=True)
    return lines


def test_a_replay_makes_no_call_that_was_not_kept(capsys: pytest.CaptureFixture[str]) -> None:
    """The kept ones are given back, those in durable calls included; the body ends where the other one is."""
    start()

    assert main(["replay", "last", "agent"]) == 1

    printed = capsys.readouterr().out
    assert made() == ["body"]
    assert "charge('storks', '') was not kept. Pass --make to make such calls." in printed
    assert "those that were kept are given back, and no other one is made" in printed
    assert "in agent" not in printed.partition("then:")[2]


WAITING = """\
from pathlib import Path
import dotflow
from dotflow import NotYet, action

@action(poll=0.05, poll_timeout=0.2)
def ready(job):
    with Path("made").open("a") as file:
        file.write("ready\\n")
    if not Path("is_ready").exists():
        raise NotYet("in line")
    return job

@action(durable=True)
def agent():
    dotflow.sleep(0.1)
    answer = dotflow.ask("Pay {amount} to {name}?", amount=30, name="ann")
    dotflow.sleep("3d")
    return f"{ready(answer.by)} {answer.value}"
"""


def test_a_replay_names_the_open_question(capsys: pytest.CaptureFixture[str]) -> None:
    """It sleeps for no time, and asks nobody, with --make neither."""
    Path("shop.py").write_text(WAITING)
    assert start().status == "Paused"

    for more in ([], ["--make"]):
        assert main(["replay", "last", "agent", *more]) == 1
        assert "The question 'Pay 30 to ann?' has no answer, which it waits for." in capsys.readouterr().out


def test_a_replay_is_given_the_answer_and_passes_the_sleeps(capsys: pytest.CaptureFixture[str]) -> None:
    """Those that were kept, and those that were not: this one takes no three days. A call that polls is asked again."""
    Path("shop.py").write_text(WAITING)
    run = start()
    Control(HistorySQLite(DEFAULT_PATH)).approve(run.run_id, by="eve", value=12)
    with virtual_clock():
        start(resume=True)  # the call is not ready in time

    assert main(["replay", "last", "agent"]) == 1
    assert "ready('eve') was not kept" in capsys.readouterr().out

    made()
    assert main(["replay", "last", "agent", "--make"]) == 1
    assert "not ready within its poll_timeout of 0.2 s" in capsys.readouterr().out
    assert len(made()) > 1

    Path("is_ready").touch()
    assert main(["replay", "last", "agent", "--make"]) == 0
    assert "'eve 12'" in capsys.readouterr().out


def test_make_makes_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    """With a new idempotency key; nothing is kept of them."""
    start()
    Path("open").touch()

    assert main(["replay", "last", "agent", "--make"]) == 0
    (body, first) = made()
    assert main(["replay", "last", "agent", "--make"]) == 0

    assert body == "body"
    assert first.startswith("charge-storks-")
    assert made()[1] != first
    assert "returned 'charged storks'" in capsys.readouterr().out


def test_a_replay_of_a_resumed_run_is_given_what_earlier_runs_have_kept() -> None:
    """Also where the run itself has made no call."""
    start()
    Path("open").touch()
    start(resume=True)
    assert main(["replay", "last", "agent"]) == 0
    assert made() == ["body"]


@pytest.mark.parametrize(
    ("number", "calls", "result"), [(1, ["search-storks"], "returned ['storks']"), (5, ["many-2"], "returned {'a'")]
)
def test_a_call_is_made_with_its_kept_arguments(
    number: int, calls: list[str], result: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Alone."""
    start()

    assert main(["replay", "last", f"agent@{number}"]) == 0

    assert made() == calls
    printed = capsys.readouterr().out
    assert printed.startswith(f"agent@{number}, as in the run ")
    assert result in printed
    assert "then: returned, now: returned" in printed


def test_a_failed_call_is_made_with_the_arguments_that_the_history_has(capsys: pytest.CaptureFixture[str]) -> None:
    """The storage has nothing of it. JSON has how it ended."""
    start()

    assert main(["replay", "last", "agent@7", "--json"]) == 1
    replayed = json.loads(capsys.readouterr().out)
    assert (replayed["name"], replayed["then"]) == ("agent@7", "PermissionError: storks is closed")
    assert replayed["now"] == "PermissionError: storks is closed"
    Path("open").touch()
    assert main(["replay", "last", "agent@7"]) == 0
    assert "then: PermissionError: storks is closed, now: returned" in capsys.readouterr().out


def test_a_durable_call_is_given_its_own_calls() -> None:
    """They are kept beneath it."""
    start()

    assert main(["replay", "last", "agent@3"]) == 0

    assert made() == ["inner"]


def test_what_was_not_kept_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is run."""
    start()

    assert main(["replay", "last", "agent@6"]) == 1 + 1
    assert "its arguments were not kept: they have more than 16 KB" in capsys.readouterr().err
    assert main(["replay", "last", "agent@2"]) == 3
    assert "'client' was not kept, which its `key` leaves out" in capsys.readouterr().err
    assert main(["replay", "last", "agent@9"]) == 2
    assert "the history has no such call" in capsys.readouterr().err
    assert made() == []


@pytest.mark.parametrize(
    ("step", "name", "value"), [("agent@7", "account", "'storks'"), ("agent", "found", "['storks']")]
)
def test_the_debugger_opens_in_the_call(step: str, name: str, value: str, scripts: Scripts, terminal: Terminal) -> None:
    """In its own frame; for a call that a replay does not make, where the body asks for it."""
    start()

    with scripts.command("replay", "last", step, "--pdb", terminal=terminal.descriptor) as child:
        terminal.see(lambda lines: "(Pdb)" in lines)
        terminal.type(f"p {name}\n")
        terminal.see(lambda lines: value in lines)
        terminal.type("q\n")
        child.end()
