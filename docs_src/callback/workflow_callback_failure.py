"""on_failure: called once, with all tasks, at the end of a run in which one failed."""

from dotflow import DotFlow, Task, action
from dotflow.core.types.status import TypeStatus


def call_for_help(tasks: list[Task]) -> None:
    for task in tasks:
        if task.status is TypeStatus.FAILED:
            print(f"step {task.name} failed: {task.errors[-1].message}")


@action
def charge_card() -> None:
    raise PermissionError("card declined")


@action
def send_receipt() -> str:
    return "sent"


workflow = DotFlow()
workflow.task.add(step=[charge_card, send_receipt])
run = workflow.start(on_failure=call_for_help)
print(run.status)
# step charge_card failed: card declined
# Failed
