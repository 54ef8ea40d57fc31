"""Keeps every run in a file, and asks it what happened."""

import sqlite3
from contextlib import closing

from dotflow import Config, Context, DotFlow, action
from dotflow.providers import HistorySQLite


@action
def extract() -> list[int]:
    return [3, 5, 8]


@action(retry=2, retry_delay=0.1)
def load(previous_context: Context) -> None:
    raise ConnectionError("the warehouse is away")


if __name__ == "__main__":
    workflow = DotFlow(Config(history=HistorySQLite("history.db")), workflow_id="nightly")
    workflow.task.add([extract, load])
    workflow.start()

    with closing(sqlite3.connect("history.db")) as database:
        for row in database.execute("SELECT step, attempt, state, glimpse FROM attempt_list"):
            print(*row)
        for row in database.execute("SELECT workflow_id, state, error FROM run_list"):
            print(*row)
