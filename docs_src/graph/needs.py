"""Names tasks that use one step twice, wires them by hand, and needs a task that has no value."""

from dotflow import Context, DotFlow, action


@action
def read(initial_context: Context) -> list[int]:
    return {"january": [3, 5], "july": [8, 13]}[initial_context.storage]


@action
def migrate() -> None:
    print("the table is there")


@action
def compare(before: list[int], after: list[int]) -> int:
    return sum(after) - sum(before)


workflow = DotFlow()
workflow.task.add(migrate)
workflow.task.add(read, initial_context="january", name="january", needs=[migrate])
workflow.task.add(read, initial_context="july", name="july", needs=[migrate])
workflow.task.add(compare, needs={"before": "january", "after": "july"})
run = workflow.start()

print(run.value("compare"))
# the table is there
# 13
