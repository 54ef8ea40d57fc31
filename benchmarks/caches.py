"""What runs again: the fingerprint of a step's code, a value from the cache, and the plan of a resume."""

import inspect
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from checkpoints import fill, workflow_of
from maps import record
from measure import Row, best, fresh, fresh_contender, seconds_of
from sequential import per_piece
from workflows import completed

from dotflow import Config, DotFlow, action
from dotflow.code.bytecode import form_of
from dotflow.code.fingerprint import fingerprint
from dotflow.code.own_code import is_own
from dotflow.providers import LogDefault, StorageFile

CITIES = {"Seattle": (47.6, -122.3), "Lisbon": (38.7, -9.1)}
UNITS = ("mm", "°C")

cached_record = action(cache=True)(record.function)


class Table:
    def __init__(self, rows: list[tuple[int, float]]) -> None:
        self.rows = rows

    def mean(self) -> float:
        return sum(value for _, value in self.rows) / len(self.rows) if self.rows else 0.0


def parse(line: str, separator: str = ",") -> tuple[int, float]:
    year, _, value = line.partition(separator)
    return int(year), round(float(value), 2)


def is_wanted(line: str) -> bool:
    return bool(line.strip()) and not line.startswith("#")


@action(retry=3)
def summary(city: str, lines: list[str]) -> dict[str, Any]:
    """A step as they are: two functions, a class and two constants of its module."""
    rows = [parse(line) for line in lines if is_wanted(line)]
    table = Table(rows)
    try:
        latitude, longitude = CITIES[city]
    except KeyError:
        latitude = longitude = 0.0
    return {"city": city, "mean": table.mean(), "unit": UNITS[0], "at": [latitude, longitude], "count": len(rows)}


def code_rows(quick: bool) -> Iterator[Row]:
    """A step's fingerprint, once in each process, beside reading the source of the same functions."""
    times = fresh(measure_code, 50 if quick else 500)
    ours = times.pop("dotflow")
    yield Row(what="fingerprint of a step", ours=ours, peers=times, budget="300 µs", within=ours < 300e-6)


def measure_code(repeats: int) -> dict[str, float]:
    """Seconds for one, with nothing remembered from the one before."""

    def make() -> None:
        form_of.cache_clear()
        is_own.cache_clear()
        summary._code = None
        assert fingerprint(summary)

    def read() -> None:
        for part in (summary.function, parse, is_wanted, Table.__init__, Table.mean):
            inspect.getsource(part)

    return per_piece({"dotflow": make, "inspect.getsource": read}, 1, repeats)


def hit_rows(quick: bool) -> Iterator[Row]:
    """An item that is in the cache, beside one whose checkpoint is restored, from the same kind of storage."""
    times = fresh(measure_hits, 1_000, 2 if quick else 7)
    ours, restored = times.pop("dotflow"), times["restored checkpoint"]
    yield Row(
        what="an item in the cache, 1,000 of them, StorageFile",
        ours=ours,
        peers=times,
        budget="1.5 × a restored checkpoint",
        within=ours < restored * 1.5,
    )


def measure_hits(count: int, repeats: int) -> dict[str, float]:
    """Seconds for each item. The checkpoints of cached items go to the memory."""

    def mapped(step: Any, **where: Any) -> DotFlow:
        workflow = DotFlow(Config(log=LogDefault(output="none"), **where), workflow_id="map")
        workflow.task.add(step, each=list(range(count)))
        return completed(workflow)

    def check(run: Any) -> None:
        assert all(item.restored_from for item in run.tasks[0].items)

    with tempfile.TemporaryDirectory() as folder:
        storages = [StorageFile(path=f"{folder}/{name}", durability="process") for name in ("cache", "checkpoints")]
        cached, restored = mapped(cached_record, cache=storages[0]), mapped(record, storage=storages[1])
        contenders: dict[str, Callable[[], object]] = {
            "dotflow": lambda: check(cached.start()),
            "restored checkpoint": lambda: check(restored.start(resume=True)),
        }
        return per_piece(contenders, count, repeats)


def plan_rows(quick: bool) -> Iterator[Row]:
    """The plan of a resume of 3,000 finished steps, beside the resume itself."""
    count = 3_000
    with tempfile.TemporaryDirectory() as folder:
        fresh(fill, folder, count)
        contenders = {name: fresh_contender(measure_plan, name, folder, count) for name in ("plan", "resume")}
        times = best(contenders, 2 if quick else 7)
    ours = times.pop("plan")
    yield Row(
        what="plan of a resume, 3,000 finished steps, StorageFile",
        ours=ours,
        peers=times,
        budget="2 × the resume",
        within=ours < times["resume"] * 2,
    )


def measure_plan(contender: str, folder: str, count: int) -> float:
    """Seconds for all."""
    workflow = workflow_of(StorageFile(path=folder), count)
    with tempfile.TemporaryDirectory() as empty:  # imports are done before the clock runs
        small = workflow_of(StorageFile(path=empty), 1)
        str(small.plan(resume=True))
        small.start(resume=True)
    if contender == "plan":
        return seconds_of(lambda: str(workflow.plan(resume=True)))
    return seconds_of(lambda: workflow.start(resume=True))
