"""What it costs that nothing is lost: saving a step's value, and skipping finished steps.

Everything happens in the temporary folder: point TMPDIR to the disk that you want to know about. A memory file system
makes every sync free, and the rows meaningless.
"""

import contextlib
import gc
import json
import os
import sqlite3
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from measure import Row, best, cpu_of, fresh, fresh_contender, seconds_of
from peers import dbos_steps, joblib_resume, luigi_resume
from workflows import completed

from dotflow import Config, Context, DotFlow, action
from dotflow.abc.storage import Storage
from dotflow.codec.document import pack
from dotflow.providers import LogDefault, StorageFile, StorageSQLite

VALUE = {"city": "Seattle", "rows": [[2012, 12.8, True], [2013, 10.6, False]], "source": None}


@action
def step() -> Any:
    return VALUE


def save_rows(quick: bool) -> Iterator[Row]:
    """A step's value in the storage, beside the bare system calls that make the same promise.

    Each contender writes the same text. Without the folder's fsync a file is safe, but after a power cut it may be
    missing: that is less than a checkpoint, and is shown for comparison. DBOS records each step of a workflow in
    SQLite; its other databases are servers.
    """
    found = fresh(measure_files, 300, "power", 5 if quick else 25)
    found |= {} if quick else {"DBOS on SQLite": min(fresh(measure_dbos, 300) for _ in range(3))}
    limit = "limit: write, fsync, rename, fsync folder"  # three quarters of its rate
    yield Row.beside("a step with its checkpoint, StorageFile, 300 of them", found, 1 / 0.75, limit)


def storage_rows(quick: bool) -> Iterator[Row]:
    """The same where a power cut may lose the last values, and in SQLite."""
    count, repeats = 300, 3 if quick else 9
    found = fresh(measure_files, count, "process", repeats)
    ours, renamed = found["dotflow"], found["write, rename"]
    yield Row(
        what='checkpoint, StorageFile(durability="process")',
        ours=ours,
        peers={"write, rename": renamed},
        budget="60% of the bare rate",
        within=ours <= renamed / 0.6,
    )
    found = fresh(measure_sqlite, count, repeats)
    yield Row(
        what="checkpoint, StorageSQLite",
        ours=found["power"],
        peers={"WAL commit": found["FULL"]},
        budget="80% of the bare rate",
        within=found["power"] <= found["FULL"] / 0.8,
    )
    yield Row(
        what='checkpoint, StorageSQLite(durability="process")',
        ours=found["process"],
        peers={"WAL commit, synchronous=NORMAL": found["NORMAL"]},
    )


def large_rows(quick: bool) -> Iterator[Row]:
    """A million floats, beside writing and syncing the same 8 MB. A list of them is JSON: each is written as text."""
    found = fresh(measure_large, 5 if quick else 15)
    for name in ("NumPy array", "bytes"):
        yield Row(
            what=f"checkpoint, a million floats, {name}",
            ours=found[name],
            peers={"write, fsync": found["bare"]},
            budget="2 x the bare bytes",
            within=found[name] <= 2 * found["bare"],
        )
    yield Row(what="checkpoint, a million floats, list", ours=found["list"], peers={"json.dumps": found["json.dumps"]})


def resume_rows(quick: bool) -> Iterator[Row]:
    """A run of 3,000 steps of which all but the last are finished, in CPU time.

    The limit is reading and parsing the same files by hand. Luigi looks at the last output only, and reads none; joblib
    loads each value when its function is called.
    """
    limit = "limit: read, json.loads"
    with tempfile.TemporaryDirectory() as folder:
        fresh(fill, folder, 3_000)
        names = ("dotflow", "Luigi", "joblib", limit)
        found = best(
            {name: fresh_contender(measure_unfinished, name, folder, 3_000) for name in names}, 2 if quick else 5
        )
    yield Row.beside("resume, 2,999 of 3,000 steps, StorageFile", found, 3.5, limit)


def measure_unfinished(contender: str, folder: str, count: int) -> float:
    """Seconds of CPU time for all."""
    match contender:
        case "dotflow":
            import filelock

            assert filelock is not None  # imports are done before the clock runs
            workflow = workflow_of(StorageFile(path=folder), count)

            def work() -> object:
                Path(folder, "benchmark.checkpoints", f"{count - 1}.json").unlink()
                return workflow.start(resume=True)
        case "Luigi":
            work = luigi_resume(folder, count, VALUE)
        case "joblib":
            work = joblib_resume(folder, count, VALUE)
        case _:

            def work() -> object:
                return read_all(folder, count)

    return best({"": lambda: cpu_of(work)}, 3)[""]


def finished_rows(quick: bool) -> Iterator[Row]:
    """Finished steps that are skipped, beside reading and parsing the same files, the same rows by hand."""
    for count, budget in ((3_000, 0.150), (10_000, 0.5)):
        with tempfile.TemporaryDirectory() as folder:
            fresh(fill, folder, count)
            contenders = {
                name: fresh_contender(measure_resume, name, folder, count)
                for name in ("StorageFile", "StorageSQLite", "files", "sqlite3")
            }
            found = best(contenders, 2 if quick else 7)
        for name, bare in (("StorageFile", "files"), ("StorageSQLite", "sqlite3")):
            yield Row(
                what=f"resume, {count:,} finished steps, {name}",
                ours=found[name],
                peers={f"bare: read, json.loads ({bare})": found[bare]},
                budget=f"{budget * 1000:.0f} ms",
                within=found[name] < budget,
            )
    with tempfile.TemporaryDirectory() as folder:
        fresh(fill, folder, 3_000)
        kept = fresh(measure_memory, folder, 3_000)
    what = "memory, a step restored, beyond its value"
    yield Row(what=what, ours=kept, peers={}, unit="B", budget="800 B", within=kept < 800)


def quiet(storage: Storage) -> Config:
    return Config(storage=storage, log=LogDefault(output="none"))


def workflow_of(storage: Storage, count: int) -> DotFlow:
    workflow = DotFlow(quiet(storage), workflow_id="benchmark")
    workflow.task.add([step] * count)
    return workflow


def measure_files(count: int, durability: str, repeats: int) -> dict[str, float]:
    """Seconds for one value, in each way."""
    data = text_of_a_checkpoint()

    def by_hand(*, file: bool, folder: bool) -> Callable[[str], object]:
        return lambda where: write_all(where, data, count, file=file, folder=folder)

    contenders: dict[str, Callable[[str], object]] = {
        "dotflow": lambda folder: completed(workflow_of(StorageFile(path=folder, durability=durability), count))
    }
    if durability == "power":
        contenders["the same without the folder"] = by_hand(file=True, folder=False)
        contenders["limit: write, fsync, rename, fsync folder"] = by_hand(file=True, folder=True)
    else:
        contenders["write, rename"] = by_hand(file=False, folder=False)
    return _each(contenders, count, repeats)


def measure_large(repeats: int) -> dict[str, float]:
    """Seconds for one value, in each way."""
    import numpy

    array = numpy.random.default_rng(0).random(1_000_000)
    data, floats = array.tobytes(), array.tolist()

    def bare(folder: str) -> None:
        descriptor = os.open(f"{folder}/bare", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        os.write(descriptor, data)
        os.fsync(descriptor)
        os.close(descriptor)

    with tempfile.TemporaryDirectory() as folder:
        storage = StorageFile(path=folder)
        storage.post("benchmark/0", Context())  # the workflow's folder is made once

        def ours(value: Any) -> float:
            taken = seconds_of(lambda: storage.post("benchmark/1", Context(value, 1, "benchmark")))
            storage.delete("benchmark/1")
            return taken

        def plain() -> float:
            taken = seconds_of(lambda: bare(folder))
            os.unlink(f"{folder}/bare")  # noqa: PTH108 (as it was written)
            return taken

        contenders = {"NumPy array": lambda: ours(array), "bytes": lambda: ours(data), "bare": plain}
        found = best(contenders, repeats)
        return found | best(
            {"list": lambda: ours(floats), "json.dumps": lambda: seconds_of(lambda: json.dumps(floats))}, 2
        )


def text_of_a_checkpoint() -> bytes:
    """What the bare contenders write: the same as dotflow, which makes it each time."""
    return pack("benchmark/0", Context(VALUE, 0, "benchmark", step=step.identity))


def write_all(where: str, data: bytes, count: int, *, file: bool, folder: bool) -> None:
    for number in range(count):
        path = f"{where}/{number}.json"
        descriptor = os.open(path + ".tmp", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        os.write(descriptor, data)
        if file:
            os.fsync(descriptor)
        os.close(descriptor)
        os.replace(path + ".tmp", path)  # noqa: PTH105 (bare calls are what is measured)
        if folder:
            descriptor = os.open(where, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)


def measure_sqlite(count: int, repeats: int) -> dict[str, float]:
    """Seconds for one value, in each way."""
    text = text_of_a_checkpoint().decode()

    def ours(folder: str, durability: str) -> None:
        completed(workflow_of(StorageSQLite(path=f"{folder}/flow.db", durability=durability), count))

    contenders: dict[str, Callable[[str], object]] = {
        "power": lambda folder: ours(folder, "power"),
        "process": lambda folder: ours(folder, "process"),
        "FULL": lambda folder: commit_all(folder, text, count, "FULL"),
        "NORMAL": lambda folder: commit_all(folder, text, count, "NORMAL"),
    }
    return _each(contenders, count, repeats)


def commit_all(folder: str, text: str, count: int, synchronous: str) -> None:
    with contextlib.closing(sqlite3.connect(f"{folder}/bare.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute("CREATE TABLE kept (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
        for number in range(count):
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO kept VALUES (?, ?)", (f"benchmark/{number}", text))
            connection.execute("COMMIT")


def measure_dbos(count: int) -> float:
    """Seconds for one step of a DBOS workflow. Its start is not counted."""
    with dbos_steps(lambda: VALUE) as workflow:
        return seconds_of(lambda: workflow(count)) / count


def _each(contenders: dict[str, Callable[[str], object]], count: int, repeats: int) -> dict[str, float]:
    def timed(work: Callable[[str], object]) -> float:
        with tempfile.TemporaryDirectory() as folder:
            return seconds_of(lambda: work(folder)) / count

    return best({name: lambda work=work: timed(work) for name, work in contenders.items()}, repeats)


def fill(folder: str, count: int) -> None:
    """Makes the same checkpoints in files and in SQLite."""
    for storage in (StorageFile(path=folder, durability="process"), _database(folder)):
        completed(workflow_of(storage, count))


def _database(folder: str) -> StorageSQLite:
    return StorageSQLite(path=f"{folder}/flow.db", durability="process")


def measure_resume(contender: str, folder: str, count: int) -> float:
    """Seconds for all."""
    match contender:
        case "StorageFile":
            workflow = workflow_of(StorageFile(path=folder), count)
        case "StorageSQLite":
            workflow = workflow_of(_database(folder), count)
        case "files":
            return seconds_of(lambda: read_all(folder, count))
        case _:
            return seconds_of(lambda: select_all(folder, count))
    import filelock

    assert filelock is not None  # imports are done before the clock runs
    taken = seconds_of(lambda: workflow.start(resume=True))
    if any(task.started_at is not None for task in workflow.result_task()):
        raise RuntimeError("a finished step ran again")
    return taken


def read_all(folder: str, count: int) -> None:
    kept = [json.loads(Path(folder, "benchmark.checkpoints", f"{number}.json").read_bytes()) for number in range(count)]
    assert len(kept) == count


def select_all(folder: str, count: int) -> None:
    with contextlib.closing(sqlite3.connect(f"{folder}/flow.db")) as connection:
        for number in range(count):
            query = connection.execute("SELECT document FROM checkpoints WHERE key = ?", (f"benchmark/{number}",))
            json.loads(query.fetchone()[0])


def measure_memory(folder: str, count: int) -> float:
    """Bytes that a restored step keeps, over what its value takes."""
    workflow = workflow_of(StorageFile(path=folder), count)
    workflow.start(resume=True)  # what is made once only
    text = json.dumps(VALUE)
    gc.collect()
    tracemalloc.start()
    values = [json.loads(text) for _ in range(count)]
    gc.collect()
    alone = tracemalloc.get_traced_memory()[0]
    workflow.start(resume=True)
    gc.collect()
    both = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(values) == count
    return (both - 2 * alone) / count
