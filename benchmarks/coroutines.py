"""Coroutine steps side by side in one loop."""

import asyncio
import tempfile
from collections.abc import Iterator

from measure import Contender, Row, best, fresh, seconds_of
from peers import hamilton_coroutines
from workflows import completed, quiet, waiting, workflow_of

from dotflow import Config
from dotflow.providers import ExecutorAsync, LogDefault

COUNT = 1_000


def rows(quick: bool) -> Iterator[Row]:
    """1,000 coroutine steps that wait 10 ms, in parallel mode, `add` and `start`.

    The limit, asyncio.gather, keeps the values and nothing else; so does a TaskGroup. Hamilton's driver is built
    before.
    """
    found = fresh(measure, 3 if quick else 15)
    silent = found.pop("dotflow, log off")
    what = f"{COUNT:,} coroutine steps of 10 ms, ExecutorAsync, "
    yield Row.beside(f"{what}default log", found, 1, "Hamilton")
    yield Row.beside(f"{what}log off", found | {"dotflow": silent}, 1, "Hamilton")


def measure(repeats: int) -> dict[str, float]:
    """Seconds for all."""
    with tempfile.TemporaryDirectory() as folder:
        logging = Config(log=LogDefault(path=f"{folder}/flow.log"), executor=ExecutorAsync())
        contenders: dict[str, Contender] = {
            "dotflow": lambda: seconds_of(lambda: completed(workflow_of(waiting, COUNT, logging), "parallel")),
            "dotflow, log off": lambda: seconds_of(
                lambda: completed(workflow_of(waiting, COUNT, quiet(ExecutorAsync())), "parallel")
            ),
            "Hamilton": lambda: hamilton_coroutines(COUNT),
            "asyncio.TaskGroup": lambda: seconds_of(lambda: asyncio.run(grouped())),
            "limit: asyncio.gather": lambda: seconds_of(lambda: asyncio.run(gathered())),
        }
        return best(contenders, repeats)


async def gathered() -> None:
    await asyncio.gather(*(waiting() for _ in range(COUNT)))


async def grouped() -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(COUNT):
            group.create_task(waiting())
