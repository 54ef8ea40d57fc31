"""Coroutine functions as steps: what they await goes on at the same time, and plain functions stand beside them."""

import asyncio

from dotflow import Context, DotFlow, action

PRICES = {"coffee": 4.2, "tea": 3.1, "sugar": 1.5}


async def ask_shop(product: str) -> float:
    await asyncio.sleep(0.1)  # stands for a request
    return PRICES[product]


@action(timeout=5)
async def fetch_prices(initial_context: Context) -> list[float]:
    return await asyncio.gather(*(ask_shop(product) for product in initial_context.storage))


@action
def add_up(previous_context: Context) -> float:
    prices: list[float] = previous_context.storage
    return round(sum(prices), 2)


workflow = DotFlow()
workflow.task.add(step=fetch_prices, initial_context=["coffee", "tea", "sugar"])
workflow.task.add(step=add_up)
workflow.start()

print(workflow.result_storage())  # [[4.2, 3.1, 1.5], 8.8]
