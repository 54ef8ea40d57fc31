"""The storage contract: one suite for every storage, a user's with just three methods too."""

import contextlib
import pickle
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dotflow import Context, DotFlow, Task, action
from dotflow.abc.storage import Storage
from dotflow.core.links import Links
from dotflow.core.types import TypeStatus
from dotflow.errors import CheckpointMismatch, CheckpointUnreadable
from dotflow.graph.linked_task import LinkedTask
from dotflow.providers import StorageDefault, StorageFile, StorageGCS, StoragePostgres, StorageS3, StorageSQLite
from dotflow.providers.storages.buckets.bucket_storage import StorageObjects
from dotflow.testing import StorageContract
from dotflow.testing.contracts import storage as contract
from dotflow.testing.contracts.values import IDS, KEYS, OTHERS
from tests.clouds.settings import BUCKET

MakeWorkflow = Callable[..., DotFlow]


class ThreeMethods(Storage):
    """The smallest storage that a user can write: post, get and key.

    Args:
        pickles: The saved contexts.
    """

    def __init__(self, pickles: dict[str, bytes]) -> None:
        self.pickles = pickles

    def post(self, key: str, context: Context) -> None:
        self.pickles[key] = pickle.dumps(context)

    def get(self, key: str) -> Context:
        found: Context = pickle.loads(self.pickles[key]) if key in self.pickles else Context()
        return found

    def key(self, task: Task) -> str:
        return f"{task.task_id}|{task.workflow_id}"


class TestStorageDefault(StorageContract):
    """Memory."""

    @pytest.fixture
    def storage(self) -> Storage:
        return StorageDefault()

    @pytest.mark.parametrize(
        "key",
        [
            "w/7",
            "w/07",
            "w/-7",
            "w/7_0",
            "w/\u0667",
            "w/\u00b2",
            f"w/{'9' * 5000}",
            "w/name",
            "w/",
            "/7",
            "7",
            "name",
            "a/b/7",
        ],
    )
    @pytest.mark.parametrize("workflow_id", ["w", None])
    @pytest.mark.parametrize("task_id", [7, None, 8])
    def test_any_key_is_its_own(self, storage: Storage, key: str, task_id: int | None, workflow_id: str | None) -> None:
        """Keys are kept by workflow and task, and yet no two become one."""
        others = ["w/70", "v/7", "w/seven", "0", "a/7"]
        for other in others:
            storage.post(other, Context("other", task_id, workflow_id))
        storage.post(key, Context("first"))
        storage.post(key, Context("second", task_id, workflow_id))

        assert storage.get(key).storage == "second"
        assert sorted(storage.list_keys()) == sorted([*others, key])
        storage.delete(key)
        assert not storage.contains(key)
        assert {storage.get(other).storage for other in others} == {"other"}

    @pytest.mark.parametrize("workflow_id", ["w", None, "v"])
    @pytest.mark.parametrize("task_id", [-1, "7", "seven", True, 10**19, 10**20 + 7], ids=str)
    def test_what_was_posted_is_found_whatever_ids_its_context_has(
        self, storage: Storage, task_id: Any, workflow_id: str | None
    ) -> None:
        """The key alone decides on the place of a value."""
        for key in (f"w/{task_id}", "w/1", f"{workflow_id}/{task_id}"):
            storage.post(key, Context(key, task_id, workflow_id))

            assert storage.get(key).storage == key
            assert storage.contains(key)
            assert key in storage.list_keys()
            storage.delete(key)
            assert list(storage.list_keys()) == []

    def test_a_value_is_found_by_its_key_whatever_key_was_made_last(self) -> None:
        """Names with a slash too, which a hand-made task may have, and keys that other threads make in between."""
        storage, step = StorageDefault(), action(lambda: None)
        tasks = [Task(number, step, workflow_id="a/b") for number in (0, 1, -1)]
        tasks += [
            LinkedTask(2, step, workflow_id="w", links=Links(name=name)) for name in ("load", "page.fetch", "c/d")
        ]
        keys = [storage.key(task) for task in tasks]
        for key, task in zip(keys, tasks, strict=True):
            storage.post(key, Context(key, task.task_id, task.workflow_id))
            storage.post(storage.key(task), Context(key, task.task_id, task.workflow_id))

        assert [storage.get(key).storage for key in keys] == keys
        assert sorted(storage.list_keys()) == sorted(keys)

    def test_workflows_without_values_take_no_memory(self) -> None:
        """A process that deletes the values of each run does not grow."""
        storage = StorageDefault()
        for number in range(100):
            storage.post(f"{number}/0", Context(number, 0))
            storage.delete(f"{number}/0")
            storage.delete(f"{number}/never")

        assert storage._contexts == {}


class TestThreeMethods(StorageContract):
    """The least that a storage may have."""

    @pytest.fixture
    def storage(self) -> Storage:
        return ThreeMethods({})

    @pytest.fixture
    def again(self, storage: Storage) -> Storage:
        assert isinstance(storage, ThreeMethods)
        return ThreeMethods(storage.pickles)


class TestStorageFile(StorageContract):
    """Files."""

    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        return StorageFile(tmp_path, durability="process")

    @pytest.fixture
    def again(self, tmp_path: Path) -> Storage:
        return StorageFile(tmp_path)


class TestStorageFileWithPickle(TestStorageFile):
    """Files that hold whatever can be pickled, too."""

    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        return StorageFile(tmp_path, pickle=True, durability="process")

    @pytest.fixture
    def again(self, tmp_path: Path) -> Storage:
        return StorageFile(tmp_path, pickle=True)


class TestStorageSQLite(StorageContract):
    """One SQLite file."""

    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        return StorageSQLite(tmp_path / "dotflow.db", durability="process")

    @pytest.fixture
    def again(self, tmp_path: Path) -> Storage:
        return StorageSQLite(tmp_path / "dotflow.db")


#: Ten values: the codec, whose own tests know the others, is the same for all storages.
PLAIN_SAMPLE = ("None", "unicode", "long text", "nested")
OTHERS_SAMPLE = [
    name for name in ("lone surrogate", "bytes", "contexts", "mixed", "object", "pandas frame") if name in OTHERS
]


class OverTheWire(StorageContract):
    """The contract with a sample of values, since each is a request or more."""

    @pytest.mark.parametrize("name", PLAIN_SAMPLE)
    def test_stores_plain_values(self, storage: Storage, again: Storage, name: str) -> None:
        super().test_stores_plain_values(storage, again, name)

    @pytest.mark.parametrize("name", OTHERS_SAMPLE)
    def test_stores_a_value_unchanged_or_raises(self, storage: Storage, again: Storage, name: str) -> None:
        super().test_stores_a_value_unchanged_or_raises(storage, again, name)


class InABucket(OverTheWire):
    """The contract with fewer keys, since the emulators handle one request at a time."""

    @pytest.fixture(autouse=True)
    def few_keys(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        """A dozen ids and keys; all of them with --exhaustive."""
        if not request.config.getoption("--exhaustive"):
            monkeypatch.setattr(contract, "IDS", (*IDS[:8], *IDS[-5:]))
            monkeypatch.setattr(
                contract, "KEYS", ("", ".", "../x", "x", "X", "x/", "x/y", "x%2Fy", *KEYS[23:25], *KEYS[-9:])
            )

    @pytest.mark.parametrize("prefix", ["x/", "a\0"], ids=ascii)
    def test_listed_keys_begin_with_the_prefix(self, storage: Storage, again: Storage, prefix: str) -> None:
        super().test_listed_keys_begin_with_the_prefix(storage, again, prefix)

    @pytest.mark.parametrize("workflow_id", ["a/b", "never seen"])
    def test_clear_leaves_other_workflows_alone(self, storage: Storage, again: Storage, workflow_id: str) -> None:
        super().test_clear_leaves_other_workflows_alone(storage, again, workflow_id)

    @pytest.mark.slow
    def test_every_task_of_every_workflow_has_its_own_key(self, storage: Storage, again: Storage) -> None:
        """As the contract says."""
        super().test_every_task_of_every_workflow_has_its_own_key(storage, again)

    @pytest.mark.slow
    def test_any_text_may_be_a_key(self, storage: Storage, again: Storage) -> None:
        super().test_any_text_may_be_a_key(storage, again)

    @pytest.mark.slow
    def test_threads_may_post_at_once(self, storage: Storage, again: Storage) -> None:
        super().test_threads_may_post_at_once(storage, again)


@pytest.mark.exhaustive(keep_every=4)
class TestStorageS3(InABucket):
    """Objects in a bucket of S3. What all buckets share is tested with that of Google, whose emulator is faster."""

    @pytest.mark.exhaustive
    def test_every_task_of_every_workflow_has_its_own_key(self, storage: Storage, again: Storage) -> None:
        super().test_every_task_of_every_workflow_has_its_own_key(storage, again)

    @pytest.mark.exhaustive
    def test_each_key_is_deleted_alone(self, storage: Storage, again: Storage) -> None:
        super().test_each_key_is_deleted_alone(storage, again)

    @pytest.mark.parametrize("workflow_id", [pytest.param("a/b", marks=pytest.mark.exhaustive), "never seen"])
    def test_clear_leaves_other_workflows_alone(self, storage: Storage, again: Storage, workflow_id: str) -> None:
        super().test_clear_leaves_other_workflows_alone(storage, again, workflow_id)

    @pytest.mark.exhaustive
    def test_threads_may_post_at_once(self, storage: Storage, again: Storage) -> None:
        super().test_threads_may_post_at_once(storage, again)

    @pytest.fixture
    def storage(self, s3: str, tmp_path: Path) -> Storage:
        return StorageS3(s3, prefix=tmp_path.as_posix().strip("/"))

    @pytest.fixture
    def again(self, s3: str, tmp_path: Path) -> Storage:
        return StorageS3(s3, prefix=tmp_path.as_posix().strip("/"))


class TestStorageGCS(InABucket):
    """Objects in a bucket of Google Cloud Storage."""

    @pytest.fixture
    def storage(self, gcs: str, tmp_path: Path) -> Storage:
        return StorageGCS(gcs, prefix=tmp_path.as_posix().strip("/"))

    @pytest.fixture
    def again(self, gcs: str, tmp_path: Path) -> Storage:
        return StorageGCS(gcs, prefix=tmp_path.as_posix().strip("/"))


class TestStoragePostgres(OverTheWire):
    """Rows of a table of Postgres."""

    @pytest.fixture
    def storage(self, postgres: str) -> Storage:
        return StoragePostgres(postgres)

    @pytest.fixture
    def again(self, postgres: str) -> Storage:
        return StoragePostgres(postgres)


MAKERS: dict[str, Callable[[Path], Storage]] = {
    "StorageDefault": lambda folder: StorageDefault(),
    "ThreeMethods": lambda folder: ThreeMethods({}),
    "StorageFile": lambda folder: StorageFile(folder / "kept"),
    "StorageSQLite": lambda folder: StorageSQLite(folder / "dotflow.db"),
    "StorageS3": lambda folder: StorageS3(BUCKET, prefix=folder.as_posix().strip("/")),
    "StorageGCS": lambda folder: StorageGCS(BUCKET, prefix=folder.as_posix().strip("/")),
    "StoragePostgres": lambda folder: StoragePostgres(""),
}
SERVERS = {"StorageS3": "s3", "StorageGCS": "gcs", "StoragePostgres": "postgres_settings"}

VALUES: list[Any] = [None, 0, "", [], False, {}, [1, [2]], {"a": None}, "text", b"bytes", (1, {2}), float("inf")]


@pytest.fixture(params=MAKERS)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """Each of ours, and a user's."""
    if request.param in SERVERS:
        request.getfixturevalue(SERVERS[request.param])
    return MAKERS[request.param](tmp_path)


@action
def step() -> None: ...


def key_of(storage: Storage, task_id: int = 0, workflow_id: str = "w") -> str:
    return storage.key(Task(task_id, step, workflow_id=workflow_id))


class TestRuns:
    """What a run makes of a storage."""

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

    def test_resume_skips_finished_tasks(self, storage: Storage, make_workflow: MakeWorkflow) -> None:
        """Finished tasks do not run again: their values are restored, the empty ones too, and handed on."""
        ran, fail = [], [True]
        workflow = make_workflow(storage=storage, workflow_id="w")

        @action
        def value(initial_context: Context) -> object:
            ran.append("value")
            return initial_context.storage

        @action
        def last(previous_context: Context) -> object:
            ran.append("last")
            if fail:
                raise ValueError("not yet")
            return [previous_context.storage]

        for found in VALUES:
            workflow.task.add(value, initial_context=found).add(last)
        assert workflow.start(keep_going=True).status is TypeStatus.FAILED
        fail.clear()
        ran.clear()
        run = workflow.start(resume=True)

        assert run.status is TypeStatus.COMPLETED
        assert ran == ["last"] * len(VALUES)
        assert workflow.result_storage() == [found for value in VALUES for found in (value, [value])]
        assert {task.status for task in run.tasks} == {TypeStatus.COMPLETED}

    def test_resume_on_a_first_run_just_runs(self, storage: Storage, make_workflow: MakeWorkflow) -> None:
        """There is nothing to skip."""
        workflow = make_workflow(storage=storage, workflow_id="w")
        workflow.task.add(action(lambda: 1))

        workflow.start(resume=True)

        assert workflow.result_storage() == [1]

    def test_a_new_run_voids_earlier_checkpoints(self, storage: Storage, make_workflow: MakeWorkflow) -> None:
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

        values = {name: storage.get(key_of(storage, 0, name)).storage for name in names}
        assert values == {name: (None if name == "a" else name) for name in names}

    def test_another_step_at_the_place_stops_resume(self, storage: Storage, make_workflow: MakeWorkflow) -> None:
        """A checkpoint records its step: the error shows both, and nothing has run."""
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

        failed = []
        workflow = make_workflow(storage=storage, workflow_id="w")

        @action
        def breaks_the_storage() -> int:
            monkeypatch.setattr(storage, method, breaks)
            return 1

        workflow.task.add(breaks_the_storage)
        run = workflow.start(on_failure=lambda tasks: failed.extend(tasks))

        assert run.status is TypeStatus.FAILED
        assert run.tasks[0].errors[0].exception == "StorageError"
        assert "disk full" in run.tasks[0].errors[0].message
        assert failed == run.tasks


def damage_files(folder: Path, is_missing: bool) -> None:
    (part,) = folder.rglob("*.bin")
    part.unlink() if is_missing else part.write_bytes(b"x" + part.read_bytes()[1:])


def damage_sqlite(folder: Path, is_missing: bool) -> None:
    change = "DELETE FROM parts" if is_missing else "UPDATE parts SET data = 'text'"
    with contextlib.closing(sqlite3.connect(folder / "dotflow.db", isolation_level=None)) as connection:
        connection.execute(change)


def damage_postgres(folder: Path, is_missing: bool) -> None:
    change = "NULL" if is_missing else "overlay(parts placing 'x' from 1)"
    with psycopg.connect("", autocommit=True) as connection:
        connection.execute(f"UPDATE dotflow_checkpoints SET parts = {change}".encode())


def damage_objects(kind: Callable[..., StorageObjects]) -> Callable[[Path, bool], None]:
    def damage(folder: Path, is_missing: bool) -> None:
        prefix = folder.as_posix().strip("/")
        bucket = kind(BUCKET, prefix=prefix)._bucket
        (part,) = [name for name in bucket.list_names(prefix) if name.endswith(".bin")]
        bucket.delete([part]) if is_missing else bucket.put(part, b"x" * len(LARGE_VALUE))

    return damage


LARGE_VALUE = b"large" * 20_000

#: How to damage the part of a value in each storage, and how its error names the value.
DAMAGES: dict[str, tuple[Callable[[Path, bool], None], str]] = {
    "StorageFile": (damage_files, r"w\.checkpoints/0\.json"),
    "StorageSQLite": (damage_sqlite, r"dotflow\.db, key 'w/0'"),
    "StorageS3": (damage_objects(StorageS3), r"/0\.json"),
    "StorageGCS": (damage_objects(StorageGCS), r"/0\.json"),
    "StoragePostgres": (damage_postgres, r"table dotflow_checkpoints, key 'w/0'"),
}


@pytest.mark.parametrize(("storage", "name"), [(name, name) for name in DAMAGES], indirect=["storage"])
@pytest.mark.parametrize("is_missing", [True, False], ids=["missing", "changed"])
def test_a_damaged_part_is_unreadable(storage: Storage, name: str, tmp_path: Path, is_missing: bool) -> None:
    """The error names the value and the part. The next post mends both. Other damages are in the codec's tests."""
    storage.post("w/0", Context(LARGE_VALUE, task_id=0))
    damage, where = DAMAGES[name]
    damage(tmp_path, is_missing)
    kind = "is missing" if is_missing else "(is missing|was cut off, damaged or changed)"

    with pytest.raises(CheckpointUnreadable, match=f"{where}.* its part '[^']+' {kind}"):
        storage.get("w/0")
    assert storage.contains("w/0")
    storage.post("w/0", Context(LARGE_VALUE, task_id=0))
    assert storage.get("w/0").storage == LARGE_VALUE
