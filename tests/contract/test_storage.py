"""The storage contract: one suite for every storage, a user's with just three methods too."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from dotflow import Context, DotFlow, Task, action
from dotflow.abc.storage import Storage
from dotflow.core.types import TypeStatus
from dotflow.errors import CheckpointMismatch
from dotflow.providers import StorageDefault

MakeWorkflow = Callable[..., DotFlow]


class ThreeMethods(Storage):
    """What a user writes who reads the promise: post, get and key, and nothing else."""

    def __init__(self) -> None:
        self.kept: dict[str, Context] = {}

    def post(self, key: str, context: Context) -> None:
        self.kept[key] = context

    def get(self, key: str) -> Context:
        return self.kept.get(key, Context())

    def key(self, task: Task) -> str:
        return f"{task.workflow_id}|{task.task_id}"


@pytest.fixture(params=[StorageDefault, ThreeMethods], ids=lambda kind: kind.__name__)
def storage(request: pytest.FixtureRequest) -> Storage:
    made: Storage = request.param()
    return made


@action
def step() -> None: ...


def key_of(storage: Storage, task_id: int = 0, workflow_id: str = "w") -> str:
    return storage.key(Task(task_id, step, workflow_id=workflow_id))


VALUES: list[Any] = [None, 0, "", [], False, {}, [1, [2]], {"a": None}, "text", b"bytes", float("inf")]


class TestMethods:
    @pytest.mark.parametrize("value", VALUES, ids=repr)
    def test_gives_back_what_it_was_given(self, storage: Storage, value: object) -> None:
        """A stored value comes back equal, empty and nested ones too, with what its context says of itself."""
        moment = datetime(2024, 1, 1, tzinfo=UTC)
        context = Context(value, task_id=0, workflow_id="w", time=moment, step="m:f")

        storage.post(key_of(storage), context)
        found = storage.get(key_of(storage))

        assert storage.contains(key_of(storage))
        assert found == context
        assert (found.time, found.step) == (moment, "m:f")

    def test_a_missing_key_is_an_empty_context(self, storage: Storage) -> None:
        """Nothing there is no error, and not contained."""
        found = storage.get(key_of(storage))

        assert (found.storage, found.task_id) == (None, None)
        assert not storage.contains(key_of(storage))

    def test_the_last_one_counts(self, storage: Storage) -> None:
        """A second post takes the first one's place."""
        for value in (1, 2):
            storage.post(key_of(storage), Context(value, task_id=0))

        assert storage.get(key_of(storage)).storage == 2

    def test_deleted_is_missing(self, storage: Storage) -> None:
        """After delete the key is as if it had never been; deleting what is not there is harmless."""
        storage.post(key_of(storage), Context(1, task_id=0))

        storage.delete(key_of(storage))
        storage.delete(key_of(storage, 5))

        assert not storage.contains(key_of(storage))
        assert storage.get(key_of(storage)).storage is None

    def test_keys_are_the_same_in_every_run_and_differ_between_tasks(self, storage: Storage) -> None:
        """A task finds its own value in the next run, and no other's."""
        task = Task(0, step, workflow_id="w")

        assert storage.key(task.fresh("w", "run-1")) == storage.key(task.fresh("w", "run-2"))
        assert len({key_of(storage, task_id, workflow) for task_id in (0, 1, 11) for workflow in ("w", "v", "w1")}) == 9

    def test_listed_keys_begin_with_the_prefix(self, storage: Storage) -> None:
        """list_keys tells of no key that doesn't; a storage that can't tell lists none."""
        storage.post(key_of(storage), Context(1, task_id=0))

        assert list(storage.list_keys("no such prefix")) == []
        assert all(storage.contains(key) for key in storage.list_keys())


class TestRuns:
    def test_a_completed_task_is_in_the_storage_before_the_next_starts(
        self, storage: Storage, make_workflow: MakeWorkflow
    ) -> None:
        """What a step builds on is safe already."""
        seen = []
        workflow = make_workflow(storage=storage, workflow_id="w")

        @action
        def looks() -> int:
            seen.append([storage.contains(key_of(storage, place)) for place in range(3)])
            return 1

        workflow.task.add([looks, looks, looks])
        workflow.start()

        assert seen == [[False] * 3, [True, False, False], [True, True, False]]

    def test_a_failed_task_leaves_nothing(self, storage: Storage, make_workflow: MakeWorkflow) -> None:
        """Only what is finished is kept."""
        workflow = make_workflow(storage=storage, workflow_id="w")

        @action
        def fails() -> None:
            raise ValueError("no")

        workflow.task.add(fails)
        workflow.start()

        assert not storage.contains(key_of(storage))

    @pytest.mark.parametrize("value", VALUES, ids=repr)
    def test_resume_skips_what_is_finished(self, storage: Storage, make_workflow: MakeWorkflow, value: object) -> None:
        """A finished task does not run again: its value is restored, the empty ones too, and handed on."""
        ran, fail = [], [True]
        workflow = make_workflow(storage=storage, workflow_id="w")

        @action
        def first() -> object:
            ran.append("first")
            return value

        @action
        def second(previous_context: Context) -> object:
            ran.append("second")
            if fail:
                raise ValueError("not yet")
            return [previous_context.storage]

        workflow.task.add([first, second])
        assert workflow.start().status is TypeStatus.FAILED
        fail.clear()
        run = workflow.start(resume=True)

        assert run.status is TypeStatus.COMPLETED
        assert ran == ["first", "second", "second"]
        assert workflow.result_storage() == [value, [value]]
        assert [task.status for task in run.tasks] == [TypeStatus.COMPLETED] * 2

    def test_resume_on_a_first_run_just_runs(self, storage: Storage, make_workflow: MakeWorkflow) -> None:
        """There is nothing to skip."""
        workflow = make_workflow(storage=storage, workflow_id="w")
        workflow.task.add(action(lambda: 1))

        workflow.start(resume=True)

        assert workflow.result_storage() == [1]

    def test_a_new_run_voids_what_earlier_ones_left(self, storage: Storage, make_workflow: MakeWorkflow) -> None:
        """A task that the new run didn't reach is not skipped later for the sake of an older run."""
        ran, fail = [], []
        workflow = make_workflow(storage=storage, workflow_id="w")

        @action
        def first() -> str:
            if fail:
                raise ValueError("no")
            return "first"

        @action
        def second() -> str:
            ran.append(len(ran))
            return "second"

        workflow.task.add([first, second])
        workflow.start()
        fail.append(True)
        workflow.start()
        fail.clear()
        workflow.start(resume=True)

        assert ran == [0, 1]

    def test_a_new_run_leaves_other_workflows_alone(self, storage: Storage, make_workflow: MakeWorkflow) -> None:
        """Whatever their ids have in common."""
        names = ["a", "a/b", "a/0", "ab", "b", "a%2Fb", "a|b", "A"]
        for name in names:
            workflow = make_workflow(storage=storage, workflow_id=name)
            workflow.task.add(action(lambda name=name: name))
            workflow.start()

        again = make_workflow(storage=storage, workflow_id="a")
        again.task.add(action(lambda: 1 / 0))
        again.start()

        kept = {name: storage.get(key_of(storage, 0, name)).storage for name in names}
        assert kept == {name: (None if name == "a" else name) for name in names}

    def test_another_step_at_the_place_stops_resume(self, storage: Storage, make_workflow: MakeWorkflow) -> None:
        """A checkpoint says which step made it: both are shown, and nothing has run."""
        ran = []
        workflow = make_workflow(storage=storage, workflow_id="w")

        @action
        def before() -> int:
            return 1

        @action
        def after() -> int:
            ran.append(1)
            return 2

        workflow.task.add(before)
        workflow.start()
        workflow.task.clear().add(after)

        with pytest.raises(CheckpointMismatch, match=r"before.*after"):
            workflow.start(resume=True)
        assert ran == []

    @pytest.mark.parametrize("method", ["post", "key"])
    def test_a_value_that_cannot_be_saved_fails_its_task(
        self, storage: Storage, make_workflow: MakeWorkflow, monkeypatch: pytest.MonkeyPatch, method: str
    ) -> None:
        """The task's error names step and reason; start() does not raise, and on_failure is called."""

        def breaks(*arguments: object) -> None:
            raise OSError("disk full")

        told = []
        workflow = make_workflow(storage=storage, workflow_id="w")

        @action
        def breaks_the_storage() -> int:
            monkeypatch.setattr(storage, method, breaks)
            return 1

        workflow.task.add(breaks_the_storage)
        run = workflow.start(on_failure=lambda tasks: told.extend(tasks))

        assert run.status is TypeStatus.FAILED
        assert run.tasks[0].errors[0].exception == "StorageError"
        assert "disk full" in run.tasks[0].errors[0].message
        assert told == run.tasks
