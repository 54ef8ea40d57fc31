"""Checkpoints: what is restored, what is void, and the errors of a storage."""

import contextlib
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import pytest

from dotflow import Context, DotFlow, Task, action
from dotflow.abc.storage import Storage
from dotflow.errors import (
    CheckpointMismatch,
    CheckpointUnreadable,
    StorageError,
    ValueNotStorable,
    WorkflowBusy,
)
from dotflow.providers import StorageDefault
from dotflow.resume.checkpoint import Checkpoints
from dotflow.resume.choice import Resume
from tests.storages import StorageThree


@action
def extract() -> None: ...


@action
def load() -> None: ...


TASKS = [Task(0, extract, workflow_id="w"), Task(1, load, workflow_id="w")]


class StorageHeld(StorageDefault):
    """Records its locks."""

    def __init__(self) -> None:
        super().__init__()
        self.holders: list[str] = []
        self.busy: Exception | None = None

    @contextlib.contextmanager
    def lock(self, workflow_id: str) -> Iterator[Hashable]:
        if self.busy is not None:
            raise self.busy
        self.holders.append(workflow_id)
        try:
            yield None
        finally:
            self.holders.remove(workflow_id)


def checkpoints(storage: Storage, told: list[str] | None = None, *, exclusive: bool = True) -> Checkpoints:
    return Checkpoints(storage, "w", exclusive=exclusive, log_line=(told if told is not None else []).append)


def restored(run: Checkpoints, resume: Resume) -> dict[int, Context]:
    run.open(TASKS, resume=resume)
    return run.found.restored


def value(given: object, **more: Any) -> Context:
    return Context(given, task_id=0, workflow_id="w", step=extract.identity, **more)


class TestLocking:
    def test_it_is_locked_from_open_to_close(self) -> None:
        """Other processes are refused for as long as the run goes on."""
        storage = StorageHeld()
        run = checkpoints(storage)

        run.open(TASKS, resume=False)
        assert storage.holders == ["w"]
        run.close()
        assert storage.holders == []

    def test_a_workflow_without_a_name_is_not_held(self) -> None:
        """No other process has its id."""
        storage = StorageHeld()

        checkpoints(storage, exclusive=False).open(TASKS, resume=False)

        assert storage.holders == []

    def test_an_interrupt_in_the_middle_of_closing_is_no_reason_to_keep_it(self) -> None:
        """It is finished first, and then it goes on to the caller."""

        class StorageInterrupted(StorageDefault):
            left = 0

            def lock(self, workflow_id: str) -> Any:
                return self

            def __enter__(self) -> None: ...

            def __exit__(self, *_: object) -> None:
                self.left += 1
                if self.left == 1:
                    raise KeyboardInterrupt

        storage = StorageInterrupted()
        run = checkpoints(storage)
        run.open(TASKS, resume=True)

        with pytest.raises(KeyboardInterrupt):
            run.close()
        assert storage.left == 2

    def test_closing_twice_does_nothing(self) -> None:
        """Cleaning up twice is harmless."""
        storage = StorageHeld()
        run = checkpoints(storage)
        run.open(TASKS, resume=False)

        run.close()
        run.close()

        assert storage.holders == []

    @pytest.mark.parametrize("resume", [True, False])
    def test_a_storage_that_fails_to_open_is_not_locked(self, resume: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        """After an error another process may try."""
        storage = StorageHeld()

        def breaks(*_: object) -> None:
            raise OSError("away")

        monkeypatch.setattr(storage, "get" if resume else "clear", breaks)
        with pytest.raises(StorageError, match=r"StorageHeld can't be used, so nothing was run: OSError: away"):
            checkpoints(storage).open(TASKS, resume=resume)

        assert storage.holders == []

    def test_a_busy_workflow_is_reported_unchanged(self) -> None:
        """The storage's error names the holder."""
        storage = StorageHeld()
        storage.busy = WorkflowBusy("w", "a lock", "process 7")

        with pytest.raises(WorkflowBusy, match="process 7"):
            checkpoints(storage).open(TASKS, resume=True)


class TestRestoring:
    def test_checkpoints_are_found_by_task_id(self) -> None:
        """None is a value, too."""
        storage = StorageDefault()
        storage.post("w/0", value(None))

        found = restored(checkpoints(storage), True)

        assert list(found) == [0]
        assert found[0] == value(None)

    def test_a_storage_that_keeps_values_only(self) -> None:
        """Task and workflow of such a context are known from its key."""

        class StorageValues(StorageDefault):
            def get(self, key: str) -> Context:
                return Context(super().get(key).storage)

        storage = StorageValues()
        storage.post("w/0", value(None))
        storage.post("w/1", value("second"))

        found = restored(checkpoints(storage), True)

        assert {place: (context.storage, context.task_id, context.workflow_id) for place, context in found.items()} == {
            0: (None, 0, "w"),
            1: ("second", 1, "w"),
        }

    def test_a_checkpoint_that_is_no_context_is_refused(self) -> None:
        """The message names the storage, the key and what came."""

        class StorageRaw(StorageDefault):
            def get(self, key: str) -> Context:
                return super().get(key) if "@" in key else {"value": 1}  # type: ignore[return-value]

        with pytest.raises(StorageError, match=r"StorageRaw.*get\('w/0'\) returned a dict, not a Context"):
            checkpoints(StorageRaw()).open(TASKS, resume=True)

    def test_a_value_of_another_task_is_refused(self) -> None:
        """Where two tasks share a key, the last one's value is not taken for that of both."""
        storage = StorageDefault()
        storage.key = lambda task: "shared"  # type: ignore[method-assign]
        storage.post("shared", Context("second", task_id=1))

        with pytest.raises(StorageError, match=r"get\('shared'\) returned task 1's value for task 0"):
            checkpoints(storage).open(TASKS, resume=True)

    def test_an_unreadable_one_names_its_task(self) -> None:
        """And its key, if the storage names no location."""

        class StorageTorn(StorageDefault):
            def get(self, key: str) -> Context:
                if "@" in key:
                    return super().get(key)
                raise CheckpointUnreadable("it is cut off")

        with pytest.raises(CheckpointUnreadable, match=r"task 0 extract in StorageTorn under 'w/0'.*it is cut off"):
            checkpoints(StorageTorn()).open(TASKS, resume=True)

    @pytest.mark.parametrize(
        ("was", "now", "is_same"),
        [
            ("app:load", "app:load", True),
            ("__main__:load", "app:load", True),
            ("app:load", "__main__:load", True),
            ("app:load", "other:load", False),
            ("__main__:load", "app:extract", False),
            (None, "app:load", True),
        ],
    )
    def test_a_step_is_known_by_module_and_name(self, was: str | None, now: str, is_same: bool) -> None:
        """A script that is run is called __main__; the same one imported has a name. Both are one step."""
        storage = StorageDefault()
        storage.post("w/0", Context(1, task_id=0, step=was))

        def step() -> None: ...

        step.__module__, step.__qualname__ = now.split(":")

        with contextlib.nullcontext() if is_same else pytest.raises(CheckpointMismatch):
            checkpoints(storage).open([Task(0, action(step), workflow_id="w")], resume=True)


class TestSaving:
    def test_the_error_of_an_unstorable_value_names_its_step(self) -> None:
        """The codec names the path in the value; the step is added."""

        class StoragePicky(StorageDefault):
            def post(self, key: str, context: Context) -> None:
                raise ValueNotStorable("socket", "['conn']")

        run = checkpoints(StoragePicky())
        run.open(TASKS, resume=True)

        with pytest.raises(ValueNotStorable, match=r"'extract'.*socket at \['conn'\]"):
            run.save(TASKS[0], value(1))


class TestVoidingKeyByKey:
    def test_from_the_last_to_the_first(self) -> None:
        """Cut off in the middle of it, the beginning of one run is left, never a mixture of two."""
        storage, deleted = StorageThree(), list[str]()
        for place in range(3):
            storage.post(f"w-{place}", Context(place, task_id=place))
        storage.delete = deleted.append  # type: ignore[method-assign]

        checkpoints(storage).open([*TASKS, Task(2, load, workflow_id="w")], resume=False)

        assert deleted == ["w-2", "w-1", "w-0"]

    def test_tasks_that_the_workflow_no_longer_has_are_voided_too(self) -> None:
        """Else they would come back when it has as many again."""
        storage = StorageThree()
        for place in range(4):
            storage.post(f"w-{place}", Context(place, task_id=place))

        checkpoints(storage).open(TASKS[:1], resume=False)

        assert [context.storage for context in storage.kept.values()] == [None] * 4

    def test_a_storage_may_name_its_keys_otherwise(self) -> None:
        """Where a step's name makes the key, there is an end to looking for more."""

        class StorageByName(StorageThree):
            def key(self, task: Task) -> str:
                return task.name

        storage = StorageByName()
        for name in ("extract", "load"):
            storage.post(name, Context(name, task_id=0))

        checkpoints(storage).open(TASKS, resume=False)

        assert [context.storage for context in storage.kept.values()] == [None, None]


class TestTwoRunsAtOnce:
    def test_the_newer_run_makes_the_older_one_void(self) -> None:
        """Otherwise a resume would mix the values of both. It is reported once, and nothing else is saved."""
        storage, told = StorageDefault(), list[str]()
        old, new = checkpoints(storage, told), checkpoints(storage)
        old.open(TASKS, resume=False)
        old.save(TASKS[0], value("old"))
        new.open(TASKS, resume=False)

        old.save(TASKS[0], value("old"))
        old.save(TASKS[1], value("old"))

        assert list(storage.list_keys()) == []
        assert len(told) == 1
        assert "started anew" in told[0]
        new.save(TASKS[0], value("new"))
        assert storage.get("w/0").storage == "new"

    def test_two_storage_objects_may_be_one_place(self) -> None:
        """Equal keys of lock() mean the same storage."""

        class StorageNamed(StorageHeld):
            @contextlib.contextmanager
            def lock(self, workflow_id: str) -> Iterator[Hashable]:
                yield "here"

        told = list[str]()
        old, new = checkpoints(StorageNamed(), told), checkpoints(StorageNamed())
        old.open(TASKS, resume=False)
        new.open(TASKS, resume=False)

        old.save(TASKS[0], value("old"))

        assert len(told) == 1

    def test_a_run_that_resumes_voids_no_other(self) -> None:
        """It works on the same checkpoints."""
        storage = StorageDefault()
        one, other = checkpoints(storage), checkpoints(storage)
        one.open(TASKS, resume=False)
        other.open(TASKS, resume=True)

        one.save(TASKS[0], value("kept"))

        assert storage.get("w/0").storage == "kept"

    def test_an_unfinished_run_that_goes_on_is_left_alone(self) -> None:
        """A schedule that runs side by side begins a new run; the one that goes on finishes its own work."""
        storage = StorageDefault()
        one, other = checkpoints(storage), checkpoints(storage)
        one.open(TASKS, resume="unfinished")
        one.save(TASKS[0], value("half"))

        assert restored(other, "unfinished") == {}
        one.close()
        other.save(TASKS[0], value("half"))
        other.close()
        assert list(restored(checkpoints(storage), "unfinished")) == [0]

    def test_a_run_that_has_ended_is_gone_on_with(self) -> None:
        """Its object may live on, as the workflow's last run does; what it has left is no work of its own any more."""
        storage = StorageDefault()
        ended = checkpoints(storage)
        ended.open(TASKS, resume=False)
        ended.save(TASKS[0], value("half"))
        ended.close()

        assert list(restored(checkpoints(storage), "unfinished")) == [0]


def test_an_error_of_ours_keeps_its_cause(make_workflow: Callable[..., DotFlow]) -> None:
    """A DotflowError of a storage is raised unchanged, with its cause."""

    class Away(StorageDefault):
        def lock(self, workflow_id: str) -> contextlib.AbstractContextManager[Hashable]:
            try:
                raise OSError("no route")
            except OSError as error:
                raise StorageError("The store is away", "no route") from error

    workflow = make_workflow(storage=Away(), workflow_id="w")

    with pytest.raises(StorageError) as caught:
        workflow.start()

    assert isinstance(caught.value.__cause__, OSError)
