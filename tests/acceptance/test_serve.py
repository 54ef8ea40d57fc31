"""Servers that are killed: each wanted run completes, and what has finished does not run again."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from dotflow import Config, DotFlow
from dotflow.control import Control
from dotflow.providers import HistorySQLite, LogDefault, StorageFile, StorageSQLite

PIPELINES = """
import os
import time
from pathlib import Path

import psutil

from dotflow import Config, DotFlow, action
from dotflow.providers import HistorySQLite, LogDefault, SchedulerCron, StorageFile, StorageSQLite

HERE = Path(__file__).parent
values = {"file": lambda: StorageFile(HERE / "values"), "sqlite": lambda: StorageSQLite(HERE / "values.db")}
config = Config(
    storage=values[os.environ["STORAGE"]](),
    history=HistorySQLite(HERE / "history.db", capture="none"),
    log=LogDefault(output="none"),
)

@action
def first(number):
    return number

@action
def second(first):
    return first + 1

@action
def third(second):
    return second + 1

@action
def deadly(number):
    os.kill(psutil.Process(os.getppid()).ppid(), 9)  # the parent of the fork server
    time.sleep(60)

@action
def nap(number):
    time.sleep(4)

flow = DotFlow(config, workflow_id="flow", params={"number": 0})
flow.task.add([first, second, third])
slow = DotFlow(config, workflow_id="slow", params={"number": 0})
slow.task.add(nap)
poison = DotFlow(config, workflow_id="poison", params={"number": 0})
poison.task.add(deadly)

@action
def tick(second):
    with open(HERE / "ticks.txt", "a") as file:
        file.write(f"{second}\\n")
    return second

def second_of(planned):
    return {"second": int(planned.timestamp())}

every_second = SchedulerCron("* * * * * *", "parallel", "UTC", 1000, params=second_of)
ticks = DotFlow(
    Config(
        storage=values[os.environ["STORAGE"]](),
        history=HistorySQLite(HERE / "history.db", capture="none"),
        log=LogDefault(output="none"),
        scheduler=every_second if os.environ.get("FIRES") else None,
    ),
    workflow_id="ticks",
    params={"second": 0},
)
ticks.task.add(tick)
"""

FINISHED_TWICE = """SELECT origin, task FROM attempt_list JOIN runs USING (run_id)
    WHERE attempt_list.state = 'Completed' GROUP BY origin, task HAVING COUNT(*) > 1"""


class Servers:
    """Servers of the pipelines, each of which is started again after a kill."""

    def __init__(self, folder: Path, count: int, storage: str, *names: str, **variables: str) -> None:
        (folder / "pipelines.py").write_text(PIPELINES)
        self.folder = folder
        self._names = [f"pipelines:{name}" for name in names]
        path = os.pathsep.join([str(folder), *sys.path])
        self._environment = os.environ | {"STORAGE": storage, "PYTHONPATH": path} | variables
        self._running = [self._start() for _ in range(count)]

    def _start(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "dotflow", "serve", *self._names, "--max-runs", "4"]
        return subprocess.Popen(
            command, cwd=self.folder, env=self._environment, start_new_session=True, stderr=subprocess.PIPE
        )

    def send(self, signum: int) -> None:
        for process in self._running:
            process.send_signal(signum)

    def kill_one(self, chosen: random.Random) -> None:
        place = chosen.randrange(len(self._running))
        self._running[place].kill()
        self._running[place].communicate()
        self._running[place] = self._start()

    def restart_ended(self) -> None:
        for place, process in enumerate(self._running):
            if process.poll() is not None:
                process.communicate()
                self._running[place] = self._start()

    def close(self) -> None:
        for process in self._running:
            process.kill()
            process.communicate()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    found = tmp_path / "flows"
    found.mkdir()
    return found


def flow_of(folder: Path, storage: str, workflow_id: str = "flow") -> DotFlow:
    """The workflow as a web process knows it: it submits, and runs nothing."""
    values = StorageFile(folder / "values") if storage == "file" else StorageSQLite(folder / "values.db")
    config = Config(storage=values, history=HistorySQLite(folder / "history.db"), log=LogDefault(output="none"))
    return DotFlow(config, workflow_id=workflow_id, params={"number": 0})


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("storage", "servers", "submissions", "kills"),
    [
        ("file", 2, 40, 6),
        pytest.param("sqlite", 2, 40, 6, marks=pytest.mark.exhaustive),
        pytest.param("file", 4, 1000, 40, marks=[pytest.mark.exhaustive, pytest.mark.timeout(600)]),
    ],
)
def test_each_run_completes_whatever_is_killed(
    folder: Path, storage: str, servers: int, submissions: int, kills: int
) -> None:
    """Each one once: no step of a run finishes twice, and no value is another run's."""
    chosen = random.Random(servers + submissions)
    workflow = flow_of(folder, storage)
    ids = [workflow.submit({"number": number}) for number in range(submissions)]
    found = Servers(folder, servers, storage, "flow")
    try:
        for _ in range(kills):
            time.sleep(0.3 + 0.4 * chosen.random())
            found.kill_one(chosen)
        control = Control(workflow)
        states = [control.wait(run, timeout=60).state for run in ids]
    finally:
        found.close()

    assert states == ["Completed"] * submissions
    history = workflow.config.history
    assert isinstance(history, HistorySQLite)
    with closing(sqlite3.connect(history.path)) as database:
        assert database.execute(FINISHED_TWICE).fetchall() == []
    for number in range(submissions):
        name = f"flow@number={number}" if number else "flow"  # 0 is the default
        assert workflow.config.storage.get(f"{name}/2").storage == number + 2


LEFT: Final = """SELECT COUNT(*) FROM runs AS last WHERE state NOT IN ('Completed', 'Failed')
    AND NOT EXISTS (SELECT 1 FROM runs WHERE continues = last.run_id)"""
#: Of each chain: how many of its runs have the moment of a firing, and how many have completed, or were killed 3 times.
CHAINS: Final = """SELECT SUM(planned IS NOT NULL), SUM(run_list.state = 'Completed'
    OR (run_list.state = 'Failed' AND run_list.error LIKE 'its process ended 3 times%'))
    FROM run_list JOIN runs USING (run_id) GROUP BY runs.origin"""
PLANNED: Final = "SELECT CAST(strftime('%s', planned) AS INTEGER) FROM run_list WHERE planned IS NOT NULL ORDER BY 1"


@pytest.mark.exhaustive
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("servers", "seconds"),
    [(2, 8), pytest.param(4, 60, marks=pytest.mark.timeout(600))],
)
def test_each_second_has_one_run_whatever_is_killed(folder: Path, servers: int, seconds: int) -> None:
    """A schedule of each second, of which a server is killed each second: no second has two runs, and none has none."""
    chosen = random.Random(seconds)
    with closing(sqlite3.connect(folder / "history.db")) as database:
        flow_of(folder, "file").submit()  # makes the file

        def planned() -> list[int]:
            return [second for (second,) in database.execute(PLANNED)]

        def wait_until(is_so: Callable[[], bool]) -> None:
            until = time.monotonic() + 60
            while not is_so() and time.monotonic() < until:
                time.sleep(0.1)

        found = Servers(folder, servers, "file", "ticks", FIRES="1")
        try:
            wait_until(lambda: bool(planned()))
            for _ in range(seconds):
                time.sleep(1)
                found.kill_one(chosen)
            last = int(time.time())
            wait_until(lambda: planned()[-1] >= last)
        finally:
            found.close()
        rest = Servers(folder, 1, "file", "ticks", "flow", FIRES="")
        try:
            wait_until(lambda: not database.execute(LEFT).fetchone()[0])
        finally:
            rest.close()
        fired = planned()
        chains = database.execute(CHAINS).fetchall()
        assert database.execute(FINISHED_TWICE).fetchall() == []

    assert fired == list(range(fired[0], fired[0] + len(fired)))
    assert len(fired) >= seconds
    assert sorted(chains) == [(0, 1), *[(1, 1)] * len(fired)]


@pytest.mark.exhaustive
@pytest.mark.timeout(240)
def test_a_run_that_kills_its_server_ends_after_three(folder: Path) -> None:
    """Its error says so; the servers, which are started again each time, go on with others."""
    workflow = flow_of(folder, "file", "poison")
    run = workflow.submit()
    found = Servers(folder, 1, "file", "poison", "flow")
    try:
        control = Control(workflow)
        until = time.monotonic() + 120
        while (state := control.run(run).state) != "Failed" and time.monotonic() < until:
            found.restart_ended()
            time.sleep(0.1)
        other = flow_of(folder, "file").submit()
        found.restart_ended()
        ended = control.wait(other, timeout=60)
    finally:
        found.close()

    assert state == "Failed"
    assert "its process ended 3 times before anything was saved" in control.run(run).error
    assert ended.state == "Completed"


@pytest.mark.exhaustive
@pytest.mark.timeout(150)
def test_a_frozen_server_keeps_its_run(folder: Path) -> None:
    """It holds its byte: no other server takes the run over, and when it goes on, the run completes once."""
    workflow = flow_of(folder, "file", "slow")
    run = workflow.submit()
    frozen = Servers(folder, 1, "file", "slow")
    other = None
    try:
        control = Control(workflow)
        until = time.monotonic() + 60
        while control.run(run).state != "Running" and time.monotonic() < until:
            time.sleep(0.05)
        frozen.send(signal.SIGSTOP)
        other = Servers(folder, 1, "file", "slow")
        time.sleep(2.5)  # two looks, a second apart, and more
        while_frozen = control.run(run)
        frozen.send(signal.SIGCONT)
        ended = control.wait(run, timeout=60)
    finally:
        frozen.close()
        if other is not None:
            other.close()

    assert (while_frozen.run_id, while_frozen.state) == (run, "Running")
    assert (ended.run_id, ended.state) == (run, "Completed")
