"""`workflow.plan()`: what a run would do, against what it then does."""

import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, DotFlow, action
from dotflow.core.types.status import TypeStatus
from dotflow.errors import (
    CheckpointMismatch,
    CheckpointUnreadable,
    InvalidLink,
    MissingParam,
    StorageError,
    UnknownArgument,
)
from dotflow.graph.workflow_plan import WorkflowPlan
from dotflow.providers import HistorySQLite, LogDefault, StorageDefault, StorageFile, StorageSQLite
from tests import plan_fuzz, resume_fuzz
from tests.integration.test_random_graphs import Graph
from tests.plan_fuzz import check


def new(storage: Any, **more: Any) -> DotFlow:
    return DotFlow(Config(storage=storage, log=LogDefault(output="none")), workflow_id="nightly", **more)


class Killed(BaseException):
    """Ends a run in the middle, as a kill does for what is in the storage."""


class KillingStorage(StorageDefault):
    """A storage after whose n-th value the process is dead."""

    left = -1

    def post(self, key: str, context: Any) -> None:
        if self.left == 0:
            raise Killed
        self.left -= 1
        super().post(key, context)


def graph(seed: int) -> DotFlow:
    """A random workflow with branches, maps, optional values and cleanups."""
    source = random.Random(seed)
    workflow = new(STORAGE[seed])
    made = Graph(seed, count=10)
    made.add_to(workflow, 0)

    @action
    def flag(t0: Any) -> bool:
        return bool(seed % 2)

    @action
    def branch(t1: Any = None) -> int:
        return seed

    @action
    def join(left: int = 0, right: int = 0) -> int:
        return left + right

    @action(checkpoint=False)
    def connect() -> int:
        return 1

    @action
    def use(connect: int, t2: Any) -> int:
        return connect

    @action
    def close(connect: int) -> None:
        pass

    workflow.task.add(flag).add(branch, name="left", when="flag").add(branch, name="right", unless="flag")
    workflow.task.add(join).add(connect).add(use).add(close, always=True)
    if source.random() < 0.5:
        workflow.task.add(join, name="last", when={"join": seed})
    return workflow


STORAGE: dict[int, Any] = {}


@pytest.mark.exhaustive(keep_every=3)
@pytest.mark.parametrize("first", range(0, 100, 20))
def test_the_plan_of_a_resume_comes_true(first: int, stride: int) -> None:
    """After a kill at a random value, and again after one in the resume."""
    for seed in range(first, first + 20, stride):
        source = random.Random(seed)
        storage = STORAGE[seed] = KillingStorage()
        for kills in range(3):
            storage.left = source.randint(0, 12) if kills < 2 else -1
            workflow = graph(seed)
            plan = workflow.plan(resume=True)
            saved = dict(storage._contexts) if hasattr(storage, "_contexts") else None
            try:
                workflow.start(resume=True)
            except Killed:
                continue
            check(plan, workflow.result_task())
            assert saved is not None or kills
            break
        workflow = graph(seed)
        storage.left = -1
        plan = workflow.plan(resume=True)
        workflow.start(resume=True)
        check(plan, workflow.result_task())


@pytest.mark.exhaustive(keep_every=2)
@pytest.mark.parametrize("name", ["memory", "three methods"])
def test_the_plans_of_random_workflows(name: str, stride: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workflows that are killed, changed and resumed again and again; a plan assumes that no task fails."""
    start = DotFlow.start
    counts: Counter[bool] = Counter()

    def start_as_planned(self: DotFlow, mode: str, resume: Any = False, **more: Any) -> Any:
        plan = self.plan(mode, resume, **{name: more[name] for name in ("rerun", "cache", "only") if name in more})
        run = start(self, mode, resume=resume, **more)
        all_tasks = [one for task in run.tasks for one in (task, *task.items)]
        has_failed = any(task.status is TypeStatus.FAILED for task in all_tasks)
        if not has_failed:
            check(plan, run.tasks)
        counts[has_failed] += 1
        return run

    monkeypatch.setattr(DotFlow, "start", start_as_planned)

    seeds = range(15 if stride == 1 else 5)
    assert [error for seed in seeds if (error := resume_fuzz.check(seed, name))] == []
    assert counts[False] > 2 * len(seeds)


@pytest.mark.parametrize(
    "seed", [*range(2), *(pytest.param(seed, marks=pytest.mark.exhaustive) for seed in range(2, 20))]
)
@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_the_plan_of_a_new_run_comes_true(seed: int, mode: str) -> None:
    """Without resume, whatever is in the storage: all run but what a condition skips for sure."""
    STORAGE[seed] = StorageDefault()
    workflow = graph(seed)
    for _ in range(2):
        plan = workflow.plan(mode)
        workflow.start(mode)

        check(plan, workflow.result_task())
        assert plan.count("restore") == 0


def nightly(storage: Any) -> DotFlow:
    @action
    def urls() -> list[int]:
        return [1, 2, 3]

    @action
    def fetch(url: int) -> int:
        if fails and url == 2:
            raise ConnectionError(url)
        return url

    @action
    def summary(fetch: list[int], day: str) -> bool:
        return True

    @action
    def deploy(fetch: list[int]) -> None:
        pass

    @action
    def rest(fetch: list[int]) -> None:
        pass

    workflow = new(storage, params={"day": "today", "fast": False})
    workflow.task.add(urls).add(fetch, each=urls, keep_going=True).add(summary)
    workflow.task.add(deploy, when={"summary": True}).add(rest, when="fast")
    return workflow


fails = True


@pytest.fixture
def failing() -> Any:
    global fails
    fails = True
    yield
    fails = True


def test_the_text_of_a_plan(failing: Any, tmp_path: Path) -> None:
    """What `dotflow plan` prints: decisions, counts of items, and reasons."""
    global fails
    storage = StorageFile(path=tmp_path / "flow")
    assert str(nightly(storage).plan()).splitlines() == [
        "0 urls     run",
        "1 fetch    run   after urls",
        "2 summary  run   after fetch",
        "3 deploy   open  when summary is True",
        "4 rest     skip  fast was False",
        "0 restored, 3 run, 0 cached, 1 open, 1 skipped.",
    ]
    run = nightly(storage).start()
    finished = f"{run.task('urls').current_context.time.astimezone():%Y-%m-%d %H:%M:%S}"
    fails = False
    workflow = nightly(storage)
    plan = workflow.plan(resume=True)

    assert str(plan).splitlines() == [
        f"0 urls     restore     finished {finished}",
        "1 fetch    run 1 of 3  2 restored",
        "2 summary  run         after fetch",
        "3 deploy   open        when summary is True",
        "4 rest     skip        fast was False",
        "1 restored, 2 run, 0 cached, 1 open, 1 skipped.",
    ]


def test_a_plan_names_what_a_task_takes(tmp_path: Path) -> None:
    """A task before it, whose value it does not take, is no reason for it to run."""
    workflow = new(StorageFile(tmp_path))
    workflow.task.add(action(lambda: [1, 2]), name="numbers")
    workflow.task.add(action(lambda number: number), name="half", each="numbers")
    workflow.task.add(action(lambda: 0), name="failures")
    workflow.task.add(action(lambda half: sum(half)), name="total")
    workflow.start()

    plan = workflow.plan(resume=True, rerun=["half", "failures"])

    assert [(task.name, task.reason) for task in plan.tasks[1:]] == [
        ("half", "rerun names it"),
        ("failures", "rerun names it"),
        ("total", "after half"),
    ]


def test_a_plan_names_the_tasks_that_are_gone(tmp_path: Path) -> None:
    """They have values in the storage, and the workflow no longer has them."""

    @action
    def one() -> int:
        return 1

    @action
    def same(entry: int) -> int:
        return entry

    storage = StorageFile(path=tmp_path / "flow")
    workflow = new(storage)
    workflow.task.add(one, name="parse").add(same, name="pages", each=[1, 2]).add(one, name="rest")
    workflow.start()
    smaller = new(storage)
    smaller.task.add(one, name="rest")

    plan = smaller.plan(resume=True)

    assert plan.removed == ["pages", "parse"]
    assert str(plan).endswith("In the storage and no longer in the workflow: pages, parse")
    assert plan.tasks[0].decision == "restore"


@pytest.mark.parametrize("kind", [StorageFile, StorageSQLite])
def test_a_plan_writes_nothing(kind: Any, tmp_path: Path, failing: Any) -> None:
    """Not even a folder where there was none; and no log."""
    path = tmp_path / "flow"

    def contents() -> Any:
        files = sorted(file.name for file in tmp_path.rglob("*") if not file.name.endswith(("-shm", "-wal")))
        storage = kind(path=path)
        return files, [(key, storage.get(key).inputs, storage.get(key).storage) for key in sorted(storage.list_keys())]

    nightly(kind(path=path)).plan(resume=True)
    before_any = list(tmp_path.rglob("*"))
    nightly(kind(path=path)).start()
    before = contents()
    nightly(kind(path=path)).plan(resume=True)
    nightly(kind(path=path)).plan()

    assert before_any == []
    assert contents() == before


def test_a_plan_locks_nothing(tmp_path: Path) -> None:
    """It may be made during a run, of another process too."""
    storage = StorageFile(path=tmp_path / "flow")

    @action
    def step() -> list[str]:
        inner = new(StorageFile(path=tmp_path / "flow"))
        inner.task.add(step)
        return [str(task.decision) for task in inner.plan(resume=True).tasks]

    workflow = new(storage)
    workflow.task.add(step)
    run = workflow.start()

    assert run.tasks[0].current_context.storage == ["run"]


def test_a_plan_raises_the_errors_of_start(tmp_path: Path) -> None:
    """A checkpoint of another step, a missing parameter, and a step that can't run in a mode."""

    @action
    def one(day: str) -> int:
        return 1

    @action
    def other(previous_context: Any, one: int) -> int:
        return 1

    storage = StorageDefault()
    workflow = new(storage, params={"day": ...})
    workflow.task.add(one)
    with pytest.raises(MissingParam):
        workflow.plan()
    workflow.start(params={"day": "a"})
    workflow.task.add(other)
    with pytest.raises(InvalidLink):
        workflow.plan("parallel", params={"day": "a"})
    with pytest.raises(UnknownArgument, match="Did you mean 'resume'"):
        workflow.plan(resum=True)  # type: ignore[call-arg]
    changed = new(storage)
    changed.task.add(action(lambda: 1), name="one")
    storage.post("nightly/one", workflow.result_context()[0])
    with pytest.raises(CheckpointMismatch):
        changed.plan(resume=True)


def test_a_file_in_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    """By a plan as by a run."""
    (tmp_path / "flow").write_text("")
    workflow = new(StorageFile(path=tmp_path / "flow"))
    workflow.task.add(action(lambda: 1))
    for function in (workflow.start, workflow.plan):
        with pytest.raises(StorageError, match=r"StorageFile can't be used, so nothing was run: .*Correct that"):
            function()


def test_a_storage_without_keys_is_refused() -> None:
    """By a plan as by a run."""

    class Keyless(StorageDefault):
        def key(self, task: Any) -> str:
            raise RuntimeError("no key")

    workflow = new(Keyless())
    workflow.task.add(action(lambda: 1))
    for function in (workflow.start, workflow.plan):
        with pytest.raises(StorageError, match="Keyless can't be used, so nothing was run: RuntimeError: no key"):
            function(resume=True)


def test_a_plan_as_json() -> None:
    """The model, with decisions as text."""
    workflow = nightly(StorageDefault())
    plan = workflow.plan()

    assert WorkflowPlan.model_validate_json(plan.model_dump_json()) == plan
    assert plan.model_dump(mode="json")["tasks"][1] == {
        "task_id": 1,
        "name": "fetch",
        "step": "tests.integration.test_plan:nightly.<locals>.fetch",
        "needs": ["urls"],
        "decision": "run",
        "reason": "after urls",
        "items": None,
        "items_done": 0,
        "items_cached": 0,
        "items_skipped": 0,
    }


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("resumes", [6, pytest.param(150, marks=pytest.mark.exhaustive)])
def test_plans_after_kills(resumes: int) -> None:
    """The plan of each resume of a process that was killed with SIGKILL is what the resume does."""
    program = [sys.executable, plan_fuzz.__file__, "--resumes", str(resumes), "--first", str(resumes)]
    result = subprocess.run(program, capture_output=True, text=True)

    assert (result.returncode, result.stderr) == (0, ""), result.stdout


class ReadOnly(StorageFile):
    """A storage in which nothing may be written, locked or deleted."""

    def _refuse(self, *arguments: Any) -> Any:
        raise AssertionError("a plan has changed something")

    post = delete = clear = lock = _refuse


@pytest.mark.parametrize("options", [{}, {"resume": True}, {"resume": "changed"}, {"resume": "unfinished"}])
@pytest.mark.parametrize("rerun", [None, "fetch"])
def test_a_plan_calls_nothing_that_writes(options: Any, rerun: Any, tmp_path: Path) -> None:
    """Whatever it decides, and with a cache: nor does it change a byte of the folder."""

    def build(storage: Any) -> DotFlow:
        @action(cache=True)
        def fetch(url: int) -> int:
            return url

        @action(checkpoint=False)
        def connect() -> int:
            return 1

        workflow = new(storage)
        workflow.task.add(connect).add(fetch, each=[1, 2]).add(fetch, name="again", each=[2, 3])
        return workflow

    build(StorageFile(path=tmp_path / "flow")).start()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}

    build(ReadOnly(path=tmp_path / "flow")).plan(rerun=rerun, **options)
    build(ReadOnly(path=tmp_path / "missing")).plan(rerun=rerun, **options)

    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_plan_of_a_list_of_dicts() -> None:
    """The items need not be hashable."""
    workflow = new(StorageDefault())
    workflow.task.add(action(lambda row: row), name="rows", each=[{"day": 1}, {"day": 2}])

    assert [(task.decision, task.items) for task in workflow.plan().tasks] == [("run", 2)]


def test_a_plan_of_a_finished_run_that_begins_anew_has_nothing_of_it() -> None:
    """resume="unfinished" after a completed run makes all items and decisions anew."""
    storage = StorageDefault()

    @action
    def numbers() -> list[int]:
        return [1, 2, 3]

    @action
    def double(number: int) -> int:
        return 2 * number

    @action
    def is_wanted() -> bool:
        return False

    @action
    def extra() -> int:
        return 1

    workflow = new(storage)
    workflow.task.add(numbers).add(double, each=numbers).add(is_wanted).add(extra, when="is_wanted")
    workflow.start()

    assert str(workflow.plan(resume="unfinished")) == str(workflow.plan())


@pytest.mark.parametrize("repeat", [1, 2])
def test_finished_rounds_need_nothing_more(repeat: int) -> None:
    """What only they took is skipped, and an unsaved task in them that nothing takes runs, as the plan says."""
    connect = action(checkpoint=False)(lambda: 1)
    inner = DotFlow(params={"connection": ...})
    inner.task.add(action(checkpoint=False)(lambda: "noted"), name="note").add(
        action(lambda connection: 2), name="load"
    )
    workflow = new(StorageDefault())
    workflow.task.add(connect, name="connect").add(inner, name="round", repeat=repeat, needs={"connection": "connect"})
    workflow.start()

    plan = workflow.plan(resume=True)

    assert [task.decision for task in plan.tasks] == ["skip", "run", "restore"]
    check(plan, workflow.start(resume=True).tasks)


def test_a_cleanup_of_rounds_runs_only_after_what_runs() -> None:
    """Of the last round only the task behind it is made again, so the cleanup does not run."""
    inner = DotFlow()
    inner.task.add(action(lambda: 1), name="open").add(action(lambda: None), name="close", after=["open"], always=True)
    inner.task.add(action(lambda: True), name="good")
    workflow = new(StorageDefault())
    workflow.task.add(inner, name="round", repeat=1, until="good")
    workflow.start()

    plan = workflow.plan(resume=True, rerun="round.good")

    assert [task.decision for task in plan.tasks] == ["restore", "skip", "run"]
    check(plan, workflow.start(resume=True, rerun="round.good").tasks)


@pytest.mark.parametrize("rows", [[1, 2], []])
def test_a_cleanup_before_all_tasks_of_its_items_runs_for_none(rows: list[int]) -> None:
    """It would clean up nothing. Of an empty list it completes, as all maps do, so the plan is open until then."""
    inner = DotFlow(params={"row": ...})
    inner.task.add(action(lambda: None), name="close", always=True).add(action(lambda row: row), name="load")
    workflow = new(StorageDefault())
    workflow.task.add(action(lambda: rows), name="rows").add(inner, name="page", each={"row": "rows"})

    for options in ({}, {"resume": True, "rerun": "rows"}):
        plan = workflow.plan(**options)
        run = workflow.start(**options)

        assert (plan.tasks[1].decision, plan.tasks[1].reason) == ("open", "its items come from rows")
        assert [item.reason for item in run.tasks[1].items] == ["no task that runs needs it"] * len(rows)
        check(plan, run.tasks)


def test_a_map_over_a_cached_list_restores_what_is_finished(tmp_path: Path) -> None:
    """The list is in the cache, so which items are restored is known before the run."""
    storage = StorageFile(path=tmp_path)

    def build(*extra: str) -> DotFlow:
        workflow = new(storage)
        workflow.task.add(action(cache=True, version="1")(lambda: ["a", "b", *extra]), name="names")
        workflow.task.add(action(lambda name: name), name="work", each={"name": "names"})
        workflow.task.add(action(lambda name, names: names), name="shared", each={"name": "names"}, needs="names")
        return workflow

    build().start()
    storage.delete("nightly/names")

    plan = build().plan(resume=True)
    run = build().start(resume=True)

    assert [(task.decision, task.items_done) for task in plan.tasks] == [("cached", 0), ("restore", 2), ("run", 0)]
    check(plan, list(run.tasks))


def test_a_plan_is_refused_where_the_run_is(tmp_path: Path) -> None:
    """A run that goes on reads whose the values are, so a damaged document stops both."""
    history = HistorySQLite(path=tmp_path / "history.db")
    storage = StorageFile(path=tmp_path / "kept")

    def build() -> DotFlow:
        config = Config(storage=storage, log=LogDefault(output="none"), history=history)
        workflow = DotFlow(config, workflow_id="nightly")
        workflow.task.add(action(lambda: 1), name="one")
        return workflow

    build().start()
    beside = [path for path in (tmp_path / "kept" / "nightly.checkpoints").iterdir() if path.name.startswith("origin")]
    for path in beside:
        path.write_text("{")

    assert beside
    with pytest.raises(CheckpointUnreadable):
        build().start(resume=True)
    with pytest.raises(CheckpointUnreadable):
        build().plan(resume=True)


def test_items_of_a_list_that_an_item_makes_are_not_counted_before() -> None:
    """Of a map inside of a workflow for each item, a plan counts the items only where all of their lists are known."""

    @action
    def pages(site: int) -> list[int]:
        return [site, site + 1]

    @action
    def fetch(page: int) -> int:
        return page

    body = DotFlow(params={"site": ...})
    body.task.add(pages).add(fetch, each={"page": "pages"})
    workflow = DotFlow(Config(storage=StorageDefault(), log=LogDefault(output="none")), workflow_id="sites")
    workflow.task.add(body, name="site", each={"site": [1, 2]})
    assert [task.items for task in workflow.plan().tasks] == [2, None]
    workflow.start()
    assert [(str(task.decision), task.items) for task in workflow.plan(resume=True).tasks] == [
        ("restore", 2),
        ("restore", 4),
    ]
    again = workflow.plan(resume=True, rerun=["site.pages"]).tasks
    assert [(str(task.decision), task.items) for task in again] == [("run", 2), ("open", None)]


def test_what_follows_from_an_empty_list_is_certain() -> None:
    """An empty list has no items whatever runs, so the arguments of what takes it are known before a new run, too."""

    @action
    def square(number: int) -> int:
        return number

    @action(cache=True)
    def total(square: list[int]) -> int:
        return sum(square)

    workflow = DotFlow(Config(storage=StorageDefault(), log=LogDefault(output="none")))
    workflow.task.add(square, each={"number": []}).add(total)
    workflow.start()
    plan = workflow.plan()
    workflow.start()
    assert str(plan.tasks[1].decision) == "cached"
    assert workflow.result_task()[1].restored_from == "cache"
