"""A job for each day: its parameter names the run, whether a schedule, a person or a backfill starts it."""

from datetime import date, datetime, timedelta

from dotflow import Config, DotFlow, action
from dotflow.providers import SchedulerCron, StorageFile


@action
def fetch(day: date) -> list[int]:
    return [120, 80, day.day]  # stands for a request


@action
def total(fetch: list[int]) -> int:
    return sum(fetch)


def day_before(planned: datetime) -> dict[str, date]:
    return {"day": planned.date() - timedelta(days=1)}


scheduler = SchedulerCron("30 2 * * *", timezone="Europe/Berlin", catch_up="all", late_after="15m", params=day_before)
config = Config(storage=StorageFile(path=".output"), scheduler=scheduler)
workflow = DotFlow(config, workflow_id="sales", params={"day": ...})
workflow.task.add([fetch, total])
