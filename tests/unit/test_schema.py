"""The Pydantic models behind result() and schema(): their JSON never fails."""

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dotflow import Context, DotFlow, Task, action
from dotflow.core.events import AttemptFailed, AttemptStarted, TaskCompleted, TaskFailed
from dotflow.core.failure import Failure
from dotflow.core.types.status import TypeStatus
from dotflow.graph.schema import WorkflowResult, WorkflowSchema, jsonable

START = datetime(2024, 1, 1, tzinfo=UTC)


class Colour(StrEnum):
    RED = "red"


class Unrepresentable:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class ReprOfAnotherKind:
    def __repr__(self) -> str:
        return 5


class ReprWithSurrogate:
    def __repr__(self) -> str:
        return "<\ud800>"


class Hashless:
    __hash__ = None

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no ==")


class TruthLess:
    def __bool__(self) -> bool:
        raise RuntimeError("no truth")

    def __len__(self) -> int:
        raise RuntimeError("no length")


class ClassLess:
    @property
    def __class__(self) -> type:
        raise RuntimeError("no class")


def circle() -> list[Any]:
    value: list[Any] = [1]
    value.append(value)
    return value


def branching_circle() -> list[Any]:
    value: list[Any] = []
    value += [value, {"again": value}, (value,)]
    return value


def deep(levels: int, wrap: Callable[[Any], Any]) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = wrap(value)
    return value


ODD: list[Any] = [
    math.nan,
    math.inf,
    [math.nan, {"a": -math.inf}],
    "\ud800",
    ["\udfff", {"\ud800": "\ud800"}],
    b"\xff\x00",
    {1: 2},
    {(1, 2): "tuple"},
    {None: 1, "a": 2},
    {Unrepresentable(): 1},
    {1, 2},
    object(),
    Unrepresentable(),
    [Unrepresentable()],
    ReprOfAnotherKind(),
    ReprWithSurrogate(),
    Hashless(),
    TruthLess(),
    circle(),
    deep(10_000, lambda value: [value]),
    deep(10_000, lambda value: {"a": value}),
    deep(10_000, lambda value: Context(task_id=1) and [Context(value)]),
    10**5000,
    -(10**5000),
    [10**400],
    2**64,
    Decimal("1.1"),
    Path("a"),
    START,
    timedelta(1),
    Colour.RED,
    lambda: 1,
    int,
    math,
    iter([]),
    ValueError("x"),
    Context(Context([1])),
    [Context(1), Context(math.nan)],
    1 + 2j,
    range(3),
    memoryview(b"x"),
    type("X", (dict,), {})({"a": 1}),
    "\x00\u2028\U0001f600",
]


def task_with(value: object, **options: Any) -> Task:
    task = Task(0, action(lambda: None), **options)._new_record("w", "r")
    task._apply(AttemptStarted(0, 1, Context(), START, 10.0))
    task._apply(TaskCompleted(0, Context(value, task_id=0, time=START + timedelta(seconds=2)), 12.0))
    return task


@pytest.mark.parametrize("value", ODD, ids=lambda value: type(value).__name__)
def test_json_never_fails(value: object) -> None:
    """The result and the schema of any value can be written as JSON, and JSON reads it."""
    task = task_with(value, initial_context=Context(value))
    result = WorkflowResult.of("w", "r", None, TypeStatus.COMPLETED, [task])
    schema = WorkflowSchema.of("w", None, [task])

    for model in (result, schema):
        text = model.model_dump_json()
        assert len(json.loads(text)["tasks"]) == 1
        json.dumps(model.model_dump(mode="json"), allow_nan=False)


def test_an_object_without_a_class() -> None:
    """An object whose __class__ raises does not break the JSON of the others."""
    assert isinstance(jsonable(ClassLess()), str)


def test_a_circle_with_branches_ends() -> None:
    """A value that contains itself several times appears as its repr, soon."""
    assert len(json.dumps(jsonable(branching_circle()))) < 10_000


@pytest.mark.parametrize(
    ("value", "json_value"),
    [
        (None, None),
        (True, True),
        (0, 0),
        (1.5, 1.5),
        ("text", "text"),
        ([1, "a", None], [1, "a", None]),
        ((1, 2), [1, 2]),
        ({"a": {"b": []}}, {"a": {"b": []}}),
        (Context({"a": 1}), {"a": 1}),
        ([Context(1), Context(2)], [1, 2]),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (b"x", "b'x'"),
        ({1: 2}, "{1: 2}"),
        (Decimal("1.10"), "Decimal('1.10')"),
        (Colour.RED, "<Colour.RED: 'red'>"),
        (Path("a"), repr(Path("a"))),
    ],
    ids=repr,
)
def test_json_types_stay_and_others_are_their_repr(value: object, json_value: object) -> None:
    """Plain JSON values are unchanged, contexts are their value, everything else is its repr."""
    assert jsonable(value) == json_value


def test_a_repr_that_raises() -> None:
    """The JSON names the type and the error of its repr."""
    assert jsonable(Unrepresentable()) == "<Unrepresentable: its repr raised RuntimeError>"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda members: st.lists(members) | st.dictionaries(st.text(), members),
        max_leaves=20,
    )
)
def test_json_values_come_back_equal(value: object) -> None:
    """A JSON value survives the model's JSON unchanged."""
    assert json.loads(json.dumps(jsonable(value))) == value


def test_the_same_object_twice_is_no_circle() -> None:
    """A list that appears in two places is written in both."""
    shared = [1, 2]

    assert jsonable([shared, {"a": shared}]) == [[1, 2], {"a": [1, 2]}]


@pytest.mark.parametrize("odd", ["\ud800", "a\x00b", "\U0001f600", "'\"\\"])
def test_odd_names_and_ids(odd: str, make_workflow: Callable[..., DotFlow]) -> None:
    """The name of a workflow, a group or a step may be any text."""

    def step() -> None: ...

    def notify(task: Task) -> None: ...

    step.__qualname__ = odd
    notify.__qualname__ = odd
    task = Task(0, action(step), notify, group_name=odd)
    result = WorkflowResult.of(odd, odd, odd, TypeStatus.COMPLETED, [task])
    schema = WorkflowSchema.of(odd, odd, [task])

    for model in (result, schema):
        json.loads(model.model_dump_json())
        json.dumps(model.model_dump(mode="json"))


@pytest.mark.parametrize("message", ["\ud800", "two\nlines", ""])
def test_odd_error_messages(message: str) -> None:
    """An error's message and traceback may be any text too."""
    task = Task(0, action(lambda: None))._new_record("w", "r")
    task._apply(TaskFailed(0, 1, Failure(message, message, message), START, 1.0))

    json.loads(WorkflowResult.of("w", "r", None, TypeStatus.FAILED, [task]).model_dump_json())


class Callback:
    def __call__(self, task: Task) -> None: ...

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


def test_a_callback_without_a_name_or_a_repr() -> None:
    """A callable object is a callback, whatever its repr does."""
    schema = WorkflowSchema.of("w", None, [Task(0, action(lambda: None), Callback())])

    assert isinstance(json.loads(schema.model_dump_json())["tasks"][0]["callback"], str)


def test_a_result_has_everything(make_workflow: Callable[..., DotFlow]) -> None:
    """Each task has its name, status, value, errors, attempts and times."""

    @action(retry=2)
    def load() -> None: ...

    task = Task(0, load, group_name="g")._new_record("w", "r")
    task._apply(AttemptStarted(0, 1, Context(), START, 10.0))
    task._apply(AttemptFailed(0, 1, Failure("ValueError", "no", "Traceback...\n"), 1.0))
    task._apply(AttemptStarted(0, 2, Context(), START, 11.0))
    task._apply(TaskCompleted(0, Context([1], time=START + timedelta(seconds=2)), 12.5))

    result = WorkflowResult.of("w", "r", "my workflow", TypeStatus.COMPLETED, [task])

    assert json.loads(result.model_dump_json()) == {
        "workflow_id": "w",
        "run_id": "r",
        "name": "my workflow",
        "status": "Completed",
        "tasks": [
            {
                "task_id": 0,
                "name": "load",
                "group_name": "g",
                "status": "Completed",
                "value": [1],
                "errors": [{"attempt": 1, "exception": "ValueError", "message": "no", "traceback": "Traceback...\n"}],
                "attempt": 2,
                "retry_count": 1,
                "started_at": "2024-01-01T00:00:00Z",
                "finished_at": "2024-01-01T00:00:02Z",
                "duration": 2.5,
                "reason": "",
                "items": None,
            }
        ],
    }


def test_the_model_holds_the_value_itself() -> None:
    """Only the JSON converts the value: in Python it is the same object."""
    value = object()

    assert WorkflowResult.of("w", "r", None, TypeStatus.COMPLETED, [task_with(value)]).tasks[0].value is value


def test_a_result_does_not_change() -> None:
    """It can't be changed, and doesn't change when the task does."""
    task = Task(0, action(lambda: None))._new_record("w", "r")
    result = WorkflowResult.of("w", "r", None, TypeStatus.NOT_STARTED, [task])

    task._apply(TaskFailed(0, 1, Failure("ValueError", "no"), START, 1.0))

    assert result.tasks[0].status is TypeStatus.NOT_STARTED
    assert result.tasks[0].errors == []
    with pytest.raises(ValueError, match="frozen"):
        result.status = TypeStatus.FAILED


def test_json_can_be_read_back_as_a_model() -> None:
    """The model reads its own JSON."""
    for model in (
        WorkflowResult.of("w", "r", None, TypeStatus.COMPLETED, [task_with([1])]),
        WorkflowSchema.of("w", None, [task_with([1])]),
    ):
        assert type(model).model_validate_json(model.model_dump_json()) == model


def test_has_a_json_schema() -> None:
    """The models have a JSON schema."""
    assert "tasks" in WorkflowResult.model_json_schema(mode="serialization")["properties"]
    assert "tasks" in WorkflowSchema.model_json_schema(mode="serialization")["properties"]
