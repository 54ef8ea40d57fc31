"""Keeps every attempt of every run in a table."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing

from dotflow import Config, Context, DotFlow, action
from dotflow.abc.history import History
from dotflow.core.events import AttemptFailed, Event, Planned, RunEnded, RunStarted, TaskCompleted, TaskFailed


class HistoryTable(History):
    def __init__(self, path: str) -> None:
        self.path = path
        self._steps: dict[str, Sequence[Planned]] = {}  # of the active runs
        with closing(self._connect()) as database:
            database.execute("CREATE TABLE IF NOT EXISTS attempts (run, step, outcome, message)")

    def record(self, run_id: str, event: Event) -> None:
        match event:
            case RunStarted():
                self._steps[run_id] = event.steps
            case RunEnded():
                del self._steps[run_id]
            case TaskCompleted():
                self._insert(run_id, event.task_id, "completed", None)
            case AttemptFailed():
                self._insert(run_id, event.task_id, f"again in {event.retry_in:g} s", event.failure.message)
            case TaskFailed():
                self._insert(run_id, event.task_id, "failed", event.failure.message)

    def _insert(self, run_id: str, task_id: int, outcome: str, message: str | None) -> None:
        row = (run_id, self._steps[run_id][task_id].name, outcome, message)
        with closing(self._connect()) as database:  # anew: each run may have a thread of its own
            database.execute("INSERT INTO attempts VALUES (?, ?, ?, ?)", row)

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, isolation_level=None)


@action
def extract() -> list[int]:
    return [3, 5, 8]


@action(retry=2, retry_delay=0.1)
def load(previous_context: Context) -> None:
    raise ConnectionError("the database is away")


if __name__ == "__main__":
    workflow = DotFlow(Config(history=HistoryTable("attempts.db")))
    workflow.task.add([extract, load])
    workflow.start()

    with closing(sqlite3.connect("attempts.db")) as database:
        for row in database.execute("SELECT step, outcome, message FROM attempts"):
            print(*row)
