"""TaskBuilder: builds the tasks of a workflow."""

from inspect import signature
from typing import Any

import pytest

from dotflow import Context, Task, action
from dotflow.core import callables
from dotflow.core.types.status import TypeStatus
from dotflow.errors import (
    InvalidArgument,
    InvalidCallback,
    InvalidPath,
    InvalidStep,
    UnknownParameter,
)
from dotflow.graph.builder import TaskBuilder
from tests.names import plain


def notify(task: Task) -> None:
    """A callback."""


@action
def one() -> int:
    return 1


@action
def two() -> int:
    return 2


@action
def three() -> int:
    return 3


@pytest.fixture
def builder() -> TaskBuilder:
    return TaskBuilder("w", "my workflow")


def names(builder: TaskBuilder) -> list[str]:
    return [task.name for task in builder]


def test_an_empty_one(builder: TaskBuilder) -> None:
    """A new builder has no tasks."""
    assert builder.count() == len(builder) == 0
    assert list(builder) == []


def test_add_makes_a_task_for_each_step(builder: TaskBuilder) -> None:
    """Tasks are numbered from 0 in the order of add, those of a list one by one."""
    builder.add(one).add([two, three]).add(step=one)

    assert names(builder) == ["one", "two", "three", "one"]
    assert [task.task_id for task in builder] == [0, 1, 2, 3]
    assert builder.count() == 4


def test_add_returns_the_builder(builder: TaskBuilder) -> None:
    """So that calls chain."""
    assert builder.add(one) is builder
    assert builder.clear() is builder
    assert builder.reverse() is builder


def test_a_task_has_the_arguments_of_add(builder: TaskBuilder) -> None:
    """Callback, initial context and group are those of its add."""
    builder.add([one, two], callback=notify, initial_context={"a": 1}, group_name="g").add(three)

    first, second, third = builder

    for task in (first, second):
        assert task.callback is notify
        assert task.initial_context.storage == {"a": 1}
        assert task.group_name == "g"
    assert (third.callback, third.initial_context.storage, third.group_name) == (None, None, "default")
    assert {task.workflow_id for task in builder} == {"w"}
    assert {task.status for task in builder} == {TypeStatus.NOT_STARTED}


def test_an_initial_context_keeps_one_layer(builder: TaskBuilder) -> None:
    """A Context given as the initial context is not wrapped again."""
    builder.add(one, initial_context=Context(5))

    assert next(iter(builder)).initial_context.storage == 5


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"step": 5}, InvalidStep),
        ({"step": []}, InvalidStep),
        ({"step": [one, two, 5]}, InvalidStep),
        ({"step": lambda: 1}, InvalidStep),
        ({"step": "no_such_module.fn"}, InvalidPath),
        ({"step": [one, "no_such_module.fn"]}, InvalidPath),
        ({"step": [one, action(lambda rows: rows)]}, UnknownParameter),
        ({"step": one, "callback": 5}, InvalidCallback),
        ({"step": one, "callback": "no_such_module.fn"}, InvalidPath),
        ({"step": one, "group_name": ""}, InvalidArgument),
        ({"step": one, "group_name": 5}, InvalidArgument),
        ({"step": one, "group_name": None}, InvalidArgument),
    ],
    ids=plain,
)
def test_a_mistake_is_refused_and_nothing_is_added(
    builder: TaskBuilder, arguments: dict[str, object], error: type[Exception]
) -> None:
    """add is all or nothing: a list with one wrong step leaves the workflow as it was."""
    builder.add(three)

    with pytest.raises(error):
        builder.add(**arguments)

    assert names(builder) == ["three"]


def test_clear_removes_all_tasks(builder: TaskBuilder) -> None:
    """After clear the next task is number 0 again."""
    builder.add([one, two]).clear().add(three)

    assert [(task.task_id, task.name) for task in builder] == [(0, "three")]


def test_reverse_turns_the_order_round(builder: TaskBuilder) -> None:
    """The tasks are numbered again and keep their arguments."""
    builder.add(one, callback=notify, initial_context=1, group_name="a").add(two, group_name="b").add(three).reverse()

    assert [(task.task_id, task.name, task.group_name) for task in builder] == [
        (0, "three", "default"),
        (1, "two", "b"),
        (2, "one", "a"),
    ]
    last = list(builder)[-1]
    assert (last.callback, last.initial_context.storage) == (notify, 1)


def test_reverse_twice_is_no_change(builder: TaskBuilder) -> None:
    """Twice is the original order."""
    builder.add([one, two, three]).reverse().reverse()

    assert names(builder) == ["one", "two", "three"]


def test_is_not_changed_while_it_is_gone_through(builder: TaskBuilder) -> None:
    """A loop over the tasks may add some."""
    builder.add([one, two])

    for _ in builder:
        builder.add(three)

    assert builder.count() == 4


def test_schema_describes_the_workflow(builder: TaskBuilder) -> None:
    """The schema names the workflow and every task with its step, group, callback, context and policy."""
    options: dict[str, Any] = {"retry_on": (KeyError, OSError), "max_delay": "1m", "jitter": 0.5}
    step = action(retry=3, timeout=1.5, retry_delay=2, backoff=True, **options)(one.function)
    builder.add(step, callback=notify, group_name="g")
    builder.add(two, initial_context=[1])

    schema = builder.schema().model_dump(mode="json")

    assert (schema["workflow_id"], schema["name"]) == ("w", "my workflow")
    first, second = schema["tasks"]
    assert first == {
        "task_id": 0,
        "name": "one",
        "step": f"{__name__}:one",
        "group_name": "g",
        "callback": "notify",
        "initial_context": None,
        "policy": {
            "retry": 3,
            "timeout": 1.5,
            "retry_delay": 2,
            "backoff": True,
            "retry_on": ["KeyError", "OSError"],
            "max_delay": 60,
            "jitter": 0.5,
            "poll": None,
            "poll_timeout": None,
            "isolate": False,
            "resources": {},
        },
    }
    assert (second["task_id"], second["callback"], second["initial_context"]) == (1, None, [1])


def test_schema_of_an_empty_one(builder: TaskBuilder) -> None:
    """Nothing added is an empty list."""
    assert builder.schema().tasks == []


def test_a_signature_is_read_once(builder: TaskBuilder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step may be added a hundred thousand times."""
    read: list[object] = []
    monkeypatch.setattr(callables.inspect, "signature", lambda function: read.append(function) or signature(function))
    step = action(lambda previous_context: 1)
    read.clear()

    for _ in range(5):
        builder.add(step)

    assert len(read) == 1


def test_a_method_is_looked_at_apart_from_its_function(builder: TaskBuilder) -> None:
    """A bound method can be a step, one of the class can't, in any order of adding them."""

    class Report:
        @action
        def load(self) -> int:
            return 1

    for _ in range(2):
        builder.add(Report().load)
        with pytest.raises(UnknownParameter, match="self"):
            builder.add(Report.load)
