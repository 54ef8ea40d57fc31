"""Cached values: who gets them, and who does not."""

import contextlib
import dataclasses
import datetime
import sqlite3
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, Context, DotFlow, action, clock
from dotflow.abc.history import History
from dotflow.abc.storage import Storage
from dotflow.codec import canonical
from dotflow.core.events import TaskRestored
from dotflow.core.types.status import TypeStatus
from dotflow.errors import InvalidPolicy
from dotflow.providers import (
    ExecutorInline,
    ExecutorThread,
    LogDefault,
    StorageDefault,
    StorageFile,
    StorageSQLite,
)
from dotflow.testing import virtual_clock
from tests.plan_fuzz import check
from tests.storages import STORAGES, StorageThreeMethods


@pytest.fixture(params=STORAGES)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return STORAGES[request.param](tmp_path)


class Flow:
    """A workflow that is built anew for each run, and what ran."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.ran: list[Any] = []
        self.lines: list[str] = []
        self.settings: list[Any] = [1, 2, 3]
        self.data: Any = 10
        self.saves_data = True

    def new(self) -> DotFlow:
        log = LogDefault(output="none")
        log.report = self.lines.append  # type: ignore[method-assign]
        return DotFlow(Config(storage=self.storage, log=log), workflow_id="flow")

    def build(self) -> DotFlow:
        ran = self.ran

        @action
        def settings() -> list[Any]:
            return self.settings

        @action(checkpoint=self.saves_data)
        def data() -> Any:
            return self.data

        @action(cache=True)
        def train(setting: Any, data: Any) -> Any:
            ran.append(setting)
            if setting == "bad":
                raise ConnectionError
            return setting

        @action(cache=True)
        def best(train: list[Any]) -> Any:
            ran.append("best")
            return train[-1]

        workflow = self.new()
        workflow.task.add(settings).add(data).add(train, each=settings, keep_going=True).add(best)
        return workflow

    def run(self, build: Callable[[], DotFlow] | None = None, **arguments: Any) -> list[Any]:
        """Returns what ran; the plan before must agree, as far as it knows the values."""
        self.ran.clear()
        self.lines.clear()
        self.workflow = (build or self.build)()
        plan = self.workflow.plan(**arguments)
        self.workflow.start(**arguments)
        check(plan, self.workflow.result_task())
        return list(self.ran)


@pytest.fixture
def flow(storage: Storage) -> Flow:
    return Flow(storage)


def sources(workflow: DotFlow) -> list[str | None]:
    return [task.restored_from for task in workflow.result_task()]


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_a_grid_trains_new_settings_only(flow: Flow, mode: str) -> None:
    """The second run trains nothing, one more setting trains one, other data train all."""
    flow.settings = list(range(12))
    if mode == "parallel":
        flow.new = lambda new=flow.new: _with_threads(new())  # type: ignore[method-assign, misc]
    assert sorted(map(str, flow.run(mode=mode))) == sorted([*map(str, range(12)), "best"])
    assert flow.run(mode=mode) == []
    assert sources(flow.workflow) == [None, None, "cache", "cache"]
    assert flow.workflow.result_storage()[2:] == [list(range(12)), 11]
    assert flow.workflow.result_task()[2].status is TypeStatus.COMPLETED
    flow.settings.insert(0, 99)
    assert flow.run(mode=mode) == [99, "best"]
    flow.data = 11
    assert len(flow.run(mode=mode)) == 13 + 0
    assert "best" not in flow.ran  # the same values


def _with_threads(workflow: DotFlow) -> DotFlow:

    workflow.config.executor = ExecutorThread()
    return workflow


def test_a_hit_is_checkpointed(flow: Flow) -> None:
    """So a resume restores it, and what was made from it."""
    flow.run()
    flow.run()
    assert flow.run(resume=True) == []
    assert sources(flow.workflow) == ["checkpoint"] * 4


def test_failures_and_fallbacks_are_not_cached(flow: Flow) -> None:
    """A failed item runs again; so does one that its fallback mended."""
    flow.settings = [1, "bad"]
    assert flow.run() == [1, "bad", "best"]
    assert flow.run() == ["bad"]

    @action
    def mend() -> int:
        flow.ran.append("mend")
        return 1

    @action(cache=True)
    def breaks() -> int:
        flow.ran.append("breaks")
        raise ConnectionError

    def build() -> DotFlow:
        workflow = flow.new()
        workflow.task.add(breaks, fallback=mend)
        return workflow

    assert flow.run(build) == flow.run(build) == ["breaks", "mend"]


def test_no_cache_computes_and_replaces(flow: Flow) -> None:
    """start(cache=False): the next run with the cache takes its values."""
    box = [1]

    def build() -> DotFlow:
        @action(cache=True, version="1")
        def step() -> int:
            flow.ran.append("step")
            return box[0]

        workflow = flow.new()
        workflow.task.add(step)
        return workflow

    assert flow.run(build) == ["step"]
    box[0] = 2
    assert flow.run(build, cache=False) == ["step"]
    assert flow.run(build) == []
    assert flow.workflow.result_storage() == [2]


def test_old_values_are_made_anew(flow: Flow) -> None:
    """With a number of seconds, or a duration such as "1h"."""
    with virtual_clock():

        @action(cache="1h")
        def step() -> int:
            flow.ran.append("step")
            return 1

        def build() -> DotFlow:
            workflow = flow.new()
            workflow.task.add(step)
            return workflow

        assert flow.run(build) == ["step"]
        clock.sleep(3599)
        assert flow.run(build) == []
        clock.sleep(2)
        assert flow.run(build) == ["step"]


def test_an_argument_that_can_not_be_compared_is_not_cached(flow: Flow) -> None:
    """Never with a weaker key. One line says why, for all items."""
    flow.data, flow.saves_data = object(), False

    assert flow.run() == [1, 2, 3, "best"]
    assert flow.run() == [1, 2, 3]
    assert flow.lines == ["Task 2 train is not cached: its argument 'data', of type object, can't be compared."]


def test_the_code_is_part_of_the_key(flow: Flow) -> None:
    """Other code is another key; with `version`, only another version is."""

    def build(value: int, **options: Any) -> Callable[[], DotFlow]:
        def make() -> DotFlow:
            @action(cache=True, **options)
            def step() -> int:
                flow.ran.append(value)
                return value

            workflow = flow.new()
            workflow.task.add(step)
            return workflow

        return make

    assert flow.run(build(1)) == [1]
    assert flow.run(build(2)) == [2]
    assert flow.run(build(1)) == []
    assert flow.run(build(3, version="1")) == [3]
    assert flow.run(build(4, version="1")) == []
    assert flow.run(build(4, version="2")) == [4]


def test_contexts_are_part_of_the_key(flow: Flow) -> None:
    """Their values, for functions and for the actions of classes."""

    @action(cache=True)
    def double(initial_context: Any, previous_context: Any) -> int:
        flow.ran.append("double")
        return int(initial_context.storage * previous_context.storage)

    @action(cache=True)
    class Report:
        @action
        def load(self, previous_context: Any) -> Any:
            flow.ran.append("load")
            return previous_context.storage

    def build(initial: int, first: int) -> Callable[[], DotFlow]:
        def make() -> DotFlow:
            workflow = flow.new()
            workflow.task.add(action(lambda: first)).add(double, initial_context=initial).add(Report)
            return workflow

        return make

    assert flow.run(build(2, 3)) == ["double", "load"]
    assert flow.run(build(2, 3)) == []
    assert flow.run(build(3, 2)) == ["double"]
    assert flow.run(build(3, 3)) == ["double", "load"]


def test_other_workflows_share_the_cache(tmp_path: Path) -> None:
    """In a storage of its own, Config(cache=...), or in the same storage; a new run clears none of it."""
    shared = StorageFile(path=tmp_path / "cache")
    ran = []

    @action(cache=True)
    def step() -> int:
        ran.append(1)
        return 1

    for number in range(3):
        config = Config(storage=StorageFile(path=tmp_path / f"s{number}"), cache=shared, log=LogDefault(output="none"))
        workflow = DotFlow(config, workflow_id=f"w{number}")
        workflow.task.add(step)
        workflow.start()

    assert ran == [1]
    assert [key.rpartition("/")[0] for key in shared.list_keys("@cache/")] == [
        "@cache/tests.integration.test_cache:test_other_workflows_share_the_cache.<locals>.step"
    ]


class Model:
    """A large value that only pickle keeps."""

    def __init__(self) -> None:
        self.weights = bytes(range(256)) * 400

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Model) and self.weights == other.weights

    __hash__ = None  # type: ignore[assignment]


def fit() -> Model:
    return Model()


@pytest.mark.parametrize("make", [lambda: bytes(100_000), fit], ids=["bytes", "pickled"])
@pytest.mark.parametrize("kind", ["file", "sqlite"])
def test_a_cached_value_and_its_checkpoint_are_stored_once(
    kind: str, make: Callable[[], Any], tmp_path: Path, quiet: Callable[..., Config]
) -> None:
    """When it is made and when it comes from the cache. Each of the two stays when the other is deleted."""
    path = tmp_path / "values"
    storage = (StorageFile if kind == "file" else StorageSQLite)(path=path, pickle=True)

    def run(**arguments: Any) -> Any:
        workflow = DotFlow(quiet(storage=storage), workflow_id="flow")
        workflow.task.add(action(cache=True)(make))
        return workflow.start(**arguments).tasks[0]

    def copies() -> int:
        if kind == "file":
            return len({part.stat().st_ino for part in path.rglob("*") if part.suffix in (".bin", ".pickle")})
        with contextlib.closing(sqlite3.connect(path)) as connection:
            return int(connection.execute("SELECT count(*) FROM parts").fetchone()[0])

    def whole() -> list[bool]:
        return [storage.get(key).storage == make() for key in storage.list_keys()]

    made = run()
    assert (made.restored_from, copies(), whole()) == (None, 1, [True, True])
    cached = run()
    assert (cached.restored_from, copies(), whole()) == ("cache", 1, [True, True])
    (key,) = storage.list_keys("@cache/")
    storage.delete(key)
    resumed = run(resume=True)
    assert (resumed.restored_from, copies(), whole()) == ("checkpoint", 1, [True])


def test_a_broken_cache_is_no_failure(flow: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that can't be read, or a storage that raises: the step runs, and the log says why."""
    flow.run()
    get = type(flow.storage).get

    def broken(self: Any, key: str) -> Context:
        if key.startswith("@cache/"):
            raise OSError("away")
        return get(self, key)

    monkeypatch.setattr(type(flow.storage), "get", broken)

    assert flow.run() == [1, 2, 3, "best"]
    assert flow.lines == ["Cached values can't be read: OSError: away. Their steps run."]


@pytest.mark.parametrize("cache", [0, -1, "soon", None, 1.5j])
def test_invalid_options_are_refused(cache: Any) -> None:
    """The error lists what is accepted."""
    with pytest.raises(InvalidPolicy, match="maximum age"):
        action(cache=cache)
    with pytest.raises(InvalidPolicy, match="can't be saved"):
        action(cache=True, checkpoint=False)


def test_a_plan_shows_cached_tasks(flow: Flow) -> None:
    """Where the arguments are known: here those of an earlier run. Otherwise it is open."""

    def decisions(**arguments: Any) -> list[tuple[str, int | None, int]]:
        flow.ran.clear()  # a list that a step uses is part of its code
        plan = flow.build().plan(**arguments)
        return [(str(task.decision), task.items, task.items_done) for task in plan.tasks]

    assert decisions()[2] == ("open", None, 0)
    flow.run()
    storage = flow.storage
    for key in list(getattr(storage, "kept", None) or storage.list_keys("flow/")):
        if key.startswith("flow/") and key not in ("flow/0", "flow/1"):
            storage.delete(key)

    assert decisions()[2] == ("open", None, 0)
    assert decisions(cache=False)[2] == ("run", None, 0)
    assert decisions(resume=True) == [("restore", None, 0)] * 2 + [("cached", 3, 3), ("cached", None, 0)]
    assert flow.run(resume=True) == []
    assert sources(flow.workflow) == ["checkpoint", "checkpoint", "cache", "cache"]


def test_a_plan_counts_cached_items(tmp_path: Path) -> None:
    """Apart from those that an earlier run of the workflow has finished."""
    double = action(cache=True)(lambda number: 2 * number)

    def grid(workflow_id: str, *numbers: int) -> DotFlow:
        workflow = DotFlow(Config(storage=StorageFile(path=tmp_path)), workflow_id=workflow_id)
        workflow.task.add(double, name="double", each=list(numbers))
        return workflow

    grid("first", 1, 2).start()
    grid("second", 2, 5).start()
    plans = [grid("second", 5, 1, 7).plan(resume=resume) for resume in (False, True)]

    assert [str(plan).splitlines()[0] for plan in plans] == [
        "0 double  run 1 of 3  2 cached",
        "0 double  run 1 of 3  1 restored, 1 cached",
    ]


@action
def numbers() -> list[int]:
    return [1, 2, 3]


@action(cache=True)
def square(number: int, offset: int) -> list[int]:
    return [number * number + offset] * 2000


@action(cache=True)
def offset() -> int:
    return 1


@action
def sizes(square: list[list[int]], offset: int) -> list[int]:
    return [len(square), square[-1][0], offset]


@pytest.mark.processes
def test_cached_values_reach_workers(make_workflow: Callable[..., DotFlow], tmp_path: Path) -> None:
    """They are sent there, though no worker made them."""
    for is_first in (True, False):
        workflow = make_workflow(storage=StorageFile(path=tmp_path), workflow_id="workers")
        workflow.task.add(numbers).add(offset).add(square, each=numbers).add(sizes)
        workflow.start(mode="parallel")

        assert workflow.result_storage()[3] == [3, 10, 1]
        assert sources(workflow) == [None, *[None if is_first else "cache"] * 2, None]


def test_a_cached_value_shares_no_object(flow: Flow) -> None:
    """A task may change its argument; the next run takes what the cached step returned."""

    @action(cache=True)
    def make() -> list[int]:
        flow.ran.append("make")
        return [1]

    @action
    def spoil(make: list[int]) -> list[int]:
        make.append(2)
        return list(make)

    def build() -> DotFlow:
        workflow = flow.new()
        workflow.task.add(make).add(spoil)
        return workflow

    for expected in (["make"], [], []):
        assert flow.run(build) == expected
        assert flow.workflow.result_storage()[1] == [1, 2]


def test_a_hit_needs_no_worker() -> None:
    """While the only worker is busy, cached tasks and items complete."""
    free = threading.Event()
    storage = StorageDefault()

    @action
    def block() -> bool:
        return free.wait(45)

    @action(cache=True)
    def square(number: int) -> int:
        return number * number

    @action(cache=True)
    def last(square: list[int]) -> int:
        return square[-1]

    def build(*first: Any) -> DotFlow:
        config = Config(storage=storage, executor=ExecutorThread(max_workers=1), log=LogDefault(output="none"))
        config.history = Freeing()
        workflow = DotFlow(config)
        workflow.task.add([*first, action(lambda: None)]).add(square, each=[1, 2, 3]).add(last)
        return workflow

    class Freeing(History):
        def record(self, run_id: str, event: Any) -> None:
            if isinstance(event, TaskRestored) and event.task_id == 3:
                free.set()

    build().start("parallel")
    workflow = build(block)
    workflow.start("parallel")

    assert sources(workflow)[2:] == ["cache", "cache"]
    assert workflow.result_storage()[0] is True


def test_rerun_passes_the_cache_by(flow: Flow) -> None:
    """The task runs, and its values replace those in the cache."""
    flow.run()
    assert flow.run(rerun="train") == [1, 2, 3]
    assert flow.run() == []


def test_a_cleanup_is_never_cached(flow: Flow) -> None:
    """It is there for its effects."""

    @action(cache=True)
    def clean() -> None:
        flow.ran.append("clean")

    def build() -> DotFlow:
        workflow = flow.new()
        workflow.task.add(action(lambda: 1)).add(clean, always=True)
        return workflow

    assert flow.run(build) == flow.run(build) == ["clean"]


def test_equal_items_share_a_value(flow: Flow) -> None:
    """The plan leaves open which of them run."""

    @action(cache=True)
    def square(number: int) -> int:
        flow.ran.append(number)
        return number * number

    def build() -> DotFlow:
        workflow = flow.new()
        workflow.task.add(square, each=[1, 1, 2]).add(square, name="again", each=[2]).add(square, name="new", each=[3])
        return workflow

    assert [str(task.decision) for task in build().plan().tasks] == ["open", "open", "run"]
    assert flow.run(build) == [1, 2, 3]
    assert [str(task.decision) for task in build().plan().tasks] == ["cached"] * 3


def test_failed_items_are_part_of_the_key(flow: Flow) -> None:
    """The context of a map shows which items have failed, and its values alone do not."""

    @action
    def entry(number: int) -> None:
        if number in failing:
            raise ConnectionError

    @action(cache=True)
    def count(entry_context: Any) -> int:
        return len(entry_context.errors)

    def run() -> Any:
        workflow = flow.new()
        workflow.task.add(entry, each=[1, 2], keep_going=True).add(count)
        return workflow.start().tasks[1].current_context.storage

    failing = {1}
    assert run() == 1
    failing.clear()
    assert run() == 0


def test_skipped_items_are_part_of_the_key(flow: Flow) -> None:
    """None is the value of an item that returned it, and of one that was skipped."""

    @action
    def entry(number: int) -> int:
        if number in failing:
            raise ConnectionError
        return number

    @action
    def empty(number: int) -> None:
        pass

    @action(cache=True)
    def count(empty_context: Any) -> int:
        return len(empty_context.values)

    def run() -> Any:
        workflow = flow.new()
        workflow.task.add(entry, each=[1, 2], keep_going=True).add(empty, each=entry, keep_going=True).add(count)
        return workflow.start().tasks[2].current_context.storage

    failing = {1}
    assert run() == 1
    failing.clear()
    assert run() == 2


@dataclasses.dataclass
class Loader:
    """A class whose methods and instances are steps."""

    url: str
    lock: Any = None

    @action(cache=True)
    def load(self) -> str:
        return self.url

    def __call__(self) -> str:
        return self.url


@pytest.mark.parametrize("to_step", [lambda loader: loader.load, action(cache=True)])
def test_the_instance_is_part_of_the_key(to_step: Any, flow: Flow) -> None:
    """Of a method, and one that can be called. If it can't be compared, nothing is cached, and the log says so."""

    def run(loader: Loader) -> str | None:
        def build() -> DotFlow:
            workflow = flow.new()
            workflow.task.add(to_step(loader))
            return workflow

        flow.run(build)
        assert flow.workflow.result_storage() == [loader.url]
        return flow.workflow.result_task()[0].restored_from

    assert [run(Loader(url)) for url in ("a", "b", "a")] == [None, None, "cache"]
    assert run(Loader("a", threading.Lock())) is None
    assert flow.lines == [
        f"Task 0 {flow.workflow.result_task()[0].name} is not cached: its argument 'self', of type "
        "Loader, can't be compared."
    ]


def test_the_actions_of_an_instance_are_not_cached(flow: Flow) -> None:
    """They may take contexts that the step does not. Those of a class that is the step itself are."""
    loaded: list[int] = []

    class Report:
        @action
        def load(self, initial_context: Any) -> Any:
            loaded.append(initial_context.storage)
            return initial_context.storage

    @action(cache=True)
    def make() -> Report:
        return Report()

    def run(step: Any, initial: int) -> list[Any]:
        def build() -> DotFlow:
            workflow = flow.new()
            workflow.task.add(step, initial_context=initial)
            return workflow

        flow.run(build)
        return [context.storage for context in flow.workflow.result_storage()[0]]

    for step, ran in ((make, 3), (action(cache=True)(Report), 2)):
        count = len(loaded)
        assert [run(step, 1), run(step, 1), run(step, 2)] == [[1], [1], [2]]
        assert len(loaded) - count == ran


class BrokenCache(StorageDefault):
    """A storage whose methods raise or return what they must not."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def get(self, key: str) -> Context:
        if self.kind == "get raises":
            raise RuntimeError(key)
        if self.kind == "no Context":
            return None  # type: ignore[return-value]
        if self.kind == "naive time":
            return Context(5, 0, "w", time=datetime.datetime(2026, 1, 1))
        return Context(5) if self.kind == "values only" else super().get(key)

    def post(self, key: str, context: Context) -> None:
        if self.kind == "post raises":
            raise RuntimeError(key)


@pytest.mark.parametrize("kind", ["get raises", "no Context", "naive time", "values only", "post raises"])
@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_a_run_goes_on_without_its_cache(kind: str, mode: str) -> None:
    """One line of the log says why, for all tasks and items."""
    lines: list[str] = []
    log = LogDefault(output="none")
    log.report = lines.append  # type: ignore[method-assign]

    @action(cache=60)
    def square(number: int) -> int:
        return number * number

    workflow = DotFlow(Config(cache=BrokenCache(kind), log=log, executor=ExecutorThread()))
    workflow.task.add(square, each=[1, 2, 3]).add(square, name="other", each=[4])

    workflow.start(mode)

    assert workflow.result_storage() == [[1, 4, 9], [16]]
    assert len(lines) == 1


@pytest.mark.parametrize("kind", [StorageDefault, StorageThreeMethods])
def test_a_value_that_can_not_be_copied_is_not_cached(kind: type[Storage]) -> None:
    """In memory it would be the same object for all runs. One line says so."""
    flow = Flow(kind())

    @action(cache=True)
    def lock() -> Any:
        flow.ran.append("lock")
        return threading.Lock()

    def build() -> DotFlow:
        workflow = flow.new()
        workflow.task.add(lock)
        return workflow

    assert flow.run(build) == flow.run(build) == ["lock"]
    assert len(flow.lines) == 1
    assert flow.workflow.start(resume=True).tasks[0].restored_from == "checkpoint"


def test_the_versions_of_two_scripts_are_apart(flow: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    """The steps of all scripts are called `__main__:...`, so the path counts where a version stands for the code."""

    def step() -> int:
        flow.ran.append("step")
        return 1

    step.__module__ = "__main__"

    def build() -> DotFlow:
        workflow = flow.new()
        workflow.task.add(action(cache=True, version="1")(step))
        return workflow

    for script, expected in (("a.py", ["step"]), ("b.py", ["step"]), ("a.py", [])):
        monkeypatch.setattr(sys.modules["__main__"], "__file__", script, raising=False)
        assert flow.run(build) == expected


@pytest.mark.parametrize("shares_memory", [True, False])
def test_a_shared_argument_is_compared_once(shares_memory: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless steps run in the memory of the run, where one of them may change it for the others."""
    digested: list[Any] = []
    digest = canonical.digest

    def counting(value: Any) -> str:
        digested.append(value)
        return digest(value)

    class Inline(ExecutorInline):
        pass

    @action
    def data() -> list[str]:
        return ["data"]

    @action(cache=True)
    def train(setting: int, data: list[str]) -> int:
        return setting

    Inline.shares_memory = shares_memory
    monkeypatch.setattr(canonical, "digest", counting)
    workflow = DotFlow(Config(executor=Inline(), log=LogDefault(output="none")))
    workflow.task.add(data).add(train, each=[1, 2, 3])
    workflow.start()

    assert digested.count(["data"]) == (3 if shares_memory else 1)
    assert digested.count(3) == 2  # of the item, and of the argument


def test_a_damaged_value_is_replaced(tmp_path: Path) -> None:
    """One line of the log says so for each task, whatever the number of its items."""
    flow = Flow(StorageFile(path=tmp_path))
    flow.run()
    for path in tmp_path.rglob("*.json"):
        if path.parent.name != "flow.checkpoints":
            path.write_text("damaged")

    assert flow.run() == [1, 2, 3, "best"]
    assert len(flow.lines) == 2
    assert all(line.endswith("The run replaces it.") for line in flow.lines)
    assert flow.run() == []


def test_a_callback_changes_no_cached_value(flow: Flow) -> None:
    """The value is cached before a callback receives it."""

    @action(cache=True)
    def rows() -> list[int]:
        flow.ran.append("rows")
        return [1, 2]

    def run() -> Any:
        workflow = flow.new()
        workflow.task.add(rows, callback=lambda task: task.current_context.storage.clear())
        return workflow.start().tasks[0]

    run()

    assert run().restored_from == "cache"
    assert flow.ran == ["rows"]
    workflow = flow.new()
    workflow.task.add(rows)
    assert workflow.start().tasks[0].current_context.storage == [1, 2]
