"""Resuming workflows with links: what is restored, what runs again, and what a kill at any moment leaves."""

import datetime
import threading
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, Context, DotFlow, Task, action
from dotflow.abc.storage import Storage
from dotflow.core.types.status import TypeStatus
from dotflow.errors import CheckpointMismatch
from dotflow.providers import LogDefault, StorageDefault, StorageFile
from tests.storages import STORAGES, StorageThreeMethods

COMPLETED, FAILED, SKIPPED = TypeStatus.COMPLETED, TypeStatus.FAILED, TypeStatus.SKIPPED


@pytest.fixture(params=STORAGES)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return STORAGES[request.param](tmp_path)


class Pipeline:
    """A workflow that can be built again with other values, and the steps that ran."""

    def __init__(self, storage: Storage, mode: str = "sequential") -> None:
        self.storage = storage
        self.mode = mode
        self.ran: list[Any] = []
        self.urls = [1, 2, 3]
        self.fails: set[int] = set()
        self.scale = 10

    def build(self) -> DotFlow:
        workflow = DotFlow(Config(storage=self.storage, log=LogDefault(output="none")), workflow_id="nightly")

        @action
        def urls() -> list[int]:
            self.ran.append("urls")
            return self.urls

        @action
        def scale() -> int:
            self.ran.append("scale")
            return self.scale

        @action
        def fetch(url: int, scale: int) -> int:
            self.ran.append(url)
            if url in self.fails:
                raise ConnectionError(url)
            return url * scale

        @action
        def total(fetch: list[int]) -> int:
            self.ran.append("total")
            return sum(fetch)

        workflow.task.add(urls).add(scale).add(fetch, each=urls).add(total)
        return workflow

    def run(self, **arguments: Any) -> DotFlow:
        self.ran.clear()
        workflow = self.build()
        workflow.start(mode=self.mode, **arguments)
        return workflow


def identities(workflow: DotFlow) -> None:
    """Steps that are made anew in each run keep their identity: module and name."""


@pytest.fixture
def pipeline(storage: Storage) -> Pipeline:
    return Pipeline(storage)


def test_a_finished_run_restores_everything(pipeline: Pipeline) -> None:
    """Items, too; and a second resume still does."""
    pipeline.run()

    for _ in range(2):
        workflow = pipeline.run(resume=True)
        assert pipeline.ran == []
        assert workflow.result_storage() == [[1, 2, 3], 10, [10, 20, 30], 60]
        assert [task.restored_from for task in workflow.result_task()] == ["checkpoint"] * 4
        assert {item.restored_from for item in workflow.result_task()[2].items} == {"checkpoint"}


def test_failed_items_run_again_and_the_reduce_with_them(pipeline: Pipeline) -> None:
    """With keep_going, the reduce of two items is not taken for that of three."""
    pipeline.fails = {2}
    workflow = pipeline.run(keep_going=True)
    assert workflow.result_storage()[3] == 40
    pipeline.fails = set()

    workflow = pipeline.run(resume=True)

    assert pipeline.ran == [2, "total"]
    assert workflow.result_storage()[3] == 60


def test_a_list_that_changed(pipeline: Pipeline) -> None:
    """Items are known by their values: one more, one less, or another order, and what is finished stays."""
    pipeline.fails = {3}
    pipeline.run(keep_going=True)
    pipeline.fails = set()
    pipeline.urls = [3, 2, 4, 1]
    forget(pipeline, "0")

    workflow = pipeline.run(resume=True)

    assert sorted(map(str, pipeline.ran)) == ["3", "4", "total", "urls"]
    assert workflow.result_storage()[2:] == [[30, 20, 40, 10], 100]


def forget(pipeline: Pipeline, key_name: str) -> None:
    """Deletes one checkpoint, as a user may."""
    pipeline.storage.delete(f"nightly/{key_name}")


def test_another_order_voids_the_reduce(pipeline: Pipeline) -> None:
    """Also where no item runs."""
    pipeline.run()
    pipeline.urls = [3, 2, 1]
    forget(pipeline, "0")

    workflow = pipeline.run(resume=True)

    assert pipeline.ran == ["urls", "total"]
    assert workflow.result_storage()[2] == [30, 20, 10]


def test_a_shared_value_that_runs_again_voids_all_items(pipeline: Pipeline) -> None:
    """What all items take is made anew: so are they."""
    pipeline.run()
    pipeline.scale = 100
    forget(pipeline, "1")

    workflow = pipeline.run(resume=True)

    assert pipeline.ran == ["scale", 1, 2, 3, "total"]
    assert workflow.result_storage()[3] == 600


def test_a_new_run_voids_old_items(pipeline: Pipeline) -> None:
    """start() without resume: an item that this run did not reach is not restored later."""
    pipeline.run()
    pipeline.scale = 100
    pipeline.fails = {1}
    pipeline.run()
    assert pipeline.ran == ["urls", "scale", 1]
    pipeline.fails = set()

    workflow = pipeline.run(resume=True)

    assert pipeline.ran == [1, 2, 3, "total"]
    assert workflow.result_storage()[2] == [100, 200, 300]


def test_equal_items_differ_by_their_place(storage: Storage) -> None:
    """The second of two equal ones has a checkpoint of its own."""
    ran = []

    def build() -> DotFlow:
        workflow = DotFlow(Config(storage=storage, log=LogDefault(output="none")), workflow_id="nightly")

        @action
        def work(value: str) -> str:
            ran.append(value)
            return f"{value}{len(ran)}"

        workflow.task.add(work, each=["a", "a", "b"])
        return workflow

    build().start()
    workflow = build()
    workflow.start(resume=True)

    assert ran == ["a", "a", "b"]
    assert workflow.result_storage() == [["a1", "a2", "b3"]]


@pytest.mark.parametrize("option", ["each", "cross"])
def test_lists_that_change_places_void_the_items(option: str) -> None:
    """The key of an item shows its entries, and its checkpoint shows which parameters take them."""

    @action
    def pair(x: int, y: int) -> str:
        return f"x={x} y={y}"

    storage = StorageDefault()

    def run(lists: dict[str, list[int]]) -> Any:
        workflow = DotFlow(Config(storage=storage, log=LogDefault(output="none")), workflow_id="w")
        workflow.task.add(pair, **{option: lists})  # type: ignore[arg-type]
        return workflow.start(resume=True).tasks[0]

    run({"x": [1], "y": [2]})

    assert run({"x": [1], "y": [2]}).restored_from == "checkpoint"
    assert run({"y": [1], "x": [2]}).value == ["x=2 y=1"]


def test_named_tasks_come_go_and_move(storage: Storage) -> None:
    """A task with a name is known by it."""
    ran = []

    def step(name: str) -> Any:
        def run() -> str:
            ran.append(name)
            return name

        return action(run)

    def build(*names: str) -> DotFlow:
        workflow = DotFlow(Config(storage=storage, log=LogDefault(output="none")), workflow_id="nightly")
        for name in names:
            workflow.task.add(step(name), name=name)
        return workflow

    if isinstance(storage, StorageThreeMethods):
        storage.key = lambda task: f"{task.workflow_id}/{task.name}"  # type: ignore[method-assign]
    build("a", "b", "c").start()
    ran.clear()
    workflow = build("c", "new", "a")
    workflow.start(resume=True)

    assert ran == ["new"]
    assert workflow.result_storage() == ["c", "new", "a"]


def test_another_step_under_a_name_is_refused(tmp_path: Path) -> None:
    """The message says so."""
    first, second = action(lambda: 1), action(len)
    config = Config(storage=StorageFile(path=tmp_path), log=LogDefault(output="none"))
    workflow = DotFlow(config, workflow_id="nightly")
    workflow.task.add(first, name="count")
    workflow.start()

    def other() -> int:
        return 2

    workflow = DotFlow(config, workflow_id="nightly")
    workflow.task.add(action(other), name="count")

    with pytest.raises(CheckpointMismatch):
        workflow.start(resume=True)
    assert second is not None


def test_a_condition_that_is_made_again_voids(storage: Storage) -> None:
    """A branch is decided anew where its condition runs again."""
    ran = []
    answers = iter([True, False])

    def build() -> DotFlow:
        workflow = DotFlow(Config(storage=storage, log=LogDefault(output="none")), workflow_id="nightly")

        @action
        def good() -> bool:
            return next(answers)

        @action
        def deploy() -> str:
            ran.append("deploy")
            return "deployed"

        @action
        def report(deploy: str = "nothing") -> str:
            ran.append("report")
            return deploy

        workflow.task.add(good).add(deploy, when=good).add(report)
        return workflow

    build().start()
    workflow = build()
    workflow.start(resume=True)
    assert ran == ["deploy", "report"]

    storage.delete("nightly/0")
    workflow = build()
    workflow.start(resume=True)
    assert workflow.result_task()[1].status is SKIPPED
    assert workflow.result_storage()[2] == "nothing"
    assert ran == ["deploy", "report", "report"]


def test_the_value_of_a_fallback_is_restored(storage: Storage) -> None:
    """Both identities are accepted."""
    ran = []

    def build() -> DotFlow:
        workflow = DotFlow(Config(storage=storage, log=LogDefault(output="none")), workflow_id="nightly")

        @action
        def fragile() -> int:
            ran.append("fragile")
            raise ValueError

        @action
        def sturdy() -> int:
            ran.append("sturdy")
            return 1

        workflow.task.add(fragile, fallback=sturdy)
        return workflow

    build().start()
    workflow = build()
    workflow.start(resume=True)

    assert ran == ["fragile", "sturdy"]
    assert workflow.result_storage() == [1]


def test_cleanup_is_never_restored_and_starts_nothing(storage: Storage) -> None:
    """It runs in each run for what was made in it, and leaves no checkpoint."""
    ran = []

    def build() -> DotFlow:
        workflow = DotFlow(Config(storage=storage, log=LogDefault(output="none")), workflow_id="nightly")

        @action
        def cluster() -> str:
            ran.append("cluster")
            return "cluster"

        @action
        def teardown(cluster: str) -> None:
            ran.append("teardown")

        workflow.task.add(cluster).add(teardown, always=True)
        return workflow

    build().start()
    build().start(resume=True)

    assert ran == ["cluster", "teardown", "teardown"]


@pytest.mark.parametrize("resume", [True, "unfinished"])
def test_a_cleanup_that_failed_is_left_to_do(storage: Storage, resume: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """A resume runs it with what it takes, and the log names the run that left it. A new run leaves nothing of it."""
    ran: list[str] = []
    broken = True

    def run(**arguments: Any) -> DotFlow:
        ran.clear()
        capsys.readouterr()
        config = Config(storage=storage, log=LogDefault(output="console"))
        workflow = DotFlow(config, workflow_id="nightly")

        @action(checkpoint=False)
        def cluster() -> str:
            ran.append("cluster")
            return "cluster"

        @action
        def teardown(cluster: str) -> None:
            ran.append("teardown")
            if broken:
                raise OSError("no answer")

        workflow.task.add(cluster).add(action(lambda cluster: ran.append("work")), name="work")
        workflow.task.add(teardown, always=True)
        workflow.start(**arguments)
        return workflow

    failed = run().result_task()[0].run_id
    run(resume=True)
    assert ran == ["cluster", "teardown"]
    assert f"Task 2 teardown did not complete in run {failed[:8]}: it runs again." in capsys.readouterr().err

    broken = False
    run(resume=resume)
    assert ran[:2] == ["cluster", "teardown"]
    run(resume=True)
    assert "teardown" not in ran

    broken = True
    run()
    broken = False
    run()
    run(resume=True)
    assert "teardown" not in ran


def test_parameters_have_checkpoints_of_their_own(storage: Storage) -> None:
    """Another day finds nothing of yesterday; the same day finds its own."""
    ran = []

    def run(day: object) -> list[Any]:
        workflow = DotFlow(
            Config(storage=storage, log=LogDefault(output="none")), workflow_id="nightly", params={"day": ...}
        )

        @action
        def extract(day: object) -> str:
            ran.append(day)
            return f"rows of {day}"

        workflow.task.add(extract)
        workflow.start(params={"day": day}, resume=True)
        assert workflow.result().tasks[0].status is COMPLETED
        return workflow.result_storage()

    assert run("monday") == ["rows of monday"]
    assert run("tuesday") == ["rows of tuesday"]
    assert run("monday") == ["rows of monday"]
    assert run(datetime.date(2026, 11, 25)) == ["rows of 2026-11-25"]
    assert ran == ["monday", "tuesday", datetime.date(2026, 11, 25)]


def test_another_step_of_a_map_fails_that_map_only(storage: Storage) -> None:
    """Where the list is made again, so that its items are compared during the run."""

    @action
    def source() -> list[int]:
        return [1, 2]

    @action
    def one(number: int) -> int:
        return number

    @action
    def other(number: int) -> int:
        return number

    def run(first: Any, **arguments: Any) -> DotFlow:
        workflow = DotFlow(Config(storage=storage, log=LogDefault(output="none")), workflow_id="w")
        workflow.task.add(source).add(first, each=source, name="first").add(one, each=source, name="second")
        workflow.start(**arguments)
        return workflow

    before = run(one)
    storage.delete(storage.key(before.result_task()[0]))
    tasks = run(other, resume=True, keep_going=True).result_task()

    assert [task.status for task in tasks] == [COMPLETED, FAILED, COMPLETED]
    assert tasks[1].error.exception == "CheckpointMismatch"


def test_a_parameter_that_a_step_changes(storage: Storage) -> None:
    """A resume compares it as it was at the beginning of the run."""
    ran: list[str] = []

    @action
    def grow(columns: list[str]) -> int:
        ran.append("grow")
        columns.append("more")
        return len(columns)

    @action
    def fails(params: dict[str, Any]) -> None:
        ran.append("fails")
        raise ValueError("no")

    for expected in (["grow", "fails"], ["fails"]):
        ran.clear()
        params = {"columns": ["day"]}
        workflow = DotFlow(Config(storage=storage, log=LogDefault(output="none")), workflow_id="w", params=params)
        workflow.task.add(grow).add(fails)
        workflow.start(resume=True)
        assert ran == expected


def test_a_run_that_was_begun_anew_leaves_the_newer_items_alone(storage: Storage) -> None:
    """An older run, resumed and not at its map yet, neither takes nor deletes what a newer one has saved."""
    gate, waits, runs = threading.Event(), threading.Event(), list[int]()
    workflow = DotFlow(Config(storage=storage, log=LogDefault(output="none")), workflow_id="w")

    @action
    def base() -> int:
        runs.append(0)
        if len(runs) == 2:
            waits.set()
            gate.wait(45)
        return len(runs)

    @action(checkpoint=False)
    def source(base: int) -> list[int]:
        return [1, 2]

    @action
    def work(number: int, base: int) -> int:
        return base

    workflow.task.add(base).add(source).add(work, each=source)
    workflow.start()
    storage.delete(storage.key(workflow.result_task()[0]))
    old = workflow.launch(lambda: None, resume=True)
    assert waits.wait(45)
    new = workflow.start()
    gate.set()
    old.wait()
    assert [item.restored_from for item in old.task("work").items] == [None, None]

    assert [item.current_context.storage for item in new.task("work").items] == [3, 3]
    again = workflow.start(resume=True)
    assert [item.restored_from for item in again.task("work").items] == ["checkpoint", "checkpoint"]


def test_a_declared_default_that_changed_voids(storage: Storage) -> None:
    """Without parameters given, the id is the same, so the values are compared."""
    ran = []

    def run(limit: int) -> None:
        config = Config(storage=storage, log=LogDefault(output="none"))
        workflow = DotFlow(config, workflow_id="nightly", params={"limit": limit})

        @action
        def extract(limit: int) -> int:
            ran.append(limit)
            return limit

        workflow.task.add(extract)
        workflow.start(resume=True)

    for limit in (1, 1, 2):
        run(limit)

    assert ran == [1, 2]


def test_a_parameter_that_can_not_be_compared_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    """The value is restored, and the log names the parameter."""
    storage = StorageDefault()
    for client in (object(), object()):
        config = Config(storage=storage, log=LogDefault(output="console"))
        workflow = DotFlow(config, workflow_id="nightly", params={"client": client})
        workflow.task.add(action(lambda client: 1))
        run = workflow.start(resume=True)

    assert run.tasks[0].restored_from == "checkpoint"
    assert "its 'client' can't be compared with the earlier one" in capsys.readouterr().err


def test_a_chain_of_maps(storage: Storage) -> None:
    """Item k of the second map is restored where item k of the first is."""
    ran: list[tuple[str, int]] = []
    fails = {2}

    def build() -> DotFlow:
        workflow = DotFlow(Config(storage=storage, log=LogDefault(output="none")), workflow_id="nightly")

        @action
        def first(number: int) -> int:
            ran.append(("first", number))
            if number in fails:
                raise ValueError
            return number

        @action
        def second(value: int) -> int:
            ran.append(("second", value))
            return -value

        workflow.task.add(first, each=[1, 2, 3], keep_going=True).add(second, each=first)
        return workflow

    build().start()
    ran.clear()
    fails.clear()
    workflow = build()
    workflow.start(resume=True)

    assert ran == [("first", 2), ("second", 2)]
    assert workflow.result_storage()[1] == [-1, -2, -3]


@pytest.mark.parametrize("resume", [False, True])
def test_a_storage_that_fails_where_a_map_opens_fails_the_map(resume: bool) -> None:
    """It is the error of that task, as a value that can't be saved is; the others go on with keep_going."""

    class Failing(Storage):
        is_broken = False

        def post(self, key: str, context: Context) -> None:
            if self.is_broken and key.endswith("-items"):
                raise OSError("disk full")

        def get(self, key: str) -> Context:
            return Context()

        def key(self, task: Task) -> str:
            return f"{task.workflow_id}/{task.key_name}"

    storage = Failing()

    def urls() -> list[int]:
        storage.is_broken = True
        return [1, 2]

    workflow = DotFlow(Config(storage=storage, log=LogDefault(output="none")), workflow_id="w")
    workflow.task.add(action(urls)).add(action(lambda x: x), each="urls", name="fetch").add(action(lambda: 3), name="c")

    workflow.start(keep_going=True, resume=resume)

    _, fetch, last = workflow.result_task()
    assert fetch.status is TypeStatus.FAILED
    assert fetch.error is not None
    assert fetch.error.message.startswith("The checkpoints of the items of 'fetch' can't be used: OSError: disk full")
    assert last.status is TypeStatus.COMPLETED


def test_the_needs_of_a_map_over_a_map_are_made(storage: Storage) -> None:
    """Also where the first list is not known before the run: a value without a checkpoint is there for its items."""
    ran: list[str] = []

    def build(count: int) -> DotFlow:
        workflow = DotFlow(Config(storage=storage, log=LogDefault(output="none")), workflow_id="nightly")

        @action(checkpoint=False)
        def numbers() -> list[int]:
            return list(range(count))

        @action(checkpoint=False)
        def connection() -> int:
            ran.append("connection")
            return 1

        @action
        def fetch(number: int) -> int:
            ran.append(f"fetch {number}")
            return number

        @action
        def write(value: int, connection: int) -> int:
            ran.append(f"write {value}")
            return value + connection

        workflow.task.add(numbers).add(connection).add(fetch, each=numbers).add(write, each={"value": fetch})
        return workflow

    assert build(1).start(resume=True).task("write").current_context.storage == [1]
    assert ran == ["connection", "fetch 0", "write 0"]
    ran.clear()
    assert build(2).start(resume=True).task("write").current_context.storage == [1, 2]
    assert ran == ["connection", "fetch 1", "write 1"]


def test_combinations_with_later_entries_are_not_unfinished(storage: Storage) -> None:
    """The values of older combinations count, though a later run has made an entry of the same list."""
    ran: list[Any] = []

    def build(letters: list[str]) -> DotFlow:
        workflow = DotFlow(Config(storage=storage, log=LogDefault(output="none")), workflow_id="nightly")

        def letter(name: str) -> str:
            ran.append(name)
            return name

        def pair(a: str, b: str) -> str:
            ran.append(a + b)
            return a + b

        workflow.task.add(action(letter), each=letters)
        workflow.task.add(action(pair), cross={"a": "letter", "b": "letter"})
        return workflow

    build(["a"]).start()
    build(["a", "b"]).start(resume=True)
    assert ran == ["a", "aa", "b", "ab", "ba", "bb"]
    ran.clear()

    build(["a", "b"]).start(resume="unfinished")

    assert ran == ["a", "b", "aa", "ab", "ba", "bb"]


def test_a_map_that_takes_a_list_of_each_run_is_not_unfinished(storage: Storage) -> None:
    """Whether its items count is known only in the run; that they have checkpoints is known before."""
    ran: list[Any] = []

    def build() -> DotFlow:
        workflow = DotFlow(Config(storage=storage, log=LogDefault(output="none")), workflow_id="nightly")

        def page(url: int) -> int:
            ran.append("page")
            return url

        def table(row: int, page: list[int]) -> int:
            ran.append("table")
            return row

        workflow.task.add(action(checkpoint=False)(lambda: [1]), name="urls").add(action(page), each={"url": "urls"})
        workflow.task.add(action(table), each={"row": [1]})
        return workflow

    build().start()
    build().start(resume="unfinished")

    assert ran == ["page", "table"] * 2


def test_a_completed_run_with_a_cached_value_is_not_unfinished(storage: Storage) -> None:
    """Though an item that it takes was made in another run since then."""
    ran: list[Any] = []
    red: set[int] = set()

    def build() -> DotFlow:
        workflow = DotFlow(Config(storage=storage, log=LogDefault(output="none")), workflow_id="nightly")

        def page(url: int) -> int:
            ran.append(url)
            if url in red:
                raise ConnectionError(url)
            return 0

        def total(page: list[int]) -> int:
            ran.append("total")
            return len(page)

        workflow.task.add(action(page), each={"url": [1, 2]}).add(action(cache=True, version="1")(total))
        return workflow

    build().start()
    red.add(2)
    build().start()
    red.clear()
    assert build().start(resume=True).status == COMPLETED
    assert ran == [1, 2, "total", 1, 2, 2]
    ran.clear()

    build().start(resume="unfinished")

    assert ran == [1, 2]


def test_a_map_that_is_skipped_is_not_unfinished_for_its_lists(storage: Storage) -> None:
    """Lists of different lengths fail a map that runs only."""
    ran: list[Any] = []

    def build() -> DotFlow:
        workflow = DotFlow(Config(storage=storage, log=LogDefault(output="none")), workflow_id="nightly")
        workflow.task.add(action(lambda: ran.append("first")), name="first")
        workflow.task.add(action(lambda: 1), name="gate", when="first")
        workflow.task.add(action(lambda a, b: a), each={"a": [1], "b": [1, 2]}, name="pairs", needs=["gate"])
        return workflow

    assert build().start().status == COMPLETED
    build().start(resume="unfinished")

    assert ran == ["first", "first"]
