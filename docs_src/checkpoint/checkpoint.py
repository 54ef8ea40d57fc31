"""Resume: what is finished is not done again. The second run begins with the step that failed in the first one."""

from dotflow import Config, Context, DotFlow, action
from dotflow.providers import StorageFile

database = {"is up": False}


@action
def extract() -> list[int]:
    print("extract: an expensive query")
    return [120, 80, 45]


@action
def load(previous_context: Context) -> str:
    if not database["is up"]:
        raise ConnectionError("the database is away")
    return f"{len(previous_context.storage)} rows loaded"


workflow = DotFlow(config=Config(storage=StorageFile(path=".output")), workflow_id="checkpoint")
workflow.task.add(step=[extract, load])

run = workflow.start()
print(run.status, "-", run.tasks[1].errors[-1].message)
# extract: an expensive query
# Failed - the database is away

database["is up"] = True
run = workflow.start(resume=True)  # in the same program or, after a crash, in another one
print(run.status, "-", run.tasks[1].value)
# Completed - 3 rows loaded
