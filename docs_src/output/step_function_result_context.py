"""result_context(): what the tasks returned, as contexts, which know who made them and when."""

from dotflow import Context, DotFlow, action


@action
def extract() -> list[int]:
    return [3, 5, 8]


@action
def add_up(previous_context: Context) -> int:
    return sum(previous_context.storage)


workflow = DotFlow()
workflow.task.add(step=[extract, add_up])
workflow.start()

for context in workflow.result_context():
    print(context.task_id, context.storage, context.time.tzinfo)
# 0 [3, 5, 8] UTC
# 1 16 UTC
