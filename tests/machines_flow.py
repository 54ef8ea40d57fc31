"""The workflow that `machines_table.py` serves: three steps, each of which leaves a mark where it begins and ends."""

import os
import time
from typing import Final

from dotflow import Config, DotFlow, action
from dotflow.core.attempt_id import current_attempt
from dotflow.providers import HistoryPostgres, LogDefault, StorageFile, StoragePostgres
from dotflow.providers.histories.postgres.beats import Rhythm
from dotflow.providers.histories.postgres.presence import PostgresPresence

MARKS: Final = "MACHINES_MARKS"  # the path of the file with the marks
SERVER: Final = "MACHINES_SERVER"  # which server a step runs in
SECONDS: Final = "MACHINES_SECONDS"  # of a step
FOLDER: Final = "MACHINES_FOLDER"  # of the values; none for a table in the database
QUICK: Final = "MACHINES_QUICK"  # set where the times of the beats are a tenth
#: Looks are a second apart, as ever.
RHYTHM: Final = Rhythm(beat=1.0, retry=0.3, dead=4.5, quiet=3.0, released=4.5, delay=0.5)


def mark(what: str, step: str) -> None:
    """Adds a line in one write, which no kill tears."""
    attempt = current_attempt.get()
    assert attempt is not None
    line = f"{time.monotonic():.4f} {what} {attempt.run_id} {step} {os.environ.get(SERVER, '-')}\n"
    descriptor = os.open(os.environ[MARKS], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, line.encode())
    os.close(descriptor)


def work(step: str) -> None:
    mark("begin", step)
    time.sleep(float(os.environ[SECONDS]))
    mark("end", step)


@action
def extract(customer: int) -> int:
    work("extract")
    return customer


@action
def transform(extract: int) -> int:
    work("transform")
    return extract + 1


@action
def load(transform: int) -> int:
    work("load")
    return transform + 1


def report() -> DotFlow:
    """Returns it, for `dotflow serve`."""
    if os.environ.get(QUICK):
        PostgresPresence.rhythm = RHYTHM
    dsn, folder = os.environ["DOTFLOW_POSTGRES_DSN"], os.environ.get(FOLDER)
    config = Config(
        storage=StorageFile(folder) if folder else StoragePostgres(dsn),
        history=HistoryPostgres(dsn),
        log=LogDefault(output="none"),
    )
    workflow = DotFlow(config, workflow_id="report", params={"customer": ...})
    workflow.task.add([extract, transform, load])
    return workflow
