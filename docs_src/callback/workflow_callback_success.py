"""on_success: called once, with all tasks, at the end of a run in which none failed."""

from dotflow import DotFlow, Task, action


def celebrate(tasks: list[Task]) -> None:
    print(f"all {len(tasks)} steps are done, the report is {tasks[-1].value}")


@action
def add_up() -> int:
    return 245


@action
def write_report() -> str:
    return "report.pdf"


workflow = DotFlow()
workflow.task.add(step=[add_up, write_report])
run = workflow.start(on_success=celebrate)
print(run.status)
# all 2 steps are done, the report is report.pdf
# Completed
