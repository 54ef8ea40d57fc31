"""retry_delay=0.3: so many seconds lie between two attempts. Waiting occupies no worker."""

import time

from dotflow import DotFlow, action

began = time.monotonic()
attempts: list[float] = []


@action(retry=3, retry_delay=0.3)
def reserve_seat() -> None:
    attempts.append(time.monotonic() - began)
    raise TimeoutError("the booking system is busy")


workflow = DotFlow()
workflow.task.add(step=reserve_seat)
run = workflow.start()

print("attempts after", ", ".join(f"{seconds:.2f} s" for seconds in attempts))  # attempts after ... s, ... s, ... s
print(f"{run.status} after {len(attempts)} attempts")  # Failed after 3 attempts
print(attempts[-1] > 2 * 0.3)  # True
