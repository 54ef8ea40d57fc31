"""StorageContract: what every storage promises, as tests that a storage signs by inheriting them."""

import contextlib
import threading
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from dotflow.abc.storage import Storage
from dotflow.core.action import action
from dotflow.core.context import Context
from dotflow.core.task import Task
from dotflow.testing.contracts.equality import difference
from dotflow.testing.contracts.values import IDS, KEYS, LARGE, OTHERS, PLAIN
from dotflow.testing.threads import run_threads

try:
    import pytest
except ImportError as error:
    raise ImportError("StorageContract is made of pytest tests, and pytest is missing: pip install pytest") from error


@action
def step() -> None:
    """Stands for any step: a storage's keys are asked for by task, and a task has one."""


def task_of(task_id: int = 0, workflow_id: str = "w") -> Task:
    """A task, as a run asks a storage about it."""
    return Task(task_id, step, workflow_id=workflow_id)


def is_missing(storage: Storage, key: str) -> bool:
    """Whether nothing is there, whichever way one asks."""
    found = storage.get(key)
    assert isinstance(found, Context)
    return found.storage is None and found.task_id is None and not storage.contains(key)


def assert_same(expected: object, found: object) -> None:
    """It came back equal and of the same type, at every level."""
    told = difference(expected, found)
    assert not told, told


def _cut(text: str) -> str:
    """How a parameter is called in a test's name."""
    return ascii(text[:16])[1:-1]


class StorageContract:
    """The promises of `dotflow.abc.Storage`, for the storage that a fixture gives. `post`, `get` and `key` are enough.

    Inherit, and add the fixture `storage`: a storage with nothing in it, anew for each test.

        class TestMyStorage(StorageContract):
            @pytest.fixture
            def storage(self, tmp_path):
                return MyStorage(tmp_path)

    The fixture `again` may be added: a second object over the same place, as another process would have it. What one of
    the two has posted the other gets. Without it, the storage stands for both.
    """

    @pytest.fixture
    def again(self, storage: Storage) -> Storage:
        """A second storage over the same place."""
        return storage

    # Values

    @pytest.mark.parametrize("name", PLAIN)
    def test_keeps_plain_values(self, storage: Storage, again: Storage, name: str) -> None:
        """What JSON can say comes back equal and of the same type at every level, the empty ones too."""
        key = storage.key(task_of())
        storage.post(key, Context(PLAIN[name], task_id=0, workflow_id="w"))

        for found in (storage, again):
            assert found.contains(key)
            assert_same(PLAIN[name], found.get(key).storage)

    @pytest.mark.parametrize("name", OTHERS)
    def test_keeps_a_value_as_it_is_or_refuses_it(self, storage: Storage, again: Storage, name: str) -> None:
        """Any other value comes back like that too, or `post` raises, and what was there before is still there."""
        key = storage.key(task_of())
        storage.post(key, Context("before", task_id=0, workflow_id="w"))
        expected = OTHERS[name]()

        try:
            storage.post(key, Context(OTHERS[name](), task_id=0, workflow_id="w"))
        except Exception:  # the storage's own: any will do
            expected = "before"

        for found in (storage, again):
            assert_same(expected, found.get(key).storage)

    @pytest.mark.parametrize("name", LARGE)
    def test_keeps_a_large_value_or_refuses_it(self, storage: Storage, again: Storage, name: str) -> None:
        """It comes back, takes another one's place, gives its own away, and adds no key beside its own."""
        key = storage.key(task_of())
        try:
            storage.post(key, Context(LARGE[name](), task_id=0, workflow_id="w"))
        except Exception:  # the storage's own: any will do
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
    def test_a_context_says_the_same_of_itself(
        self, storage: Storage, again: Storage, moment: datetime, step_name: str | None
    ) -> None:
        """Its task, workflow, moment and step come back with the value."""
        context = Context([1], task_id=3, workflow_id="a/b", time=moment, step=step_name)
        key = storage.key(task_of(3, "a/b"))

        storage.post(key, context)

        for found in (storage.get(key), again.get(key)):
            assert (found.storage, found.task_id, found.workflow_id) == ([1], 3, "a/b")
            assert (found.time, found.step) == (moment, step_name)

    # One key

    def test_a_missing_key_is_an_empty_context(self, storage: Storage) -> None:
        """Nothing there is no error, and not contained."""
        assert is_missing(storage, storage.key(task_of()))

    @pytest.mark.parametrize("values", [(1, 2), ("long" * 5_000, "short"), ([1], None)], ids=["1", "2", "3"])
    def test_the_last_one_counts(self, storage: Storage, again: Storage, values: tuple[Any, Any]) -> None:
        """A second post takes the first one's place, as a whole."""
        key = storage.key(task_of())
        for value in values:
            storage.post(key, Context(value, task_id=0))

        assert_same(values[-1], again.get(key).storage)
        assert again.contains(key)

    def test_deleted_is_missing(self, storage: Storage, again: Storage) -> None:
        """After delete the key is as if it had never been, and may be posted again."""
        key, other = storage.key(task_of()), storage.key(task_of(1))
        for posted in (key, other):
            storage.post(posted, Context(1, task_id=0))

        storage.delete(key)
        assert is_missing(storage, key)
        assert is_missing(again, key)
        assert again.get(other).storage == 1

        storage.post(key, Context(2, task_id=0))
        assert again.get(key).storage == 2

    def test_deleting_what_is_missing_is_harmless(self, storage: Storage) -> None:
        """Whether it was deleted before or never there."""
        storage.post(storage.key(task_of(1)), Context(1, task_id=1))
        for _ in range(2):
            storage.delete(storage.key(task_of()))

        assert is_missing(storage, storage.key(task_of()))
        assert storage.get(storage.key(task_of(1))).storage == 1

    # Keys

    def test_a_key_is_the_same_in_every_run(self, storage: Storage, again: Storage) -> None:
        """A task finds its own value in the next run, and in another process."""
        task = task_of()
        keys = {found.key(task._new_record("w", run)) for found in (storage, again) for run in ("run-1", "run-2")}

        assert len(keys) == 1
        assert isinstance(keys.pop(), str)

    def test_every_task_of_every_workflow_has_a_place_of_its_own(self, storage: Storage, again: Storage) -> None:
        """Whatever their ids have in common: what one has posted is not what another one finds."""
        tasks = [task_of(number, workflow) for workflow in IDS for number in (0, 1, 11)]
        keys = [storage.key(task) for task in tasks]
        assert len(set(keys)) == len(keys)

        self._post_each(storage, keys)
        self._find_each(again, keys)

    def test_any_text_may_be_a_key(self, storage: Storage, again: Storage) -> None:
        """However long or odd, it finds its own value and no other's, and nothing is found under it before."""
        assert [key for key in KEYS if not is_missing(storage, key)] == []

        self._post_each(storage, KEYS)
        self._find_each(again, KEYS)

    def test_each_key_is_deleted_alone(self, storage: Storage, again: Storage) -> None:
        """delete() of one text leaves all the others, those that look like it too."""
        self._post_each(storage, KEYS)
        for key in KEYS[::2]:
            storage.delete(key)

        assert [key for key in KEYS[::2] if not is_missing(again, key)] == []
        assert [key for key in KEYS[1::2] if is_missing(again, key)] == []

    def test_lists_all_keys_or_none(self, storage: Storage, again: Storage) -> None:
        """list_keys tells of every key that is there, once, and of no other; a storage that can't tell lists none."""
        self._post_each(storage, KEYS)
        storage.delete(KEYS[5])
        listed = list(again.list_keys())

        if listed:
            assert sorted(listed) == sorted(key for key in KEYS if key != KEYS[5])

    @pytest.mark.parametrize(
        "prefix", ["x", "x/", "k", "../", "%", "_", "a\0", "no such prefix", "K" * 5_000], ids=_cut
    )
    def test_listed_keys_begin_with_the_prefix(self, storage: Storage, again: Storage, prefix: str) -> None:
        """As they are written, with every character meant as itself."""
        self._post_each(storage, KEYS)
        listed = list(again.list_keys(prefix))

        if list(again.list_keys()):
            assert sorted(listed) == sorted(key for key in KEYS if key.startswith(prefix))
        assert all(key.startswith(prefix) for key in listed)

    # Workflows

    @pytest.mark.parametrize("workflow_id", ["a", "a/b", "A", "/", "..", "%", "a" * 5_000, "never seen"], ids=_cut)
    def test_clear_leaves_other_workflows_alone(self, storage: Storage, again: Storage, workflow_id: str) -> None:
        """True means that all of the one is gone; all of the others is still there in any case."""
        several = {workflow_id: (0, 11)}  # of the others one is enough
        owners = {storage.key(task_of(number, owner)): owner for owner in IDS for number in several.get(owner, (0,))}
        self._post_each(storage, owners)

        cleared = storage.clear(workflow_id)

        assert cleared in (True, False)
        missing = {key for key in owners if is_missing(again, key)}
        meant = {key for key, owner in owners.items() if owner == workflow_id}
        assert missing - meant == set()
        assert meant - missing == set() or not cleared

    def test_what_was_cleared_can_be_filled_again(self, storage: Storage, again: Storage) -> None:
        """A new run begins like the first one."""
        key = storage.key(task_of())
        for value in (1, 2):
            storage.clear("w")
            storage.post(key, Context(value, task_id=0))

            assert again.get(key).storage == value

    @pytest.mark.parametrize("workflow_id", ["w", "../w", "a" * 5_000, "😀\0"], ids=_cut)
    def test_runs_of_one_process_hold_a_workflow_together(
        self, storage: Storage, again: Storage, workflow_id: str
    ) -> None:
        """lock() can be entered more than once here and by a second object, left in any order, and entered again."""
        key = storage.key(task_of(0, workflow_id))
        for _ in range(2):
            first, second = storage.lock(workflow_id), again.lock(workflow_id)
            with contextlib.ExitStack() as left:
                left.enter_context(storage.lock("another"))
                first.__enter__()
                second.__enter__()
                storage.post(key, Context(1, task_id=0))
                first.__exit__(None, None, None)
                assert again.get(key).storage == 1
                second.__exit__(None, None, None)

    # Threads

    def test_threads_may_post_at_once(self, storage: Storage, again: Storage) -> None:
        """Each under keys of its own: nothing is lost and nothing mixed up."""
        keys = {number: [storage.key(task_of(task, f"w{number}")) for task in range(10)] for number in range(8)}
        begin = threading.Barrier(len(keys))

        def post(number: int) -> None:
            begin.wait()
            for key in keys[number]:
                storage.post(key, Context([number, key], task_id=0))
                assert storage.get(key).storage == [number, key]

        run_threads(post, list(keys))

        assert [key for number in keys for key in keys[number] if again.get(key).storage != [number, key]] == []

    def _post_each(self, storage: Storage, keys: Any) -> None:
        for number, key in enumerate(keys):
            storage.post(key, Context(number, task_id=number))

    def _find_each(self, storage: Storage, keys: Any) -> None:
        found = {key: storage.get(key).storage for key in keys}
        assert found == {key: number for number, key in enumerate(keys)}
        assert [key for key in keys if not storage.contains(key)] == []
