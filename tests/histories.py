"""Runs for the tests of what reads a history."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from dotflow import Approval, Config, Context, DotFlow, action, clock
from dotflow.abc.history import History
from dotflow.abc.operations import Claim, QueueServer
from dotflow.core.events import AttemptOutput, AttemptStarted, Planned, RunStarted, TaskCompleted
from dotflow.providers import ExecutorThread, HistoryPostgres, HistorySQLite, LogDefault, StorageFile
from dotflow.providers.histories.postgres.dialect import NAMES

#: From the present format to the seventh one, and so on to the fourth one.
SEVENTH_FORMAT = """DROP VIEW attempt_list; ALTER TABLE attempts DROP COLUMN waited;
    CREATE VIEW attempt_list AS SELECT run, task FROM attempts;
    DROP TABLE slots; DROP TABLE holds; DROP TABLE waits; DROP TABLE closed; DROP TABLE texts;
    DROP TABLE told;
    PRAGMA user_version = 7;"""
SIXTH_FORMAT = f"{SEVENTH_FORMAT} DROP VIEW call_list; DROP TABLE calls; PRAGMA user_version = 6;"
FIFTH_FORMAT = f"""{SIXTH_FORMAT} DROP INDEX orders_id; DROP INDEX wanted_goes_on; DROP INDEX wanted_unnamed;
    ALTER TABLE orders DROP COLUMN id; ALTER TABLE questions DROP COLUMN call; ALTER TABLE runs DROP COLUMN waits;
    PRAGMA user_version = 5;"""
FOURTH_FORMAT = f"""{FIFTH_FORMAT} DROP VIEW attempt_list; ALTER TABLE attempts DROP COLUMN round;
    ALTER TABLE questions DROP COLUMN sent; CREATE VIEW attempt_list AS SELECT run, task FROM attempts;
    PRAGMA user_version = 4;"""

#: As where the row of a process is gone.
OF_DEAD = "UPDATE runs SET lock = 7 WHERE run_id = ?"


@action
def numbers() -> list[int]:
    return [1, 2, 3]


@action
def double(number: int) -> int:
    if number == 2:
        raise ValueError("two\x1b[31m is refused")
    return 2 * number


@action(retry=2, retry_delay=0)
def load(numbers: list[int]) -> None:
    raise ConnectionError("the warehouse is away")


@action
def rows(day: str = "today", top: int = 3) -> list[int]:
    return list(range(top))


@action
def load_row(row: int) -> int:
    if row == 1 and not Path("mended").exists():
        raise ConnectionError("the warehouse is away")
    return row


@action(approve="Publish {rows} rows?")
def publish(rows: list[int], approval: Approval) -> list[Any]:
    return [approval.by, approval.value, approval.comment]


def asking(history: History, **params: Any) -> DotFlow:
    """The workflow `report`: a map of which an item fails while there is no file `mended`, and then a question."""
    log = LogDefault(output="none")
    config = Config(storage=StorageFile("values"), history=history, log=log, executor=ExecutorThread())
    workflow = DotFlow(config, workflow_id="report", params=params)
    workflow.task.add(rows)
    workflow.task.add(load_row, each=rows, name="load")
    workflow.task.add(publish, needs={"rows": "load"})
    return workflow


def nightly(history: History | None, *, name: str = "nightly", **more: Any) -> DotFlow:
    """A workflow of three tasks: one completes, one of three items fails, one fails twice."""
    workflow = DotFlow(Config(history=history, log=LogDefault(output="none"), **more), workflow_id=name, name="Nights")
    workflow.task.add(numbers)
    workflow.task.add(double, each=numbers)
    workflow.task.add(load)
    return workflow


def quick(history: History | None, *steps: Any, name: str = "quick") -> DotFlow:
    """A workflow that completes."""
    workflow = DotFlow(Config(history=history, log=LogDefault(output="none")), workflow_id=name)
    workflow.task.add(list(steps or [numbers]))
    return workflow


def begin(history: History, run_id: str, *names: str) -> None:
    """Begins a run whose first tasks have completed, and whose last one runs."""
    steps = [Planned(name, "default", identity=f"shop:{name}") for name in names]
    history.record(run_id, RunStarted("shop", run_id, len(names), clock.now(), steps=steps))
    for task in range(len(names)):
        history.record(run_id, AttemptStarted(task, 1, Context(), clock.now(), clock.monotonic()))
        if task < len(names) - 1:
            history.record(run_id, TaskCompleted(task, Context(task), clock.monotonic()))
    history.settle(run_id, begins=True)


def crash(history: HistorySQLite | HistoryPostgres, run_id: str) -> None:
    """Leaves a run as one whose process was killed."""
    if isinstance(history, HistoryPostgres):
        writer = history._late._writers.pop(run_id)
        history.database.transact(lambda connection: connection.execute(OF_DEAD, (run_id,)))
        assert writer._lock is not None
        history.database.presence.release(writer._lock)
        return
    lock = history._writers.pop(run_id)._lock
    assert lock is not None
    history.database.presence.release(lock)


def write(history: History, run_id: str, task: int, data: bytes, *, stream: int = 1, **more: Any) -> None:
    """Writes output of a task that runs."""
    history.record(run_id, AttemptOutput(task, 1, stream, data, clock.now(), **more))
    history.settle(run_id, begins=True)


def files(folder: Path) -> list[str]:
    """The names of the files in a folder."""
    return sorted(path.name for path in folder.iterdir())


def contents(history: History) -> list[Any]:
    """All that a history has, to see whether it was touched. In Postgres without the beats of its processes."""
    if isinstance(history, HistoryPostgres):
        tables = [name for name in NAMES if name not in ("beats", "meta")]
        return [sorted(history.database.run(f"SELECT * FROM {name}"), key=repr) for name in tables]
    assert isinstance(history, HistorySQLite)
    with closing(sqlite3.connect(history.path)) as connection:
        return list(connection.iterdump())


def take(server: QueueServer, workflow: str, most: int | None = None) -> Claim | None:
    """Takes the first queued run of a workflow that may begin."""
    return next(iter(server.claim({workflow: most}, (), 1)), None)


class Histories:
    """Opens histories in one database, and closes them at the end of the test.

    Attributes:
        kind: "sqlite" or "postgres".
    """

    def __init__(self, kind: str, folder: Path, dsn: str, set_variable: Callable[[str, str], None]) -> None:
        self.kind = kind
        self._folder, self._dsn, self._set_variable = folder, dsn, set_variable
        self._opened: list[Any] = []

    def open(self, **given: Any) -> Any:
        """Opens the history of the test: one of several processes or machines, when it is opened again."""
        if self.kind == "postgres":
            return self._keep(HistoryPostgres(self._dsn, **{"late": 0, **given}))
        return self._keep(HistorySQLite(self._folder / "history.db", **given))

    def where(self) -> str:
        """Returns what `--history` takes for it in another process, whose variables have the rest."""
        if self.kind == "postgres":
            self._set_variable("DOTFLOW_POSTGRES_DSN", self._dsn)
            return "postgres"
        return str(self._folder / "history.db")

    def open_default(self, **given: Any) -> Any:
        """Opens that which the commands use without an option."""
        if self.kind == "postgres":
            self._set_variable("DOTFLOW_POSTGRES_DSN", self._dsn)
            self._set_variable("DOTFLOW_HISTORY", "postgres")
            return self.open(**given)
        return self._keep(HistorySQLite(**given))

    def _keep(self, history: Any) -> Any:
        self._opened.append(history)
        return history

    def close(self) -> None:
        """Closes them."""
        for history in self._opened:
            history.close()
