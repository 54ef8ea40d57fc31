"""A first pipeline: three functions in order, each given what the one before it returned."""

from dotflow import Context, DotFlow, action


@action
def extract() -> list[float]:
    return [19.90, 5.00, 120.00]


@action
def add_up(previous_context: Context) -> float:
    amounts: list[float] = previous_context.storage
    return sum(amounts)


@action
def report(previous_context: Context) -> str:
    return f"sold today: {previous_context.storage:.2f} EUR"


workflow = DotFlow()
workflow.task.add(step=[extract, add_up, report])
run = workflow.start()

print(run.status)  # Completed
print(workflow.result_storage()[-1])  # sold today: 144.90 EUR
