"""The workflow of several machines. The application and all servers import it."""

import os

from dotflow import Config, DotFlow, action
from dotflow.providers import HistoryPostgres, StoragePostgres

DSN = os.environ.get("DOTFLOW_POSTGRES_DSN", "")  # "" is the database of PGHOST and libpq's other variables

config = Config(storage=StoragePostgres(DSN), history=HistoryPostgres(DSN))
report = DotFlow(config, workflow_id="report", params={"customer": ...}, max_runs=8)


@action
def fetch(customer: int) -> list[int]:
    return [customer, 2 * customer]


@action(retry=3)
def total(fetch: list[int]) -> int:
    return sum(fetch)


report.task.add([fetch, total])
