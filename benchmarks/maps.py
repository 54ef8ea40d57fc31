"""Maps: what an item costs, in one process and in several, in memory and when it is restored."""

import gc
import os
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any
from unittest.mock import patch

from checkpoints import fill as fill_tasks
from checkpoints import read_all, select_all
from graphs import plain, same
from measure import Row, best, fresh, fresh_contender, seconds_of
from sequential import per_piece
from workflows import completed, quiet

from dotflow import Config, DotFlow, action
from dotflow.abc.storage import Storage
from dotflow.processes.channel import Channel
from dotflow.providers import ExecutorProcess, LogDefault, StorageFile, StorageSQLite

each_one = action(same)


@action
def record(value: int) -> dict[str, Any]:
    return {"city": "Seattle", "rows": [[2012, 12.8, True], [2013, 10.6, False]], "source": value}


def item_rows(quick: bool) -> Iterator[Row]:
    """One item of a map over a list, sequentially, with its key; 100,000 of them beside 1,000; what an item keeps."""
    times = fresh(measure_items, 1_000, 5 if quick else 25)
    ours, task = times.pop("dotflow"), times.pop("task without needs")
    yield Row(
        what="an item of a map, sequential, 1,000 of them",
        ours=ours,
        peers={"task without needs": task} | times,
        budget="1.6 × a task without needs",
        within=ours <= task * 1.6,
    )
    count = 20_000 if quick else 100_000
    many = best({"": fresh_contender(measure_map, count)}, 1 if quick else 3)[""]
    few = best({"": fresh_contender(measure_map, 1_000)}, 3 if quick else 9)[""]
    yield Row(
        what=f"an item of a map of {count:,}",
        ours=many,
        peers={"an item of 1,000": few},
        budget="1.3 × an item of 1,000",
        within=many <= few * 1.3,
    )
    kept = fresh(measure_memory, count)
    yield Row(
        what="memory, an item, beyond its value", ours=kept, peers={}, unit="B", budget="750 B", within=kept <= 750
    )


def measure_items(count: int, repeats: int) -> dict[str, float]:
    """Seconds for each item."""
    import dask
    from dask.delayed import delayed

    values = list(range(count))
    contenders: dict[str, Callable[[], object]] = {
        "dotflow": lambda: completed(mapped(values)),
        "task without needs": lambda: completed(plain(count)),
        "dask.delayed": lambda: dask.compute([delayed(same)(value) for value in values], scheduler="synchronous"),
    }
    return per_piece(contenders, count, repeats)


def measure_map(count: int) -> float:
    """Seconds of CPU time for each item: a long run meets more of what else the machine does than a short one."""
    values = list(range(count))

    def once() -> float:
        began = time.process_time()
        completed(mapped(values))
        return time.process_time() - began

    return best({"": once}, max(1, 20_000 // count))[""] / count


def measure_memory(count: int) -> float:
    """Bytes for each item, after the last collection. Its value is the entry of the list, which is there before."""
    values = list(range(count))
    completed(mapped(values[:10]))
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    workflow = completed(mapped(values))
    gc.collect()
    assert len(workflow.task) == 1
    return (tracemalloc.get_traced_memory()[0] - before) / count


def process_rows(quick: bool) -> Iterator[Row]:
    """Items in worker processes, start and end included, beside ProcessPoolExecutor.map with as many workers."""
    count = 2_000 if quick else 10_000
    names = ("dotflow", "ProcessPoolExecutor.map")
    times = best({name: fresh_contender(measure_processes, name, count) for name in names}, 3 if quick else 7)
    ours, pool = times.pop("dotflow"), times["ProcessPoolExecutor.map"]
    what = f"an item in processes, {count:,} of them, start included"
    yield Row(what=what, ours=ours, peers=times, budget="ProcessPoolExecutor.map's", within=ours <= pool)


def placement_rows(quick: bool) -> Iterator[Row]:
    """A map over a map whose items are 20 MB each, on four workers: what leaves the worker that made it.

    A pool's second map sends each item to any of its workers.
    """
    count, size = (12 if quick else 40), 20_000_000
    left, sent = fresh(measure_placement, count, size)
    what = f"a map over a map, {count} items of 20 MB, four workers: "
    yield Row(
        what=f"{what}items that leave their worker",
        ours=left,
        peers={"ProcessPoolExecutor": fresh(measure_pool_placement, count, size)},
        unit="",
        budget="none",
        within=not left,
    )
    peers = {"all items": count * size}
    yield Row(
        what=f"{what}bytes sent", ours=sent, peers=peers, unit="B", budget="less than one item", within=sent < size
    )


def blank(size: int) -> dict[str, Any]:
    return {"data": bytes(size), "pid": os.getpid()}


def moved(value: dict[str, Any]) -> bool:
    return bool(value["pid"] != os.getpid())


def measure_placement(count: int, size: int) -> tuple[int, int]:
    """How many items the second map gets in another worker, and the bytes that the coordinator sends to its workers."""
    sent: list[int] = []
    queue = Channel.queue

    def counted(channel: Channel, kind: int, number: int, parts: Sequence[Any]) -> None:
        sent.append(sum(memoryview(part).nbytes for part in parts))
        queue(channel, kind, number, parts)

    with patch.object(Channel, "queue", counted):
        workflow = DotFlow(quiet(ExecutorProcess(max_workers=4)))
        workflow.task.add(action(blank), each=[size] * count).add(action(moved), each="blank")
        completed(workflow, "parallel")
    return sum(workflow.result_storage()[1]), sum(sent)


def measure_pool_placement(count: int, size: int) -> int:
    """The same number for a pool."""
    with ProcessPoolExecutor(4, mp_context=get_context("fork")) as pool:
        return sum(pool.map(moved, list(pool.map(blank, [size] * count))))


def measure_processes(contender: str, count: int) -> float:
    """Seconds for each item."""
    workers = os.cpu_count() or 1
    values = list(range(count))
    if contender == "dotflow":
        workflow = mapped(values, quiet(ExecutorProcess(max_workers=workers)))
        return seconds_of(lambda: completed(workflow, "parallel")) / count

    def pool() -> None:
        with ProcessPoolExecutor(workers, mp_context=get_context("fork")) as executor:
            assert list(executor.map(same, values)) == values

    return seconds_of(pool) / count


def resume_rows(quick: bool) -> Iterator[Row]:
    """A map of 3,000 items that all have a checkpoint, beside reading and parsing the same files, the same rows."""
    count = 3_000
    with tempfile.TemporaryDirectory() as folder:
        fresh(fill, folder, count)
        names = ("StorageFile", "StorageSQLite", "files", "sqlite3")
        times = best({name: fresh_contender(measure_resume, name, folder, count) for name in names}, 2 if quick else 7)
    for name, bare in (("StorageFile", "files"), ("StorageSQLite", "sqlite3")):
        yield Row(
            what=f"resume, a map of {count:,} finished items, {name}",
            ours=times[name],
            peers={f"bare: read, json.loads ({bare})": times[bare]},
            budget="150 ms",
            within=times[name] < 0.150,
        )


def fill(folder: str, count: int) -> None:
    """Saves the same items in files and in SQLite, and the same number of tasks for those who read them by hand."""
    fill_tasks(folder, count)
    for storage in _storages(folder):
        completed(of_records(storage, count))


def measure_resume(contender: str, folder: str, count: int) -> float:
    """Seconds for all."""
    if contender == "files":
        return seconds_of(lambda: read_all(folder, count))
    if contender == "sqlite3":
        return seconds_of(lambda: select_all(folder, count))
    import filelock

    assert filelock is not None  # imports are done before the clock runs
    workflow = of_records(_storages(folder)[contender == "StorageSQLite"], count)
    taken = seconds_of(lambda: workflow.start(resume=True))
    if any(item.attempt for item in workflow.result_task()[0].items):
        raise RuntimeError("a finished item ran again")
    return taken


def _storages(folder: str) -> Sequence[Storage]:
    database = StorageSQLite(path=f"{folder}/flow.db", durability="process")
    return StorageFile(path=folder, durability="process"), database


def of_records(storage: Storage, count: int) -> DotFlow:
    workflow = DotFlow(Config(storage=storage, log=LogDefault(output="none")), workflow_id="map")
    workflow.task.add(record, each=list(range(count)))
    return workflow


def mapped(values: Sequence[int], config: Config | None = None) -> DotFlow:
    workflow = DotFlow(config or quiet())
    workflow.task.add(each_one, each=values)
    return workflow
