"""Five sources and a join: what each country bought, in its own money."""

import time
from collections import Counter
from typing import Any

from dotflow import Context, DotFlow, action

SERVICES: dict[str, Any] = {
    "orders": [(1, "ada", "lamp", 2), (2, "linus", "desk", 1), (3, "ada", "lamp", 4), (4, "ada", "desk", 1)],
    "countries": {"ada": "GB", "linus": "FI"},
    "prices": {"desk": 180, "lamp": 25},
    "refunds": [3],
    "rates": {"FI": 1.0, "GB": 0.84},
}


@action(retry=3, timeout="10s")
def read(initial_context: Context) -> Any:
    time.sleep(0.2)  # a service takes its time
    return SERVICES[initial_context.storage]


@action
def revenue(orders: Any, countries: dict[str, str], prices: dict[str, int], refunds: list[int], rates: Any) -> Any:
    euros = Counter[str]()
    for number, customer, product, count in orders:
        if number not in refunds:
            euros[countries[customer]] += count * prices[product]
    result = {country: round(total * rates[country], 2) for country, total in euros.items()}
    print(result)
    return result


workflow = DotFlow(name="sales")
for service in SERVICES:
    workflow.task.add(read, initial_context=service, name=service)
workflow.task.add(revenue)  # is given the values of the tasks that its parameters name
