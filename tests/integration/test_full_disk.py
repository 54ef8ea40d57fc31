"""Full disks, read-only folders, quotas: the task fails with what happened, the rest stays good.

The disks are real: a small file system in memory, mounted in a namespace of the script's own, which needs no rights.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.children import PRELUDE, SOURCES
from tests.marks import each_once

STORAGES = {
    "StorageFile": 'StorageFile(path=HERE / "disk" / "kept")',
    "StorageFile, process": 'StorageFile(path=HERE / "disk" / "kept", durability="process")',
    "StorageSQLite": 'StorageSQLite(path=HERE / "disk" / "flow.db")',
}

#: Where nothing can be written, the durability makes no difference.
ON_DISKS = [name for name in STORAGES if "," not in name]

#: The second step's value is larger than the disk; once `again` is there, it is small.
PIPELINE = """
from dotflow.providers import StorageFile, StorageSQLite

again = (HERE / "again").exists()
LETTER = globals().get("LETTER", "x")

@action
def small():
    return {"first": (1, 2)}

@action
def large(previous_context):
    return [previous_context.storage, "x" * 5 if again else LETTER * 300_000]

workflow = DotFlow(config(storage={storage}), workflow_id="nightly")
workflow.task.add([small, large])
run = workflow.start(resume=True)
facts = {
    "tasks": told(run.tasks),
    "kept": [workflow.config.storage.get(key).storage for key in ("nightly/0", "nightly/1")],
    "litter": [path.name for path in (HERE / "disk").rglob("*") if path.suffix in (".tmp", ".bin")],
}
"""


def run_on(disk: str, source: str, folder: Path, timeout: float = 15) -> Any:
    """Runs a script after the command *disk*, which mounts the folder `disk`; returns the facts that it prints."""
    script = folder / "script.py"
    script.write_text(PRELUDE.format(method=None, folder=str(folder)) + source)
    (folder / "disk").mkdir(exist_ok=True)
    ended = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", f'{disk} && exec "$0" "$@"', sys.executable, script],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(SOURCES)},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


@pytest.mark.exhaustive(keep_every=4)
@pytest.mark.parametrize(("storage", "letter"), each_once([*STORAGES], ["x", b"x"]))
def test_a_full_disk_fails_the_task(storage: str, letter: str | bytes, tmp_path: Path) -> None:
    """The step whose value doesn't fit fails with the system's message. The one before it is kept, and nothing is left
    half-written. With room again, resume completes the work."""
    source = f"LETTER = {letter!r}\n" + PIPELINE.replace("{storage}", STORAGES[storage])
    saving = 'import shutil; shutil.copytree(HERE / "disk", HERE / "saved"); print(json.dumps(facts))'

    facts = run_on("mount -t tmpfs -o size=256k tmpfs disk", f"{source}\n{saving}", tmp_path)
    (tmp_path / "again").touch()
    (tmp_path / "saved").rename(tmp_path / "disk")
    second = run_on("true", f"{source}\nprint(json.dumps(facts))", tmp_path)

    (small, large) = facts["tasks"]
    assert small == ["Completed", {"first": [1, 2]}, []]
    assert large[:2] == ["Failed", None]
    assert large[2][0][0] == "StorageError"
    assert "Step 'large' finished, but its value could not be saved" in large[2][0][1]
    assert any(words in large[2][0][1] for words in ("No space left on device", "disk is full"))
    assert (facts["kept"], facts["litter"]) == ([{"first": [1, 2]}, None], [])
    assert [task[:2] for task in second["tasks"]] == [
        ["Completed", {"first": [1, 2]}],
        ["Completed", [{"first": [1, 2]}, "xxxxx"]],
    ]


@pytest.mark.exhaustive(keep_every=3)
@pytest.mark.parametrize("storage", STORAGES)
def test_a_quota_fails_the_task(storage: str, tmp_path: Path) -> None:
    """Where the system stops a file from growing, as a quota does, it is the same."""
    limited = "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
    source = PIPELINE.replace("{storage}", STORAGES[storage])

    facts = run_on("true", f"{limited}{source}\nprint(json.dumps(facts))", tmp_path)

    assert [task[0] for task in facts["tasks"]] == ["Completed", "Failed"]
    assert facts["tasks"][1][2][0][0] == "StorageError"
    assert (facts["kept"], facts["litter"]) == ([{"first": [1, 2]}, None], [])


READ_ONLY = "mount --bind disk disk && mount -o remount,bind,ro disk"


@pytest.mark.parametrize(("id_of_workflow", "storage"), each_once(['"nightly"', "None"], ON_DISKS))
def test_a_read_only_disk_is_found_before_a_step_runs(id_of_workflow: str, storage: str, tmp_path: Path) -> None:
    """Nothing could be saved: the run is refused with the cause."""
    source = PIPELINE.replace("{storage}", STORAGES[storage]).partition("run = ")[0]
    refused = f"""
from dotflow.errors import StorageError
try:
    workflow.start(resume={id_of_workflow != "None"})
except StorageError as error:
    print(json.dumps([str(error), [str(task.status) for task in workflow.result_task()]]))
"""

    message, states = run_on(READ_ONLY, source.replace('"nightly"', id_of_workflow) + refused, tmp_path)

    assert f"nothing was run: OSError: Read-only file system: '{tmp_path / 'disk'}'" in message
    assert states == ["Not started", "Not started"]


@pytest.mark.exhaustive(keep_every=2)
@pytest.mark.parametrize("storage", ON_DISKS)
def test_a_run_that_saves_nothing_needs_no_writable_disk(storage: str, tmp_path: Path) -> None:
    """With checkpoint=False, no step has a value to save."""
    source = PIPELINE.replace("{storage}", STORAGES[storage]).replace("@action", "@action(checkpoint=False)")

    facts = run_on(READ_ONLY, f"{source}\nprint(json.dumps(facts))", tmp_path)

    assert [task[0] for task in facts["tasks"]] == ["Completed", "Completed"]


@pytest.mark.exhaustive
@pytest.mark.parametrize("storage", ON_DISKS)
def test_checkpoints_on_a_read_only_disk_are_still_read(storage: str, tmp_path: Path) -> None:
    """A finished run can be resumed from a disk that can't be written to: nothing has to be."""
    source = PIPELINE.replace("{storage}", STORAGES[storage])
    (tmp_path / "again").touch()
    run_on("true", f"{source}\nprint(json.dumps(facts))", tmp_path)

    facts = run_on(READ_ONLY, f"{source}\nprint(json.dumps(facts))", tmp_path)

    assert [task[0] for task in facts["tasks"]] == ["Completed", "Completed"]


@pytest.mark.exhaustive(keep_every=2)
@pytest.mark.parametrize("storage", ON_DISKS)
def test_a_new_run_over_checkpoints_that_cannot_be_voided_does_not_begin(storage: str, tmp_path: Path) -> None:
    """Older checkpoints that can't be removed would be taken for the new run's: nothing is run."""
    source = PIPELINE.replace("{storage}", STORAGES[storage])
    (tmp_path / "again").touch()
    run_on("true", f"{source}\nprint(json.dumps(facts))", tmp_path)
    refused = (
        source.partition("run = ")[0]
        + """
from dotflow.errors import StorageError
try:
    workflow.start()
except StorageError as error:
    print(json.dumps([str(error), len(list(workflow.config.storage.list_keys()))]))
"""
    )

    message, kept = run_on(READ_ONLY, refused, tmp_path)

    assert "nothing was run" in message
    assert kept == 2


#: Most steps have a value whose preview fills the file; a step in the middle frees the disk.
RECORDED = """
import sqlite3
from dotflow.abc.log import Log
from dotflow.providers import HistorySQLite

class Reports(Log):
    is_silent = True
    lines = []
    def info(self, task): ...
    def error(self, task): ...
    def report(self, message): self.lines.append(message)

@action
def text():
    return "x" * 190

path = HERE / "disk" / "history.db"
workflow = DotFlow(Config(history=HistorySQLite(path), log=Reports()), workflow_id="nightly")
for _ in range(400):
    workflow.task.add(text)
runs = [workflow.start() for _ in range(3)]
"""


def test_a_full_disk_does_not_reach_the_run(tmp_path: Path) -> None:
    """A history that has no room says so, once a run, and which rows are missing. What is there can be read."""
    source = f"""{RECORDED}
database = sqlite3.connect(path)
print(json.dumps({{
    "states": [run.state for run in runs],
    "lines": Reports.lines,
    "integrity": database.execute("PRAGMA integrity_check").fetchone()[0],
}}))
"""

    facts = run_on("mount -t tmpfs -o size=300k tmpfs disk", source, tmp_path)

    assert facts["states"] == ["Completed"] * 3
    written = [line for line in facts["lines"] if "can't be written, and the run goes on without it" in line]
    missing = [line for line in facts["lines"] if "rows of the run" in line]
    assert 1 <= len(written) <= 3
    assert all("the disk is full" in line for line in written)
    assert 1 <= len(missing) <= 3
    assert len(facts["lines"]) == len(written) + len(missing)
    assert facts["integrity"] == "ok"


#: A child makes a run whose second step fills the disk, and the parent reads what is known of it.
FILLED = """
from dotflow.cli.commands.show import _print_output
from dotflow.providers import HistorySQLite

history = HistorySQLite(HERE / "disk" / "history.db")
rest = HERE / "disk" / "rest"

@action
def first(): ...

@action
def fill():
    print("begun", flush=True)
    with contextlib.suppress(OSError), rest.open("wb", buffering=0) as file:
        while file.write(b"x" * 100):
            pass

@action
def last(): ...

def start(*steps):
    workflow = DotFlow(config(history=history), workflow_id="nightly")
    for step in steps:
        workflow.task.add(step)
    workflow.start().raise_for_failure()

child = os.fork()
if not child:
    start(first, fill, *[first] * 300, last)  # more than the room that SQLite's log has already
    os._exit(0)
_, code = os.waitpid(child, 0)
known = [history.load()]
rest.unlink()
start(first)
known += [history.load(run.run_id) for run in history.runs()]
errors = io.StringIO()
with contextlib.redirect_stderr(errors):
    _print_output(history, known[0].run_id, "302", None, follow=False, as_json=False)
print(json.dumps({
    "code": code,
    "known": [[run.state, run.error, *(str(run.steps[place].state) for place in (0, -1))] for run in known],
    "listed": [len(history.runs(state=state)) for state in ("Unknown", "Crashed", "Running")],
    "files": sorted(path.name for path in (HERE / "disk").iterdir() if "ended" in path.name),
    "output": errors.getvalue(),
}))
"""


def test_events_that_a_full_disk_lost_are_unknown(tmp_path: Path) -> None:
    """The process of the run has ended, but it has not crashed, and no step is to blame."""
    facts = run_on("mount -t tmpfs -o size=300k tmpfs disk", f"import contextlib, io\n{FILLED}", tmp_path)

    unknown = ["Unknown", "its end is unknown: the history could not be written", "Completed", "Unknown"]
    assert facts["code"] == 0
    assert facts["known"] == [unknown, ["Completed", "", "Completed", "Completed"], unknown]
    assert facts["listed"] == [1, 0, 0]
    assert facts["files"] == []
    assert facts["output"] == "Whether 'last' (task 302) has run is unknown: the history could not be written.\n"


def test_a_read_only_disk_does_not_reach_the_run(tmp_path: Path) -> None:
    """A history on a read-only disk says so, once a run."""
    facts = run_on(READ_ONLY, f"{RECORDED}\nprint(json.dumps([[r.state for r in runs], Reports.lines]))", tmp_path)

    states, lines = facts
    assert states == ["Completed"] * 3
    assert sum("can't be written, and the run goes on without it" in line for line in lines) == 3
    assert sum("rows of the run" in line for line in lines) == 3
    assert len(lines) == 6


SERVED = """
import logging
from dotflow.control import Control
from dotflow.errors import HistoryError
from dotflow.providers import HistorySQLite, StorageFile
from dotflow.serving import serve

lines = []

class Lines(LogDefault):
    def report(self, message):
        lines.append(message)

@action
def work(number):
    return number

history = HistorySQLite(HERE / "disk" / "history.db")
config = Config(history=history, storage=StorageFile(HERE / "values"), log=Lines(output="none"))
flow = DotFlow(config, workflow_id="flow", params={"number": 0})
flow.task.add(work)
rest = HERE / "disk" / "rest"

def fill():
    try:
        with rest.open("wb", buffering=0) as file:
            while file.write(b"x" * 100):
                pass
    except OSError:
        pass

if __name__ == "__main__":
    refused = ""
    with serve(flow, wait=False):
        Control(flow).wait(flow.submit(), timeout=20)  # so that the server has begun
        first = flow.submit(at=2)
        fill()
        for number in range(1, 300):  # SQLite's log has some room already
            try:
                flow.submit({"number": number}, at="1h")
            except HistoryError as error:
                refused = str(error)
                break
        until = time.monotonic() + 20
        while not any("takes no run" in line for line in lines) and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(1.5)
        rest.unlink()
        state = Control(flow).wait(first, timeout=20).state
    print(json.dumps({"refused": refused, "state": state, "said": [line for line in lines if "takes no run" in line]}))
"""


@pytest.mark.exhaustive
@pytest.mark.timeout(60)
def test_a_full_disk_refuses_submissions_and_holds_up_servers(tmp_path: Path) -> None:
    """A submission raises. A server says it once, takes no run meanwhile, and goes on when there is room."""
    facts = run_on("mount -t tmpfs -o size=400k tmpfs disk", SERVED, tmp_path, timeout=50)

    assert "the disk is full" in facts["refused"]
    assert facts["state"] == "Completed"
    assert len(facts["said"]) == 1
