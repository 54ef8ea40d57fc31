"""result_task(): the tasks of the last run, in the order of `add`, with all that is known of them."""

from dotflow import DotFlow, action


@action
def extract() -> list[int]:
    return [3, 5, 8]


@action(retry=2, retry_delay=0)
def load() -> None:
    raise OSError("the disk is full")


workflow = DotFlow()
workflow.task.add(step=[extract, load])
workflow.start()

for task in workflow.result_task():
    print(task.task_id, task.name, task.status, task.value, task.retry_count, len(task.errors))
# 0 extract Completed [3, 5, 8] 0 0
# 1 load Failed None 1 2
