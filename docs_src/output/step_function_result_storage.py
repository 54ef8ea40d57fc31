"""result_storage(): the values that the tasks returned, and nothing else."""

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

print(workflow.result_storage())  # [[3, 5, 8], 16]
