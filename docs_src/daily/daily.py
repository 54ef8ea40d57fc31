"""A job for each day: every day has checkpoints of its own, so one that failed is finished without the others."""

from datetime import date

from dotflow import Config, Context, DotFlow, action
from dotflow.providers import StorageFile

ready = {date(2026, 1, 1), date(2026, 1, 3)}  # the days whose file has arrived


@action
def fetch(initial_context: Context) -> list[int]:
    day: date = initial_context.storage
    if day not in ready:
        raise FileNotFoundError(f"sales-{day}.csv")
    print(f"fetch {day}")
    return [120, 80, day.day]


@action
def total(previous_context: Context) -> int:
    return sum(previous_context.storage)


def sales(day: date) -> DotFlow:
    workflow = DotFlow(config=Config(storage=StorageFile(path=".output")), workflow_id=f"sales-{day}")
    workflow.task.add(step=fetch, initial_context=day).add(step=total)
    return workflow


days = [date(2026, 1, number) for number in (1, 2, 3)]
print([str(sales(day).start(resume=True).status) for day in days])
# fetch 2026-01-01
# fetch 2026-01-03
# ['Completed', 'Failed', 'Completed']

ready.add(date(2026, 1, 2))  # it has arrived: the same loop again, in this program or in another one
for day in days:
    workflow = sales(day)
    workflow.start(resume=True)
    print(day, workflow.result_storage()[-1])
# 2026-01-01 201
# fetch 2026-01-02
# 2026-01-02 202
# 2026-01-03 203
