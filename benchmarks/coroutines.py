"""Coroutine steps side by side in one loop."""

import asyncio
import logging
import tempfile
from collections.abc import Awaitable, Callable, Iterator

from measure import Contender, Row, best, fresh, seconds_of
from peers import hamilton_coroutines
from workflows import completed, quiet, waiting, workflow_of

from dotflow import Config
from dotflow.providers import ExecutorAsync, LogDefault

COUNT = 1_000


def rows(quick: bool) -> Iterator[Row]:
    """1,000 coroutine steps that wait 10 ms, in parallel mode, `add` and `start`.

    The limit, asyncio.gather, keeps the values and nothing else; so does a TaskGroup. Hamilton's driver is built
    before. Neither logs anything: with two lines by the standard library's logging, on stderr and in a file, gather
    takes what its own row says.
    """
    found = fresh(measure, 3 if quick else 15)
    silent, lines = found.pop("dotflow, log off"), found.pop("asyncio.gather, two lines of logging")
    what = f"{COUNT:,} coroutine steps of 10 ms, ExecutorAsync, "
    logged = found | {"asyncio.gather, two lines of logging": lines}
    yield Row.beside(f"{what}default log", logged, 1, "Hamilton")
    yield Row.beside(f"{what}log off", found | {"dotflow": silent}, 1, "Hamilton")


def measure(repeats: int) -> dict[str, float]:
    """Seconds for all."""
    with tempfile.TemporaryDirectory() as folder:
        config = Config(log=LogDefault(path=f"{folder}/flow.log"), executor=ExecutorAsync())
        logger = two_handlers(f"{folder}/by_hand.log")

        async def logged() -> None:
            logger.info("task %s: %s", "waiting", "In progress")
            await waiting()
            logger.info("task %s: %s", "waiting", "Completed")

        contenders: dict[str, Contender] = {
            "dotflow": lambda: seconds_of(lambda: completed(workflow_of(waiting, COUNT, config), "parallel")),
            "dotflow, log off": lambda: seconds_of(
                lambda: completed(workflow_of(waiting, COUNT, quiet(ExecutorAsync())), "parallel")
            ),
            "Hamilton": lambda: hamilton_coroutines(COUNT),
            "asyncio.gather, two lines of logging": lambda: seconds_of(lambda: asyncio.run(gathered(logged))),
            "asyncio.TaskGroup": lambda: seconds_of(lambda: asyncio.run(grouped())),
            "limit: asyncio.gather": lambda: seconds_of(lambda: asyncio.run(gathered())),
        }
        return best(contenders, repeats)


def two_handlers(path: str) -> logging.Logger:
    """Returns a logger that writes to stderr and to a file."""
    logger = logging.getLogger("by hand")
    logger.setLevel(logging.INFO)
    for handler in (logging.StreamHandler(), logging.FileHandler(path)):
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(handler)
    return logger


async def gathered(step: Callable[[], Awaitable[None]] = waiting) -> None:
    await asyncio.gather(*(step() for _ in range(COUNT)))


async def grouped() -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(COUNT):
            group.create_task(waiting())
