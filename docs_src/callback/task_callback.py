"""A callback of a task: called in your own process when the task has ended, with the task, however it ended."""

from dotflow import DotFlow, Task, action


def tell(task: Task) -> None:
    print(f"{task.name}: {task.status}")


@action
def extract() -> list[int]:
    return [3, 5, 8]


@action
def load() -> None:
    raise OSError("the disk is full")


workflow = DotFlow()
workflow.task.add(step=extract, callback=tell)
workflow.task.add(step=load, callback=tell)
run = workflow.start()
print(run.status)
# extract: Completed
# load: Failed
# Failed
