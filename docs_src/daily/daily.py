"""A job for each day: the parameter names the run, so a day that failed is finished without the others."""

from datetime import date

from dotflow import Config, DotFlow, action
from dotflow.providers import StorageFile

ready = {date(2026, 1, 1), date(2026, 1, 3)}  # the days whose file has arrived


@action
def fetch(day: date) -> list[int]:
    if day not in ready:
        raise FileNotFoundError(f"sales-{day}.csv")
    print(f"fetch {day}")
    return [120, 80, day.day]


@action
def total(fetch: list[int]) -> int:
    return sum(fetch)


workflow = DotFlow(Config(storage=StorageFile(path=".output")), workflow_id="sales", params={"day": ...})
workflow.task.add([fetch, total])

days = [date(2026, 1, number) for number in (1, 2, 3)]
print([str(workflow.start(resume=True, params={"day": day}).status) for day in days])
# fetch 2026-01-01
# fetch 2026-01-03
# ['Completed', 'Failed', 'Completed']

ready.add(date(2026, 1, 2))  # it has arrived: the same loop again, in this program or in another one
for day in days:
    run = workflow.start(resume=True, params={"day": day})
    print(run.workflow_id, run.value("total"))
# sales@day=2026-01-01 201
# fetch 2026-01-02
# sales@day=2026-01-02 202
# sales@day=2026-01-03 203
