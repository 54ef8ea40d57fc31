"""A notification of your own has one method. It is told of each change, with the task as it was at that moment."""

from dotflow import Config, DotFlow, Task, action
from dotflow.abc.notify import Notify


class NotifyPrint(Notify):
    def send(self, task: Task) -> None:
        print(f"to the team: {task.name} is {str(task.status).lower()}")


@action
def extract() -> list[int]:
    return [3, 5, 8]


workflow = DotFlow(config=Config(notify=NotifyPrint()))
workflow.task.add(step=extract)
run = workflow.start()
print(run.status)
# to the team: extract is in progress
# to the team: extract is completed
# Completed
