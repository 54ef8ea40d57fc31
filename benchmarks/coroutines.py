"""Coroutine steps side by side in one loop."""

import asyncio
from collections.abc import Callable, Iterator

from measure import Row, best, fresh, seconds_of
from workflows import completed, quiet, waiting, workflow_of

from dotflow.providers import ExecutorAsync

COUNT = 1_000


def rows(quick: bool) -> Iterator[Row]:
    """1,000 coroutine steps that wait 10 ms, in parallel mode.

    By hand it is asyncio.gather, or a TaskGroup; both keep the values and nothing else.
    """
    found = fresh(measure, 5 if quick else 20)
    ours = found.pop("dotflow")
    what = f"{COUNT:,} coroutine steps of 10 ms, ExecutorAsync"
    yield Row(what=what, ours=ours, peers=found, budget="30 ms", within=ours < 0.030)


def measure(repeats: int) -> dict[str, float]:
    """Seconds for all."""
    workflow = workflow_of(waiting, COUNT, quiet(ExecutorAsync()))
    contenders: dict[str, Callable[[], object]] = {
        "dotflow": lambda: completed(workflow, "parallel"),
        "asyncio.gather": lambda: asyncio.run(gathered()),
        "asyncio.TaskGroup": lambda: asyncio.run(grouped()),
    }
    return best({name: lambda work=work: seconds_of(work) for name, work in contenders.items()}, repeats)


async def gathered() -> None:
    await asyncio.gather(*(waiting() for _ in range(COUNT)))


async def grouped() -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(COUNT):
            group.create_task(waiting())
