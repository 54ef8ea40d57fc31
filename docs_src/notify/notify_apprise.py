"""Slack, Discord, Teams, e-mail and a hundred more are told when a task fails, each by its Apprise URL."""

import os
import sys

from dotflow import Config, DotFlow, action
from dotflow.core.types.status import TypeStatus
from dotflow.errors import DotflowError
from dotflow.providers import NotifyApprise

urls = os.environ.get("APPRISE_URLS", "").split()
if not urls:
    print("Set APPRISE_URLS to whom to tell, such as 'slack://TokenA/TokenB/TokenC/#ops mailto://me:pass@example.org'.")
    sys.exit()


@action
def load() -> None:
    raise ConnectionError("the database is away")


try:
    notify = NotifyApprise(urls, notification_type=TypeStatus.FAILED)
except (ImportError, DotflowError) as problem:  # it says what is wrong, and what to do
    print(problem)
    sys.exit()

workflow = DotFlow(config=Config(notify=notify))
workflow.task.add(step=load)
run = workflow.start()  # what could not be sent is in the log

print(run.status, "-", run.tasks[0].errors[-1].message)  # Failed - the database is away
