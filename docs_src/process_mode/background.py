"""Background: start() returns at once, and the run goes on in a thread. A script that ends waits for it."""

import time

from dotflow import DotFlow, action


@action
def extract() -> list[int]:
    time.sleep(1)  # stands for work
    return [3, 5, 8]


workflow = DotFlow()
workflow.task.add(step=extract)

run = workflow.start(mode="background")
print(run.status)  # In progress

print(run.wait(timeout=10))  # True
print(run.status, workflow.result_storage())  # Completed [[3, 5, 8]]
