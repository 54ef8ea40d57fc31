"""A test of retries an hour apart that takes milliseconds: inside of virtual_clock() waiting takes no time."""

from dotflow import DotFlow, action
from dotflow.testing import virtual_clock

attempts: list[float] = []


@action(retry=3, retry_delay=3600)
def send_report() -> str:
    attempts.append(clock.monotonic())
    if len(attempts) < 3:
        raise ConnectionError("the mail server is away")
    return "sent"


with virtual_clock() as clock:
    workflow = DotFlow()
    workflow.task.add(step=send_report)
    run = workflow.start()

print(run.status, attempts)  # Completed [0.0, 3600.0, 7200.0]
