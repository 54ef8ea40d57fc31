"""The steps that the rows run, and workflows made of them."""

import asyncio
import time
from typing import Any

from dotflow import Config, Context, DotFlow, action
from dotflow.abc.executor import Executor
from dotflow.providers import LogDefault

MEGABYTES_50 = 50 * 1024 * 1024


def nothing(*_: object) -> None:
    """A step without work: what is left is what running it costs."""


def fail() -> None:
    """A step of which no attempt ever ends well."""
    raise ValueError("as always")


def count_up(rounds: int) -> int:
    """Pure Python that keeps one core busy."""
    total = 0
    for number in range(rounds):
        total += number * number
    return total


no_op = action(nothing)
no_op_with_timeout = action(timeout=10)(nothing)


def hang() -> None:
    time.sleep(3)


@action
def napping() -> None:
    time.sleep(0.2)


stuck = action(timeout=0.2)(hang)


@action
async def waiting() -> None:
    await asyncio.sleep(0.01)


@action
def busy(initial_context: Context) -> int:
    return count_up(initial_context.storage)


@action
def echo(initial_context: Context) -> Any:
    return initial_context.storage


def quiet(executor: Executor | None = None) -> Config:
    """Providers that write nothing."""
    return Config(log=LogDefault(output="none"), executor=executor)


def workflow_of(step: Any, count: int, config: Config | None = None, initial_context: Any = None) -> DotFlow:
    """*count* times the same step."""
    workflow = DotFlow(config or quiet())
    workflow.task.add([step] * count, initial_context=initial_context)
    return workflow


def completed(workflow: DotFlow, mode: str = "sequential") -> DotFlow:
    """Runs it. What failed would be quick, but no measurement."""
    run = workflow.start(mode)
    if run.status != "Completed":
        raise RuntimeError(f"the run is {run.status}: {[task.error for task in run.tasks if task.error][:1]}")
    return workflow
