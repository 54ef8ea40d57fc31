"""The cases that have a goal, written for the libraries that they are measured beside."""

import asyncio
import contextlib
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from workflows import fail, nothing


def huey_calls(count: int) -> None:
    """Calls a task of Huey's *count* times. It runs at once, in this thread, and its result is kept in memory."""
    from huey import MemoryHuey

    task = MemoryHuey(immediate=True, store_none=True).task()(nothing)
    for _ in range(count):
        task(None)


def huey_pipeline(count: int) -> None:
    """Builds and runs a pipeline of *count* tasks of Huey's, each of which gets the value before it.

    What is added walks along the whole pipeline, so a task of a pipeline of 1,000 costs ten times one of 100.
    """
    from huey import MemoryHuey

    huey = MemoryHuey(immediate=True, store_none=True)
    task = huey.task()(nothing)
    pipeline = task.s(None)
    for _ in range(count - 1):
        pipeline.then(task)
    huey.enqueue(pipeline)


def huey_attempts(count: int) -> None:
    """Lets a task of Huey's fail *count* times, with its log off."""
    from huey import MemoryHuey

    sys.setrecursionlimit(100_000)  # each attempt runs inside of the one before
    logging.getLogger("huey").disabled = True
    MemoryHuey(immediate=True).task(retries=count - 1)(fail)()


def hamilton_chain(count: int) -> Callable[[], object]:
    """Returns what executes a chain of *count* functions. Its driver is built."""
    from hamilton import driver

    sys.setrecursionlimit(100_000)
    built = driver.Builder().with_modules(chain_module(count)).build()
    return lambda: built.execute([f"t{count - 1}"])


def chain_module(count: int) -> ModuleType:
    """Makes a module of functions, t0 to the last, each of which has a parameter called like the one before."""
    lines = (f"def t{number}(t{number - 1}: int) -> int: return t{number - 1}" for number in range(1, count))
    return hamilton_module("def t0() -> int: return 1", *lines)


def hamilton_coroutines(count: int) -> float:
    """Returns the seconds that *count* coroutine functions of 10 ms take. The driver is built before."""
    from hamilton.async_driver import Builder

    lines = (f"async def t{number}() -> None: await asyncio.sleep(0.01)" for number in range(count))
    module = hamilton_module("import asyncio", *lines)

    async def run() -> float:
        built = await Builder().with_modules(module).build()
        began = time.perf_counter()
        await built.execute([f"t{number}" for number in range(count)])
        return time.perf_counter() - began

    return asyncio.run(run())


def hamilton_module(*lines: str) -> ModuleType:
    """Makes a module of these lines, whose functions are the nodes."""
    from hamilton.ad_hoc_utils import module_from_source

    module: ModuleType = module_from_source("\n".join(lines))
    return module


@contextlib.contextmanager
def dbos_steps(step: Callable[[], Any]) -> Iterator[Callable[[int], list[Any]]]:
    """Launches DBOS, and gives a workflow that takes a step so many times. Each is recorded in SQLite."""
    from dbos import DBOS

    with tempfile.TemporaryDirectory() as folder:
        DBOS(
            config={
                "name": "benchmark",
                "system_database_url": f"sqlite:///{folder}/dbos.sqlite",
                "log_level": "ERROR",
                "run_admin_server": False,
            }
        )
        recorded = DBOS.step()(step)

        @DBOS.workflow()  # type: ignore[untyped-decorator, unused-ignore]
        def all_of_them(count: int) -> list[Any]:
            return [recorded() for _ in range(count)]

        DBOS.launch()
        all_of_them(5)
        yield all_of_them
        DBOS.destroy()


def luigi_resume(folder: str, count: int, value: Any) -> Callable[[], object]:
    """Returns what runs the last of a chain of tasks, where the outputs of all others are there."""
    import luigi

    class Step(luigi.Task):  # type: ignore[misc, unused-ignore]
        number = luigi.IntParameter()

        def requires(self) -> list[luigi.Task]:
            return [Step(self.number - 1)] if self.number else []

        def output(self) -> luigi.LocalTarget:
            return luigi.LocalTarget(f"{folder}/luigi/{self.number}.json")

        def run(self) -> None:
            with self.output().open("w") as file:
                json.dump(value, file)

    for number in range(count):
        with Step(number).output().open("w") as file:
            json.dump(value, file)

    def resume() -> None:
        Path(Step(count - 1).output().path).unlink()
        if not luigi.build([Step(count - 1)], local_scheduler=True, log_level="ERROR"):
            raise RuntimeError("Luigi failed")

    return resume


def joblib_resume(folder: str, count: int, value: Any) -> Callable[[], object]:
    """Returns what calls functions whose values are in a cache, all but the last one."""
    from joblib import Memory

    cached = Memory(f"{folder}/joblib", verbose=0).cache(lambda number: value)
    for number in range(count - 1):
        cached(number)

    def resume() -> None:
        for number in range(count - 1):
            cached(number)
        cached(time.monotonic_ns())

    return resume
