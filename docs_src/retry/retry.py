"""retry=3: up to three attempts in all. Each failed one is kept, with what was wrong."""

from dotflow import DotFlow, action

problems = [ConnectionError("refused"), ConnectionError("reset by peer")]


@action(retry=3, retry_delay=0)
def ask_shop() -> str:
    if problems:
        raise problems.pop(0)
    return "4 new orders"


workflow = DotFlow()
workflow.task.add(step=ask_shop)
workflow.start()

task = workflow.result_task()[0]
print(task.status, task.value)  # Completed 4 new orders
print(f"retried {task.retry_count} times")  # retried 2 times
for error in task.errors:
    print(f"attempt {error.attempt}: {error.exception}: {error.message}")
# attempt 1: ConnectionError: refused
# attempt 2: ConnectionError: reset by peer
