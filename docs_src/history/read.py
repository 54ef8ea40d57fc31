"""The last run that failed, and what its steps were given."""

import tempfile
from pathlib import Path

from dotflow import Config, DotFlow, action
from dotflow.providers import HistorySQLite


@action
def articles() -> list[str]:
    return ["3.50", "1.20", "8,90"]


@action
def net(articles: list[str]) -> list[float]:
    return [float(price) / 1.07 for price in articles]


history = HistorySQLite(Path(tempfile.mkdtemp()) / "history.db")
workflow = DotFlow(Config(history=history), workflow_id="nightly")
workflow.task.add([articles, net])
workflow.start()

for run in history.runs(state="failed", since="1d"):
    print(run.workflow_id, run.error)  # nightly net: ValueError: could not convert string to float: '8,90'

failed = history.load("failed")
for task in failed.steps:
    print(task.name, task.state)
# articles Completed
# net Failed
print(history.value("failed", "net", "argument:articles"))  # ['3.50', '1.20', '8,90']
