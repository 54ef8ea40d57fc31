"""`dotflow graph` and `dotflow plan`: what a workflow is, and what a run would do."""

import json
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import click
import pytest

from dotflow import Context, clock
from dotflow.cli.commands.cache import cache
from dotflow.cli.main import dotflow, main
from dotflow.providers import StorageFile, StorageSQLite

JOBS = """\
from dotflow import DotFlow, action

@action
def urls():
    return ["a", "b"]

@action
def fetch(url):
    return url

@action
def report(fetch, day):
    return day

def nightly():
    workflow = DotFlow(workflow_id="nightly", params={"day": ...})
    workflow.task.add(urls).add(fetch, each=urls).add(report)
    return workflow
"""


@pytest.fixture(autouse=True)
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "plan_jobs.py").write_text(JOBS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("plan_jobs", None)


def test_graph_prints_the_diagram(capsys: pytest.CaptureFixture[str]) -> None:
    """Also where a run would lack a parameter."""
    assert main(["graph", "--workflow", "plan_jobs:nightly"]) == 0
    mermaid = capsys.readouterr().out
    assert main(["graph", "--workflow", "plan_jobs:nightly", "--format", "dot"]) == 0

    assert mermaid.splitlines()[0] == "flowchart TD"
    assert capsys.readouterr().out.startswith("digraph {")


def test_graph_refuses_unknown_workflows_and_formats(capsys: pytest.CaptureFixture[str]) -> None:
    """A workflow that does not exist, and a format."""
    assert main(["graph", "--workflow", "plan_jobs:missing"]) == 2
    assert main(["graph", "--workflow", "plan_jobs:nightly", "--format", "svg"]) == 2
    assert main(["graph"]) == 2
    assert "Nothing to run" in capsys.readouterr().err


FILE = ("--workflow", "plan_jobs:nightly", "--param", "day=1", "--storage", "file", "--path", "out")


def test_plan_prints_the_decisions_of_start(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """With the options of `start`. It writes no file."""
    assert main(["plan", *FILE, "--resume"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert not (tmp_path / "out").exists()
    assert main(["start", *FILE]) == 0
    capsys.readouterr()
    assert main(["plan", *FILE, "--resume"]) == 0
    again = capsys.readouterr().out.splitlines()

    assert [line.split()[2] for line in lines[:3]] == ["run", "open", "run"]
    assert [line.split()[2] for line in again[:3]] == ["restore", "restore", "restore"]
    assert again[-1] == "3 restored, 0 run, 0 cached, 0 open, 0 skipped."


def test_plan_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    """The model that plan() returns."""
    assert main(["plan", *FILE, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)

    assert plan["workflow_id"] == 'nightly@day="1"'
    assert [task["decision"] for task in plan["tasks"]] == ["run", "run", "run"]


def test_plan_refuses_the_mistakes_of_start(capsys: pytest.CaptureFixture[str]) -> None:
    """A missing parameter, say."""
    assert main(["plan", "--workflow", "plan_jobs:nightly"]) == 2
    assert "day" in capsys.readouterr().err


def test_start_and_plan_take_rerun_and_resume_changed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """They imply --resume. A schedule refuses them, since they are for one run."""
    assert main(["start", *FILE]) == 0
    assert main(["plan", *FILE, "--rerun", "report"]) == 0
    rerun = capsys.readouterr().out.splitlines()
    module = tmp_path / "plan_jobs.py"
    module.write_text(module.read_text().replace("return day", "return day + '!'"))
    sys.modules.pop("plan_jobs")
    assert main(["plan", *FILE, "--resume-changed"]) == 0
    changed = capsys.readouterr().out.splitlines()
    assert main(["start", *FILE, "--resume-changed"]) == 0
    capsys.readouterr()
    assert main(["plan", *FILE, "--resume-changed"]) == 0
    after = capsys.readouterr().out.splitlines()

    assert rerun[-1] == changed[-1] == "2 restored, 1 run, 0 cached, 0 open, 0 skipped."
    assert rerun[-2].endswith("rerun names it")
    assert changed[-2].endswith("its code has changed")
    assert after[-1] == "3 restored, 0 run, 0 cached, 0 open, 0 skipped."
    assert main(["schedule", *FILE, "--cron", "@daily", "--rerun", "report"]) == 2
    assert main(["plan", *FILE, "--rerun", "reprot"]) == 2
    assert "Did you mean 'report'?" in capsys.readouterr().err


CACHED = """\
from dotflow import DotFlow, action

@action(cache=True)
def train():
    return 1

@action(cache="1h")
def other():
    return 2
"""
STORE = ("--storage", "file", "--path", "out")


def test_the_cache_is_listed_and_cleared(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """By step and by age. --no-cache runs what is cached."""
    (tmp_path / "plan_jobs.py").write_text(CACHED)
    steps = ("--step", "plan_jobs.train", "--step", "plan_jobs.other")

    def run(*arguments: str) -> list[str]:
        assert main(list(arguments)) == 0
        return capsys.readouterr().out.splitlines()

    run("start", *steps, *STORE)
    again = run("start", *steps, *STORE)

    assert again[0] == "task 0 train: Completed, cached"
    assert again[-1].startswith("Completed: 2 of 2 tasks completed (2 cached), in ")
    assert any("task 0 train: Completed (from the cache)" in line for line in run("log"))
    assert run("plan", *steps, *STORE)[-1] == "0 restored, 0 run, 2 cached, 0 open, 0 skipped."
    assert run("plan", *steps, *STORE, "--no-cache")[-1] == "0 restored, 2 run, 0 cached, 0 open, 0 skipped."
    assert [line.split()[:2] for line in run("cache", "list", *STORE)] == [
        ["plan_jobs:other", "1"],
        ["plan_jobs:train", "1"],
    ]
    assert run("cache", "clear", *STORE, "--older-than", "1h") == ["0 values deleted."]
    assert run("cache", "clear", *STORE, "--step", "plan_jobs.train") == ["1 value deleted."]
    assert len(run("cache", "list", *STORE)) == 1
    assert run("plan", *steps, *STORE)[-1] == "0 restored, 1 run, 1 cached, 0 open, 0 skipped."
    assert run("cache", "clear", *STORE) == ["1 value deleted."]
    assert run("cache", "list", *STORE) == []


PICKLED = """\
from dotflow import action

class Model:
    pass

@action(cache=True)
def train():
    return Model()

@action
def use(train):
    print(f"a {type(train).__name__}")
    raise ConnectionError
"""


def test_a_storage_with_pickles_can_be_used_from_the_command_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --pickle `start` saves and restores them, and `plan` finds them. `replay` asks before it loads one."""
    (tmp_path / "plan_jobs.py").write_text(PICKLED)
    steps = ("--step", "plan_jobs.train", "--step", "plan_jobs.use", *STORE)

    def run(code: int, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["dotflow", *arguments])  # which the history keeps for replay
        assert main(list(arguments)) == code
        captured = capsys.readouterr()
        return captured.out + captured.err

    refused = run(1, "start", *steps)
    made = run(1, "start", *steps, "--pickle")

    assert "Or set pickle=True, or --pickle on the command line" in refused
    assert "a Model" in made
    assert "give it pickle=True, or --pickle on the command line" in run(2, "start", *steps, "--resume")
    assert "a Model" in run(1, "start", *steps, "--pickle", "--resume")
    assert "--pickle --resume`: only the history names it" in run(3, "replay", "failed", "use")
    assert "1 restored, 1 run" in run(0, "plan", *steps, "--pickle", "--resume")
    assert "0 restored, 1 run, 1 cached" in run(0, "plan", *steps, "--pickle")
    assert "plan_jobs:train  1 value, latest" in run(0, "cache", "list", *STORE, "--pickle")


def test_each_command_that_offers_a_storage_offers_pickles() -> None:
    """Among them are `start`, `schedule`, `plan` and both of `cache`."""
    context = click.Context(dotflow)
    top = [dotflow.get_command(context, name) for name in dotflow.list_commands(context)]
    commands = [command for command in (*top, *cache.commands.values()) if command is not None]
    options = {
        command.name: {option for parameter in command.params for option in parameter.opts} for command in commands
    }

    with_storage = {name for name, known in options.items() if "--storage" in known}
    assert with_storage >= {"start", "schedule", "plan", "list", "clear"}
    assert with_storage == {name for name, known in options.items() if "--pickle" in known}


class Model:
    """A value that only pickle keeps."""


KEY = "@cache/plan_jobs:train/1"


def store(kind: str, folder: Path, value: Any, time: datetime) -> tuple[str, ...]:
    """Puts a value that was made at a time into the cache, and returns the options that name its storage."""
    path = folder / "values"
    storage = (StorageFile if kind == "file" else StorageSQLite)(path=path, pickle=True)
    storage.post(KEY, Context(value, 0, "w", time, "plan_jobs:train"))
    return "--storage", kind, "--path", str(path)


@pytest.mark.parametrize("kind", ["file", "sqlite"])
def test_clear_knows_the_age_of_values_that_it_can_not_load(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, kind: str
) -> None:
    """The time of a pickle can be read without loading it: a young one stays, an old one goes. `list` shows it."""
    made = clock.now() - timedelta(minutes=5)
    young = store(kind, tmp_path, Model(), made)
    assert main(["cache", "list", *young]) == 0
    assert main(["cache", "clear", *young, "--older-than", "1h"]) == 0
    kept = capsys.readouterr().out.splitlines()
    old = store(kind, tmp_path, Model(), clock.now() - timedelta(hours=2))
    assert main(["cache", "clear", *old, "--older-than", "1h"]) == 0

    latest = f"{made.astimezone():%Y-%m-%d %H:%M:%S}"
    assert kept == [f"plan_jobs:train  1 value, latest {latest}", "0 values deleted."]
    assert capsys.readouterr().out == "1 value deleted.\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [(b'"value": 7', b'"value": 8'), (b'"dotflow": 1', b'"dotflow": 9'), (b'"time": "', b'"time": "?')],
    ids=["damaged", "of a later version", "without a time"],
)
def test_clear_keeps_values_of_unknown_age(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, before: bytes, after: bytes
) -> None:
    """It counts them, and so does `list`. Without --older-than they are deleted with the others."""
    options = store("file", tmp_path, 7, clock.now() - timedelta(hours=2))
    (path,) = tmp_path.rglob("*.json")
    line, _, rest = path.read_bytes().replace(before, after).partition(b"\n")
    checksum = sha256(rest).hexdigest().encode() if b"value" not in before else line.split(b'"')[3]
    path.write_bytes(b'{"sha256": "%b",\n%b' % (checksum, rest))

    for command in (("list",), ("clear", "--older-than", "1h"), ("clear",)):
        assert main(["cache", *command, *options]) == 0

    assert capsys.readouterr().out.splitlines() == [
        "plan_jobs:train  1 value, 1 without a readable time",
        "0 values deleted.",
        "1 value kept: no time can be read. Omit --older-than to delete values of any age.",
        "1 value deleted.",
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "hint"),
    [
        (("list",), 2, "Add --storage file"),
        (("list", "--storage", "default"), 2, "Add --storage file"),
        (("list", *STORE), 0, "The cache is empty. Use the --storage"),
        (("clear", *STORE, "--step", "plan_jobs.train"), 0, "The cache is empty. Use the --storage"),
        (("clear", *STORE, "--older-than", "7"), 2, "Use a number with a unit: 90s, 12h or 7d."),
        (("lst",), 2, "Did you mean 'list'?"),
    ],
)
def test_a_mistake_with_the_cache_has_a_hint(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: tuple[str, ...], code: int, hint: str
) -> None:
    """Without a storage, without values, with a number that has no unit. Nothing is written."""
    assert main(["cache", *arguments]) == code
    assert hint in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_misspelt_step_of_the_cache_has_a_hint(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """With all that there are. stdout is as without the mistake."""
    (tmp_path / "plan_jobs.py").write_text(CACHED)
    assert main(["start", "--step", "plan_jobs.train", *STORE]) == 0
    capsys.readouterr()

    assert main(["cache", "list", *STORE, "--step", "plan_jobs.trian"]) == 0
    near = capsys.readouterr()
    assert main(["cache", "clear", *STORE, "--step", "abc"]) == 0
    far = capsys.readouterr()

    assert (near.out, far.out) == ("", "0 values deleted.\n")
    for end in (near, far):
        assert "Its steps are: plan_jobs:train." in end.err


def test_the_cache_without_a_command_prints_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    """As `dotflow` does."""
    assert main(["cache"]) == 0
    assert "dotflow cache list --storage file" in capsys.readouterr().out


@pytest.mark.parametrize("options", [("--resume",), ("--resume-changed",), ("--rerun", "urls")])
def test_a_resume_without_a_storage_names_its_option(
    capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    """In a plan, too."""
    assert main(["plan", "--workflow", "plan_jobs:nightly", "--param", "day=1", *options]) == 2
    assert f"{options[0]} needs a storage that outlives the process" in capsys.readouterr().err
