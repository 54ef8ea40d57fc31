"""Waits for a file. Waiting is no failure, and holds no worker."""

from pathlib import Path

from dotflow import Config, DotFlow, NotYet, action
from dotflow.providers import StorageFile


@action(poll="200ms", poll_timeout="1h")
def delivery() -> Path:
    found = sorted(Path("inbox").glob("*.csv"))
    if not found:
        raise NotYet("no file in inbox/")
    return found[0]


@action
def count(delivery: Path) -> int:
    return len(delivery.read_text().splitlines()) - 1


inbox = DotFlow(Config(storage=StorageFile()), workflow_id="inbox")
inbox.task.add(delivery).add(count)
