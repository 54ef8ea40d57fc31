"""dotflow: a durable step. COMPARED_RESUME is its resume, else True."""

import asyncio  # noqa: F401  # an edit gathers
import os

import world

from dotflow import Config, DotFlow, action
from dotflow.providers import StorageFile


@action
async def ask(messages: list[str]) -> str:
    return await world.ask(messages)


@action
async def search(query: str) -> str:
    return await world.search(query)


@action
async def read(about: str) -> str:
    return await world.read(about)


@action
async def notify(about: str) -> str:
    return await world.notify(about)


@action(durable=True)
async def agent(goal: str) -> dict[str, object]:
    rules = await read("rules")
    prices = await read("prices")
    messages = [goal]
    while True:
        answer = await ask(messages)
        if answer.startswith("DONE"):
            return {"rules": rules, "prices": prices, "messages": [*messages, answer]}
        found = await search(answer)
        messages = [*messages, answer, found]


workflow = DotFlow(Config(storage=StorageFile()), workflow_id="agent", params={"goal": "a refund"})
workflow.task.add(agent)
workflow.start(resume="changed" if os.environ.get("COMPARED_RESUME") else True)
world.returned(workflow.result_storage()[-1])
