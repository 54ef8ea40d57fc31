"""A Telegram chat is told when a task fails. A notification never holds up a run or changes its result."""

import os
import sys

from dotflow import Config, DotFlow, action
from dotflow.core.types.status import TypeStatus
from dotflow.errors import DotflowError
from dotflow.providers import NotifyTelegram

token, chat_id = os.environ.get("TELEGRAM_TOKEN"), os.environ.get("TELEGRAM_CHAT_ID")
if not token or not chat_id:
    print("Set TELEGRAM_TOKEN to your bot's token, and TELEGRAM_CHAT_ID to the chat that it writes to.")
    sys.exit()


@action
def load() -> None:
    raise ConnectionError("the database is away")


server = os.environ.get("TELEGRAM_API_URL", "https://api.telegram.org")  # only for who runs one of his own
try:
    notify = NotifyTelegram(token, chat_id, notification_type=TypeStatus.FAILED, base_url=server)
except DotflowError as problem:  # it says what is wrong, and what to do
    print(problem)
    sys.exit()

workflow = DotFlow(config=Config(notify=notify))
workflow.task.add(step=load)
run = workflow.start()  # what could not be sent is in the log

print(run.status, "-", run.tasks[0].errors[-1].message)  # Failed - the database is away
