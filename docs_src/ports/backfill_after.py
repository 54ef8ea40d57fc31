from datetime import date, timedelta

from dotflow import Config, DotFlow, action
from dotflow.providers import StorageFile


@action
def extract(day: date, limit: int) -> list[int]:
    return [day.day, day.month][:limit]


@action
def report(extract: list[int], day: date) -> str:
    return f"{day}: {sum(extract)}"


workflow = DotFlow(Config(storage=StorageFile()), workflow_id="daily", params={"day": ..., "limit": 100})
workflow.task.add([extract, report])

for days in range(3):
    run = workflow.start(resume=True, params={"day": date(2026, 11, 23) + timedelta(days)})
    print(run.value("report"))
