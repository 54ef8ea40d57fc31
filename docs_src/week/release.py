"""Nothing is published before a person has said yes."""

from datetime import date
from pathlib import Path

from daily import ORDERS, amounts, report

from dotflow import Approval, Config, DotFlow, action
from dotflow.providers import HistorySQLite, StorageFile


@action(approve="Publish {report}?", approve_within="2d")
def publish(report: str, day: date, approval: Approval) -> str:
    Path(f"output/{day}.html").write_text(f"<p>{report}</p>\n")
    return f"approved by {approval.by}"


config = Config(storage=StorageFile(), history=HistorySQLite())
release = DotFlow(config, workflow_id="release", params={"day": ...})
release.task.add(amounts, params={"source": ORDERS}).add([report, publish])
