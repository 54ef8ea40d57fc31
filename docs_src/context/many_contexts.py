"""A step may ask for both contexts, by name: what `add` was given for it, and what the step before it returned."""

from dotflow import Context, DotFlow, action


@action
def read_price(initial_context: Context) -> float:
    prices = {"coffee": 4.0, "tea": 3.0}
    return prices[initial_context.storage]


@action
def multiply(initial_context: Context, previous_context: Context) -> float:
    pieces: int = initial_context.storage
    price: float = previous_context.storage
    return pieces * price


@action
def add_tax(initial_context: Context, previous_context: Context) -> float:
    rate: float = initial_context.storage
    amount: float = previous_context.storage
    return round(amount * (1 + rate), 2)


workflow = DotFlow()
workflow.task.add(step=read_price, initial_context="coffee")
workflow.task.add(step=multiply, initial_context=10)
workflow.task.add(step=add_tax, initial_context=0.2)
workflow.start()

print(workflow.result_storage())  # [4.0, 40.0, 48.0]
