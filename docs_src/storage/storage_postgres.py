"""Values in a table of a Postgres database: another machine can go on with the run."""

import os
import sys

from dotflow import Config, Context, DotFlow, action
from dotflow.errors import DotflowError
from dotflow.providers import StoragePostgres


@action
def extract() -> list[int]:
    return [120, 80, 45]


@action
def add_up(previous_context: Context) -> int:
    return sum(previous_context.storage)


if not os.environ.get("DOTFLOW_POSTGRES_DSN"):
    print("Set DOTFLOW_POSTGRES_DSN to a database, such as postgresql://me@127.0.0.1:5432/mine.")
    sys.exit()

try:
    storage = StoragePostgres(os.environ["DOTFLOW_POSTGRES_DSN"])
    workflow = DotFlow(config=Config(storage=storage), workflow_id="storage-postgres")
    workflow.task.add(step=[extract, add_up])
    run = workflow.start(resume=True)  # the second time there is nothing left to do
except (ImportError, DotflowError) as problem:  # it says what is wrong, and what to do
    print(problem)
    sys.exit()

print(run.status, workflow.result_storage())  # Completed [[120, 80, 45], 245]
print(sorted(storage.list_keys("storage-postgres/")))  # ['storage-postgres/0', 'storage-postgres/1']
