"""Values in one SQLite database, which several workflows may share. A second run with resume=True has nothing to do."""

from pathlib import Path

from dotflow import Config, Context, DotFlow, action
from dotflow.providers import StorageSQLite


@action
def extract() -> set[str]:
    print("extract")
    return {"ada", "alan", "grace"}


@action
def count(previous_context: Context) -> int:
    print("count")
    return len(previous_context.storage)


storage = StorageSQLite(path=".output/orders.db")
workflow = DotFlow(config=Config(storage=storage), workflow_id="storage-sqlite")
workflow.task.add(step=[extract, count])
workflow.start()
workflow.start(resume=True)
print(workflow.result_storage()[1])
# extract
# count
# 3
print(Path(".output/orders.db").stat().st_size > 0, sorted(storage.list_keys("storage-sqlite/")))
# True ['storage-sqlite/0', 'storage-sqlite/1']
