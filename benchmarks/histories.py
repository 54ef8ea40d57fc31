"""What a history costs a step."""

import contextlib
import os
import sqlite3
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from typing import Final

from measure import Contender, Row, best, fresh
from sequential import per_piece
from workflows import completed, no_op, workflow_of

from dotflow import Config, clock
from dotflow.core.events import Planned, RunEnded, RunStarted
from dotflow.core.types.status import TypeStatus
from dotflow.providers import ExecutorProcess, HistorySQLite, LogDefault


def rows(quick: bool) -> Iterator[Row]:
    """What HistorySQLite adds to a step that does nothing, in CPU time, and to its file.

    An inline step has a commit before it; a worker's step is counted in all processes. By hand it is one such commit,
    of two rows, and nothing around it. The floor is what the promises of a step take without any of dotflow's code.
    What a captured output adds is measured in rows of its own.
    """
    by_hand, floor, size_by_hand = fresh(measure_by_hand, 2_000, 3 if quick else 15)
    peers = {"limit: a commit of two rows": by_hand, "floor: the same commit, looks and readings": floor}
    inline = fresh(measure, "sequential", 300, 2_300, 3 if quick else 15)
    what = "the history, on top of an inline step"
    yield Row(what=what, ours=inline, peers=peers, budget="30 µs", within=inline < 30e-6)
    parallel = fresh(measure, "parallel", 100, 1_100, 3 if quick else 15)
    what = "the history, on top of a step of two workers"
    yield Row(what=what, ours=parallel, peers=peers, budget="35 µs", within=parallel < 35e-6)
    size, peers = fresh(measure_size, 2_000), {"limit: a row by hand": size_by_hand}
    what = "the history, an attempt in the file"
    yield Row(what=what, ours=size, peers=peers, unit="B", budget="90 B", within=size < 90)


def measure(mode: str, few: int, many: int, repeats: int) -> float:
    """Seconds of CPU time for each step more: what a run costs once is no part of it."""
    with tempfile.TemporaryDirectory() as folder:
        histories = {"without": None, "history": HistorySQLite(Path(folder) / "a.db", capture="none")}
        contenders = {
            f"{name} {count}": _runner(count, history, mode)
            for name, history in histories.items()
            for count in (few, many)
        }
        found = best(contenders, repeats)
    with_it, without = (found[f"{name} {many}"] - found[f"{name} {few}"] for name in ("history", "without"))
    return (with_it - without) / (many - few)


def _runner(count: int, history: HistorySQLite | None, mode: str) -> Contender:
    """What runs so many steps, and returns the CPU time of this process and of the workers, which have ended."""
    executor = ExecutorProcess(2) if mode == "parallel" else None
    workflow = workflow_of(no_op, count, Config(log=LogDefault(output="none"), history=history, executor=executor))

    def used() -> float:
        children = getrusage(RUSAGE_CHILDREN)
        return time.process_time() + children.ru_utime + children.ru_stime

    def run() -> float:
        before = used()
        completed(workflow, mode)
        return used() - before

    return run


def measure_size(count: int) -> float:
    """Bytes for each attempt of the second run: what a file has once is no part of it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.db"

        def size() -> int:
            history = HistorySQLite(path, capture="none")
            completed(workflow_of(no_op, count, Config(log=LogDefault(output="none"), history=history)))
            history.close()
            return _size(path)

        first = size()
        return (size() - first) / count


def measure_by_hand(count: int, repeats: int) -> tuple[float, float, float]:
    """Seconds of CPU time for each commit, the same with all that a step does, and bytes for each row."""
    with tempfile.TemporaryDirectory() as folder:
        path, history = Path(folder) / "a.db", Path(folder) / "history.db"
        completed(workflow_of(no_op, 1, Config(log=LogDefault(output="none"), history=HistorySQLite(history))))
        contenders = {"limit": lambda: _by_hand(path, count), "floor": lambda: _floor(history, count)}
        found = per_piece(contenders, count, repeats)
        return found["limit"], found["floor"], _size(path) / count


def _size(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path.stat().st_size


def _by_hand(path: Path, count: int) -> None:
    path.unlink(missing_ok=True)
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")
    database.execute("CREATE TABLE attempts (run, task, state, began, took, PRIMARY KEY (run, task)) WITHOUT ROWID")
    statement = "INSERT OR REPLACE INTO attempts VALUES (?, ?, ?, ?, ?), (?, ?, ?, ?, NULL)"
    for number in range(count):
        database.execute(statement, (1, number, 2, 1_764_000_000_000_000, 33, 1, number + 1, 1, 1_764_000_000_000_000))
    database.close()


#: The end of an attempt and the beginning of the next one.
STATEMENT: Final = """INSERT OR REPLACE INTO attempts
    (run, task, item, attempt, state, began, took, cpu, worker, peak, glimpse) VALUES
    (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?), (?, ?, ?, ?, ?, ?, NULL, NULL, NULL, NULL, NULL)"""


def _floor(path: Path, count: int) -> None:
    """Does what the history of a step can't do without, in a bare loop, into a history's own table.

    It looks whether the path still leads to the file, and SQLite's descriptors are still its own: a step may have
    closed them. It reads CPU time and memory around a step, with those of its child processes.
    """
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA synchronous = NORMAL")
    database.execute("DELETE FROM attempts")
    name, file, process = str(path), os.stat(path)[1:3], os.getpid()  # noqa: PTH116
    descriptors = [os.open(path, os.O_RDONLY) for _ in range(3)]
    clear = os.open("/proc/self/clear_refs", os.O_WRONLY)
    began, cpu = 1_764_000_000_000_000, 0.0
    for number in range(count):
        assert os.stat(name)[1:3] == file  # noqa: PTH116
        assert os.getpid() == process
        for descriptor in descriptors:
            os.lseek(descriptor, 0, os.SEEK_CUR)
        ended = (1, number, -1, 1, 2, began, 33, int(cpu * 1e6), process, 40_000_000, "1")
        database.execute(STATEMENT, (*ended, 1, number + 1, -1, 1, 1, began)).fetchall()
        os.fstat(clear)
        os.pwrite(clear, b"5", 0)
        before = getrusage(RUSAGE_CHILDREN)[:2]
        cpu = -time.process_time() - sum(before)
        own, children = getrusage(RUSAGE_SELF), getrusage(RUSAGE_CHILDREN)
        cpu += own[0] + own[1] + children[0] + children[1]
    database.close()  # first, since its locks end with any descriptor of its file
    for descriptor in (*descriptors, clear):
        os.close(descriptor)


def list_rows(quick: bool) -> Iterator[Row]:
    """The last 50 of many runs, those of one workflow, and the size of a run and of an attempt in the file."""
    count = 10_000 if quick else 100_000
    found = fresh(measure_list, count, 20)
    for what in ("list", "workflow"):
        ours = found[what]
        yield Row(what=f"{what}: 50 of {count:,} runs", ours=ours, peers={}, budget="5 ms", within=ours < 5e-3)


def measure_list(count: int, repeats: int) -> dict[str, float]:
    """Seconds."""
    with tempfile.TemporaryDirectory() as folder:
        history = HistorySQLite(Path(folder) / "history.db", keep=None)
        _fill(history, count)
        contenders: dict[str, Callable[[], object]] = {
            "list": lambda: history.runs(),
            "workflow": lambda: history.runs(workflow="w7"),
        }
        return per_piece(contenders, 1, repeats)


def _fill(history: HistorySQLite, count: int) -> None:
    """Writes one run as dotflow does, and copies of it."""
    steps = (Planned("step", "default"),)
    history.record("first", RunStarted("w0", "first", 1, clock.now(), "first", steps))
    history.record("first", RunEnded("w0", "first", TypeStatus.COMPLETED, clock.now()))
    database = sqlite3.connect(history.path)
    database.row_factory = sqlite3.Row
    first = dict(database.execute("SELECT * FROM runs").fetchone())
    copies: Iterator[dict[str, object]] = (
        {**first, "run": None, "run_id": str(uuid.uuid4()), "workflow_id": f"w{number % 50}"} for number in range(count)
    )
    marks = ", ".join("?" * len(first))
    database.executemany(f"INSERT INTO runs VALUES ({marks})", (tuple(copy.values()) for copy in copies))
    database.commit()
    database.close()
