"""Prints which way of printing is captured where. Run: python tests/capture_table.py

A row is a way of printing, a column where the step runs. ✓ means that each attempt has exactly what it printed and that
the terminal shows the same bytes, · that the terminal shows it and the history lacks it, ✗ that something is wrong.
"""

import contextlib
import ctypes
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parent.parent
sys.path[0] = str(ROOT)

from dotflow import Config, DotFlow, action  # noqa: E402
from dotflow.core.events import TaskFailed  # noqa: E402
from dotflow.providers import (  # noqa: E402
    ExecutorAsync,
    ExecutorDask,
    ExecutorProcess,
    ExecutorRay,
    ExecutorThread,
    LogDefault,
)
from tests.captured import WAYS, RecordingHistory  # noqa: E402

COMMAND: Final = """\
from tests.captured import WAYS
from dotflow import Config, DotFlow
from dotflow.providers import HistorySQLite, LogDefault

def build():
    history = HistorySQLite("history.db", output_limit=10_000_000)
    workflow = DotFlow(config=Config(history=history, log=LogDefault(output="none")))
    for way in WAYS.values():
        workflow.task.add(way.step)
    return workflow
"""


def isolated(step: Any) -> Any:
    """The same step in a process of its own."""
    return action(isolate=True)(step.function)


def stuck(step: Any) -> Any:
    """The same step, which then does not end at its timeout and is killed."""

    def print_and_wait() -> None:
        step.function()
        sys.stdout.flush()
        ctypes.CDLL(None).fflush(None)
        ctypes.PyDLL(None).sleep(60)

    return action(timeout=1)(print_and_wait)


def coroutine(step: Any) -> Any:
    """The same step as a coroutine."""

    async def print_and_return() -> None:
        step.function()

    return action(print_and_return)


def same(step: Any) -> Any:
    return step


#: By column: how a step is changed, and the executor.
PLACES: Final[dict[str, tuple[Callable[[Any], Any], Callable[[], Any]]]] = {
    "inline": (same, lambda: None),
    "thread": (same, ExecutorThread),
    "coroutine": (coroutine, ExecutorAsync),
    "fork": (same, partial(ExecutorProcess, start_method="fork")),
    "forkserver": (same, partial(ExecutorProcess, start_method="forkserver")),
    "isolated": (isolated, ExecutorThread),
    "killed": (stuck, partial(ExecutorProcess, start_method="fork")),
    "dask": (same, lambda: ExecutorDask(os.environ["DASK_ADDRESS"])),
    "ray": (same, lambda: ExecutorRay(os.environ["RAY_TEST_ADDRESS"])),
}
Outputs = dict[tuple[int, int], bytes]


def run_here(place: str, file: str) -> None:
    """Runs all ways in this process, and writes what the history has."""
    change, make_executor = PLACES[place]
    history = RecordingHistory()
    workflow = DotFlow(config=Config(history=history, log=LogDefault(output="none"), executor=make_executor()))
    for way in WAYS.values():
        workflow.task.add(change(way.step))
    workflow.start(keep_going=True)
    assert place == "killed" or not history.of(TaskFailed), history.of(TaskFailed)
    found = [[task, stream, history.output(task, stream).hex()] for task in range(len(WAYS)) for stream in (1, 2)]
    Path(file).write_text(json.dumps(found))


def captured_in(place: str, folder: Path, environment: dict[str, str]) -> tuple[bytes, Outputs]:
    """Returns the terminal's bytes, and what the history has by task and stream."""
    file = folder / f"{place}.json"
    command = [sys.executable, __file__, place, str(file)]
    done = subprocess.run(command, capture_output=True, env=environment, cwd=ROOT, timeout=120)
    if done.returncode:
        print(done.stderr.decode()[-2000:], file=sys.stderr)
        return done.stdout, {}
    return done.stdout, {(task, stream): bytes.fromhex(data) for task, stream, data in json.loads(file.read_text())}


def captured_by_command(folder: Path, environment: dict[str, str]) -> tuple[bytes, Outputs]:
    """The same for `dotflow start`, without its summary."""
    (folder / "jobs.py").write_text(COMMAND)
    command = [sys.executable, "-m", "dotflow", "start", "--workflow", "jobs:build"]
    done = subprocess.run(command, capture_output=True, env=environment, cwd=folder, timeout=120)
    found: Outputs = defaultdict(bytes)
    with contextlib.closing(sqlite3.connect(folder / "history.db")) as connection:
        for task, stream, data in connection.execute("SELECT task, stream, data FROM output ORDER BY task, seq"):
            found[task, stream] += data
    return done.stdout.partition(b"task 0 ")[0], found


def sign(place: str, task: int, shown: bytes, found: Outputs) -> str:
    """Returns the sign of a cell."""
    way = list(WAYS.values())[task]
    out, err = found.get((task, 1), b""), found.get((task, 2), b"")
    if way.stdout not in shown:
        return "✗"
    if out == way.stdout and way.stderr in err and (err == b"" or way.stderr):
        return "✓"
    return "·" if out == err == b"" else "✗"


def main() -> int:
    """Prints the table; returns 1 if a cell is wrong."""
    if len(sys.argv) == 3:
        run_here(*sys.argv[1:])
        return 0
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}", "PYTHONWARNINGS": "ignore"}
    columns: dict[str, tuple[bytes, Outputs]] = {}
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as opened:
        from tests.clusters.dask import DaskProcesses
        from tests.clusters.ray import RayProcesses

        os.environ.update(environment)
        dask = DaskProcesses(workers=1)
        opened.callback(dask.close)
        ray = RayProcesses()
        opened.callback(ray.close)
        environment |= {"DASK_ADDRESS": dask.address, "RAY_TEST_ADDRESS": ray.address}
        for place in PLACES:
            columns[place] = captured_in(place, Path(name), environment)
            if place == "inline":
                columns["command"] = captured_by_command(Path(name), environment)
    signs = {
        way: [sign(place, task, shown, found) for place, (shown, found) in columns.items()]
        for task, way in enumerate(WAYS)
    }
    print(f"| way of printing | {' | '.join(columns)} |")
    print(f"|---|{':-:|' * len(columns)}")
    for way, row in signs.items():
        print(f"| {way} | {' | '.join(row)} |")
    return int(any("✗" in row for row in signs.values()))


if __name__ == "__main__":
    sys.exit(main())
