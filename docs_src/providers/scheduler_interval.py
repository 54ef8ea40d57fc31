"""Runs a workflow at an interval in seconds."""

import threading
import time
from typing import Any

from dotflow import Config, DotFlow, action
from dotflow.abc.scheduler import Scheduler


class SchedulerInterval(Scheduler):
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._stopped = threading.Event()

    def start(self, workflow: DotFlow, **kwargs: Any) -> None:
        self._stopped.clear()
        due = time.monotonic()
        while not self._stopped.wait(max(0.0, due - time.monotonic())):
            try:
                workflow.start(**kwargs).wait()
            except Exception as error:  # the schedule goes on
                workflow.config.log.report(f"A run ended by {type(error).__name__}: {error}")
            due = max(due + self.seconds, time.monotonic())  # missed runs are not made up for

    def stop(self) -> None:
        self._stopped.set()


@action
def measure() -> int:
    measured.append(20 + len(measured))
    return measured[-1]


measured: list[int] = []

if __name__ == "__main__":
    scheduler = SchedulerInterval(0.05)
    workflow = DotFlow(Config(scheduler=scheduler))
    workflow.task.add(measure, callback=lambda task: scheduler.stop() if len(measured) == 3 else None)

    workflow.schedule()
    print(measured)
