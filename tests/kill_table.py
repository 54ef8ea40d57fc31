"""Kills runs with SIGKILL at seeded random moments, and looks for begun steps that their history lacks.

Four processes run workflows without a break, with one history file. Each step's first line writes its id into a file of
its process. In each round one process is killed, replaced, and its steps are looked up in the history.

Run: python tests/kill_table.py [ROUNDS] [SEED] [inline | threads | processes]
"""

import contextlib
import os
import random
import signal
import sqlite3
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

sys.path[:0] = [str(Path(__file__).parent.parent / "src")]

from dotflow import Config, DotFlow, action  # noqa: E402 (found through the path that was just set)
from dotflow.abc.log import Log  # noqa: E402
from dotflow.core.attempt_id import current_attempt  # noqa: E402
from dotflow.core.task import Task  # noqa: E402
from dotflow.providers import ExecutorInline, ExecutorProcess, ExecutorThread, HistorySQLite  # noqa: E402

PROCESSES = 4
STEPS = 50  # of a run
EXECUTORS = {
    "inline": ExecutorInline,
    "threads": lambda: ExecutorThread(2),
    "processes": lambda: ExecutorProcess(2),
}
LONGEST = 0.15  # seconds until the next kill


class Silence(Log):
    """No log."""

    is_silent = True

    def info(self, task: Task) -> None: ...

    def error(self, task: Task) -> None: ...


class Kills(NamedTuple):
    """What was found after all kills."""

    kills: int
    begun: int  # steps of killed processes
    missing: int  # of them, in the history
    runs: dict[str, int]  # by state, after another run
    integrity: str


def _work(history: Path, begun: Path, seed: int, place: str) -> NoReturn:
    """Runs workflows until the process is killed."""
    descriptor = os.open(begun, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.set_inheritable(descriptor, True)
    lengths = random.Random(seed)

    @action
    def step() -> int:
        attempt = current_attempt.get()
        assert attempt is not None
        os.write(descriptor, b"%s %d\n" % (attempt.run_id.encode(), attempt.task_id))
        deadline = time.perf_counter() + lengths.choice((0, 0, 0.0001, 0.002))
        while time.perf_counter() < deadline:
            pass
        return attempt.task_id

    executor = EXECUTORS[place]()
    config = Config(history=HistorySQLite(history, capture="none"), log=Silence(), executor=executor)
    while True:
        workflow = DotFlow(config)
        for _ in range(STEPS):
            workflow.task.add(step)
        workflow.start("sequential" if place == "inline" else "parallel")


def _start(folder: Path, number: int, place: str) -> tuple[int, Path]:
    begun = folder / f"begun-{number}"
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            _work(folder / "history.db", begun, number, place)
        os._exit(1)
    return child, begun


def kill_many(folder: Path, rounds: int, seed: int, place: str = "inline") -> Kills:
    """Kills a process in each round, and all of them at the end.

    Args:
        folder: An empty folder.
        rounds: The number of kills, without those at the end.
        seed: The seed of the moments and of the choice.
        place: Where the steps run: one of EXECUTORS.
    """
    chance = random.Random(seed)
    active = [_start(folder, number, place) for number in range(PROCESSES)]
    killed: list[Path] = []
    for number in range(rounds + PROCESSES):
        time.sleep(chance.uniform(0, LONGEST))
        child, begun = active.pop(chance.randrange(len(active)))
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL, "it has ended by itself"
        killed.append(begun)
        if number < rounds:
            active.append(_start(folder, PROCESSES + number, place))
    return _look(folder / "history.db", killed)


def _look(path: Path, killed: list[Path]) -> Kills:
    """Runs one more workflow, which marks the crashed runs, and reads the file."""
    workflow = DotFlow(Config(history=HistorySQLite(path), log=Silence()))
    workflow.task.add(action(time.perf_counter))
    workflow.start()
    database = sqlite3.connect(path)
    known: set[tuple[str, int]] = set(database.execute("SELECT run_id, task FROM attempt_list"))
    steps = [(run, int(task)) for file in killed if file.exists() for run, task in _lines(file)]
    found = Kills(
        kills=len(killed),
        begun=len(steps),
        missing=sum(step not in known for step in steps),
        runs=dict(database.execute("SELECT state, COUNT(*) FROM runs GROUP BY state")),
        integrity=database.execute("PRAGMA integrity_check").fetchone()[0],
    )
    database.close()
    return found


def _lines(file: Path) -> list[Any]:
    return [line.split() for line in file.read_text().splitlines()]


if __name__ == "__main__":
    count, first = (int(argument) for argument in (*sys.argv[1:3], *("200", "1")[len(sys.argv[1:3]) :]))
    with tempfile.TemporaryDirectory() as name:
        print(kill_many(Path(name), count, first, (sys.argv[3:] or ["inline"])[0]))
