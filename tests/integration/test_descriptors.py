"""Steps that lead the descriptors of their process elsewhere, or close them, as daemons and test runners do.

Nothing waits for a descriptor that is gone, and nothing of dotflow's is written to what a step has opened in its place.
"""

import contextlib
import itertools
import os
import re
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dotflow import own_descriptor
from dotflow.atomic_file import FILES
from dotflow.own_descriptor import FileId, have_marks, mark
from dotflow.providers import HistorySQLite, sqlite_file
from dotflow.providers.histories.sql.reading import reading
from dotflow.providers.histories.sqlite.database import SQLiteDatabase
from dotflow.providers.histories.sqlite.formats import FORMAT
from tests.integration.children import PATIENCE, Command, End, Scripts
from tests.integration.terminals import Terminal

JOBS = """\
import os, time
from pathlib import Path
from dotflow import Config, DotFlow, action
from dotflow.providers import LogDefault

kept = []

@action
def first():
    print("first", flush=True)

@action
def to_nowhere():
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)

@action
def both_to_nowhere():
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)

@action
def to_a_file():
    os.dup2(os.open("own.txt", os.O_WRONLY | os.O_CREAT), 1)

@action
def close_stdout():
    os.close(1)
    os.open("own.txt", os.O_WRONLY | os.O_CREAT)

@action
def close_stderr():
    os.close(2)

@action
def close_others():
    os.closerange(3, 300)

@action
def open_in_their_place():
    os.closerange(3, 300)
    for number in range(40):
        file = open(f"own-{number}.txt", "wb", buffering=0)
        file.write(b"own")
        kept.append(file)

@action
def daemonize():
    if os.fork():
        os._exit(0)
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)

@action
def wait_elsewhere():
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    Path("begun").touch()
    time.sleep(60)

@action
def last():
    print("last", flush=True)

def flow(step):
    workflow = DotFlow(config=Config(log=LogDefault(output="none")))
    for each in (first, step, last):
        workflow.task.add(each)
    return workflow

for step in list(globals().values()):
    if hasattr(step, "policy"):
        globals()[f"with_{step.__name__}"] = lambda step=step: flow(step)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "jobs.py").write_text(JOBS)
    return tmp_path


def start(scripts: Scripts, step: str, *more: str) -> End:
    with scripts.command("start", "--workflow", f"jobs:with_{step}", *more) as command:
        return command.end()


def shown(end: End) -> tuple[int, str, str]:
    """Returns the exit code and the output, without its durations."""
    return end.code, re.sub(r"\d+\.\d+ s", "", end.out), end.err


def states(folder: Path) -> list[str]:
    """Returns the states of the last run and its tasks."""
    record = HistorySQLite(folder / "history.db").load()
    return [record.state, *(str(task.state) for task in record.steps)]


#: What reads the output of the steps: a writer of the terminal, or the collector of a history.
WRITER, COLLECTOR = ("--no-history",), ("--history", "history.db")
STEPS = ["close_others", "close_stdout", "to_a_file", "to_nowhere", "both_to_nowhere", "close_stderr"]


@pytest.mark.exhaustive(keep_every=4)
@pytest.mark.parametrize(
    ("step", "mode"),
    [
        *((step, "sequential") for step in STEPS[:3]),
        *(pytest.param(step, "sequential", marks=pytest.mark.exhaustive) for step in STEPS[3:]),
        ("close_others", "background"),
    ],
)
def test_a_command_ends_as_without_a_history(step: str, mode: str, scripts: Scripts, folder: Path) -> None:
    """It shows the same, and a file of the step has the same in it."""
    ends = []
    for options in (("--no-history",), ("--history", "history.db")):
        ends.append((shown(start(scripts, step, "--mode", mode, *options)), read(folder / "own.txt")))
        (folder / "own.txt").unlink(missing_ok=True)

    assert ends[0] == ends[1]
    assert states(folder) == ["Completed"] * 4


def read(file: Path) -> str:
    return re.sub(r"\d+\.\d+ s", "", file.read_text()) if file.exists() else ""


def test_no_file_of_a_step_is_written_to(scripts: Scripts, folder: Path) -> None:
    """Where it has closed the history, and opened others in its place, what follows is unknown, and no crash."""
    end = start(scripts, "open_in_their_place", "--history", "history.db")

    assert (end.code, "3 of 3 tasks completed" in end.out) == (0, True)
    assert {file.read_bytes() for file in folder.glob("own-*.txt")} == {b"own"}
    assert states(folder) == ["Unknown", "Completed", "Unknown", "Unknown"]

    assert start(scripts, "last", "--history", "history.db").code == 0
    runs = HistorySQLite(folder / "history.db").runs()
    assert [run.state for run in runs] == ["Completed", "Unknown"]
    assert runs[1].error == "its end is unknown: the history could not be written"
    assert list(folder.glob("history.db-ended-*")) == []


def test_a_daemon_goes_on_with_the_run(scripts: Scripts, folder: Path) -> None:
    """The command ends, and the child that goes on records the rest."""
    with scripts.command("start", "--workflow", "jobs:with_daemonize", "--history", "history.db") as command:
        assert shown(command.end()) == (0, "first\n", "")
        while states(folder) != ["Completed"] * 4:  # the test's own timeout ends it
            time.sleep(0.02)


def test_sigterm_ends_a_run_that_prints_elsewhere(scripts: Scripts, folder: Path) -> None:
    """At once, and the history has its end."""
    with scripts.command("start", "--workflow", "jobs:with_wait_elsewhere", "--history", "history.db") as command:
        while not (folder / "begun").exists():
            time.sleep(0.01)
        command.send(signal.SIGTERM)
        assert command.end().code == 128 + signal.SIGTERM
    assert states(folder)[0] == "Interrupted"


def test_a_program_goes_on_with_its_database(scripts: Scripts, folder: Path) -> None:
    """A history and a storage in SQLite are opened again after a step has closed their descriptors."""
    scripts.run("""
from dotflow.providers import HistorySQLite, StorageSQLite
@action
def close_others():
    os.closerange(3, 300)
    return "closed"

@action
def ends():
    return "ended"

history, storage = HistorySQLite("history.db"), StorageSQLite("flow.db")
workflow = DotFlow(config(history=history, storage=storage), workflow_id="nightly")
for step in (ends, close_others, ends):
    workflow.task.add(step)
run = workflow.start()
assert [task.current_context.storage for task in run.tasks] == ["ended", "closed", "ended"], told(run.tasks)
assert history.load().state == "Completed", history.load()
workflow.start(resume=True).raise_for_failure()
""")
    for name in ("history.db", "flow.db"):
        with contextlib.closing(sqlite3.connect(folder / name)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.exhaustive(keep_every=4)
@pytest.mark.parametrize("kind", ["FIFO", "folder", "device", "socket"])
def test_only_a_file_is_taken_for_a_history(kind: str, scripts: Scripts, folder: Path, command: Command) -> None:
    """The commands say so in one line, wait for nothing, and leave nothing beside it; a run goes on without."""
    import socket

    target = folder / "history"
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as bound:
        if kind == "FIFO":
            os.mkfifo(target)
        elif kind == "folder":
            target.mkdir()
        elif kind == "device":
            target.symlink_to(os.devnull)
        else:
            bound.bind(os.path.relpath(target))
        before = set(folder.iterdir()), set(Path(os.devnull).parent.iterdir())

        for arguments in (["runs"], ["show", "last"], ["forget", "--all", "--yes"], ["report", "last"]):
            end = command(*arguments, "--history", str(target))
            assert (end.code, end.out) == (2, "")
            assert end.err == f"dotflow: The history history can't be read: it is a {kind}. Give the path of a file.\n"

        assert start(scripts, "last", "--history", str(target)).code == 0
        assert before[1] >= {path for path in Path(os.devnull).parent.iterdir() if path.name.startswith("null")}
        assert {path for path in folder.iterdir() if path.name.startswith("history")} == {target}


@pytest.mark.exhaustive(keep_every=3)
@pytest.mark.parametrize(
    ("step", "options"),
    [
        pytest.param("to_nowhere", WRITER, id="to_nowhere-writer"),
        pytest.param("close_others", COLLECTOR, id="close_others-collector"),
        pytest.param("open_in_their_place", COLLECTOR, id="open_in_their_place-collector"),
        pytest.param("to_nowhere", COLLECTOR, id="to_nowhere-collector", marks=pytest.mark.exhaustive),
        pytest.param("close_others", WRITER, id="close_others-writer", marks=pytest.mark.exhaustive),
        pytest.param("open_in_their_place", WRITER, id="open_in_their_place-writer", marks=pytest.mark.exhaustive),
    ],
)
def test_the_live_view_ends_with_its_run(step: str, options: tuple[str, ...], scripts: Scripts, folder: Path) -> None:
    """Whatever a step does to the terminal's descriptors, and its files stay its own."""
    with contextlib.closing(Terminal(100, 30)) as terminal:
        arguments = ("start", "--workflow", f"jobs:with_{step}", *options)
        with scripts.command(*arguments, terminal=terminal.descriptor, TERM="xterm-256color", NO_COLOR="") as command:
            terminal.wait_for(b"first")
            assert command.process.wait(PATIENCE) == 0
    assert {file.read_bytes() for file in folder.glob("own-*.txt")} <= {b"own"}


def test_a_connection_takes_no_descriptor_of_a_reader_for_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader opens while the connection does, and closes later: no step has closed anything."""
    path = tmp_path / "history.db"
    file, other = (sqlite_file.SQLiteFile(path, FORMAT) for _ in range(2))
    other.transact(lambda connection: connection.execute("UPDATE meta SET swept = 1"))  # its log stays
    is_reading, is_open = threading.Event(), threading.Event()

    def read() -> None:
        with reading(SQLiteDatabase(path, FILES)):
            is_reading.set()
            is_open.wait(PATIENCE)

    reader = threading.Thread(target=read)
    open_files, looks = sqlite_file.open_files, itertools.count()

    def open_files_beside_a_reader() -> Iterator[tuple[int, FileId]]:
        if next(looks) == 1:  # after SQLite has opened them
            reader.start()
            is_reading.wait(0.5)  # in vain: the reader waits until the connection is open
        return open_files()

    monkeypatch.setattr(sqlite_file, "open_files", open_files_beside_a_reader)
    file.run("SELECT 1", ())
    is_open.set()
    reader.join()
    assert file._descriptors
    assert all(own.is_open() for own in file._descriptors.values())
    file.close()
    other.close()


def opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT)


@pytest.mark.parametrize("exchanged", [0, 1])
def test_a_descriptor_that_leads_elsewhere_has_lost_its_mark(tmp_path: Path, exchanged: int) -> None:
    """Each of them counts, and a mark of one is none for another: a step may lead one to the other."""
    numbers = [opened(tmp_path / name) for name in "ab"]
    marks = [*map(mark, numbers)]
    assert have_marks(numbers, marks)

    os.dup2(numbers[1 - exchanged], numbers[exchanged])

    assert not have_marks(numbers, marks)
    for number in numbers:
        os.close(number)
    assert not have_marks(numbers, marks)


def test_a_descriptor_that_can_have_no_mark_has_none() -> None:
    """As on a file system without large files. There SQLite's descriptors are looked at one by one."""
    pipe = os.pipe()

    assert not have_marks(pipe, [*map(mark, pipe)])
    for number in pipe:
        os.close(number)


def test_a_connection_is_looked_at_from_near_only_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then for each statement one look at the path and the marks is enough, until a step closes something."""
    looks, is_open = itertools.count(), own_descriptor.OwnDescriptor.is_open
    monkeypatch.setattr(own_descriptor.OwnDescriptor, "is_open", lambda own: (next(looks), is_open(own))[1])
    file = sqlite_file.SQLiteFile(tmp_path / "history.db", FORMAT)
    for _ in range(10):
        file.run("UPDATE meta SET swept = swept + 1", (), create=True)
    assert next(looks) == 0

    number, other = file._descriptors[f"{tmp_path / 'history.db'}-wal"].number, opened(tmp_path / "own.txt")
    before = os.dup(number)
    os.dup2(other, number)
    assert not file._is_usable(create=True)
    os.dup2(before, number)  # otherwise nothing could ever close the connection
    assert file.run("SELECT swept FROM meta", ()) == [(10,)]
    assert next(looks) == 1
    file.close()
    for descriptor in (before, other):
        os.close(descriptor)
