"""backoff=True: the delay doubles each time, here 0.1 s, 0.2 s and 0.4 s, so that a busy service can recover."""

import time

from dotflow import DotFlow, action

began = time.monotonic()
attempts: list[float] = []


@action(retry=4, retry_delay=0.1, backoff=True)
def send_invoice() -> str:
    attempts.append(time.monotonic() - began)
    if len(attempts) < 4:
        raise ConnectionError("the mail server is busy")
    return "sent"


workflow = DotFlow()
workflow.task.add(step=send_invoice)
workflow.start()

task = workflow.result_task()[0]
print("attempts after", ", ".join(f"{seconds:.2f} s" for seconds in attempts))  # attempts after ... s, ... s
print(task.status, task.retry_count)  # Completed 3
print(attempts[-1] > 0.1 + 0.2 + 0.4)  # True
