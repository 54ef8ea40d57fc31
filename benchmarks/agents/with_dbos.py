"""DBOS: a workflow of steps, in SQLite. COMPARED_VERSION is the version of the application, else DBOS computes one."""

import asyncio
import os

import world
from dbos import DBOS, DBOSConfig, SetWorkflowID


@DBOS.step()
async def ask(messages: list[str]) -> str:
    return await world.ask(messages)


@DBOS.step()
async def search(query: str) -> str:
    return await world.search(query)


@DBOS.step()
async def read(about: str) -> str:
    return await world.read(about)


@DBOS.step()
async def notify(about: str) -> str:
    return await world.notify(about)


@DBOS.workflow()
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
    if world.is_first_life():
        with SetWorkflowID("agent"):
            handle = await DBOS.start_workflow_async(agent, "a refund")
    else:  # launch() has taken it up again
        handle = await DBOS.retrieve_workflow_async("agent")
    world.returned(await handle.get_result())


config: DBOSConfig = {"name": "agents", "system_database_url": "sqlite:///dbos.sqlite"}
if version := os.environ.get("COMPARED_VERSION"):
    config["application_version"] = version
DBOS(config=config)
DBOS.launch()
asyncio.run(main())
DBOS.destroy()
