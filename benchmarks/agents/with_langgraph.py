"""LangGraph: an entrypoint that calls tasks, with checkpoints in SQLite, saved before the next step begins."""

import asyncio

import world
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.func import entrypoint, task


@task
async def ask(messages: list[str]) -> str:
    return await world.ask(messages)


@task
async def search(query: str) -> str:
    return await world.search(query)


@task
async def read(about: str) -> str:
    return await world.read(about)


@task
async def notify(about: str) -> str:
    return await world.notify(about)


@entrypoint()
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


async def main() -> None:
    async with AsyncSqliteSaver.from_conn_string("langgraph.sqlite") as saver:
        agent.checkpointer = saver
        goal = "a refund" if world.is_first_life() else None
        world.returned(await agent.ainvoke(goal, {"configurable": {"thread_id": "agent"}}, durability="sync"))


asyncio.run(main())
