"""Goes on without a source that failed: a parameter with a default makes the task optional."""

from dotflow import DotFlow, action


@action
def prices() -> dict[str, float]:
    return {"lamp": 25.0}


@action
def discounts() -> dict[str, float]:
    raise ConnectionError("the service is away")


@action
def offer(prices: dict[str, float], discounts: dict[str, float] | None = None) -> dict[str, float]:
    return {name: price * (1 - (discounts or {}).get(name, 0)) for name, price in prices.items()}


@action
def audit(discounts: dict[str, float]) -> int:
    return len(discounts)


workflow = DotFlow()
workflow.task.add([prices, discounts, offer, audit])
run = workflow.start(keep_going=True)

for task in run.tasks:
    print(task.name, task.status, task.value, task.reason)
# prices Completed {'lamp': 25.0}
# discounts Failed None
# offer Completed {'lamp': 25.0}
# audit Skipped None it needs 'discounts', which failed
