"""StorageContract itself: what breaks a promise does not pass, and says how."""

import contextlib
import json
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pydantic
import pytest

from dotflow import Context, Task
from dotflow.abc.storage import Storage
from dotflow.errors import WorkflowBusy
from dotflow.providers import StorageDefault
from dotflow.testing import StorageContract
from dotflow.testing.contracts.equality import difference
from dotflow.testing.contracts.values import KEYS, OTHERS, PLAIN, Colour, Frozen, Level, Name, Pair, Point


class Json(StorageDefault):
    """Keeps what JSON makes of a value."""

    def post(self, key: str, context: Context) -> None:
        text = json.dumps(context.storage, default=str)
        super().post(key, Context(json.loads(text), context.task_id, context.workflow_id, context.time, context.step))


class LosesNone(StorageDefault):
    """Has no place for None."""

    def post(self, key: str, context: Context) -> None:
        if context.storage is not None:
            super().post(key, context)


class LosesWhoMadeIt(StorageDefault):
    """Keeps the value alone."""

    def post(self, key: str, context: Context) -> None:
        super().post(key, Context(context.storage))


class TearsAtRefusal(StorageDefault):
    """Clears the place before it knows what comes there."""

    def post(self, key: str, context: Context) -> None:
        self.delete(key)
        super().post(key, pickle.loads(json.dumps(context.storage).encode() and pickle.dumps(context)))


class CutsKeys(StorageDefault):
    """Has room for 255 characters."""

    def post(self, key: str, context: Context) -> None:
        super().post(key[:255], context)

    def get(self, key: str) -> Context:
        return super().get(key[:255])

    def contains(self, key: str) -> bool:
        return super().contains(key[:255])


class FoldsKeys(StorageDefault):
    """A file system that does not tell capitals from small letters."""

    def post(self, key: str, context: Context) -> None:
        super().post(key.casefold(), context)

    def get(self, key: str) -> Context:
        return super().get(key.casefold())

    def contains(self, key: str) -> bool:
        return super().contains(key.casefold())


class MixesKeys(StorageDefault):
    """Its keys of two tasks of two workflows may be the same."""

    def key(self, task: Task) -> str:
        return f"{task.workflow_id}{task.task_id}"


class CountsFromZero(StorageDefault):
    """Has no place for the task -1."""

    def key(self, task: Task) -> str:
        return f"{task.workflow_id}/{max(task.task_id, 0)}"


class NewKeys(StorageDefault):
    """Its keys are those of one run."""

    def key(self, task: Task) -> str:
        return f"{task.run_id}/{task.task_id}"


class NeverDeletes(StorageDefault):
    """What it has it holds."""

    def delete(self, key: str) -> None:
        pass


class ClearsByPrefix(StorageDefault):
    """Takes a/b for a part of a."""

    def clear(self, workflow_id: str) -> bool:
        for key in self.list_keys(f"{workflow_id}/"):
            self.delete(key)
        return True


class SaysItCleared(StorageDefault):
    """And did not."""

    def clear(self, workflow_id: str) -> bool:
        return True


class ListsSome(StorageDefault):
    """The first page of them."""

    def list_keys(self, prefix: str = "") -> Iterable[str]:
        return list(super().list_keys(prefix))[:10]


class ListsByPattern(StorageDefault):
    """For SQL's LIKE, _ is any character."""

    def list_keys(self, prefix: str = "") -> Iterable[str]:
        return super().list_keys("" if prefix == "_" else prefix)


class HoldsAgainstItself(StorageDefault):
    """Keeps off the runs of its own process."""

    def __init__(self) -> None:
        super().__init__()
        self.held: set[str] = set()

    @contextlib.contextmanager
    def lock(self, workflow_id: str) -> Any:
        if workflow_id in self.held:
            raise WorkflowBusy(workflow_id, "memory", "this process")
        self.held.add(workflow_id)
        yield
        self.held.discard(workflow_id)


class OneAtATime(StorageDefault):
    """Two posts at once end up under one key."""

    def post(self, key: str, context: Context) -> None:
        self.last = key
        time.sleep(0.001)  # while it writes
        super().post(self.last, context)


def keeps(name: str) -> "Promise":
    """Another value than a plain one."""
    return lambda contract, found: contract.test_stores_a_value_unchanged_or_raises(found, found, name)


def has_places(contract: StorageContract, found: Storage) -> None:
    """Every task has its own."""
    contract.test_every_task_of_every_workflow_has_its_own_key(found, found)


def holds(contract: StorageContract, found: Storage) -> None:
    """More than once in one process."""
    contract.test_runs_of_one_process_share_a_lock(found, found, "w")


def tells_of_itself(contract: StorageContract, found: Storage) -> None:
    """The context's task, workflow, moment and step."""
    contract.test_a_context_keeps_its_metadata(found, found, datetime(2024, 1, 1, tzinfo=UTC), "m:f")


Promise = Callable[[StorageContract, Storage], None]

BROKEN: list[tuple[type[Storage], Promise]] = [
    (Json, keeps("tuple")),
    (Json, keeps("decimal")),
    (
        Json,
        lambda contract, found: contract.test_stores_a_value_unchanged_or_raises(found, found, "dict with numbers"),
    ),
    (
        Json,
        lambda contract, found: contract.test_stores_a_value_unchanged_or_raises(found, found, "enum like a number"),
    ),
    (LosesNone, lambda contract, found: contract.test_stores_plain_values(found, found, "None")),
    (LosesNone, lambda contract, found: contract.test_the_last_post_counts(found, found, ([1], None))),
    (LosesWhoMadeIt, tells_of_itself),
    (TearsAtRefusal, keeps("bytes")),
    (CutsKeys, lambda contract, found: contract.test_any_text_may_be_a_key(found, found)),
    (FoldsKeys, lambda contract, found: contract.test_any_text_may_be_a_key(found, found)),
    (
        FoldsKeys,
        has_places,
    ),
    (
        MixesKeys,
        has_places,
    ),
    (CountsFromZero, lambda contract, found: contract.test_the_journal_of_a_workflow_is_no_task(found, found)),
    (NeverDeletes, lambda contract, found: contract.test_the_journal_of_a_workflow_is_no_task(found, found)),
    (SaysItCleared, lambda contract, found: contract.test_the_journal_of_a_workflow_is_no_task(found, found)),
    (NewKeys, lambda contract, found: contract.test_a_key_is_the_same_in_every_run(found, found)),
    (NeverDeletes, lambda contract, found: contract.test_deleted_is_missing(found, found)),
    (NeverDeletes, lambda contract, found: contract.test_each_key_is_deleted_alone(found, found)),
    (ClearsByPrefix, lambda contract, found: contract.test_clear_leaves_other_workflows_alone(found, found, "a")),
    (SaysItCleared, lambda contract, found: contract.test_clear_leaves_other_workflows_alone(found, found, "a")),
    (ListsSome, lambda contract, found: contract.test_lists_all_keys_or_none(found, found)),
    (ListsByPattern, lambda contract, found: contract.test_listed_keys_begin_with_the_prefix(found, found, "_")),
    (
        HoldsAgainstItself,
        holds,
    ),
    (OneAtATime, lambda contract, found: contract.test_threads_may_post_at_once(found, found)),
]


@pytest.mark.parametrize(
    ("kind", "promise"), BROKEN, ids=[f"{kind.__name__}-{n}" for n, (kind, _) in enumerate(BROKEN)]
)
def test_a_storage_that_breaks_a_promise_does_not_pass(kind: type[Storage], promise: Promise) -> None:
    """Each promise is there for a storage that seems to work."""
    with pytest.raises((AssertionError, WorkflowBusy)):
        promise(StorageContract(), kind())


def test_a_storage_that_others_do_not_see_does_not_pass() -> None:
    """What one object has posted the other one, in another process, has to get."""
    with pytest.raises(AssertionError):
        StorageContract().test_stores_plain_values(StorageDefault(), StorageDefault(), "text")


def test_a_failure_shows_the_value_that_came_back() -> None:
    """The value, its type and its place in a larger one."""
    with pytest.raises(
        AssertionError, match=r"at \['a'\] expected \(1, 2\) \(of type tuple\), came \[1, 2\] \(of type list\)"
    ):
        StorageContract().test_stores_a_value_unchanged_or_raises(Json(), Json(), "tuple in a dict")


def test_without_pytest_the_error_names_its_installation() -> None:
    """pytest is no dependency of dotflow; whoever signs the contract needs it, and nobody else."""
    program = (
        "import sys; sys.modules['pytest'] = None\n"
        "from dotflow.testing import assert_survives_crashes\n"
        "try:\n    from dotflow.testing import StorageContract\n"
        "except ImportError as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}\n{program}"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert "pip install pytest" in done.stdout


def test_the_table_of_values_keeps_its_promises() -> None:
    """Plain values are what JSON gives back by itself; no key stands there twice."""
    for value in PLAIN.values():
        assert not difference(value, json.loads(json.dumps(value)))
    assert len(set(KEYS)) == len(KEYS)


# Sameness


@pytest.mark.parametrize("name", [*PLAIN, *OTHERS])
def test_a_copy_is_the_same(name: str) -> None:
    """Whatever a value is made of, its copy from another process is no other value."""
    value = PLAIN[name] if name in PLAIN else OTHERS[name]()
    assert not difference(value, pickle.loads(pickle.dumps(value)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True),
        (1, 1.0),
        (0.0, -0.0),
        (None, 0),
        ("", None),
        ([1], (1,)),
        ({"a": 1}, {"a": True}),
        ({1: "a"}, {"1": "a"}),
        ({1: "a"}, {True: "a"}),
        ({(1, 2): 0}, {(1, True): 0}),
        ({1}, {1.0}),
        ({1}, frozenset({1})),
        ({1, 2}, {1, 3}),
        ([1, 2], [1]),
        ({"a": 1}, {"a": 1, "b": 2}),
        (Decimal("1.0"), Decimal("1.00")),
        (datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))),
        (datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1)),
        (Name("a"), "a"),
        (Level.HIGH, 3),
        (Colour.RED, "red"),
        (Pair(1, 2), (1, 2)),
        (Point(1, ("a",)), Point(1, ["a"])),  # type: ignore[arg-type]
        (Frozen(datetime(2024, 1, 1)), Frozen(datetime(2024, 1, 2))),
        (Context(1, 0), Context(1, 1)),
        (Context((1,), 0), Context([1], 0)),
        (float("nan"), float("inf")),
        (b"a", bytearray(b"a")),
    ],
    ids=repr,
)
def test_values_that_only_look_the_same_differ(one: object, other: object) -> None:
    """Equality alone would let these pass."""
    assert difference(one, other)
    assert difference([{"k": one}], [{"k": other}])


def test_the_part_of_a_model_that_differs_is_named() -> None:
    """Models are compared by their fields, the extra ones included."""

    class Model(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(arbitrary_types_allowed=True, extra="allow")
        made: Any

    early, late = (Model(made=Context(1, time=datetime(2024, 1, day, tzinfo=UTC))) for day in (1, 2))
    assert not difference(early, late, moments=False)
    assert difference(Model(made=1), Model(made=2)) == "at .made expected 1, came 2"
    early, late = (Model.model_validate({"made": 1, "more": [number]}) for number in (3, 4))
    assert difference(early, late) == "at .more[0] expected 3, came 4"


def test_a_value_may_hold_itself() -> None:
    """The comparison ends."""
    one: list[Any] = [1]
    one.append(one)
    other: list[Any] = [1]
    other.append(other)

    assert not difference(one, other)


def test_moments_may_be_left_out() -> None:
    """Two runs of a class step differ in nothing else."""
    early, late = (Context([Context(1, 0, time=datetime(2024, 1, day, tzinfo=UTC))], 0) for day in (1, 2))

    assert difference(early, late)
    assert not difference(early, late, moments=False)
