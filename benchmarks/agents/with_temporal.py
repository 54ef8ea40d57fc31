"""Temporal: a workflow that executes activities; the development server of its command line runs beside it."""

import asyncio
import os
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import Worker

with workflow.unsafe.imports_passed_through():
    import world

LIMIT = {"start_to_close_timeout": timedelta(seconds=5)}


@activity.defn
async def ask(messages: list[str]) -> str:
    return await world.ask(messages)


@activity.defn
async def search(query: str) -> str:
    return await world.search(query)


@activity.defn
async def read(about: str) -> str:
    return await world.read(about)


@activity.defn
async def notify(about: str) -> str:
    return await world.notify(about)


@workflow.defn
class Agent:
    @workflow.run
    async def run(self, goal: str) -> dict[str, object]:
        rules = await workflow.execute_activity(read, "rules", **LIMIT)
        prices = await workflow.execute_activity(read, "prices", **LIMIT)
        messages = [goal]
        while True:
            answer = await workflow.execute_activity(ask, messages, **LIMIT)
            if answer.startswith("DONE"):
                return {"rules": rules, "prices": prices, "messages": [*messages, answer]}
            found = await workflow.execute_activity(search, answer, **LIMIT)
            messages = [*messages, answer, found]


async def main() -> None:
    client = await Client.connect(os.environ["COMPARED_SERVER"])
    async with Worker(client, task_queue="agents", workflows=[Agent], activities=[ask, search, read, notify]):
        if world.is_first_life():
            await client.start_workflow(Agent.run, "a refund", id="agent", task_queue="agents")
        world.returned(await client.get_workflow_handle("agent").result())


if __name__ == "__main__":  # the sandbox of a workflow imports this module again
    asyncio.run(main())
