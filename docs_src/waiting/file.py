"""A step with poll waits: while it raises NotYet, or returns None, it is called again, and nothing has failed."""

import tempfile
import threading
from pathlib import Path

from dotflow import DotFlow, NotYet, action

folder = tempfile.TemporaryDirectory()
incoming = Path(folder.name)


@action(poll="50ms", poll_timeout="1m")
def orders() -> list[Path]:
    found = sorted(incoming.glob("*.csv"))
    if len(found) < 3:
        raise NotYet(f"{len(found)} of 3 files")
    return found


@action
def count(orders: list[Path]) -> int:
    return sum(len(path.read_text().splitlines()) for path in orders)


def deliver() -> None:
    for shop in ("north", "south", "west"):
        (incoming / f"{shop}.csv").write_text("apples\npears\n")


threading.Timer(0.2, deliver).start()
workflow = DotFlow()
workflow.task.add(orders).add(count)
run = workflow.start()

print(run.status, run.value("count"))  # Completed 6
print(run.task("orders").attempt, run.task("orders").errors)  # 1 []
folder.cleanup()
