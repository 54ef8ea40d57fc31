"""A step that fails: start() does not raise, what comes after does not run, and the task knows what went wrong."""

from dotflow import Context, DotFlow, action


@action
def read_order() -> dict[str, str]:
    return {"customer": "Ada", "amount": "12,50"}


@action
def convert(previous_context: Context) -> float:
    return float(previous_context.storage["amount"])


@action
def book(previous_context: Context) -> str:
    return f"booked {previous_context.storage}"


workflow = DotFlow()
workflow.task.add(step=[read_order, convert, book])
run = workflow.start()

print([str(task.status) for task in run.tasks])  # ['Completed', 'Failed', 'Not started']

error = run.tasks[1].errors[-1]
print(f"{error.exception}: {error.message}")  # ValueError: could not convert string to float: '12,50'
