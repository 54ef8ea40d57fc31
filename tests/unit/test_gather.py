"""Whether a task runs, and with which arguments."""

from typing import Any

import pytest

from dotflow import Context, action
from dotflow.core.events import MapEnded, MapOpened, TaskCompleted, TaskFailed, TaskSkipped
from dotflow.core.failure import Failure
from dotflow.core.task import Task
from dotflow.graph.builder import TaskBuilder
from dotflow.graph.gather import Skip, gather
from dotflow.graph.linked_task import NO_SCOPE, Item, LinkedTask
from dotflow.graph.maps import map_context
from dotflow.graph.params import check_declared

NOW = Context().time


def records(*outcomes: Any, params: dict[str, Any] | None = None, **options: Any) -> list[Task]:
    """Returns the records of tasks a, b, ... that ended so (a value, an exception or a Skip), and of the last one."""
    builder = TaskBuilder("w", params=check_declared(params))
    for name, _ in zip("abc", outcomes, strict=False):
        builder.add(action(lambda: 0), name=name)
    builder.add(options.pop("step"), name="last", **options)
    tasks = [task._new_record("w", "r") for task in builder]
    for task, outcome in zip(tasks, outcomes, strict=False):
        end(task, outcome)
    return tasks


def end(task: Task, outcome: Any) -> None:
    if isinstance(outcome, Skip):
        task._apply(TaskSkipped(task.task_id, outcome.reason))
    elif isinstance(outcome, Exception):
        task._apply(TaskFailed(task.task_id, 1, Failure.of(outcome), NOW, 1.0))
    elif outcome is not ...:
        task._apply(TaskCompleted(task.task_id, Context(outcome, task.task_id), 1.0))


def decision_on(*outcomes: Any, params: dict[str, Any] | None = None, **options: Any) -> Any:
    tasks = records(*outcomes, params=params, **options)
    assert tasks[-1].links is not None
    got = gather(tasks[-1].links, tasks, params or {})
    return got.args if got.lack is None else got.lack.reason


NOTHING = action(lambda: 0)


@pytest.mark.parametrize(
    ("outcomes", "options", "expected"),
    [
        ([1], {"when": "a"}, {}),
        ([0], {"when": "a"}, "a was 0"),
        ([0], {"unless": "a"}, {}),
        ([[1]], {"unless": "a"}, "a was [1]"),
        (["fast"], {"when": {"a": "fast"}}, {}),
        (["slow"], {"when": {"a": "fast"}}, "a was 'slow'"),
        (["slow"], {"unless": {"a": "fast"}}, {}),
        ([None], {"when": {"a": None}}, {}),
        ([1, 0], {"when": ["a", "b"]}, "b was 0"),
        ([1, 1], {"when": ["a", "b"]}, {}),
        ([0, 1], {"unless": ["a", "b"]}, "b was 1"),
        ([1, 0], {"when": "a", "unless": "b"}, {}),
        ([ValueError()], {"when": "a"}, "it depends on 'a', which failed"),
        ([ValueError()], {"unless": "a"}, "it depends on 'a', which failed"),
        ([Skip("no")], {"unless": "a"}, "it depends on 'a', which was skipped"),
        ([...], {"when": "a"}, "it depends on 'a', which did not run"),
        (["x" * 100], {"unless": "a"}, "a was '" + "x" * 58),
    ],
)
def test_conditions(outcomes: list[Any], options: dict[str, Any], expected: Any) -> None:
    """All of `when` hold and none of `unless`; a condition without a value skips the task, whichever it is."""
    found = decision_on(*outcomes, step=NOTHING, **options)

    assert found == expected or (isinstance(expected, str) and str(found).startswith(expected))


def test_a_condition_on_a_run_parameter() -> None:
    """It is known from the start."""
    assert decision_on(params={"full": False}, step=NOTHING, when="full") == "full was False"
    assert decision_on(params={"full": True}, step=NOTHING, when="full") == {}


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [(ValueError(), "failed"), (Skip("no"), "was skipped"), (..., "did not run")],
    ids=["failed", "skipped", "never ran"],
)
def test_a_value_that_is_missing(outcome: Any, reason: str) -> None:
    """Without a default the task is skipped; with one, it gets the default; one that only waits runs."""
    assert decision_on(outcome, step=action(lambda a: 0)) == f"it needs 'a', which {reason}"
    assert decision_on(outcome, step=action(lambda a_context: 0)) == f"it needs 'a', which {reason}"
    assert decision_on(outcome, step=action(lambda a=1, a_context=None: 0)) == {}
    assert decision_on(outcome, step=NOTHING, needs="a") == {}


def test_the_arguments() -> None:
    """Values themselves, Contexts, run parameters."""
    value = [1]

    found = decision_on(value, params={"day": 1}, step=action(lambda a, a_context, day, params: 0))

    assert found["a"] is value
    assert found["a_context"].storage is value
    assert (found["day"], found["params"]) == (1, {"day": 1})


def test_none_is_a_value() -> None:
    """A step that returns nothing has a value."""
    assert decision_on(None, step=action(lambda a: 0)) == {"a": None}


@pytest.mark.parametrize(
    ("failure", "values"), [(None, [1, None, 3]), (Failure("ItemsFailed", "1 of 3"), [1, 3])], ids=["done", "failed"]
)
def test_the_values_of_a_map(failure: Failure | None, values: list[Any]) -> None:
    """A map that failed has the values of the items that completed; its Context has an entry for each."""
    builder = TaskBuilder("w").add(action(lambda x: x), each=[1, 2, 3], name="a")
    tasks = [task._new_record("w", "r") for task in builder.add(action(lambda a, a_context: 0))]
    mapped = tasks[0]
    assert isinstance(mapped, LinkedTask)
    items = [Item(mapped, index, index + 1, str(index), NO_SCOPE, str(index)) for index in range(3)]
    mapped._open(items)
    mapped._apply(MapOpened(0, 3, NOW, 1.0))
    for index, item in enumerate(items):
        end(item, ValueError() if failure and index == 1 else [1, None, 3][index])
    context = map_context(mapped)
    mapped._apply(MapEnded(0, context, failure, NOW, 1.0))
    assert tasks[1].links is not None

    got = gather(tasks[1].links, tasks, {})

    assert got.lack is None
    found = got.args
    assert found["a"] == values
    assert found["a_context"].storage == [1, None, 3]
    assert list(found["a_context"].errors) == ([1] if failure else [])
