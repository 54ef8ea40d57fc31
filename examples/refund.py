"""An agent that asks a person before it pays money back. It is killed twice, goes on where it was, and pays once."""

import os
from pathlib import Path
from typing import Literal

from pydantic_ai import Agent, Tool
from pydantic_ai.models.test import TestModel

from dotflow import Config, DotFlow, action
from dotflow.agents import DotFlowDurability, idempotency_key
from dotflow.providers import HistorySQLite, StorageFile


def power_cut(name: str) -> None:
    if not Path(name).exists():
        Path(name).touch()
        os.kill(os.getpid(), 9)


def refund(order: Literal["A-7"], amount: Literal[20]) -> str:
    Path(f"paid-{idempotency_key()}").write_text(f"{amount} for {order}")  # a bank that pays once for each key
    power_cut("cut in the refund")
    return "paid"


durability = DotFlowDurability(approve={"refund": "Refund {amount} for {order}?"}, approve_within="2d")
agent = Agent(TestModel(), name="support", tools=[Tool(refund, requires_approval=True)], capabilities=[durability])


@action(durable=True)
async def support() -> None:
    await agent.run("I want my money back.")
    power_cut("cut after the refund")


workflow = DotFlow(Config(storage=StorageFile(), history=HistorySQLite()), workflow_id="support")
workflow.task.add(support)
print(workflow.start(resume=True).status)
