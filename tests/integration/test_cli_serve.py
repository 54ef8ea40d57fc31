"""`dotflow serve` in real processes: its signals, several servers, and orders to `dotflow start`."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dotflow.core.types.run_state import TypeRunState
from dotflow.providers import HistorySQLite, StorageFile, StorageSQLite
from tests.integration.children import PATIENCE, Command, Script, Scripts

pytestmark = pytest.mark.processes

JOBS = """
import time
from pathlib import Path
from dotflow import Config, DotFlow, action
from dotflow.engine.run import Run
from dotflow.providers import StorageFile

pause = Run.pause_for

def pause_and_note(run, stop):
    pause(run, stop)
    Path("heeded").touch()  # from here on, no step begins

Run.pause_for = pause_and_note

def mark(name):
    with Path("done").open("a") as file:
        file.write(f"{name} ")

@action
def short(previous_context):
    mark("short")

@action
def third():
    until = time.monotonic() + 1.1  # a run by hand looks for orders once a second
    mark("begun")
    while not Path("go").exists() or time.monotonic() < until:
        time.sleep(0.01)
    mark("third")

@action
def endless():
    mark("begun")
    while not Path("go").exists():
        time.sleep(0.01)
    mark("ended")

ten = DotFlow(Config(storage=StorageFile("values")), workflow_id="ten")
ten.task.add([short, short, third, *[short] * 7])
one = DotFlow(Config(storage=StorageFile("values")), workflow_id="one")
one.task.add(endless)
"""


@pytest.fixture
def folder(tmp_path: Path, command: Command) -> Path:
    """A folder with a user's module in it."""
    (tmp_path / "jobs.py").write_text(JOBS)
    return tmp_path


@pytest.fixture
def history(folder: Path) -> HistorySQLite:
    """The history where the commands look for it."""
    return HistorySQLite()


def submit(command: Command, name: str) -> str:
    """Queues a run, and returns its id."""
    return command("submit", name).out.strip()


def done(folder: Path) -> list[str]:
    """What the steps have noted."""
    path = folder / "done"
    return path.read_text().split() if path.exists() else []


TEN = ["short", "short", "begun", "third", *["short"] * 7]


def wait_until(is_so: Callable[[], bool]) -> None:
    """Waits for what other processes do."""
    until = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < until, "it does not happen"
        time.sleep(0.01)


def wait_for_notice(server: Script) -> None:
    """Waits until a server has noticed its first signal."""
    while not (line := server.error_line()).startswith("dotflow: running steps end first"):
        assert line, "it has ended"


@pytest.mark.exhaustive(keep_every=2)
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_ends_a_server_after_the_running_step(
    scripts: Scripts, command: Command, folder: Path, history: HistorySQLite, signum: int
) -> None:
    """The run is queued again. Another server goes on: no finished step runs again."""
    run = submit(command, "ten")
    with scripts.command("serve", "jobs:ten") as server:
        wait_until(lambda: "begun" in done(folder))
        server.send(signum)
        wait_until((folder / "heeded").exists)
        (folder / "go").touch()
        end = server.end()

        assert (end.code, end.err.splitlines()[-1]) == (0, "The server has ended.")
        assert done(folder) == TEN[:4]
        assert server.left_behind() == []
    newest, first = history.runs()
    assert (first.run_id, first.state) == (run, TypeRunState.PAUSED)
    assert (newest.state, newest.continues) == (TypeRunState.QUEUED, run)

    with scripts.command("serve", "jobs:ten", "--once") as server:
        assert server.end().code == 0
    assert history.load(newest.run_id).state is TypeRunState.COMPLETED
    assert done(folder) == TEN


def test_the_second_signal_ends_the_steps_too(
    scripts: Scripts, command: Command, folder: Path, history: HistorySQLite
) -> None:
    """The run is queued again, and its step begins anew in the next server."""
    run = submit(command, "one")
    with scripts.command("serve", "jobs:one") as server:
        wait_until(lambda: done(folder) == ["begun"])
        server.send(signal.SIGINT)
        wait_for_notice(server)
        assert server.process.poll() is None
        server.send(signal.SIGINT)
        end = server.end()

        assert (end.code, end.err.splitlines()[-1]) == (0, "The server has ended.")
        assert server.left_behind() == []
    newest, _ = history.runs()
    assert (newest.state, newest.continues) == (TypeRunState.QUEUED, run)
    (folder / "go").touch()
    with scripts.command("serve", "jobs:one", "--once") as server:
        assert server.end().code == 0
    assert done(folder) == ["begun", "begun", "ended"]


def test_a_served_run_is_cancelled_from_another_process(
    scripts: Scripts, command: Command, folder: Path, history: HistorySQLite
) -> None:
    """Its step is ended, the server goes on, `submit --wait` ends with 1, and `cancel --wait` says how it ended."""
    with scripts.command("serve", "jobs:one") as server:
        waiting = scripts.command("submit", "one", "--wait")
        wait_until(lambda: done(folder) == ["begun"])

        end = command("cancel", "last", "--by", "anna", "--comment", "wrong day", "--wait")

        assert (end.code, end.err) == (0, "")
        assert end.out.splitlines()[-1].endswith(" is cancelled: cancelled by anna: wrong day.")
        assert "ends within about a second" in end.out
        assert "kill -INT" not in end.out
        waited = waiting.end()
        assert (waited.code, waited.err.splitlines()[-1]) == (1, "Cancelled: cancelled by anna: wrong day")
        assert server.process.poll() is None
        (folder / "go").touch()
        assert scripts.command("submit", "one", "--wait").end().code == 0
    assert done(folder) == ["begun", "begun", "ended"]


def test_a_run_by_hand_is_cancelled_and_the_command_names_what_ends_it_at_once(
    scripts: Scripts, command: Command, folder: Path
) -> None:
    """A step in the program's own thread ends by itself first, so the process of `dotflow start` is named."""
    with scripts.command("start", "-w", "jobs:one") as start:
        wait_until(lambda: done(folder) == ["begun"])

        end = command("cancel", "last")

        assert end.out.splitlines()[1] == f"`kill -INT {start.process.pid}` ends it at once."
        start.send(signal.SIGINT)
        assert start.end().code == 130


@pytest.mark.exhaustive
def test_a_run_by_hand_that_is_paused_ends_with_3(
    scripts: Scripts, command: Command, folder: Path, history: HistorySQLite
) -> None:
    """`dotflow resume` queues the run that goes on, and says which `dotflow start` would do it at once."""
    with scripts.command("start", "-w", "jobs:ten") as start:
        wait_until(lambda: "begun" in done(folder))
        assert command("pause", "last").code == 0
        (folder / "go").touch()
        end = start.end()

        assert end.code == 3
        assert "\nPaused: " in end.out
    end = command("resume", "last")
    assert end.code == 0
    assert "`dotflow start -w jobs:ten --resume` goes on at once." in end.err
    with scripts.command("serve", "jobs:ten", "--once") as server:
        assert server.end().code == 0
    assert done(folder) == TEN


SCHEDULED = """
import os
from dotflow import Config, DotFlow, action
from dotflow.providers import HistorySQLite, SchedulerCron, StorageFile, StorageSQLite

@action
def step():
    return 1

made = {"file": lambda: StorageFile("values"), "sqlite": lambda: StorageSQLite("values.db")}[os.environ["VALUES"]]
nightly = DotFlow(
    Config(history=HistorySQLite(os.environ["DOTFLOW_HISTORY"]), storage=made(), scheduler=SchedulerCron("0 3 1 1 *")),
    workflow_id="nightly",
)
nightly.task.add(step)
"""
SHARED = "which serves it from another history"


@pytest.mark.exhaustive(keep_every=2)
@pytest.mark.parametrize("values", ["file", "sqlite"])
def test_two_servers_with_a_history_each_and_one_storage_are_reported(
    scripts: Scripts, folder: Path, values: str
) -> None:
    """The second one names the other process and its history; not beside its own history, nor behind a kill."""
    (folder / "nightly.py").write_text(SCHEDULED)
    storage = StorageFile(folder / "values") if values == "file" else StorageSQLite(folder / "values.db")

    def once(history: str) -> str:
        end = scripts.command(
            "serve", "nightly:nightly", "--once", DOTFLOW_HISTORY=str(folder / history), VALUES=values
        ).end()
        assert end.code == 0, end.err
        return end.err

    place = folder / "one.db"
    with scripts.command("serve", "nightly:nightly", DOTFLOW_HISTORY=str(place), VALUES=values) as first:
        wait_until(lambda: storage.get("@serve:nightly/@server").storage is not None)
        reported = once("two.db")
        assert f"the same storage in process {first.process.pid} on " in reported
        assert SHARED in reported
        assert str(place) in reported
        assert SHARED not in once("one.db")
        first.send(signal.SIGKILL)
        first.end()
    assert SHARED not in once("two.db")
