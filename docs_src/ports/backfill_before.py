from datetime import date, timedelta

from dotflow import Config, Context, DotFlow, action
from dotflow.providers import StorageFile


@action
def extract(initial_context: Context) -> list[int]:
    day, limit = initial_context.storage
    return [day.day, day.month][:limit]


@action
def report(initial_context: Context, previous_context: Context) -> str:
    day, _ = initial_context.storage  # the day again: each step takes it from its own add
    return f"{day}: {sum(previous_context.storage)}"


def daily(day: date, limit: int = 100) -> DotFlow:
    workflow = DotFlow(Config(storage=StorageFile()), workflow_id=f"daily-{day}-{limit}")
    workflow.task.add([extract, report], initial_context=(day, limit))
    return workflow


for days in range(3):
    workflow = daily(date(2026, 11, 23) + timedelta(days))
    workflow.start(resume=True)
    print(workflow.result_storage()[-1])
