"""What a history costs a step."""

import sqlite3
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from measure import Row, fresh
from sequential import per_piece
from workflows import completed, no_op, workflow_of

from dotflow import Config, clock
from dotflow.abc.executor import Executor
from dotflow.core.events import Planned, RunEnded, RunStarted
from dotflow.core.types.status import TypeStatus
from dotflow.providers import ExecutorProcess, HistorySQLite, LogDefault

#: By hand: what a step's own script would write before each step.
BY_HAND = "INSERT INTO attempts VALUES (?, ?, ?, ?, ?)"


def rows(quick: bool) -> Iterator[Row]:
    """What HistorySQLite adds to a step that does nothing, in the calling thread and in two worker processes.

    A commit for each step, before it runs. By hand it is one such commit, of two rows, and nothing around it.
    """
    count = 2_000 if quick else 10_000
    found = fresh(measure, count, 3 if quick else 7)
    by_hand = found["a commit by hand"]
    ours = found["history"] - found["without"]
    peers = {"a commit of two rows": by_hand}
    yield Row(what="history on a no-op step, on top", ours=ours, peers=peers, budget="25 µs", within=ours < 25e-6)
    ours = found["usage"] - found["without"]
    yield Row(what="the same with CPU time and memory", ours=ours, peers=peers, budget="29 µs", within=ours < 29e-6)
    found = fresh(measure_processes, 300 if quick else 2_000, 2 if quick else 5)
    yield Row(what="the same, two worker processes", ours=found["history"] - found["without"], peers=peers)


def measure(count: int, repeats: int) -> dict[str, float]:
    """Seconds for each step."""

    class WithoutUsage(HistorySQLite):
        measures_usage = False

    with tempfile.TemporaryDirectory() as folder:
        contenders: dict[str, Callable[[], object]] = {
            "without": _runner(count, None),
            "history": _runner(count, WithoutUsage(Path(folder) / "a.db", capture="none")),
            "usage": _runner(count, HistorySQLite(Path(folder) / "b.db", capture="none")),
            "a commit by hand": lambda: _by_hand(Path(folder) / "c.db", count),
        }
        return per_piece(contenders, count, repeats)


def measure_processes(count: int, repeats: int) -> dict[str, float]:
    """Seconds for each step."""
    with tempfile.TemporaryDirectory() as folder:
        history = HistorySQLite(Path(folder) / "a.db", capture="none")
        contenders: dict[str, Callable[[], object]] = {
            "without": _runner(count, None, "parallel", ExecutorProcess(2)),
            "history": _runner(count, history, "parallel", ExecutorProcess(2)),
        }
        return per_piece(contenders, count, repeats)


def _runner(
    count: int, history: HistorySQLite | None, mode: str = "sequential", executor: Executor | None = None
) -> Callable[[], object]:
    config = Config(log=LogDefault(output="none"), history=history, executor=executor)
    workflow = workflow_of(no_op, count, config)
    return lambda: completed(workflow, mode)


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
