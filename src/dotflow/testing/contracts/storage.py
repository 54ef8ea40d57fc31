"""StorageContract: what every storage promises, as tests for subclasses to inherit."""

import contextlib
import threading
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from dotflow.abc.storage import Storage
from dotflow.core.context import Context
from dotflow.core.decorator import action
from dotflow.core.task import Task
from dotflow.resume.journal import Journal
from dotflow.testing.contracts.equality import difference
from dotflow.testing.contracts.values import IDS, KEYS, LARGE, OTHERS, PLAIN

try:
    import pytest
except ImportError as error:
    raise ImportError("StorageContract needs pytest: its promises are pytest tests. Run: pip install pytest") from error


@action
def step() -> None:
    """The step of the tasks."""


def task_of(task_id: int = 0, workflow_id: str = "w") -> Task:
    """Returns a task, for `storage.key`."""
    return Task(task_id, step, workflow_id=workflow_id)


def is_missing(storage: Storage, key: str) -> bool:
    """Returns whether `get` and `contains` find nothing."""
    found = storage.get(key)
    assert isinstance(found, Context)
    return found.storage is None and found.task_id is None and not storage.contains(key)


def assert_same(expected: object, actual: object) -> None:
    """Checks that a value came back equal and of the same type at every level."""
    assert not (text := difference(expected, actual)), text


def post_all(storage: Storage, keys: Collection[str]) -> None:
    """Posts a number under each key."""
    for number, key in enumerate(keys):
        storage.post(key, Context(number, task_id=number))


def assert_all_found(storage: Storage, keys: Collection[str]) -> None:
    """Checks that a storage finds what `post_all` has posted."""
    assert {key: storage.get(key).storage for key in keys} == {key: number for number, key in enumerate(keys)}
    assert [key for key in keys if not storage.contains(key)] == []


def _id(text: str) -> str:
    """Returns a parameter's id for the name of a test."""
    return ascii(text[:16])[1:-1]


class StorageContract:
    """The promises of `dotflow.abc.Storage`, for a storage of any kind. `post`, `get` and `key` are enough.

    Inherit from it, and add the fixture `storage`, which returns a new, empty storage for each test.

        class TestMyStorage(StorageContract):
            @pytest.fixture
            def storage(self, tmp_path):
                return MyStorage(tmp_path)

    Add the fixture `again` for a second object over the same data, as another process would have it: each of the two
    finds what the other one posted. By default it is the same object.
    """

    @pytest.fixture
    def again(self, storage: Storage) -> Storage:
        """A second storage over the same data."""
        return storage

    # Values

    @pytest.mark.parametrize("name", PLAIN)
    def test_stores_plain_values(self, storage: Storage, again: Storage, name: str) -> None:
        """A JSON value, empty ones too, comes back equal and of the same type at every level."""
        key = storage.key(task_of())
        storage.post(key, Context(PLAIN[name], task_id=0, workflow_id="w"))

        for reader in (storage, again):
            assert reader.contains(key)
            assert_same(PLAIN[name], reader.get(key).storage)

    @pytest.mark.parametrize("name", OTHERS)
    def test_stores_a_value_unchanged_or_raises(self, storage: Storage, again: Storage, name: str) -> None:
        """Any other value comes back the same, or `post` raises and the earlier value is still there."""
        key = storage.key(task_of())
        storage.post(key, Context("before", task_id=0, workflow_id="w"))
        expected = OTHERS[name]()

        try:
            storage.post(key, Context(OTHERS[name](), task_id=0, workflow_id="w"))
        except Exception:  # the storage's own choice
            expected = "before"

        for reader in (storage, again):
            assert_same(expected, reader.get(key).storage)

    @pytest.mark.parametrize("name", LARGE)
    def test_stores_a_large_value_unchanged_or_raises(self, storage: Storage, again: Storage, name: str) -> None:
        """It comes back the same, replaces another value and is replaced by one, and adds no further key."""
        key = storage.key(task_of())
        try:
            storage.post(key, Context(LARGE[name](), task_id=0, workflow_id="w"))
        except Exception:  # the storage's own choice
            assert is_missing(storage, key)
            return

        assert_same(LARGE[name](), again.get(key).storage)
        assert list(again.list_keys()) in ([], [key])
        for value in ("small", LARGE[name](), LARGE[name]()):
            storage.post(key, Context(value, task_id=0, workflow_id="w"))
            assert_same(value, again.get(key).storage)
        storage.delete(key)
        assert is_missing(again, key)

    @pytest.mark.parametrize("step_name", ["module:Class.<locals>.name", None])
    @pytest.mark.parametrize(
        "moment",
        [
            datetime(2024, 1, 1, tzinfo=UTC),
            datetime(2024, 2, 29, 23, 59, 59, 999_999, tzinfo=timezone(timedelta(hours=5, minutes=45))),
        ],
        ids=str,
    )
    def test_a_context_keeps_its_metadata(
        self, storage: Storage, again: Storage, moment: datetime, step_name: str | None
    ) -> None:
        """The task, workflow, time and step come back with the value."""
        context = Context([1], task_id=3, workflow_id="a/b", time=moment, step=step_name)
        key = storage.key(task_of(3, "a/b"))

        storage.post(key, context)

        for found in (storage.get(key), again.get(key)):
            assert (found.storage, found.task_id, found.workflow_id) == ([1], 3, "a/b")
            assert (found.time, found.step) == (moment, step_name)

    # One key

    def test_a_missing_key_is_an_empty_context(self, storage: Storage) -> None:
        """A missing key is no error, and not contained."""
        assert is_missing(storage, storage.key(task_of()))

    @pytest.mark.parametrize("values", [(1, 2), ("long" * 5_000, "short"), ([1], None)], ids=["1", "2", "3"])
    def test_the_last_post_counts(self, storage: Storage, again: Storage, values: tuple[Any, Any]) -> None:
        """A second post replaces the first one as a whole."""
        key = storage.key(task_of())
        for value in values:
            storage.post(key, Context(value, task_id=0))

        assert_same(values[-1], again.get(key).storage)
        assert again.contains(key)

    def test_deleted_is_missing(self, storage: Storage, again: Storage) -> None:
        """A deleted key is like one that never was posted, and may be posted again."""
        key, other = storage.key(task_of()), storage.key(task_of(1))
        for posted in (key, other):
            storage.post(posted, Context(1, task_id=0))

        storage.delete(key)
        assert is_missing(storage, key)
        assert is_missing(again, key)
        assert again.get(other).storage == 1

        storage.post(key, Context(2, task_id=0))
        assert again.get(key).storage == 2

    def test_deleting_a_missing_key_is_no_error(self, storage: Storage) -> None:
        """Deleting a key twice, or one that was never posted, is no error and deletes no other."""
        storage.post(storage.key(task_of(1)), Context(1, task_id=1))
        for _ in range(2):
            storage.delete(storage.key(task_of()))

        assert is_missing(storage, storage.key(task_of()))
        assert storage.get(storage.key(task_of(1))).storage == 1

    # Keys

    def test_a_key_is_the_same_in_every_run(self, storage: Storage, again: Storage) -> None:
        """A task has the same key in the next run, and in another process."""
        task = task_of()
        keys = {reader.key(task._new_record("w", run)) for reader in (storage, again) for run in ("run-1", "run-2")}

        assert len(keys) == 1
        assert isinstance(keys.pop(), str)

    def test_every_task_of_every_workflow_has_its_own_key(self, storage: Storage, again: Storage) -> None:
        """However similar the ids, no task finds the value of another."""
        tasks = [task_of(number, workflow) for workflow in IDS for number in (0, 1, 11)]
        keys = [storage.key(task) for task in tasks]
        assert len(set(keys)) == len(keys)

        post_all(storage, keys)
        assert_all_found(again, keys)

    def test_any_text_may_be_a_key(self, storage: Storage, again: Storage) -> None:
        """However long or odd, a key finds its own value and no other one, and nothing before it was posted."""
        assert [key for key in KEYS if not is_missing(storage, key)] == []

        post_all(storage, KEYS)
        assert_all_found(again, KEYS)

    def test_each_key_is_deleted_alone(self, storage: Storage, again: Storage) -> None:
        """delete() of one key leaves all others, however similar."""
        post_all(storage, KEYS)
        for key in KEYS[::2]:
            storage.delete(key)

        assert [key for key in KEYS[::2] if not is_missing(again, key)] == []
        assert [key for key in KEYS[1::2] if is_missing(again, key)] == []

    def test_lists_all_keys_or_none(self, storage: Storage, again: Storage) -> None:
        """list_keys returns every key once, and no other; a storage that can't list returns none."""
        post_all(storage, KEYS)
        storage.delete(KEYS[5])
        listed = list(again.list_keys())

        if listed:
            assert sorted(listed) == sorted(key for key in KEYS if key != KEYS[5])

    @pytest.mark.parametrize("prefix", ["x", "x/", "k", "../", "%", "_", "a\0", "no such prefix", "K" * 5_000], ids=_id)
    def test_listed_keys_begin_with_the_prefix(self, storage: Storage, again: Storage, prefix: str) -> None:
        """A prefix is plain text, without wildcards."""
        post_all(storage, KEYS)
        listed = list(again.list_keys(prefix))

        if list(again.list_keys()):
            assert sorted(listed) == sorted(key for key in KEYS if key.startswith(prefix))
        assert all(key.startswith(prefix) for key in listed)

    # Workflows

    def test_the_journal_of_a_workflow_is_no_task(self, storage: Storage, again: Storage) -> None:
        """Beside its values a workflow has `@origin`, of the task -1: a key of its own, which clear() deletes, too."""
        saved, found = Journal(storage, "w"), Journal(again, "w")
        keys = {storage.key(task_of(number)): number for number in (0, 1, 2)}
        assert saved.read() == ""
        saved.delete()

        saved.put(origin="first", left_out=["0"])
        post_all(storage, keys)
        saved.void(["0", "charge-03007d22d38704c1a9be"])
        assert found.read() == "first"
        assert found.fact("left_out") == ["0"]
        assert found.key_base(["0"], "") == saved.key_base(["0"], "")
        assert_all_found(again, keys)
        assert Journal(again, "w/0").read() == ""

        saved.delete()
        assert found.read() == ""
        assert found.fact("left_out") == []
        assert_all_found(again, keys)

        saved.put(origin="second")
        assert found.read() == "second"
        assert storage.clear("w") == (found.read() == "")
        assert storage.clear("another") in (True, False)
        saved.put(origin="third")
        assert found.read() == "third"

    @pytest.mark.parametrize("workflow_id", ["a", "a/b", "A", "/", "..", "%", "a" * 5_000, "never seen"], ids=_id)
    def test_clear_leaves_other_workflows_alone(self, storage: Storage, again: Storage, workflow_id: str) -> None:
        """True means that all values of the workflow are deleted; those of others never are."""
        several = {workflow_id: (0, 11)}  # one task of each other workflow is enough
        owners = {storage.key(task_of(number, owner)): owner for owner in IDS for number in several.get(owner, (0,))}
        owners |= {f"{key}-03007d22d38704c1a9be": owner for key, owner in owners.items()}  # items of mapped tasks
        post_all(storage, owners)

        cleared = storage.clear(workflow_id)

        assert cleared in (True, False)
        missing = {key for key in owners if is_missing(again, key)}
        own = {key for key, owner in owners.items() if owner == workflow_id}
        assert missing - own == set()
        assert own - missing == set() or not cleared

    def test_a_cleared_workflow_can_be_posted_again(self, storage: Storage, again: Storage) -> None:
        """After clear() a new run starts like the first one."""
        key = storage.key(task_of())
        for value in (1, 2):
            storage.clear("w")
            storage.post(key, Context(value, task_id=0))

            assert again.get(key).storage == value

    @pytest.mark.parametrize("workflow_id", ["w", "../w", "a" * 5_000, "😀\0"], ids=_id)
    def test_runs_of_one_process_share_a_lock(self, storage: Storage, again: Storage, workflow_id: str) -> None:
        """One process may enter lock() more than once, by two objects, leave it in any order, and enter it again."""
        key = storage.key(task_of(0, workflow_id))
        for _ in range(2):
            first, second = storage.lock(workflow_id), again.lock(workflow_id)
            with contextlib.ExitStack() as stack:
                stack.enter_context(storage.lock("another"))
                first.__enter__()
                second.__enter__()
                storage.post(key, Context(1, task_id=0))
                first.__exit__(None, None, None)
                assert again.get(key).storage == 1
                second.__exit__(None, None, None)

    # Threads

    def test_threads_may_post_at_once(self, storage: Storage, again: Storage) -> None:
        """Threads that post under keys of their own lose and mix up nothing."""
        keys = {number: [storage.key(task_of(task, f"w{number}")) for task in range(10)] for number in range(8)}
        barrier = threading.Barrier(len(keys))

        def post(number: int) -> None:
            barrier.wait()
            for key in keys[number]:
                storage.post(key, Context([number, key], task_id=0))
                assert storage.get(key).storage == [number, key]

        with ThreadPoolExecutor(len(keys)) as pool:
            list(pool.map(post, keys))  # raises what a thread raised

        assert [key for number in keys for key in keys[number] if again.get(key).storage != [number, key]] == []
