"""Resume in a new process: whatever ended the first one, what was finished does not run again."""

import contextlib
import itertools
import signal
import socket
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.children import Scripts

pytestmark = pytest.mark.processes

STORAGES = {
    "StorageFile": 'StorageFile(path=HERE / "kept")',
    "StorageSQLite": 'StorageSQLite(path=HERE / "kept" / "flow.db")',
}

#: Six tasks; the fourth hangs (or raises) in the first process and works in the next one. Each notes that it ran.
PIPELINE = """
import dataclasses, datetime, decimal
from dotflow.providers import StorageFile, StorageSQLite

@dataclasses.dataclass(frozen=True)
class Order:
    number: int
    price: decimal.Decimal

def ran(name):
    with open(HERE / "ran", "a") as file:
        file.write(name + "\\n")

@action
def none():
    ran("none")

@action
def orders(previous_context):
    ran("orders")
    return {"orders": (Order(1, decimal.Decimal("9.90")), previous_context.storage), 7: {1, 2}}

@action
def day():
    ran("day")
    return datetime.date(2024, 2, 29)

@action
def stops():
    ran("stops")
    if not (HERE / "again").exists():
        if WAY == "exception":
            raise ValueError("not yet")
        os.write(1, b"ready\\n")
        time.sleep(60)
    return b"at last"

@action
def after(previous_context):
    ran("after")
    return [previous_context.storage]

workflow = DotFlow(config(storage={storage}), workflow_id="nightly")
if SHAPE == "groups":
    workflow.task.add([none, orders], group_name="a").add([day, stops, after], group_name="b")
elif SHAPE == "parallel":
    workflow.task.add([none, day, stops])
else:
    workflow.task.add([none, orders, day, stops, after])
run = workflow.start(mode=SHAPE if SHAPE in ("parallel", "background") else "sequential", resume=True)
run.wait()
say(status=str(run.status), values=repr(workflow.result_storage()))
"""

WHOLE = {
    "groups": "[None, {'orders': (Order(number=1, price=Decimal('9.90')), None), 7: {1, 2}}, "
    "datetime.date(2024, 2, 29), b'at last', [b'at last']]",
    "parallel": "[None, datetime.date(2024, 2, 29), b'at last']",
}
WHOLE["sequential"] = WHOLE["background"] = WHOLE["groups"]

SIGNALS = {"Ctrl-C": signal.SIGINT, "SIGTERM": signal.SIGTERM, "kill -9": signal.SIGKILL}


def saved(kept: Path) -> int:
    """How many checkpoints there are."""
    database = kept / "flow.db"
    if not database.exists():
        return len(list(kept.rglob("*.json")))
    with contextlib.closing(sqlite3.connect(database)) as connection:
        try:
            return int(connection.execute("SELECT count(*) FROM checkpoints").fetchone()[0])
        except sqlite3.OperationalError:  # it is just being made
            return 0


def wait_until(happened: Callable[[], bool]) -> None:
    """Looks again and again; the test's own timeout ends it."""
    while not happened():
        time.sleep(0.01)


SHAPES = ("sequential", "background", "parallel", "groups")

#: Those of the ordinary run: each way, each shape and each storage.
ENDS = [
    ("kill -9", "sequential", "StorageFile"),
    ("kill -9", "background", "StorageSQLite"),
    ("kill -9", "parallel", "StorageFile"),
    ("kill -9", "groups", "StorageSQLite"),
    ("Ctrl-C", "sequential", "StorageSQLite"),
    ("Ctrl-C", "groups", "StorageFile"),
    ("SIGTERM", "background", "StorageFile"),
    ("SIGTERM", "parallel", "StorageSQLite"),
    ("exception", "sequential", "StorageFile"),
    ("exception", "parallel", "StorageSQLite"),
]


@pytest.mark.exhaustive(keep_every=5)
@pytest.mark.parametrize(
    ("way", "shape", "storage"),
    [
        pytest.param(*end, marks=() if end in ENDS else pytest.mark.exhaustive)
        for end in itertools.product([*SIGNALS, "exception"], SHAPES, STORAGES)
    ],
)
def test_a_second_process_completes_the_work(
    way: str, shape: str, storage: str, scripts: Scripts, tmp_path: Path
) -> None:
    """Finished steps don't run again, their values are exact and handed on, and nothing is left half-written."""
    source = f"WAY, SHAPE = {way!r}, {shape!r}\n" + PIPELINE.replace("{storage}", STORAGES[storage])
    if way == "exception":
        assert scripts.run(source).facts["status"] == "Failed"
    else:
        with scripts.start(source) as script:
            assert script.line() == "ready"
            wait_until(lambda: saved(tmp_path / "kept") == (2 if shape == "parallel" else 3))
            script.send(SIGNALS[way])
            script.end()
            assert script.left_behind() == []
    (tmp_path / "again").touch()

    second = scripts.run(source).facts

    assert (second["status"], second["values"]) == ("Completed", WHOLE[shape])
    ran = (tmp_path / "ran").read_text().split()
    assert sorted(ran) == sorted([*set(ran), "stops"])
    assert [path for path in (tmp_path / "kept").rglob("*") if path.suffix in (".tmp", ".void")] == []


BUSY = """
from dotflow.providers import StorageFile, StorageSQLite

@action
def waits():
    os.write(1, b"ready\\n")
    time.sleep(60)

workflow = DotFlow(config(storage={storage}), workflow_id="nightly")
workflow.task.add(waits)
workflow.start(mode=MODE)
"""


@pytest.mark.exhaustive(keep_every=6)
@pytest.mark.parametrize("mode", ["sequential", "background", "parallel"])
@pytest.mark.parametrize("storage", STORAGES)
def test_a_second_process_is_refused(storage: str, mode: str, scripts: Scripts) -> None:
    """While one runs a workflow, another one gets WorkflowBusy with its name before anything runs. When the first is
    killed, even with workers that live on for a moment, the next one may go on at once."""
    source = f"MODE = {mode!r}\n" + BUSY.replace("{storage}", STORAGES[storage])
    with scripts.start(source) as first:
        assert first.line() == "ready"

        with scripts.start(source) as second:
            refused = second.end()
        assert refused.code == 1
        assert refused.out == ""
        assert "WorkflowBusy: Workflow 'nightly' is being run by process " in refused.err
        assert f"process {first.process.pid} on host {socket.gethostname()} since 20" in refused.err

        first.send(signal.SIGKILL)
        first.process.wait()
        with scripts.start(source) as third:
            assert third.line() == "ready"


@pytest.mark.exhaustive(keep_every=2)
@pytest.mark.parametrize("storage", STORAGES)
def test_a_fork_of_the_process_does_not_keep_the_lock(storage: str, scripts: Scripts) -> None:
    """A daemon that a step forked off lives on; the workflow is free all the same when its process is gone."""
    source = BUSY.replace("{storage}", STORAGES[storage]).replace(
        "    time.sleep(60)\n",
        """\
    if os.fork() == 0:
        os.setsid()
        os.write(1, b"forked\\n")
        time.sleep(60)
        os._exit(0)
    time.sleep(60)
""",
    )
    with scripts.start("MODE = 'sequential'\n" + source) as first:
        assert {first.line(), first.line()} == {"ready", "forked"}
        first.send(signal.SIGKILL)
        first.process.wait()

        with scripts.start("MODE = 'sequential'\n" + source) as second:
            assert {second.line(), second.line()} == {"ready", "forked"}


@pytest.mark.exhaustive(keep_every=2)
@pytest.mark.parametrize("storage", STORAGES)
def test_others_may_work_on_other_workflows(storage: str, scripts: Scripts) -> None:
    """A different workflow_id, or none, needs no lock."""
    source = BUSY.replace("{storage}", STORAGES[storage])
    with scripts.start("MODE = 'sequential'\n" + source) as first:
        assert first.line() == "ready"

        for other in ('workflow_id="weekly"', "name=None"):
            with scripts.start("MODE = 'sequential'\n" + source.replace('workflow_id="nightly"', other)) as second:
                assert second.line() == "ready"


@pytest.mark.exhaustive(keep_every=2)
@pytest.mark.parametrize("storage", STORAGES)
def test_runs_of_one_process_do_not_lock_each_other_out(storage: str, scripts: Scripts) -> None:
    """Each may have a storage object of its own. The newer run's checkpoints count, and the log reports it."""
    end = scripts.run(
        """
from dotflow.providers import StorageFile, StorageSQLite

go, told = threading.Event(), []

class LogList(Log):
    def info(self, task): pass
    def error(self, task): pass
    def report(self, message): told.append(message)

@action
def first(initial_context):
    return initial_context.storage

@action
def second(previous_context):
    if previous_context.storage == "old":
        go.wait()
    return previous_context.storage

def make(value):
    made = DotFlow(Config(storage={storage}, log=LogList(), executor=ExecutorThread()), workflow_id="nightly")
    made.task.add(first, initial_context=value).add(second)
    return made

old, new = make("old"), make("new")
running = old.start(mode="background")
new.start()
go.set()
running.wait()
say(old=old.result_storage(), new=new.result_storage(), told=told,
    kept=[new.config.storage.get(key).storage for key in new.config.storage.list_keys()])
""".replace("{storage}", STORAGES[storage])
    )

    assert end.facts["old"] == ["old", "old"]
    assert end.facts["new"] == ["new", "new"]
    assert end.facts["kept"] == ["new", "new"]
    assert "started anew" in end.facts["told"][0]
    assert len(end.facts["told"]) == 1


@pytest.mark.exhaustive(keep_every=2)
@pytest.mark.parametrize("storage", STORAGES)
def test_the_lock_is_given_back(storage: str, scripts: Scripts) -> None:
    """When a run has ended, in whatever way, another process may go on, even while this one lives."""
    source = """
from dotflow.errors import CheckpointMismatch
from dotflow.providers import StorageFile, StorageSQLite

@action
def fine(): return 1

@action
def fails(): raise ValueError("no")

def start(step, **how):
    workflow = DotFlow(config(storage={storage}), workflow_id="nightly")
    workflow.task.add(step)
    workflow.start(**how).wait()

if "wait" in sys.argv:
    for how in {"mode": "background"}, {"mode": "parallel"}, {}:
        start(fails, **how)
        start(fine, **how)
    try:
        start(fails, resume=True)
    except CheckpointMismatch:
        print("ready", flush=True)
    sys.stdin.read()
    time.sleep(60)
else:
    start(fine)
""".replace("{storage}", STORAGES[storage])
    with scripts.start(source, "wait") as first:
        assert first.line() == "ready"

        scripts.run(source)
