"""A context is a value and where it is from: which task of which workflow made it, and when."""

from dotflow import Context, DotFlow, action


@action
def measure() -> float:
    return 21.5


@action
def describe(previous_context: Context) -> str:
    made_at = previous_context.time.isoformat(timespec="seconds")
    print(f"{previous_context.storage} was measured at {made_at}")
    return f"task {previous_context.task_id} of {previous_context.workflow_id}"


workflow = DotFlow(workflow_id="weather-station")
workflow.task.add(step=[measure, describe])
workflow.start()

print(workflow.result_context())
# 21.5 was measured at ...
# [Context(21.5, task_id=0), Context('task 0 of weather-station', task_id=1)]

# A step called directly is a plain function, and a context is easily made: that is all that a unit test needs.
print(describe(Context(3.0, task_id=7, workflow_id="test")))
# 3.0 was measured at ...
# task 7 of test
