"""Takes the values of several tasks: a parameter that is called like a task is given what that task returned."""

from dotflow import DotFlow, action


@action
def orders() -> list[tuple[str, int]]:
    return [("ada", 120), ("linus", 80), ("ada", 30)]


@action
def customers() -> dict[str, str]:
    return {"ada": "GB", "linus": "FI"}


@action
def by_country(orders: list[tuple[str, int]], customers: dict[str, str]) -> dict[str, int]:
    total = dict.fromkeys(customers.values(), 0)
    for customer, amount in orders:
        total[customers[customer]] += amount
    return total


workflow = DotFlow()
workflow.task.add(orders).add(customers).add(by_country)
run = workflow.start(mode="parallel")  # both sources at once

print(run.status, run.value("by_country"))
# Completed {'GB': 150, 'FI': 80}
