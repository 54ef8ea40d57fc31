"""The workflow of a web application. The application and its servers import it."""

import os
from pathlib import Path

from dotflow import Config, DotFlow, action
from dotflow.providers import HistorySQLite, StorageFile

DATA = Path(os.environ.get("SHOP_DATA", "data")).absolute()  # the same for all processes

config = Config(storage=StorageFile(DATA / "values"), history=HistorySQLite(DATA / "history.db"))
report = DotFlow(config, workflow_id="report", params={"customer": ...}, max_runs=4)


@action
def fetch(customer: int) -> list[int]:
    return [customer, 2 * customer]


@action(retry=3)
def total(fetch: list[int]) -> int:
    return sum(fetch)


@action
def send(total: int, customer: int, idempotency_key: str) -> str:
    """Does what must not happen twice: the other side knows the key. Here it is a folder with one file for each."""
    sent = DATA / "sent"
    sent.mkdir(exist_ok=True)
    try:
        (sent / idempotency_key).open("x").write(f"{customer}: {total}\n")
    except FileExistsError:
        return "sent before"
    return "sent"


report.task.add([fetch, total, send])
