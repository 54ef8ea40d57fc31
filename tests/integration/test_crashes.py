"""A workflow is killed wherever it can be, and resumed: what holds, and what is found out."""

import atexit
import io
import json
import os
import pickle
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any, get_args

import pytest

from dotflow import Config, Context, DotFlow, Task, action, atomic_path
from dotflow.abc.storage import Storage
from dotflow.core import events
from dotflow.errors import InvalidArgument
from dotflow.providers import ExecutorThread, LogDefault, StorageDefault, StorageFile, StorageSQLite
from dotflow.resume.earlier_runs import EarlierRuns
from dotflow.testing import CrashReport, assert_survives_crashes
from dotflow.testing.crash.instrumented import BOUNDARIES
from dotflow.testing.crash.kill_points import io_call
from tests.integration.children import Scripts

pytestmark = [pytest.mark.processes, pytest.mark.timeout(90)]  # each starts dozens of processes


# Storages


class ThreeMethods(Storage):
    """What a user writes: post, get and key, over a folder.

    Args:
        folder: Where it keeps pickles.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def post(self, key: str, context: Context) -> None:
        self.write(self.place(key), self.dump(context))

    def get(self, key: str) -> Context:
        try:
            return self.load(self.place(key).read_bytes())
        except FileNotFoundError:
            return Context()

    def key(self, task: Task) -> str:
        return f"{task.workflow_id}|{task.task_id}"

    def place(self, key: str) -> Path:
        return self.folder / sha256(key.encode()).hexdigest()

    def write(self, path: Path, data: bytes) -> None:
        new = path.with_suffix(".new")
        new.write_bytes(data)
        new.replace(path)

    def dump(self, context: Context) -> bytes:
        return pickle.dumps(context)

    def load(self, data: bytes) -> Context:
        found: Context = pickle.loads(data)
        return found


class WritesInPlace(ThreeMethods):
    """Opens the file, which empties it, and then fills it."""

    def write(self, path: Path, data: bytes) -> None:
        path.write_bytes(data)


class WritesLate(ThreeMethods):
    """Keeps values in memory until the program ends."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.waiting: dict[Path, bytes] = {}

    def write(self, path: Path, data: bytes) -> None:
        if not self.waiting:
            atexit.register(self.close)
        self.waiting[path] = data

    def close(self) -> None:
        for path, data in self.waiting.items():
            super().write(path, data)


class DeletesAtOnce(WritesLate):
    """The same, but what is deleted is gone."""

    def delete(self, key: str) -> None:
        self.place(key).unlink(missing_ok=True)


class KeepsJson(ThreeMethods):
    """Keeps what JSON makes of a value."""

    def dump(self, context: Context) -> bytes:
        return json.dumps([context.storage, context.task_id]).encode()

    def load(self, data: bytes) -> Context:
        return Context(*json.loads(data))


class KeepsTheValueAlone(KeepsJson):
    """And so can't tell a None from nothing."""

    def load(self, data: bytes) -> Context:
        return Context(json.loads(data)[0])


MAKERS: dict[str, Callable[[Path], Storage]] = {
    "ThreeMethods": ThreeMethods,
    "StorageFile": lambda folder: StorageFile(folder, durability="process"),  # quicker, and a kill is no power cut
    "StorageSQLite": lambda folder: StorageSQLite(folder / "dotflow.db"),
}


# Steps


@action
def write_table() -> Path:
    with atomic_path("table.csv") as path:
        path.write_text("1\n2\n3\n")
    return Path("table.csv")


@action
def unpack(write_table: Path) -> Path:
    """A folder, in place of an old one."""
    with atomic_path("rows") as path:
        path.mkdir()
        for row in write_table.read_text().split():
            (path / row).write_text(row)
    return Path("rows/2")


@action
def add(unpack: Path) -> int:
    return sum(int(path.read_text()) for path in unpack.parent.iterdir())


@action
def delete_table(write_table: Path, add: int) -> None:
    write_table.unlink(missing_ok=True)


tries: list[int] = []


@action(retry=5, retry_delay=0)  # it fails once in each worker, and each attempt is made by whoever is free
def load() -> dict[str, Any]:
    print("load runs")
    tries.append(1)
    if len(tries) == 1:
        raise ConnectionError("not at the first try")
    return {"rows": [(1, "a"), (2, None)]}


@action
def nothing() -> None: ...


@action
def total(previous_context: Context) -> tuple[Any, ...]:
    return (previous_context.storage, 0.5)


@action
class Steps:
    @action
    def first(self) -> int:
        return 1

    @action
    def second(self, previous_context: Context) -> set[int]:
        return {previous_context.storage, 2}


def in_order() -> DotFlow:
    workflow = DotFlow(workflow_id="a/../b")
    workflow.task.add([load, total, nothing, Steps])
    return workflow


def in_groups() -> DotFlow:
    workflow = DotFlow(workflow_id="groups")
    workflow.task.add([load, nothing], group_name="a")
    workflow.task.add(Steps, group_name="b")
    return workflow


def side_by_side() -> DotFlow:
    workflow = DotFlow(workflow_id="parallel")
    workflow.task.add([load, Steps])
    return workflow


def writing_files() -> DotFlow:
    workflow = DotFlow(workflow_id="files")
    workflow.task.add(write_table).add(unpack).add(add).add(delete_table, always=True)
    return workflow


def pair(first: Any = nothing, second: Any = total) -> Callable[[], DotFlow]:
    def build() -> DotFlow:
        workflow = DotFlow(workflow_id="pair")
        workflow.task.add([first, second])
        return workflow

    return build


# Workflows with links


@action
def numbers() -> list[int]:
    return [5, 3, 5, 0, 8, 1]


@action(retry=5, retry_delay=0)
def fetch(number: int, scale: int = 1) -> dict[str, int]:
    tries.append(number)
    if number == 3 and tries.count(number) == 1:
        raise ConnectionError("not at the first try")
    return {"number": number * scale}


@action
def parse(page: dict[str, int]) -> int:
    if page["number"] < 0:
        raise ValueError(page)
    return page["number"]


@action
def summary(parse: list[int], scale: int = 1) -> tuple[int, int, int]:
    return len(parse), sum(parse), scale


def mapped(storage: Storage) -> DotFlow:
    """A map, a map over it, and a reduce."""
    workflow = DotFlow(Config(storage=storage), workflow_id="maps", params={"scale": 10})
    workflow.task.add(numbers).add(fetch, each=numbers).add(parse, each=fetch).add(summary)
    return workflow


@action
def good(summary: tuple[int, int, int]) -> bool:
    return summary[1] > 1_000


@action
def deploy(summary: tuple[int, int, int]) -> str:
    return "deployed"


@action
def fragile(summary: tuple[int, int, int]) -> str:
    raise ConnectionError("every time")


@action
def sturdy(summary: tuple[int, int, int]) -> str:
    return "mended"


@action
def report(summary: tuple[int, int, int], fragile: str, deploy: str = "nothing") -> list[Any]:
    return [summary, fragile, deploy]


@action
def teardown(report: list[Any] | None = None) -> str:
    return f"after {report}"


def branched(storage: Storage) -> DotFlow:
    """A reduce, a fan-in, conditions, order, a fallback and a cleanup."""
    workflow = DotFlow(Config(storage=storage), workflow_id="branches", params={"scale": 10})
    add = workflow.task.add
    add(fetch, each=[1, 2], name="fetch").add(parse, each="fetch").add(summary).add(good)
    add(deploy, when=good).add(deploy, unless=good, name="other").add(fragile, fallback=sturdy).add(report)
    add(nothing, needs=["other", "fragile"], after="deploy").add(nothing, name="never", needs="deploy")
    add(teardown, always=True)
    return workflow


def failing(storage: Storage) -> DotFlow:
    """A map one of whose items fails every time, and what goes on without it."""
    workflow = DotFlow(Config(storage=storage), workflow_id="failing")
    workflow.task.add(fetch, each=[4, -1, 3]).add(parse, each=fetch, keep_going=True).add(summary)
    workflow.task.add(nothing, name="never", needs="parse").add(nothing, name="ends", after="parse")
    return workflow


def grouped(storage: Storage) -> DotFlow:
    """Two groups; the second one waits for items of the first."""
    workflow = DotFlow(Config(storage=storage), workflow_id="groups")
    workflow.task.add(numbers, group_name="a").add(fetch, each=numbers, group_name="a")
    workflow.task.add(parse, each=fetch, group_name="b").add(summary, group_name="b")
    return workflow


@action(checkpoint=False)
def cluster() -> list[int]:
    return [4, 2]


@action
def train(cluster: list[int], data: str = "sales") -> str:
    return f"model of {data}"


@action
def shut_down(cluster: list[int]) -> None: ...


@action(cache=True)
def answer() -> int:
    return 42


@action(checkpoint=False)
def print_it() -> None: ...


def without_cluster(storage: Storage) -> DotFlow:
    """A resume does not need the cluster if the model is there, and so does not shut it down."""
    workflow = DotFlow(Config(storage=storage), workflow_id="cluster")
    workflow.task.add([cluster, train]).add(shut_down, always=True)
    return workflow


def cached(storage: Storage) -> DotFlow:
    """A resume takes the value from the cache."""
    workflow = DotFlow(Config(storage=storage), workflow_id="cached")
    workflow.task.add(answer)
    return workflow


def unsaved_list(storage: Storage) -> DotFlow:
    """A resume knows the items only in the run, and so makes the sum again."""
    workflow = DotFlow(Config(storage=storage), workflow_id="list")
    workflow.task.add(cluster).add(fetch, each=cluster).add(parse, each=fetch).add(summary)
    return workflow


def unsaved(storage: Storage) -> DotFlow:
    """A resume restores nothing, neither the step nor the items of an empty list."""
    workflow = DotFlow(Config(storage=storage), workflow_id="unsaved")
    workflow.task.add(print_it).add(fetch, each=[])
    return workflow


@action(checkpoint=False)
def browser(url: int) -> str:
    return f"browser {url}"


@action
def download(url: int, browser: str) -> str:
    return f"{browser} has {url}"


@action
def is_wanted(download: str) -> bool:
    return not download.endswith("2")


@action
def keep(download: str, url: int) -> int:
    return url + len(download)


@action
def leave(browser: str) -> None: ...


@action
def pages(page: list[int]) -> int:
    return sum(page)


def nested(storage: Storage) -> DotFlow:
    """A workflow for each item, with a value that is not saved, a condition for each item and a cleanup."""
    page = DotFlow(params={"url": ...})
    page.task.add(browser).add(download).add(is_wanted).add(keep, when=is_wanted).add(leave, always=True)
    workflow = DotFlow(Config(storage=storage), workflow_id="nested")
    workflow.task.add(page, name="page", each=[5, 2, 8], max_parallel=2).add(pages)
    return workflow


@action
def publish(round: int) -> str:
    return f"published {round}"


@action
def draft_of(draft: int) -> int:
    return draft + 1


@action
def is_enough(draft_of: int) -> bool:
    return draft_of > 4


def repeated(storage: Storage) -> DotFlow:
    """Rounds, with a value that is not saved and a cleanup, and what takes the last one's value."""
    inner = DotFlow(params={"draft": ...})
    inner.task.add(cluster).add(draft_of, needs={"draft": "draft"}, after=cluster).add(is_enough)
    inner.task.add(shut_down, always=True)
    workflow = DotFlow(Config(storage=storage), workflow_id="rounds", params={"first": 1})
    workflow.task.add(inner, name="round", needs={"draft": "first"}, repeat=5, until=is_enough)
    workflow.task.add(publish)
    return workflow


@action
def read(url: int) -> list[int]:
    return [url + 1, url + 2]


@action
def measure(read: list[int]) -> int:
    return sum(read)


@action
def found(read: list[list[int]], measure: list[int]) -> list[int]:
    return sorted({url for urls in read for url in urls})[: len(measure) + 1]


@action
def is_last(found: list[int]) -> bool:
    return max(found) > 2


@action
def crawled(level: list[int], sizes: list[int]) -> int:
    return sum(level + sizes)


def crawl(storage: Storage) -> DotFlow:
    """A map in rounds, over what the round before has returned, a map over it, and what takes the last one's list."""
    level = DotFlow(params={"urls": ...})
    level.task.add(read, each="urls", max_parallel=2).add(measure, each={"read": read}).add(found).add(is_last)
    workflow = DotFlow(Config(storage=storage), workflow_id="crawl", params={"start": [0]})
    workflow.task.add(level, name="level", needs={"urls": "start"}, repeat=3, until=is_last)
    workflow.task.add(crawled, needs={"level": "level", "sizes": "level.measure"})
    return workflow


LINKED = {
    "maps": mapped,
    "branches": branched,
    "failing items": failing,
    "groups": grouped,
    "nested": nested,
    "rounds": repeated,
    "maps in rounds": crawl,
}


# What holds


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "name"),
    [
        (in_groups, "StorageFile"),
        pytest.param(in_order, "StorageSQLite", marks=pytest.mark.exhaustive),
        pytest.param(in_order, "ThreeMethods", marks=pytest.mark.exhaustive),
        pytest.param(in_order, "StorageFile", marks=pytest.mark.exhaustive),
        pytest.param(in_groups, "StorageSQLite", marks=pytest.mark.exhaustive),
        pytest.param(in_groups, "ThreeMethods", marks=pytest.mark.exhaustive),
    ],
)
def test_nothing_is_lost(name: str, build: Callable[[], DotFlow], tmp_path: Path) -> None:
    """Killed at every boundary and in the middle of every write, a run is completed by the next one."""
    report = assert_survives_crashes(build, MAKERS[name](tmp_path))

    assert report.crashes == report.resumes > 20
    assert report.boundaries > 15
    assert report.reruns
    assert f"{report.crashes} crashes" in str(report)


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "mode"),
    [(side_by_side, "parallel"), pytest.param(pair(load), "background", marks=pytest.mark.exhaustive)],
)
def test_nothing_is_lost_in_other_modes(build: Callable[[], DotFlow], mode: str, tmp_path: Path) -> None:
    """Whoever makes the attempts."""
    assert assert_survives_crashes(build, StorageFile(tmp_path), mode=mode).crashes > 20


@pytest.mark.slow
@pytest.mark.timeout(120)  # 20 s on a busy machine
@pytest.mark.parametrize(
    ("build", "mode", "name"),
    [
        ("maps in rounds", "sequential", "StorageSQLite"),
        *(
            pytest.param(*case, marks=pytest.mark.exhaustive)
            for case in [
                ("nested", "sequential", "StorageSQLite"),
                ("maps", "sequential", "StorageSQLite"),
                ("rounds", "sequential", "StorageSQLite"),
                ("maps", "parallel", "StorageSQLite"),
                ("nested", "parallel", "StorageSQLite"),
                ("nested", "parallel", "ThreeMethods"),
                ("nested", "sequential", "ThreeMethods"),
                ("rounds", "parallel", "StorageFile"),
                ("rounds", "parallel", "ThreeMethods"),
                ("rounds", "sequential", "ThreeMethods"),
                ("maps in rounds", "parallel", "StorageFile"),
                ("maps in rounds", "sequential", "ThreeMethods"),
                ("maps", "sequential", "ThreeMethods"),
                ("branches", "parallel", "StorageSQLite"),
                ("branches", "sequential", "ThreeMethods"),
                ("failing items", "sequential", "StorageFile"),
                ("failing items", "parallel", "ThreeMethods"),
                ("groups", "sequential", "StorageFile"),
            ]
        ),
    ],
)
def test_no_item_is_lost(build: str, mode: str, name: str, tmp_path: Path) -> None:
    """Killed at the first, second, middle and last items of maps, and at every other task."""
    arguments: dict[str, Any] = {"params": {"scale": 7}} if build in ("maps", "branches") else {}

    report = assert_survives_crashes(LINKED[build], MAKERS[name](tmp_path), mode=mode, **arguments)

    assert report.crashes == report.resumes >= 60


@pytest.mark.exhaustive(keep_every=2)
@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "mode"),
    [
        (without_cluster, "parallel"),
        (unsaved, "sequential"),
        pytest.param(cached, "sequential", marks=pytest.mark.exhaustive),
        pytest.param(unsaved_list, "sequential", marks=pytest.mark.exhaustive),
        pytest.param(without_cluster, "sequential", marks=pytest.mark.exhaustive),
        pytest.param(cached, "parallel", marks=pytest.mark.exhaustive),
        pytest.param(unsaved_list, "parallel", marks=pytest.mark.exhaustive),
    ],
)
def test_decisions_of_a_resume_are_no_fault_of_the_storage(
    build: Callable[[Storage], DotFlow], mode: str, tmp_path: Path
) -> None:
    """It may leave a step out, take a cached value, or make a value anew though its checkpoint is there."""
    report = assert_survives_crashes(build, MAKERS["StorageFile"](tmp_path), mode=mode)

    assert report.crashes == report.resumes >= 5
    assert report.missed == 0 or mode == "parallel"  # where other tasks are under way each time


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.timeout(120)
def test_items_of_threads(tmp_path: Path) -> None:
    """Side by side in threads, too."""

    def build(storage: Storage) -> DotFlow:
        config = Config(storage=storage, executor=ExecutorThread(max_workers=2))
        workflow = DotFlow(config, workflow_id="threads")
        workflow.task.add(fetch, each=range(6)).add(parse, each=fetch).add(summary)
        return workflow

    assert_survives_crashes(build, MAKERS["StorageFile"](tmp_path), mode="parallel")


@pytest.mark.slow
@pytest.mark.timeout(180)  # 105 kills
@pytest.mark.exhaustive  # test_atomic_path.py kills a process at each of these moments, too
@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_no_file_is_lost(mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file and a folder that a step writes as a whole, and a cleanup that deletes the file. Nothing lies beside."""
    monkeypatch.chdir(tmp_path)

    report = assert_survives_crashes(writing_files, StorageFile(Path("kept"), durability="process"), mode=mode)

    assert report.missed == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "rows"]
    if mode == "sequential":
        assert report.crashes - report.boundaries >= 40


@pytest.mark.exhaustive
def test_the_storage_may_be_given_to_the_function(tmp_path: Path) -> None:
    """A function that takes a parameter is given the storage; what it makes of local functions travels with it."""
    number = len(str(tmp_path))

    def build(storage: Storage) -> DotFlow:
        workflow = DotFlow(Config(storage=storage, log=LogDefault(output="none")))
        workflow.task.add(action(lambda: number))
        return workflow

    assert assert_survives_crashes(build, lambda: StorageFile(tmp_path)).crashes > 10


@pytest.mark.exhaustive
def test_the_workflow_may_have_its_own_storage(tmp_path: Path) -> None:
    """Where no storage is given; and an id of its own it need not have."""

    def build() -> DotFlow:
        workflow = DotFlow(Config(storage=StorageFile(tmp_path)))
        workflow.task.add(nothing)
        return workflow

    assert assert_survives_crashes(build).crashes > 10


@pytest.mark.exhaustive
@pytest.mark.parametrize("given", [False, True], ids=["its own storage", "a storage given"])
def test_parameters_with_defaults_keep_them(given: bool, tmp_path: Path) -> None:
    """Its own parameters keep their defaults; only one that is called storage is for the storage."""

    def build(number: int = 3, *, storage: Storage | None = None) -> DotFlow:
        assert number == 3
        assert given is (storage is not None)
        workflow = DotFlow(Config(storage=storage or StorageFile(tmp_path), log=LogDefault(output="none")))
        workflow.task.add(nothing)
        return workflow

    def build_other(number: int = 3) -> DotFlow:
        return build(number, **({"storage": StorageFile(tmp_path)} if given else {}))

    for function in (build, build_other) if given else (build,):
        report = assert_survives_crashes(function, StorageFile(tmp_path) if given else None)
        assert report.crashes > 10


@pytest.mark.exhaustive
def test_a_script_may_prove_its_own_workflow(scripts: Scripts) -> None:
    """What is defined in __main__ is taken along, its classes too."""
    facts = scripts.run("""
import dataclasses
from dotflow.providers import StorageFile
from dotflow.testing import assert_survives_crashes

@dataclasses.dataclass
class Point:
    x: int

@action
def point():
    return Point(1)

@action
def further(previous_context):
    return Point(previous_context.storage.x + 1)

def build():
    workflow = DotFlow(workflow_id="w")
    workflow.task.add([point, further])
    return workflow

say(crashes=assert_survives_crashes(build, StorageFile(HERE / "kept")).crashes)
""").facts

    assert facts["crashes"] > 20


@pytest.mark.exhaustive
def test_it_leaves_nothing_and_repeats_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The default log writes no file, and what the steps print in dozens of runs is passed on once."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kept").mkdir()

    assert_survives_crashes(pair(load), StorageFile("kept", durability="process"))

    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert capsys.readouterr() == ("load runs\n" * 2, "")


def test_it_ends_with_its_parent(scripts: Scripts) -> None:
    """Killed in the middle of the proof, a test leaves no process behind."""
    script = scripts.start("""
import tempfile
from dotflow.providers import StorageFile
from dotflow.testing import assert_survives_crashes

tempfile.tempdir = str(HERE)  # nobody is left to remove what is there

@action
def notes():
    (HERE / "noted").touch()
    time.sleep(0.01)

def build():
    workflow = DotFlow(workflow_id="w")
    workflow.task.add([notes] * 5)
    return workflow

print("ready", flush=True)
assert_survives_crashes(build, StorageFile(HERE / "kept"))
""")
    with script:
        assert script.line() == "ready"
        assert script.has_grown_to(3)
        script.send(signal.SIGKILL)

        assert script.left_behind() == []


# What is found out


def failure_of(build: Callable[..., DotFlow], storage: Any, **more: Any) -> str:
    with pytest.raises(AssertionError) as raised:
        assert_survives_crashes(build, storage, **more)
    return str(raised.value)


def test_a_storage_that_keeps_nothing(tmp_path: Path) -> None:
    """Memory is told apart at once, by name."""
    told = failure_of(in_order, StorageDefault())

    assert told.startswith("StorageDefault keeps nothing beyond its process")
    assert "none of its 4 checkpoints" in told


@pytest.mark.exhaustive
def test_a_storage_that_writes_late(tmp_path: Path) -> None:
    """When post() returns, the value has to be there: at an orderly end of the program is too late."""
    told = failure_of(in_order, DeletesAtOnce(tmp_path))

    assert told.startswith("Killed after the post of task 0 (load), then resumed: task 0 (load) was not found, though")
    assert "DeletesAtOnce lost the checkpoint" in told


def test_a_storage_that_deletes_late(tmp_path: Path) -> None:
    """What start() has voided does not count, whatever comes after it: it would hide what was lost, too."""
    told = failure_of(in_order, WritesLate(tmp_path))

    assert told.startswith("Killed after the delete of task 3 (Steps), then resumed: task 3 (Steps) was found, though")
    assert "WritesLate still had it" in told


def test_a_storage_that_changes_a_type(tmp_path: Path) -> None:
    """A list is no tuple; the message has the task, the value and where in it."""
    told = failure_of(pair(second=action(lambda: {"a": (1, 2)})), KeepsJson(tmp_path))

    assert "task 1 (<lambda>): at ['a'] expected (1, 2) (of type tuple), came [1, 2] (of type list)" in told
    assert "It was restored from KeepsJson" in told


class LosesItems(ThreeMethods):
    """Cuts a key at the last hyphen, as if it were its own."""

    def post(self, key: str, context: Context) -> None:
        super().post(key.rpartition("-")[0] or key, context)


def test_a_storage_that_loses_items(tmp_path: Path) -> None:
    """The message has the items of each task."""
    message = failure_of(mapped, LosesItems(tmp_path))

    assert "items 1, 2, 3, 4, 5 of task 1 (fetch), items 1, 2, 3, 4, 5 of task 2 (parse), the value under" in message


class LosesCachedValues(ThreeMethods):
    """Keeps the checkpoints alone."""

    def post(self, key: str, context: Context) -> None:
        if not key.startswith("@cache/"):
            super().post(key, context)


def test_a_storage_that_loses_cached_values(tmp_path: Path) -> None:
    """The step would run again, and no value would differ."""
    told = failure_of(cached, LosesCachedValues(tmp_path))

    assert "the value under the key '@cache/" in told
    assert "LosesCachedValues lost the checkpoint" in told


class ClearsNothing(ThreeMethods):
    """Returns before it has cleared."""

    def clear(self, workflow_id: str) -> bool:
        return True


@pytest.mark.exhaustive(keep_every=2)
@pytest.mark.parametrize(
    "build",
    [
        in_order,
        unsaved_list,
        *(pytest.param(build, marks=pytest.mark.exhaustive) for build in (mapped, without_cluster)),
    ],
)
def test_a_storage_that_clears_nothing(build: Callable[..., DotFlow], tmp_path: Path) -> None:
    """Values of an older run would count as those of the new one."""
    told = failure_of(build, ClearsNothing(tmp_path))

    assert told.startswith("Killed after clear() at the start, then resumed: ")
    assert "ClearsNothing still had it" in told


class KeepsTheFirst(ThreeMethods):
    """Replaces nothing, and deletes nothing."""

    def post(self, key: str, context: Context) -> None:
        if not self.contains(key):
            super().post(key, context)

    def clear(self, workflow_id: str) -> bool:
        for path in self.folder.iterdir():
            path.rename(path.with_suffix(".old"))
        return True

    def get(self, key: str) -> Context:
        old = self.place(key).with_suffix(".old")
        return self.load(old.read_bytes()) if self.place(key).exists() and old.exists() else super().get(key)


class ChangesInputs(ThreeMethods):
    """Returns values as if they were made from others."""

    def get(self, key: str) -> Context:
        context = super().get(key)
        if context.inputs is not None:
            context.inputs = context.inputs._replace(initial="other")
        return context


@pytest.mark.exhaustive(keep_every=2)
@pytest.mark.parametrize(
    ("build", "kind"),
    [
        (in_order, KeepsTheFirst),
        (unsaved_list, ChangesInputs),
        pytest.param(in_order, ChangesInputs, marks=pytest.mark.exhaustive),
        pytest.param(unsaved_list, KeepsTheFirst, marks=pytest.mark.exhaustive),
    ],
)
def test_a_storage_that_returns_another_checkpoint(
    build: Callable[..., DotFlow], kind: type[ThreeMethods], tmp_path: Path
) -> None:
    """An older one, or one whose inputs are not those that it was given."""
    told = failure_of(build, kind(tmp_path))

    assert "was found, but not as the last post() saved it" in told
    assert f"{kind.__name__} returned an older checkpoint, or changed its inputs" in told


def test_a_run_that_makes_a_finished_value_again(tmp_path: Path) -> None:
    """That would be a fault of dotflow, and no storage is blamed."""

    def build(storage: Storage) -> DotFlow:
        decide = EarlierRuns.decide

        def forget_one(self: EarlierRuns) -> Any:
            restoration = decide(self)
            if restoration is not None:
                restoration.restored.pop(0, None)
            return restoration

        EarlierRuns.decide = forget_one  # type: ignore[method-assign]  # in a process of the trial's own
        workflow = DotFlow(Config(storage=storage), workflow_id="again")
        workflow.task.add([nothing, total])
        return workflow

    told = failure_of(build, MAKERS["StorageFile"](tmp_path))

    assert "task 0 (nothing) ran again, though StorageFile had the checkpoint and the run did not delete it" in told
    assert "an error of dotflow" in told


def test_a_storage_that_loses_none(tmp_path: Path) -> None:
    """A step that returned None is finished like any other."""
    told = failure_of(pair(nothing, action(lambda: 1)), KeepsTheValueAlone(tmp_path))

    assert "task 0 (nothing) was not found, though post() had returned" in told
    assert "Resumed after an undisturbed run" in told


def test_a_storage_that_leaves_incomplete_values(tmp_path: Path) -> None:
    """A kill between two system calls leaves half a checkpoint; the message says between which."""
    told = failure_of(pair(load), WritesInPlace(tmp_path))

    assert re.search(r"Killed in the delete of task 1 \(\w+\), before its I/O call \d \(\w+\.\w+\), then resumed", told)
    assert "EOFError" in told


def test_a_step_that_is_not_deterministic(tmp_path: Path) -> None:
    """It can't be compared, and that is no fault of the storage."""
    told = failure_of(pair(action(time.monotonic)), StorageFile(tmp_path))

    assert told.startswith("Two undisturbed runs differ:\ntask 0 (monotonic): expected ")
    assert "has to return the same in every run" in told


@pytest.mark.exhaustive
def test_a_step_that_is_not_repeatable_on_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between the write and its checkpoint, it runs again on the file as it is. The values are equal."""
    monkeypatch.chdir(tmp_path)

    @action
    def make() -> Path:
        Path("rows.csv").write_text("1\n")
        return Path("rows.csv")

    @action
    def fill(make: Path) -> None:
        with make.open("a") as file:
            file.write("2\n")

    text = failure_of(pair(make, fill), StorageFile(tmp_path / "kept"))

    assert "before the post of task 1 (fill), then resumed: the result differs" in text
    assert "task 0 (make): the file rows.csv has another content. It was restored from StorageFile." in text


@pytest.mark.exhaustive
def test_a_file_that_each_run_appends_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its content is that of all runs; with files=False it is not compared."""
    monkeypatch.chdir(tmp_path)

    def log() -> Path:
        with Path("log.txt").open("a") as file:
            file.write("ran\n")
        return Path("log.txt")

    text = failure_of(pair(action(log), nothing), StorageFile(tmp_path / "kept"))

    assert text.startswith("Two undisturbed runs differ:\ntask 0 (log): the file log.txt has another content")
    assert_survives_crashes(pair(action(files=False)(log), nothing), StorageFile(tmp_path / "kept"))


def test_a_workflow_that_fails(tmp_path: Path) -> None:
    """Nothing can be proved then: the tasks' errors are shown, with their tracebacks."""

    @action
    def divides() -> float:
        return 1 / 0

    told = failure_of(pair(second=divides), StorageFile(tmp_path))

    assert told.startswith("An undisturbed run did not complete all tasks:\ntask 1 (divides): Failed\n")
    assert "ZeroDivisionError: division by zero" in told
    assert "return 1 / 0" in told


@pytest.mark.slow
def test_a_run_that_hangs(tmp_path: Path) -> None:
    """It is ended after its time, and where it was is said."""

    @action
    def hangs() -> None:
        threading.Event().wait()

    told = failure_of(pair(second=hangs), StorageFile(tmp_path), patience=1.0)

    assert "An undisturbed run did not end within 1 s" in told
    assert "the start of attempt 1 of task 1 (hangs)" in told
    assert "in hangs" in told


@pytest.mark.slow
def test_a_process_that_is_left_behind(tmp_path: Path) -> None:
    """What a run started has to be gone when it is."""

    @action
    def starts() -> None:
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)

    told = failure_of(pair(second=starts), StorageFile(tmp_path), patience=1.0)

    assert re.search(r"left processes behind that still ran 1 s after its end: \d+ \S+python\S* -c import time", told)


def test_a_run_that_ends_its_own_process(tmp_path: Path) -> None:
    """Whatever else ends it, it is not taken for a kill of ours."""
    told = failure_of(pair(second=action(lambda: os._exit(3))), StorageFile(tmp_path))

    assert told.startswith("An undisturbed run exited with 3 before its end")


def test_a_storage_that_is_not_used(tmp_path: Path) -> None:
    """Nothing would be proved."""
    told = failure_of(lambda storage: pair()(), StorageFile(tmp_path))

    assert "posted nothing to the storage" in told


def test_a_storage_that_is_in_the_way(tmp_path: Path) -> None:
    """What the storage raises is told, and what printed meanwhile is not lost."""
    (tmp_path / "file").write_text("")
    told = failure_of(pair(), lambda: StorageFile(tmp_path / "file" / "below"))

    assert "An undisturbed run" in told
    assert "NotADirectoryError" in told


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"build_workflow": None}, "a function that returns a DotFlow"),
        ({"storage": "x"}, "a Storage, or a function that returns one"),
        ({"build_workflow": lambda storage: None, "storage": None}, "for build_workflow's parameter 'storage'"),
        (
            {"build_workflow": lambda path: None, "storage": None},
            r"'path'.*wrap the function: lambda: build_w",
        ),
        ({"resume": True}, "Pass no resume: assert_survives_crashes\\(\\) chooses it"),
        ({"patience": 0}, "a number of seconds"),
        ({"storage": type("Opened", (StorageDefault,), {"rows": (row for row in ())})()}, "pass a function"),
        ({"on_success": threading.Lock().acquire}, "can't be"),
    ],
    ids=[
        "build",
        "storage",
        "no storage",
        "no path",
        "resume",
        "patience",
        "unpicklable storage",
        "unpicklable argument",
    ],
)
def test_mistakes_are_refused_before_anything_runs(arguments: dict[str, Any], told: str, tmp_path: Path) -> None:
    """What came, what is accepted and what to do instead."""
    given = {"build_workflow": pair(), "storage": StorageDefault(), **arguments}

    with pytest.raises(InvalidArgument, match=told):
        assert_survives_crashes(**given)


def test_the_values_of_the_functions_are_checked(tmp_path: Path) -> None:
    """A function that returns something else is told so."""
    assert "it returned a int" in failure_of(lambda: 1, StorageFile(tmp_path))  # type: ignore[arg-type, return-value]
    assert "it returned a int" in failure_of(pair(), lambda: 1)


def test_a_report_can_be_read() -> None:
    """In a sentence, with what was missed where anything was."""
    report = CrashReport(crashes=3, boundaries=2, resumes=3, reruns=1, missed=0)

    assert str(report).startswith("survived 3 crashes, 2 ")
    assert "missed" not in str(report)
    assert "1 kill points were not reached" in str(CrashReport(crashes=3, boundaries=2, resumes=3, reruns=1, missed=1))


CLOSED = sqlite3.connect(":memory:")
CLOSED.close()


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (os.fsync, "os.fsync"),
        (os.replace, "os.replace"),
        (os.getpid, ""),
        (os.stat, ""),
        (open, "io.open"),
        (io.BytesIO().write, ""),
        (io.BufferedWriter(io.BytesIO()).write, "BufferedWriter.write"),
        (CLOSED.execute, "Connection.execute"),
        (CLOSED.interrupt, ""),
        ("text".replace, ""),
        ([].remove, ""),
        (date.today().replace, ""),
        (zlib.compressobj().flush, ""),
    ],
)
def test_only_calls_with_an_effect_are_moments_to_kill_at(function: Any, name: str) -> None:
    """Between two calls that compute nothing else can be found, and each moment costs two runs."""
    assert io_call(function).replace("_io.", "io.") == name


def test_every_event_is_a_moment_to_kill_at() -> None:
    """A new kind of event needs a name among the boundaries. A detail that only a history records changes nothing."""
    unwritten = {events.AttemptHeld, *get_args(events.Detail), *get_args(events.CallEvent)}
    assert unwritten.isdisjoint(BOUNDARIES)
    assert {*BOUNDARIES, *unwritten} == set(get_args(events.Event))


# Durable steps


@action
def search(query: int) -> list[int]:
    return [query, query]


@action
def decline(query: int) -> None:
    raise ValueError(query)


@action
def stamp(query: int, at: float) -> int:
    return query


@action(durable=True)
def agent() -> list[int]:
    try:
        decline(1)
    except ValueError:
        return [*search(2), *search(2)]
    return []


@action(durable=True)
def clocked() -> list[int]:
    return [stamp(1, at=time.time()), *search(2)]


@pytest.mark.parametrize("kind", [StorageFile, ThreeMethods])
def test_a_durable_step_makes_no_call_twice_whose_save_has_returned(kind: type[Any], tmp_path: Path) -> None:
    """Wherever it is killed. Each kill point is reached again, though each run has keys of its own."""

    def build(storage: Storage) -> DotFlow:
        workflow = DotFlow(Config(storage=storage), workflow_id="agent")
        workflow.task.add(agent)
        return workflow

    report = assert_survives_crashes(build, kind(tmp_path))

    assert (report.missed, report.note) == (0, "")
    assert report.crashes > 20


def test_a_call_that_depends_on_a_clock_is_named(tmp_path: Path) -> None:
    """Killed after it was kept, the resume makes another one beside it."""

    def build() -> DotFlow:
        workflow = DotFlow(workflow_id="clocked")
        workflow.task.add(clocked)
        return workflow

    message = failure_of(build, StorageFile(tmp_path))

    assert message.startswith(
        "Killed after the post of call 1 of task 0 (clocked), then resumed: task 0 (clocked) has "
    )
    assert re.search(
        r"It made stamp\(1, [\d.]+\), stamp\(1, [\d.]+\)\. Call 1 of task 0 \(clocked\) was stamp", message
    )
    assert "its argument 'at' comes from a clock or at random. Make it a call" in message


# At random moments


@pytest.mark.slow
@pytest.mark.exhaustive
def test_the_crash_table_is_clean(tmp_path: Path, stride: int) -> None:
    """Runs and resumes that are killed at random moments, again and again, lose nothing either."""
    script = Path(__file__).parent.parent / "crash_table.py"
    kills = 3 if stride == 1 else 1
    done = subprocess.run([sys.executable, script, "--kills", str(kills)], capture_output=True, text=True, cwd=tmp_path)

    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    rows = [line.split("|")[4] for line in done.stdout.splitlines() if line.startswith("| Storage")]
    assert [int(row) for row in rows] == [kills] * 12
    assert list(tmp_path.iterdir()) == []
