"""What the calls of a durable step cost: one that is made and kept, its row, and one that is given back."""

import tempfile
import time
from collections.abc import Iterator
from typing import Any

from measure import Row, fresh

from dotflow import Config, DotFlow, Run, action
from dotflow.providers import (
    ExecutorAsync,
    ExecutorInline,
    ExecutorProcess,
    ExecutorThread,
    HistorySQLite,
    LogDefault,
    StorageFile,
)

EXECUTORS = {
    "sequential": (ExecutorInline, 30e-6),
    "thread": (ExecutorThread, 30e-6),
    "event loop": (ExecutorAsync, 30e-6),
    "worker process": (ExecutorProcess, 100e-6),
}
CALLS = 10_000


@action
def work(number: int) -> int:
    return number


@action
async def work_later(number: int) -> int:
    return number


@action(durable=True)
def body(count: int) -> None:
    for number in range(count):
        work(number)


@action(durable=True)
async def coroutine(count: int) -> None:
    for number in range(count):
        await work_later(number)


def durable_rows(quick: bool) -> Iterator[Row]:
    """A call beside a plain one, with values in memory; its row; and 10,000 that are given back from files."""
    count, repeats = (1_000, 2) if quick else (CALLS, 5)
    for name, (_, budget) in EXECUTORS.items():
        ours = min(fresh(measure_calls, name, count) for _ in range(repeats))
        what = f"a call in a durable step, {name}"
        yield Row(what=what, ours=ours, peers={}, budget=f"{budget * 1e6:.0f} µs", within=ours <= budget)
    for name, budget in (("sequential", 120e-6), ("thread", 60e-6), ("worker process", 250e-6)):
        ours = min(fresh(measure_row, name, count) for _ in range(repeats))
        what = f"the row of a call in a history file, {name}"
        yield Row(what=what, ours=ours, peers={}, budget=f"{budget * 1e6:.0f} µs", within=ours <= budget)
    for name, budget in (("sequential", 0.6), ("worker process", 1.3)):
        ours = min(fresh(measure_given, name, count) for _ in range(repeats)) * CALLS / count
        what = f"{CALLS:,} kept calls that are given back from files, {name}"
        yield Row(what=what, ours=ours, peers={}, budget=f"{budget} s", within=ours <= budget)


def start(name: str, count: int, storage: StorageFile | None = None, **options: Any) -> Run:
    """Runs a body of so many calls."""
    log, history = LogDefault(output="none"), options.pop("history", None)
    config = Config(storage=storage, executor=EXECUTORS[name][0](), log=log, history=history)
    workflow = DotFlow(config, workflow_id="durable")
    workflow.task.add(coroutine if name == "event loop" else body, params={"count": count})
    return workflow.start(**options).raise_for_failure()


def measure_calls(name: str, count: int) -> float:
    """Seconds of a call, by the clock on the wall where a worker makes it, else of CPU time."""
    clock = time.perf_counter if name == "worker process" else time.process_time
    start(name, 10)
    began = clock()
    start(name, count)
    return (clock() - began) / count


def measure_row(name: str, count: int) -> float:
    """Seconds of CPU time of this process that a history adds to a call."""
    with tempfile.TemporaryDirectory() as folder:
        history = HistorySQLite(f"{folder}/history.db", capture="none")
        start(name, 10, history=history)
        seconds = []
        for options in ({}, {"history": history}):
            began = time.process_time()
            start(name, count, **options)
            seconds.append(time.process_time() - began)
        history.close()
    return (seconds[1] - seconds[0]) / count


def measure_given(name: str, count: int) -> float:
    """Seconds of CPU time of this process, start included, for calls that an earlier run has kept."""
    with tempfile.TemporaryDirectory() as folder:
        storage = StorageFile(path=folder, durability="process")
        start(name, count, storage)
        for key in storage.list_keys("durable/"):
            if "-call-" not in key and "@" not in key:
                storage.delete(key)
        began = time.process_time()
        start(name, count, storage, resume=True)
        return time.process_time() - began
