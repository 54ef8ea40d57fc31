"""Steps on the workers of a Dask cluster: the executor is all that changes. Unless one is named, one begins here."""

import sys

from dotflow import Config, Context, DotFlow, action
from dotflow.errors import DotflowError
from dotflow.providers import ExecutorDask


@action(retry=2)
def extract(initial_context: Context) -> list[int]:
    return list(range(initial_context.storage))


@action
def add_up(previous_context: Context) -> int:
    return sum(previous_context.storage)


try:
    # The scheduler that DASK_SCHEDULER_ADDRESS names, or name it here: ExecutorDask("tcp://10.0.0.5:8786")
    workflow = DotFlow(config=Config(executor=ExecutorDask()))
    for name, count in (("small", 10), ("large", 1000)):
        workflow.task.add(step=[extract, add_up], initial_context=count, group_name=name)
    run = workflow.start()  # the groups at the same time, wherever there is room
except (ImportError, DotflowError) as problem:  # it says what is wrong, and what to do
    print(problem)
    sys.exit()

print(run.status)  # Completed
print([context.storage for context in workflow.result_context()][1::2])  # [45, 499500]
