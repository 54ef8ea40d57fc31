"""keep_going=True: a failed step does not stop the others; the one after it gets an empty previous context."""

from dotflow import Context, DotFlow, action


@action
def fetch_rates() -> dict[str, float]:
    raise ConnectionError("the bank does not answer")


@action
def fetch_orders(previous_context: Context) -> int:
    print(f"the step before returned {previous_context.storage}")
    return 12


@action
def clean_up() -> str:
    return "cleaned up"


workflow = DotFlow()
workflow.task.add(step=[fetch_rates, fetch_orders, clean_up])
run = workflow.start(keep_going=True)

for task in run.tasks:
    print(f"{task.name}: {task.status} {task.value}")
# the step before returned None
# fetch_rates: Failed None
# fetch_orders: Completed 12
# clean_up: Completed cleaned up
print(run.status)  # Failed
