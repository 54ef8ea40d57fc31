"""Secrets that come in as run parameters, ids, names and exceptions: nothing that dotflow writes has them."""

import os
import re
import sqlite3
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

TOKEN = "tok-5f2c91d0a7-of-an-option"
PASSWORD = "hunter22-of-the-environment"

JOBS = """
import os
import sys
from dotflow import Config, DotFlow, Secret, action
from dotflow.providers import ExecutorProcess, StorageFile

TOKEN = %r

def made(**more):
    return DotFlow(Config(storage=StorageFile("values")), workflow_id="nightly", **more)

@action
def plain(token: str, day: str = "mon") -> int:
    print("printed", token)
    return len(token)

@action
def fails(token: str) -> None:
    assert token == TOKEN, "another secret"
    print("printed", token, file=sys.stderr)
    error = type(token, (Exception,), {})(f"bad {token}")
    error.add_note(f"note {token}")
    raise error from type(f"Of{token}", (KeyError,), {"__qualname__": f"Outer.{token}"})(token)

@action
def declared(token: str = Secret("NO_SUCH_VARIABLE")) -> int:
    raise ValueError(f"bad {token}")

@action
def all_of(params: dict) -> list:
    return sorted(params)

@action
def pair(previous_context) -> None:
    raise ValueError("the end")

def of_workflow():
    return add(made(params={"token": Secret("NO_SUCH_VARIABLE"), "day": "mon"}), plain, fails)

def of_factory(token: str = Secret("NO_SUCH_VARIABLE")):
    return add(made(params={"token": token}), plain, fails)

def of_closure(token: str = Secret("NO_SUCH_VARIABLE")):
    @action
    def closes() -> None:
        raise ValueError(f"bad {token}")
    return add(made(), closes)

@action
def nests(token: str) -> None:
    @action
    def inner() -> None:
        raise ValueError(f"bad {token}")
    add(DotFlow(workflow_id="nested"), inner).start()

def of_nested(token: str = Secret("NO_SUCH_VARIABLE")):
    executor = ExecutorProcess(start_method=os.environ["START_METHOD"])
    return add(DotFlow(Config(executor=executor), params={"token": token}), nests)

def of_step():
    return add(made(params={"token": ...}), declared, plain, all_of, pair)

def add(workflow, *steps):
    for step in steps:
        workflow.task.add(step)
    return workflow
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "jobs.py").write_text(JOBS % TOKEN)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def dotflow(*words: str, **variables: str) -> str:
    """Runs the command, and returns what it wrote to stdout and stderr."""
    environment = {**os.environ, "PYTHONPATH": "../code", "PYTHONDONTWRITEBYTECODE": "1", **variables}
    command = [sys.executable, "-m", "dotflow", *words]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert "Traceback (most recent call last)" not in result.stderr or "jobs.py" in result.stderr, result.stderr
    return result.stdout + result.stderr


def python(program: str, **variables: str) -> str:
    environment = {**os.environ, "PYTHONPATH": "../code", "PYTHONDONTWRITEBYTECODE": "1", **variables}
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


def written(folder: Path) -> bytes:
    """Returns the names and the contents of all files, those of the history's rows unpacked."""
    parts = []
    for path in sorted(folder.rglob("*")):
        parts.append(str(path.relative_to(folder)).encode())
        if path.is_file():
            parts.append(path.read_bytes())
        if path.suffix == ".db":
            parts += rows(path)
    return b"\n".join(parts)


def rows(path: Path) -> list[bytes]:
    connection = sqlite3.connect(path)
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    cells = [cell for table in tables for row in connection.execute(f"SELECT * FROM {table}") for cell in row]
    connection.close()
    return [unpacked(cell) if isinstance(cell, bytes) else str(cell).encode() for cell in cells]


def unpacked(cell: bytes) -> bytes:
    for bits in (15, -15):
        try:
            return zlib.decompress(cell, bits) + cell
        except zlib.error:
            continue
    return cell


#: Runs several commands, each of which reads what another process has written.
IN_TURN = """
from dotflow.cli.main import main
for command in %(commands)r:
    main(command)
"""

COMMANDS = [
    *(("--workflow", f"jobs:{name}") for name in ("of_workflow", "of_factory", "of_closure", "of_step")),
    ("--step", "jobs.declared", "--storage", "file"),
]


#: In worker processes the parameters of all commands are the same.
IN_MODES = [
    *((command, "sequential") for command in COMMANDS),
    (COMMANDS[2], "parallel"),
    *(
        pytest.param(command, "parallel", marks=pytest.mark.exhaustive)
        for command in COMMANDS
        if command != COMMANDS[2]
    ),
]


@pytest.mark.exhaustive(keep_every=9)
@pytest.mark.parametrize(("command", "mode"), IN_MODES, ids=lambda value: value if isinstance(value, str) else value[1])
def test_a_secret_of_the_command_line_is_nowhere(folder: Path, command: tuple[str, ...], mode: str) -> None:
    """It is in no id, file name, log, history row, stored command, report or page, and a digest names the run."""
    words = (*command, "--param", f"token={TOKEN}", "--mode", mode)
    shown = dotflow("start", *words)
    readers = ("show last", "show last --json", "show last 0 --input", "runs --json", "report last -o page.html")
    plans = [["plan", *words[:-2]], ["plan", *words[:-2], "--json"]]
    shown += python(IN_TURN % {"commands": [line.split() for line in readers]})  # a process that has seen no secret
    shown += python(IN_TURN % {"commands": plans})

    seen = written(folder) + re.sub(rf"^printed {TOKEN}$", "", shown, flags=re.MULTILINE).encode()
    assert TOKEN.encode() not in seen
    assert re.search(rb"token=[0-9a-f]{32}\b", seen)
    assert b"bad ***" in seen


@pytest.mark.exhaustive(keep_every=2)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="starts workers by fork and by a fork server")
@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_a_run_in_a_worker_masks_a_secret_of_the_command_line(folder: Path, method: str) -> None:
    """It has the arguments of the command, and its steps may have the secret."""
    words = ("start", "--workflow", "jobs:of_nested", "--mode", "parallel", "--param", f"token={TOKEN}")
    shown = dotflow(*words, START_METHOD=method)

    assert "bad ***" in shown
    assert TOKEN not in shown
    assert TOKEN.encode() not in written(folder)


def test_a_run_with_a_secret_is_resumed_by_another_process() -> None:
    """The digest is the same in every process, and another secret names another run."""
    words = ("start", "--workflow", "jobs:of_workflow", "--param")
    dotflow(*words, f"token={TOKEN}")

    assert "plain: Completed, restored" in dotflow(*words, f"token={TOKEN}", "--resume")
    assert "plain: Completed, restored" not in dotflow(*words, "token=another-secret-of-somebody", "--resume")


@pytest.mark.exhaustive(keep_every=2)
@pytest.mark.parametrize("command", COMMANDS[:2], ids=lambda command: command[1])
def test_a_short_secret_names_no_run_and_is_in_no_stored_command(folder: Path, command: tuple[str, ...]) -> None:
    """It is too short to be masked in texts."""
    dotflow("start", *command, "--param", "token=x7q")

    assert b"token=x7q" not in written(folder)


def test_a_secret_that_is_not_given_names_no_run(folder: Path) -> None:
    """It is found where secrets are, and the step that has the parameter receives it."""
    shown = dotflow("start", "--workflow", "jobs:of_workflow", NO_SUCH_VARIABLE=TOKEN)
    assert "nightly run" in shown
    assert "1 failed" in shown
    assert TOKEN not in shown.replace(f"printed {TOKEN}", "")
    assert TOKEN.encode() not in written(folder)

    missing = dotflow("start", "--workflow", "jobs:of_workflow")
    assert "NO_SUCH_VARIABLE" in missing


def test_a_secret_in_python_is_nowhere(folder: Path) -> None:
    """`start(params=...)` keeps it as the command line does; `params` does not have it."""
    program = f"""
import jobs
from dotflow.providers import HistorySQLite
workflow = jobs.of_step()
workflow.config.history = HistorySQLite("history.db", values="all")
run = workflow.start(params={{"token": "{TOKEN}"}}, keep_going=True)
run.report("page.html")
print(run.workflow_id, repr(run), run.tasks[0].errors, run.tasks[0].error.exception)
print(workflow.result().model_dump_json())
print([task.value for task in run.tasks][1:3])
"""
    shown = python(program).replace(f"printed {TOKEN}\n", "")

    assert f"[{len(TOKEN)}, []]" in shown
    assert TOKEN not in shown
    assert TOKEN.encode() not in written(folder)


@pytest.mark.exhaustive
@pytest.mark.parametrize("of", ["of_workflow", "of_factory"])
def test_a_replay_asks_for_the_secret(folder: Path, of: str) -> None:
    """No history has it, so the command line passes it anew."""
    dotflow("start", "--workflow", f"jobs:{of}", "--param", f"token={TOKEN}")

    assert "Pass --workflow and --param" in dotflow("replay", "last", "fails")
    shown = dotflow("replay", "last", "fails", "--workflow", f"jobs:{of}", "--param", f"token={TOKEN}")
    assert "bad ***" in shown
    assert TOKEN not in shown.replace(f"printed {TOKEN}", "")
    assert TOKEN.encode() not in written(folder)


def test_a_wrong_secret_is_not_shown() -> None:
    """The message about a value that is no text has its type only."""
    program = """
import jobs
try:
    jobs.of_workflow().start(params={"token": ["tok-in-a-list"]})
except ValueError as error:
    print(error)
"""
    shown = python(program)
    assert "Secret" in shown
    assert "tok-in-a-list" not in shown


NAMED = f"""
import os
from dotflow import Config, DotFlow, action
from dotflow.providers import HistorySQLite, StorageFile

@action
def step(day=None) -> int:
    return 1

config = Config(storage=StorageFile("values"), history=HistorySQLite("history.db"), mask="SOME_URL")
workflow = DotFlow(config, workflow_id="of-" + os.environ["SOME_URL"], name="{PASSWORD}", params={{"day": ...}})
workflow.task.add(step, name=os.environ["SOME_URL"], group_name="{PASSWORD}")
run = workflow.start(params={{"day": "{PASSWORD}"}}, resume=True, rerun=RERUN)
run.report("page.html")
print(run[os.environ["SOME_URL"]].restored_from, run, workflow.runs(), workflow.result().model_dump_json())
"""


@pytest.mark.exhaustive
def test_masked_values_are_in_no_id_and_no_name(folder: Path) -> None:
    """A secret variable as a parameter, the value of a masked one as a workflow's id, and both as names."""
    url = "tok_named_in_config"
    variables = {"DB_PASSWORD": PASSWORD, "SOME_URL": url}
    first, again, rerun = (python(NAMED.replace("RERUN", value), **variables) for value in ("None", "None", repr(url)))

    shown = first + again + rerun
    assert re.findall("^(?:None|checkpoint) ", shown, re.MULTILINE) == ["None ", "checkpoint ", "None "]
    assert re.search(r"of-[0-9a-f]{32}@day=[0-9a-f]{32}\b", shown)
    for secret in variables.values():
        assert secret not in shown
        assert secret.encode() not in written(folder)


def test_a_secret_of_a_step_is_in_no_message_about_a_parameter(folder: Path) -> None:
    """It is typed in place of another parameter's value: the workflow's own secrets are known by then."""
    (folder.parent / "code" / "steps.py").write_text(
        "from dotflow import Config, DotFlow, Secret, action\n"
        "@action\n"
        "def pay(limit: int = 1, key: str = Secret('STRIPE')) -> int: return limit\n"
        "workflow = DotFlow(workflow_id='pay', params={'limit': 1})\n"
        "workflow.task.add(pay)\n"
    )
    for words in (("--workflow", "steps:workflow"), ("--step", "steps.pay")):
        for command in ("start", "plan"):
            out = dotflow(command, *words, "--param", f"limit={TOKEN}", STRIPE=TOKEN)
            assert "Can't use --param limit=***" in out
            assert TOKEN not in out
    assert TOKEN.encode() not in written(folder)
