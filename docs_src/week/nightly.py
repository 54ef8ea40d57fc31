"""Every night at half past two: the report of the day before, an approval, an alarm, and a message."""

import os
from datetime import date, datetime, timedelta

from daily import ORDERS, amounts, report
from release import publish

from dotflow import Config, DotFlow, Task
from dotflow.abc.notify import Notify, RunMessage
from dotflow.providers import HistorySQLite, NotifyTelegram, SchedulerCron, StorageFile


class NotifyPrint(Notify):
    """Prints what Telegram would send."""

    def send(self, task: Task) -> None:
        if task.question is not None:
            print(f"Can {task.name} go on? {task.question.text}")

    def send_run(self, message: RunMessage) -> None:
        print(f"{message.title}\n{message.text}", flush=True)

    def alert(self, message: str) -> None:
        print(f"Alert: {message}", flush=True)


def day_before(planned: datetime) -> dict[str, date]:
    return {"day": planned.date() - timedelta(days=1)}


token = os.environ.get("BOT_TOKEN")
notify = NotifyTelegram(token, os.environ["CHAT_ID"], by="run") if token else NotifyPrint()
scheduler = SchedulerCron("30 2 * * *", timezone="Europe/Lisbon", catch_up="all", late_after="15m", params=day_before)
config = Config(storage=StorageFile(), history=HistorySQLite(), notify=notify, scheduler=scheduler)
nightly = DotFlow(config, workflow_id="nightly", params={"day": ...})
nightly.task.add(amounts, params={"source": ORDERS}).add([report, publish])
