"""A checkpoint counts only while it is what would be made now: whole runs, one after the other."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, Context, DotFlow, action
from dotflow.abc.scheduler import Scheduler
from dotflow.abc.storage import Storage
from dotflow.codec import decode, encode
from dotflow.providers import SchedulerCron, StorageDefault, StorageFile, StorageSQLite
from dotflow.testing import virtual_clock
from tests.logs import Reports
from tests.storages import StorageThree


class StorageText(StorageThree):
    """The same, with contexts as text."""

    def post(self, key: str, context: Context) -> None:
        super().post(key, Context(encode(context)))

    def get(self, key: str) -> Context:
        text = super().get(key).storage
        return Context() if text is None else decode(text)


@pytest.fixture(params=["memory", "three methods", "text", "file", "sqlite"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """Each storage of this machine."""
    makers: dict[str, Callable[[], Storage]] = {
        "memory": StorageDefault,
        "three methods": StorageThree,
        "text": StorageText,
        "file": lambda: StorageFile(tmp_path),
        "sqlite": lambda: StorageSQLite(tmp_path / "flow.db"),
    }
    return makers[request.param]()


class Job:
    """Makes the same workflow again and again, as a program that is started each night does."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.ran: list[str] = []
        self.log = Reports()
        self.broken: set[str] = set()
        self.factor = 2

    def note(self, name: str) -> None:
        self.ran.append(name)
        if name in self.broken:
            raise ValueError(f"{name} is broken")

    def workflow(self, initial: object, scheduler: Scheduler | None = None) -> DotFlow:
        @action
        def extract(initial_context: Context) -> Any:
            self.note("extract")
            return initial_context.storage

        @action
        def transform(previous_context: Context) -> Any:
            self.note("transform")
            return [previous_context.storage] * self.factor

        @action
        def load(previous_context: Context) -> Any:
            self.note("load")
            return ("loaded", previous_context.storage)

        made = DotFlow(Config(storage=self.storage, log=self.log, scheduler=scheduler), workflow_id="nightly")
        made.task.add(extract, initial_context=initial).add(transform).add(load)
        return made

    def run(self, initial: object = "2026-01-01", **options: Any) -> tuple[list[Any], list[str], list[str]]:
        """The results, what ran, and what was reported."""
        self.ran.clear()
        self.log.lines.clear()
        workflow = self.workflow(initial)
        workflow.start(**options)
        return workflow.result_storage(), list(self.ran), list(self.log.lines)


def test_another_day_is_not_given_the_value_of_yesterday(storage: Storage) -> None:
    """A task whose initial_context changed runs again, with all that is made from it. The log has the reasons."""
    job = Job(storage)
    job.run("2026-01-01")

    again = job.run("2026-01-01", resume=True)
    values, ran, said = job.run("2026-01-02", resume=True)

    assert again[1:] == ([], [])
    assert values == ["2026-01-02", ["2026-01-02"] * 2, ("loaded", ["2026-01-02"] * 2)]
    assert ran == ["extract", "transform", "load"]
    assert said == [
        "Task 0 extract runs again: its initial_context has changed.",
        "Task 1 transform runs again: it takes the value of task 0 extract, which runs again.",
        "Task 2 load runs again: it takes the value of task 1 transform, which runs again.",
    ]


def test_a_fallback_or_a_condition_that_is_added_repeats_nothing(storage: Storage) -> None:
    """The items that have completed did so without it; only the failed one runs, and what takes the list."""
    ran: list[object] = []

    @action
    def is_open() -> bool:
        ran.append("is_open")
        return True

    @action
    def fetch(url: str) -> str:
        ran.append(url)
        return {"a": "A", "c": "C"}[url]

    @action
    def mirror(url: str) -> str:
        return url * 2

    def run(**options: Any) -> DotFlow:
        ran.clear()
        workflow = DotFlow(Config(storage=storage, log=Reports()), workflow_id="crawl")
        workflow.task.add(is_open).add(fetch, each=["a", "b", "c"], keep_going=True, **options)
        workflow.start(resume=True)
        return workflow

    run()
    workflow = run(fallback=mirror, when=is_open)
    assert (ran, workflow.last.value("fetch")) == (["b"], ["A", "bb", "C"])
    run(fallback=mirror)
    assert ran == []


def test_the_answer_for_one_depth_is_not_given_for_another(storage: Storage) -> None:
    """In a grid of independent tasks just the one that changed runs again."""
    ran: list[int] = []

    @action
    def train(initial_context: Context) -> int:
        ran.append(initial_context.storage)
        return -int(initial_context.storage)

    def search(*depths: int) -> list[Any]:
        ran.clear()
        workflow = DotFlow(Config(storage=storage, log=Reports()), workflow_id="grid")
        for depth in depths:
            workflow.task.add(train, initial_context=depth)
        workflow.start(resume=True)
        return workflow.result_storage()

    assert search(1, 2, 3) == [-1, -2, -3]
    assert search(1, 9, 3) == [-1, -9, -3]
    assert ran == [9]


def test_a_step_that_changes_its_initial_context_in_place_is_restored_all_the_same(storage: Storage) -> None:
    """The value passed to `add` is compared, not what a step made of it."""
    ran: list[int] = []

    @action
    def grow(initial_context: Context) -> int:
        initial_context.storage.append(1)
        ran.append(1)
        return len(initial_context.storage)

    def run(**options: Any) -> list[Any]:
        workflow = DotFlow(Config(storage=storage, log=Reports()), workflow_id="grow")
        workflow.task.add(grow, initial_context=[])
        workflow.start(**options)
        return workflow.result_storage()

    assert (run(), run(resume=True), ran) == ([1], [1], [1])


def test_a_mended_step_whose_checkpoint_was_deleted_takes_its_followers_along(storage: Storage) -> None:
    """No value of the new step is followed by one of the old."""
    job = Job(storage)
    job.run("a")
    keys = {task.task_id: storage.key(task) for task in job.workflow("a").result_task()}
    storage.delete(keys[1])
    job.factor = 3

    values, ran, said = job.run("a", resume=True)

    assert values == ["a", ["a"] * 3, ("loaded", ["a"] * 3)]
    assert ran == ["transform", "load"]
    assert said == ["Task 2 load runs again: it takes the value of task 1 transform, which runs again."]


def test_tasks_after_a_failed_one_run_again(storage: Storage) -> None:
    """With keep_going it was made from an empty context: a resume does not take it for the real thing."""
    job = Job(storage)
    job.broken = {"extract"}
    values, ran, _ = job.run("a", keep_going=True)
    assert (values, ran) == ([None, [None] * 2, ("loaded", [None] * 2)], ["extract", "transform", "load"])

    job.broken = set()
    values, ran, _ = job.run("a", keep_going=True, resume=True)

    assert values == ["a", ["a"] * 2, ("loaded", ["a"] * 2)]
    assert ran == ["extract", "transform", "load"]


def test_a_task_that_takes_no_value_is_restored_also_after_a_failed_one(storage: Storage) -> None:
    """Its value is what would be made now."""
    ran: list[str] = []
    broken = [True]

    @action
    def create() -> None:
        ran.append("create")
        if broken:
            raise ValueError

    @action
    def fill() -> None:
        ran.append("fill")

    def run() -> None:
        workflow = DotFlow(Config(storage=storage, log=Reports()), workflow_id="tables")
        workflow.task.add([create, fill])
        workflow.start(keep_going=True, resume=True)

    run()
    broken.clear()
    run()

    assert ran == ["create", "fill", "create"]


def test_an_outdated_checkpoint_is_deleted_as_its_step_begins(storage: Storage) -> None:
    """So a kill leaves all that counts again once the change is taken back."""
    job = Job(storage)
    job.run("a")
    keys = [storage.key(task) for task in job.workflow("a").result_task()]
    events: list[str] = []
    delete = storage.delete

    def noted(key: str) -> None:
        events.append(key)
        delete(key)

    storage.delete = noted  # type: ignore[method-assign]
    job.note = events.append  # type: ignore[method-assign]
    job.run("b", resume=True)

    assert events == [keys[0], "extract", keys[1], "transform", keys[2], "load"]


def test_a_value_that_can_not_be_compared_is_restored_and_reported(storage: Storage) -> None:
    """A live object has no bytes to compare: the log has one sentence a task."""
    log = Reports()

    class Connection:
        """Can't be kept."""

    ran: list[int] = []

    @action
    def use(initial_context: Context) -> int:
        ran.append(1)
        return 1

    for _ in range(2):
        workflow = DotFlow(Config(storage=storage, log=log), workflow_id="live")
        workflow.task.add(use, initial_context=Connection())
        workflow.start(resume=True)

    assert ran == [1]
    assert len(log.lines) == (2 if isinstance(storage, StorageDefault) else 1)
    assert "can't be compared" in log.lines[-1]


def chain(job: Job, names: str, initial: object, **options: Any) -> list[Any]:
    """Run the first tasks of the job only."""
    workflow = job.workflow(initial)
    steps = {task.name: task.step for task in workflow.task}
    workflow.task.clear().add(steps["extract"], initial_context=initial)
    for name in names.split()[1:]:
        workflow.task.add(steps[name])
    job.ran.clear()
    workflow.start(**options)
    return workflow.result_storage()


def test_a_task_that_was_left_out_for_a_run_is_not_given_back_an_earlier_value(storage: Storage) -> None:
    """Its checkpoint outlived a run without it, in which the value that it takes was made anew."""
    job = Job(storage)
    chain(job, "extract transform load", 1)
    chain(job, "extract transform", 2, resume=True)

    values = chain(job, "extract transform load", 2, resume=True)

    assert values == [2, [2, 2], ("loaded", [2, 2])]
    assert job.ran == ["load"]


def test_a_run_that_goes_on_beside_a_resume_leaves_nothing_that_a_later_one_takes_for_new(storage: Storage) -> None:
    """Its value was made from one that has been made anew meanwhile."""
    job, go, waits = Job(storage), threading.Event(), threading.Event()
    note = job.note

    def slow(name: str) -> None:
        if name == "transform" and not go.is_set() and not waits.is_set():
            waits.set()
            go.wait()
        note(name)

    job.note = slow  # type: ignore[method-assign]
    older = job.workflow(1)
    run = older.start(mode="background")
    waits.wait()
    job.broken = {"transform"}
    job.run(2, resume=True)
    job.broken = set()
    go.set()
    run.wait()

    values, _, _ = job.run(2, resume=True)

    assert older.result_storage() == [1, [1, 1], ("loaded", [1, 1])]
    assert values == [2, [2, 2], ("loaded", [2, 2])]


# Schedules

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


class SchedulerThrice(Scheduler):
    """Fires three times at once, as a user's scheduler might."""

    def start(self, workflow: Any, **kwargs: Any) -> None:
        for _ in range(3):
            workflow.start(**kwargs)

    def stop(self) -> None: ...


def fire_thrice(job: Job, how: str) -> None:
    if how == "one of their own":
        job.workflow("a", SchedulerThrice()).schedule(resume=True)
        return
    scheduler = SchedulerCron("* * * * *", timezone="UTC", overlap=how.partition(",")[0])
    with virtual_clock(NOON) as time:
        time.after(200, scheduler.stop)
        workflow = job.workflow("a", scheduler)
        if how.endswith("directly"):
            scheduler.start(workflow, resume=True)
        else:
            workflow.schedule(resume=True)
        assert time.now() >= NOON + timedelta(seconds=180)


@pytest.mark.parametrize("how", ["skip", "parallel", "skip, directly", "one of their own"])
def test_each_firing_of_a_schedule_that_resumes_does_the_work(storage: Storage, how: str) -> None:
    """After a complete run the next firing begins a new one."""
    job = Job(storage)

    fire_thrice(job, how)

    assert job.ran == ["extract", "transform", "load"] * 3


@pytest.mark.parametrize("how", ["skip", "parallel", "skip, directly", "one of their own"])
def test_a_firing_finishes_a_run_that_was_left_unfinished(storage: Storage, how: str) -> None:
    """What the last run finished does not run again. Then each firing has a run of its own.

    A scheduler of a user only calls `start`, with `resume="unfinished"`: its first run finishes the one before.
    """
    job = Job(storage)
    job.broken = {"load"}
    job.run("a")
    job.broken, job.ran = set(), []

    fire_thrice(job, how)

    assert job.ran == ["load", *["extract", "transform", "load"] * (2 if how == "one of their own" else 3)]


@pytest.mark.parametrize(
    ("before", "after"), [("extract transform", "extract transform load"), ("extract", "extract load")]
)
def test_a_finished_run_is_not_unfinished_because_a_task_was_added(storage: Storage, before: str, after: str) -> None:
    """The last run is finished if its own tasks are, whatever tasks there are today."""
    job = Job(storage)
    chain(job, before, "day 1", resume="unfinished")

    values = chain(job, after, "day 2", resume="unfinished")

    assert job.ran == after.split()
    assert values[0] == "day 2"


def test_a_skipped_task_leaves_nothing_unfinished(storage: Storage) -> None:
    """What its conditions skipped has no value, also where another of its sources has changed since."""
    ran: list[str] = []

    def run(limit: int) -> None:
        ran.clear()
        workflow = DotFlow(Config(storage=storage, log=Reports()), workflow_id="job")
        workflow.task.add(action(lambda: ran.append("today") or True), name="today")
        workflow.task.add(action(lambda limit: ran.append("size") or limit), name="size", params={"limit": limit})
        workflow.task.add(action(lambda size: size), name="alarm", unless="today", needs="size")
        workflow.task.add(action(lambda alarm: alarm), name="report", needs="alarm")
        workflow.start(resume="unfinished")

    run(1)
    run(2)

    assert ran == ["today", "size"]


def test_a_branch_that_was_not_reached_is_unfinished(storage: Storage) -> None:
    """Its conditions hold by the values of the last run, so it was to run, whatever has changed since."""
    ran: list[str] = []

    def run(limit: int, ready: bool) -> None:
        ran.clear()

        def alarm(size: int) -> int:
            ran.append("alarm")
            return size if ready else 1 // 0

        workflow = DotFlow(Config(storage=storage, log=Reports()), workflow_id="job")
        workflow.task.add(action(lambda: ran.append("today") or False), name="today")
        workflow.task.add(action(lambda limit: ran.append("size") or limit), name="size", params={"limit": limit})
        workflow.task.add(action(alarm), name="alarm", unless="today", needs="size")
        workflow.start(resume="unfinished")

    run(1, ready=False)
    run(2, ready=True)

    assert ran == ["size", "alarm"]


def test_tasks_that_the_workflow_no_longer_has_are_not_waited_for(storage: Storage) -> None:
    """Where nothing is left to finish, the next firing begins a new run."""
    job = Job(storage)
    job.broken = {"load"}
    chain(job, "extract transform load", "day 1")

    values = chain(job, "extract transform", "day 2", resume="unfinished")

    assert values[0] == "day 2"
    assert job.ran == ["extract", "transform"]


class StorageValues(StorageThree):
    """Keeps values only."""

    def post(self, key: str, context: Context) -> None:
        super().post(key, Context(context.storage))


def test_where_only_values_are_kept_each_firing_begins_a_new_run() -> None:
    """A value of None looks like a missing one there, so it is unknown whether the last run finished."""
    job = Job(StorageValues())

    fire_thrice(job, "one of their own")

    assert job.ran == ["extract", "transform", "load"] * 3
    assert "keeps values only" in job.log.lines[-1]
