"""timeout=0.5: after half a second the attempt is over, whatever it waits for, and its later lines do not run."""

import time

from dotflow import DotFlow, action


@action(timeout=0.5)
def ask_slow_service() -> str:
    time.sleep(60)
    print("this line is never reached")
    return "too late"


workflow = DotFlow()
workflow.task.add(step=ask_slow_service)
run = workflow.start()

error = run.tasks[0].errors[-1]
print(f"{run.status}: {error.exception}: {error.message}")
# Failed: TimeoutError: Step 'ask_slow_service' did not finish within its timeout of 0.5 s.
