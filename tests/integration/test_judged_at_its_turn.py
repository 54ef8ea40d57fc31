"""A resume deletes an old value as its step begins; what only its options say is in the journal before that."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dotflow import Config, Context, DotFlow, action
from dotflow.abc.storage import Storage
from dotflow.providers import ExecutorInline, LogDefault, StorageDefault
from tests.core_kills import Event, Killed, Watched, World

Build = Callable[[DotFlow, Callable[..., None], int], None]


class StorageValues(StorageDefault):
    """Keeps values without what they were made from."""

    def post(self, key: str, context: Context) -> None:
        super().post(key, Context(context.storage))


class Night:
    """Makes the same workflow in each run, which may be killed before one of its writes."""

    def __init__(self, build: Build, tmp_path: Path, storage: Storage | None = None) -> None:
        self.world = World(storage or StorageDefault(), tmp_path)
        self.build, self.log = build, LogDefault(output="none")
        self.ran: list[str] = []
        self.tasks: list[Any] = []

    def workflow(self, n: int) -> DotFlow:
        storage = Watched(self.world)
        workflow = DotFlow(Config(storage=storage, log=self.log, executor=ExecutorInline()), workflow_id="night")
        self.build(workflow, lambda *names: self.ran.append("-".join(map(str, names))), n)
        return workflow

    def run(self, n: int = 1, *, before: tuple[str, str] = ("", ""), **options: Any) -> list[str]:
        """Runs, and is killed before such an event, which is a kind and a key. Returns what ran."""
        self.ran, self.world.tick = [], lambda what, key: self.kill(what, key, before)  # type: ignore[method-assign]
        self.world.begin(-1)
        workflow = self.workflow(n)
        with contextlib.suppress(Killed):
            workflow.start(keep_going=True, **{"resume": True, **options})
            self.tasks = list(workflow.last.tasks)
        return self.ran

    def kill(self, what: str, key: str, before: tuple[str, str]) -> None:
        if (what, key.removeprefix("night/")) == before:
            self.world.prevented = Event(what, key)
            raise Killed

    @property
    def keys(self) -> set[str]:
        return {key.removeprefix("night/") for key in self.world.storage.list_keys("night/")}


def squares(workflow: DotFlow, ran: Callable[..., None], n: int) -> None:
    @action
    def a(n: int) -> int:
        ran("a")
        return n

    @action
    def square(a: int, i: int) -> int:
        ran("square", i)
        return a * i

    @action
    def total(square: list[int]) -> int:
        ran("total")
        return sum(square)

    workflow.task.add(a, name="a", params={"n": n})
    workflow.task.add(square, name="square", each={"i": [1, 2, 3]})
    workflow.task.add(total, name="total")


def inherited(workflow: DotFlow, ran: Callable[..., None], n: int) -> None:
    @action
    def first(initial_context: Context) -> int:
        ran("first")
        return int(initial_context.storage)

    @action
    def second(previous_context: Context) -> int:
        ran("second")
        return int(previous_context.storage)

    workflow.task.add(first, initial_context=n)
    workflow.task.add(second)


def test_a_rerun_that_is_killed_while_it_deletes_is_not_forgotten(tmp_path: Path) -> None:
    """The next resume runs all that it named, without naming it again."""
    night = Night(squares, tmp_path)
    night.run()
    [first, *_, last] = sorted(key for key in night.keys if key.startswith("square-"))

    for key in (first, last):
        assert night.run(rerun=["square"], before=("delete", key)) == []

    assert [str(task.decision) for task in night.workflow(1).plan(resume=True).tasks] == ["restore", "run", "run"]
    assert night.run() == ["square-1", "square-2", "square-3", "total"]
    assert night.run() == []


def test_a_change_that_is_taken_back_after_a_kill_repeats_no_finished_step(tmp_path: Path) -> None:
    """What had not begun keeps its value until its turn."""
    night = Night(squares, tmp_path)
    night.run()

    assert night.run(2, before=("post", "a")) == ["a"]
    assert night.run(1) == ["a", "square-1", "square-2", "square-3", "total"], "a was made anew, and its run counts"

    night.run(2, before=("delete", "a"))
    assert night.run(1) == []


def test_values_without_tokens_are_deleted_ahead(tmp_path: Path) -> None:
    """Nothing else shows that a value was made from an older one: a kill leaves none of these."""
    night = Night(squares, tmp_path, StorageValues())
    night.run()

    assert night.run(rerun=["a"], before=("post", "square")) == ["a", "square-1", "square-2", "square-3", "total"]
    assert night.run(rerun=["a"], before=("post", "total"))[-1] == "total"
    assert night.run() == ["total"]


@pytest.mark.parametrize(("build", "last"), [(squares, "total"), (inherited, "1")])
def test_a_killed_resume_is_unfinished_though_all_values_are_there(build: Build, last: str, tmp_path: Path) -> None:
    """The value that it was to make anew is older than what it was made from."""
    night = Night(build, tmp_path)
    night.run()
    night.run(2, before=("delete", last))
    assert last in night.keys

    assert night.run(2, resume="unfinished") == ["total" if build is squares else "second"]


def test_a_step_whose_old_value_can_not_be_deleted_fails(tmp_path: Path) -> None:
    """It does not begin: after its effect the old value would count again."""

    class StorageStuck(StorageDefault):
        def delete(self, key: str) -> None:
            raise OSError(f"{key} is read-only")

    night = Night(squares, tmp_path, StorageStuck())
    night.run()

    assert night.run(2) == []
    [why] = night.tasks[0].errors
    assert why.message == "Step 'a' can't begin, since its old value 'night/a' could not be deleted: " + (
        "OSError: night/a is read-only."
    )


def test_a_step_that_is_skipped_loses_its_old_value_then(tmp_path: Path) -> None:
    """Its condition is judged at its turn."""

    def build(workflow: DotFlow, ran: Callable[..., None], n: int) -> None:
        @action
        def is_many(n: int) -> bool:
            return n > 1

        @action
        def report() -> None:
            ran("report")

        workflow.task.add(is_many, name="is_many", params={"n": n})
        workflow.task.add(report, name="report", when="is_many")

    night = Night(build, tmp_path)
    night.run(2)
    assert night.run(1, before=("delete", "report")) == []
    assert "report" in night.keys

    night.run(1)
    assert night.keys == {"is_many"}
    assert night.workflow(1).plan(resume=True).tasks[1].reason == "is_many was False"


@pytest.mark.parametrize("is_list_new", [False, True])
def test_items_of_a_source_that_fails_again_are_made_anew(is_list_new: bool, tmp_path: Path) -> None:
    """Whether their list is known ahead or made anew: nothing shows that they would be the same."""

    def build(workflow: DotFlow, ran: Callable[..., None], n: int) -> None:
        @action
        def broken() -> int:
            raise ValueError

        @action
        def entries() -> list[int]:
            return [1, 2]

        @action
        def read(entry: int, broken: int | None = None) -> int:
            ran("read", entry)
            return entry

        workflow.task.add([broken, entries])
        workflow.task.add(read, name="read", each={"entry": "entries"})

    night = Night(build, tmp_path)
    night.run()

    assert night.run(rerun=["entries"] if is_list_new else []) == ["read-1", "read-2"]


def test_a_completed_run_with_an_unsaved_map_is_finished(tmp_path: Path) -> None:
    """A value without a checkpoint has no time of its own that what was made from it could be compared with."""

    def build(workflow: DotFlow, ran: Callable[..., None], n: int) -> None:
        @action(checkpoint=False)
        def connect(i: int) -> int:
            ran("connect", i)
            return i

        @action
        def total(connect: list[int]) -> int:
            ran("total")
            return sum(connect)

        workflow.task.add(connect, name="connect", each={"i": [1, 2]})
        workflow.task.add(total, name="total")

    night = Night(build, tmp_path)
    night.run()

    assert night.run(resume="unfinished") == ["connect-1", "connect-2", "total"]


def test_items_that_take_a_map_of_which_an_item_fails_again_are_restored(tmp_path: Path) -> None:
    """The values that came are the same ones, and their token shows it."""

    def build(workflow: DotFlow, ran: Callable[..., None], n: int) -> None:
        @action
        def fetch(i: int) -> int:
            if i == 2:
                raise ValueError
            return i

        @action
        def read(entry: int, other: int, fetch: list[int]) -> int:
            ran("read", entry)
            return entry

        workflow.task.add(fetch, name="fetch", each={"i": [1, 2]})
        workflow.task.add(read, name="read", cross={"entry": "fetch", "other": [5]}, needs={"fetch": "fetch"})

    night = Night(build, tmp_path)
    assert night.run() == ["read-1"]

    assert night.run() == []
