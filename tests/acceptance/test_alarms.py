"""Servers whose runs are late: each firing is alarmed once, and a check finds what no living process fires."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

PIPELINES = """
import os
import time
from pathlib import Path

from dotflow import Config, DotFlow, action
from dotflow.abc.notify import Notify
from dotflow.providers import ExecutorThread, HistorySQLite, LogDefault, SchedulerCron, StorageFile

HERE = Path(__file__).parent

class NotifyFile(Notify):
    def send(self, task): ...

    def alert(self, message):
        with (HERE / "alerts").open("a") as file:
            file.write(message + "\\n")

@action
def nap():
    time.sleep(60)

config = Config(
    storage=StorageFile(HERE / "values"),
    history=HistorySQLite(HERE / "history.db", capture="none"),
    log=LogDefault(output="none"),
    notify=NotifyFile(),
    executor=ExecutorThread(),
    scheduler=SchedulerCron("* * * * * *", timezone="UTC", overlap="parallel", max_parallel=2, late_after="1s"),
)
flow = DotFlow(config, workflow_id="flow")
flow.task.add(nap)
"""


class Servers:
    """Two servers of the pipeline."""

    def __init__(self, folder: Path) -> None:
        (folder / "pipelines.py").write_text(PIPELINES)
        self.folder = folder
        command = [sys.executable, "-m", "dotflow", "serve", "pipelines:flow"]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}
        self.running = [
            subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.DEVNULL) for _ in range(2)
        ]

    def kill_one(self) -> None:
        process = self.running.pop()
        process.kill()
        process.wait()

    def alarmed(self) -> list[datetime]:
        """Returns the moments of the firings that were alarmed."""
        path = self.folder / "alerts"
        text = path.read_text() if path.exists() else ""
        return sorted(map(datetime.fromisoformat, re.findall(r"That of (\S+ \S+) UTC", text)))


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    folder = tmp_path / "flows"
    folder.mkdir()
    found = Servers(folder)
    yield found
    while found.running:
        found.kill_one()


def wait_until(is_true: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not is_true():
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.mark.exhaustive
@pytest.mark.timeout(200)
def test_each_late_firing_is_alarmed_once_and_a_check_goes_on_alone(servers: Servers, tmp_path: Path) -> None:
    """By two servers, of which one is killed. Without any, `schedules --check` computes what should have run.

    It runs in a process that can't import the workflow.
    """
    wait_until(lambda: len(servers.alarmed()) > 2)
    servers.kill_one()
    count = len(servers.alarmed())
    wait_until(lambda: len(servers.alarmed()) > count + 2)
    servers.kill_one()

    moments = servers.alarmed()
    seconds = [(moment - moments[0]) // timedelta(seconds=1) for moment in moments]
    assert len(set(seconds)) == len(seconds)
    assert len(seconds) > seconds[-1] - 1  # the kill may have come between the decision and the message

    command = [sys.executable, "-m", "dotflow", "schedules", "--check", "--expect", "flow"]
    command += ["--history", str(servers.folder / "history.db")]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def check() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)

    wait_until(lambda: "has not begun: no process has fired it" in check().stdout)
    end = check()
    assert (end.returncode, end.stderr) == (1, "")
    assert "no process serves it" in end.stdout
