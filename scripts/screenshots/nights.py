"""Two weeks of runs of three workflows: the runs of the picture in the documentation. On a virtual clock."""

import random
import sys
from datetime import UTC, datetime, timedelta

from dotflow import Config, DotFlow, action
from dotflow.providers import HistorySQLite, LogDefault
from dotflow.testing import virtual_clock

DAYS = 14
CHANCE = 0.08  # that a step fails
WORKFLOWS = {
    "nightly-orders": {"extract_orders": 21, "convert": 140, "dedupe": 14, "load": 50, "notify_sales": 1},
    "train-model": {"features": 300, "train": 2400, "evaluate": 200, "publish": 4},
    "sync-customers": {"pull": 40, "push": 25},
}

chance = random.Random(4)
history = HistorySQLite(path=sys.argv[1])


def make_step(name, seconds):
    def step():
        clock.sleep(seconds * chance.uniform(0.7, 1.3))
        if chance.random() < CHANCE:
            raise ConnectionError("the warehouse is away")

    step.__name__ = step.__qualname__ = name
    return action(step)


for day in range(DAYS, 0, -1):
    for hour, (name, steps) in enumerate(WORKFLOWS.items()):
        with virtual_clock(datetime.now(UTC) - timedelta(days=day - 1, hours=4 - hour)) as clock:
            workflow = DotFlow(Config(history=history, log=LogDefault(output="none")), workflow_id=name)
            workflow.task.add([make_step(step, seconds) for step, seconds in steps.items()])
            workflow.start()
