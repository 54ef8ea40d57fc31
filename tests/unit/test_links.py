"""What `add` makes of a step's parameters and its options: links, or an error, and then nothing is added."""

from collections.abc import Callable
from typing import Any

import pytest

from dotflow import DotFlow, action
from dotflow.core.links import CONTEXT, PARAM, PARAMS, VALUE, Bind, Constant, Links
from dotflow.errors import (
    AmbiguousTask,
    DefinitionError,
    InvalidArgument,
    InvalidLink,
    InvalidStep,
    MissingParam,
    UnknownParameter,
    UnknownTask,
)
from dotflow.graph.builder import TaskBuilder
from dotflow.graph.params import check_declared


@action
def orders() -> list[int]:
    return [1]


@action
def rate() -> float:
    return 2.0


def builder(**params: Any) -> TaskBuilder:
    """Returns a builder with the tasks 0 orders and 1 rate."""
    return TaskBuilder("w", params=check_declared(params)).add([orders, rate])


def links_of(tasks: TaskBuilder) -> Links:
    links = list(tasks)[-1].links
    assert links is not None
    return links


def binds(function: Callable[..., Any], params: dict[str, Any] | None = None, **options: Any) -> list[Bind]:
    return list(links_of(builder(**(params or {})).add(action(function), **options)).binds)


# What a parameter receives


def test_a_task_comes_before_its_context_and_a_run_parameter() -> None:
    """The first match: a task, a task's Context, a run parameter, all run parameters."""
    found = binds(lambda orders, rate_context, day, params: 0, {"day": 1})

    assert found == [
        Bind("orders", VALUE, 0, True),
        Bind("rate_context", CONTEXT, 1, True),
        Bind("day", PARAM, "day", True),
        Bind("params", PARAMS, "params", True),
    ]


def test_a_task_that_is_called_like_a_context_is_a_task() -> None:
    """`rate_context` is the value of the task `rate_context` where there is one."""
    tasks = builder().add(orders, name="rate_context").add(action(lambda rate_context: 0))

    assert links_of(tasks).binds == (Bind("rate_context", VALUE, 2, True),)


def test_needs_and_each_come_before_names() -> None:
    """The task `orders` does not fill a parameter that needs or each fills."""
    assert binds(lambda orders: 0, needs={"orders": "rate"}) == [Bind("orders", VALUE, 1, True)]
    assert binds(lambda rate: 0, each={"rate": "orders"}) == []


def test_contexts_are_never_links() -> None:
    """A step that takes only contexts stays a plain task."""
    tasks = builder().add(action(lambda initial_context, previous_context: 0))

    assert list(tasks)[-1].links is None


def test_a_default_makes_it_optional() -> None:
    """A parameter with a default is filled too, and is not required."""
    assert binds(lambda orders=(), other=1: 0) == [Bind("orders", VALUE, 0, False)]


def test_the_items_go_to_the_parameter_that_is_left() -> None:
    """Names fill the other ones; without one left, previous_context takes them."""
    tasks = builder(day=1).add(action(lambda order, rate, day, size=1: 0), each=orders)
    assert [link.parameter for link in links_of(tasks).each] == ["order"]

    tasks.add(action(lambda previous_context, rate: 0), each=orders)
    assert [link.parameter for link in links_of(tasks).each] == ["previous_context"]


@pytest.mark.parametrize("ref", [orders, "orders", ["orders"], [orders, "orders"]])
def test_order_takes_no_value(ref: Any) -> None:
    """A task by its step or its name, alone or in a list; each once. A cleanup only waits."""
    needs = links_of(builder().add(action(lambda: 0), needs=ref))
    after = links_of(builder().add(action(lambda: 0), after=ref))
    cleanup = links_of(builder().add(action(lambda: 0), needs=ref, always=True))

    assert (needs.needs, needs.after, needs.binds) == (((0,),), (), ())
    assert (after.needs, after.after, after.binds) == ((), ((0,),), ())
    assert cleanup == after._replace(always=True)


def test_the_name_of_an_added_workflow_means_all_of_its_tasks() -> None:
    """In `needs=[...]` and `after`; elsewhere it is the last one. Workflows in it have names, too."""
    part = DotFlow()
    part.task.add(orders).add(action(lambda: 1), name="rate")
    other = DotFlow()
    other.task.add(part, name="left").add(action(lambda: 0), name="right", after="left")
    tasks = builder().add(other, name="both")

    assert links_of(tasks).after == ((2, 3),)
    assert links_of(tasks.add(action(lambda: 0), needs="both")).needs == ((2, 3, 4),)
    assert links_of(tasks.add(action(lambda: 0), after="both.left")).after == ((2, 3),)
    assert links_of(tasks.add(action(lambda x: 0), needs={"x": "both.left"})).binds == (Bind("x", VALUE, 3, True),)


def test_equal_tasks_of_an_added_workflow_have_no_common_name() -> None:
    """The number that tells them apart is no name of a task in a workflow."""
    part = DotFlow()
    part.task.add([orders, orders])

    with pytest.raises(UnknownTask):
        builder().add(part, name="part").add(action(lambda: 0), needs="part.orders")


# Errors


@action
class DayInAction:
    """The second action takes the first, and a run parameter, which only `__init__` can."""

    @action
    def total(self) -> int:
        return 1

    @action
    def line(self, total: int, day: int) -> int:
        return total + day


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda add: add(action(lambda order: 0)), UnknownParameter, "Did you mean 'orders'?"),
        (lambda add: add(action(lambda dya: 0)), UnknownParameter, "Did you mean 'day'?"),
        (lambda add: add(action(lambda: 0), needs="ordres"), UnknownTask, "Did you mean 'orders'?"),
        (lambda add: add(action(lambda: 0), needs="dya"), UnknownTask, "Did you mean 'day'?"),
        (lambda add: add(action(lambda: 0), after=["day"]), UnknownTask, "'day' is no task, but a run parameter"),
        (lambda add: add(action(lambda: 0), when="nope"), UnknownTask, "'nope'"),
        (lambda add: add(action(lambda: 0), needs=action(lambda: 0)), UnknownTask, "<lambda>"),
        (lambda add: add([orders, action(lambda orders: 0)]), AmbiguousTask, "tasks 0 and 2"),
        (lambda add: add(orders, max_parallel=2), InvalidLink, "max_parallel"),
        (lambda add: add(orders, max_parallel=0), InvalidArgument, "from 1"),
        (lambda add: add(orders, always=True, when="rate"), InvalidLink, "always=True"),
        (lambda add: add(orders, always=True, unless="rate"), InvalidLink, "always=True"),
        (lambda add: add(orders, always=1), InvalidArgument, "True or False"),
        (lambda add: add(orders, keep_going="yes"), InvalidArgument, "True, False, the share"),
        (lambda add: add([orders, rate], name="both"), InvalidLink, "names one task"),
        (lambda add: add(orders, name="rate"), InvalidArgument, "no other task"),
        (lambda add: add(orders, name="day"), InvalidArgument, "no run parameter"),
        (lambda add: add(orders, name="1st"), InvalidArgument, "a letter"),
        (lambda add: add(orders, name="_first"), InvalidArgument, "a letter"),
        (lambda add: add(orders, name="a b"), InvalidArgument, "a letter"),
        (lambda add: add(orders, name="previous_context"), InvalidArgument, "other than initial_context"),
        (lambda add: add(action(lambda x: 0), needs={"y": "orders"}), InvalidLink, "no parameter 'y'"),
        (lambda add: add(action(lambda x: 0), needs={"previous_context": "orders"}), InvalidLink, "previous_context"),
        (lambda add: add(action(lambda x: 0), needs={"x": "rate"}, each={"x": "orders"}), InvalidLink, "Both"),
        (lambda add: add(action(lambda x: 0), each={1, 2}), InvalidLink, "neither a task nor a list"),
        (lambda add: add(action(lambda x: 0), each=iter([1])), InvalidLink, "neither a task nor a list"),
        (lambda add: add(action(lambda x, y: 0), each=orders), InvalidLink, "'x' and 'y'"),
        (lambda add: add(orders, fallback=[rate, rate]), InvalidLink, "one step"),
        (lambda add: add(orders, fallback=action(lambda nothing: 0)), UnknownParameter, "'nothing'"),
        (lambda add: add([rate, action(lambda nothing: 0)]), UnknownParameter, "'nothing'"),
        (lambda add: add(action(lambda ordes_context: 0)), UnknownParameter, "Did you mean 'orders_context'?"),
        (lambda add: add(action(lambda rows: 0)), UnknownParameter, "needs={'rows': task}"),
        (lambda add: add(action(lambda x: 0), each=[orders, rate]), InvalidLink, "lists steps"),
        (lambda add: add(action(lambda x: 0), each="dya"), UnknownTask, "Did you mean 'day'?"),
        (lambda add: add(action(lambda x: 0), each="day"), InvalidLink, "its default is of type int"),
        (lambda add: add(action(lambda x: 0), cross={}), InvalidLink, "cross={} names no list."),
        (lambda add: add(action(lambda x: 0), cross=[1, 2]), InvalidLink, "cross=... names no parameters."),
        (lambda add: add(action(lambda x: 0), cross={"x": [1]}, each=[1]), InvalidLink, "each excludes cross"),
        (lambda add: add(action(lambda x: 0), cross={"x": {1}}), InvalidLink, "cross={1} is neither a task nor"),
        (lambda add: add(action(lambda x: 0), cross={"y": [1]}), InvalidLink, "It has 'x'."),
        (lambda add: add(action(lambda x: 0), needs={"x": rate}, cross={"x": [1]}), InvalidLink, "needs and cross"),
        (lambda add: add(action(lambda x, y: 0), cross={"x": [1]}), UnknownParameter, "'y'"),
        (lambda add: add(TaskBuilder("o").add(orders), name="p", cross={"x": [1]}), InvalidLink, "no parameter 'x'"),
        (lambda add: add(orders, needs={"x": "rate"}), InvalidLink, "write needs=[task], or after=[task]"),
        (lambda add: add(orders, needs=["rate"], after=rate), InvalidLink, "Both needs and after have 'rate'."),
        (lambda add: add(orders, needs="rate", after="rate", always=True), InvalidLink, "Remove it from after"),
        (
            lambda add: add(action(lambda x: 0), needs={"x": "rate"}, after=["rate"]),
            InvalidLink,
            "Both needs and after",
        ),
        (lambda add: add(orders, after={"x": "rate"}), InvalidLink, "after={...} fills no parameter."),
        (
            lambda add: add(action(lambda x: 0), needs=[{"x": "rate"}, {"x": "orders"}]),
            InvalidLink,
            "needs fills 'x' twice.",
        ),
        (lambda add: add(action(lambda orders: 0), each=orders), InvalidLink, "write each={'orders': 'orders'}, or"),
        (lambda add: add(action(lambda x: 0), needs={"x": "rate.eur"}), UnknownTask, "add(..., outputs=['eur'])"),
        (lambda add: add([rate, 5]), InvalidStep, "this is item 1 of the list, 5 (int)"),
        (lambda add: add(orders, after=["ordres"]), UnknownTask, "Did you mean 'orders'?"),
        (lambda add: add(action(lambda x: 0), needs={"y": "rate"}), InvalidLink, "It has 'x'."),
        (lambda add: add(DayInAction), UnknownParameter, "Take it in the __init__"),
        (lambda add: add(TaskBuilder("other").add(orders)), InvalidLink, "name='prepare'"),
        (lambda add: add(TaskBuilder("other"), name="prepare"), InvalidLink, "no tasks"),
        (lambda add: add(TaskBuilder("other").add(orders), name="prepare", each=[1]), InvalidLink, "each"),
        (lambda add: add(TaskBuilder("other").add(orders), name="p", needs={"x": "rate"}), InvalidLink, "'x'"),
    ],
)
def test_nothing_is_added_by_a_call_that_fails(build: Any, error: type[DefinitionError], message: str) -> None:
    """No task of a list, either, and no name: the next call of add finds the tasks as they were."""
    tasks = builder(day=1)

    with pytest.raises(error) as caught:
        build(tasks.add)

    assert message in str(caught.value)
    assert [task.name for task in tasks] == ["orders", "rate"]
    tasks.add(action(lambda orders, rate: 0), name="both")
    assert [bind.source for bind in links_of(tasks).binds] == [0, 1]


def test_a_step_may_have_the_name_of_a_run_parameter_under_another_name() -> None:
    """Unless it gets one, a parameter of that name could be either."""
    tasks = builder(day=1)

    @action
    def day() -> int:
        return 1

    with pytest.raises(InvalidLink, match="is called like the run parameter 'day'"):
        tasks.add(day)

    assert tasks.add(day, name="today").count() == 3


@pytest.mark.parametrize("name", ["params", "initial_context", "previous_context", "a b", "_x", ""])
def test_names_of_run_parameters(name: str) -> None:
    """They are names, and not those that dotflow fills itself."""
    with pytest.raises(InvalidArgument, match="other than initial_context, previous_context, params and"):
        DotFlow(params={name: 1})


@pytest.mark.parametrize("options", [{"needs": "orders"}, {"always": True}, {"when": "orders"}, {"each": "orders"}])
def test_reverse_breaks_no_link(options: dict[str, Any]) -> None:
    """It is refused where a task needs earlier ones, and changes nothing."""
    step = action(lambda item: 0) if "each" in options else action(lambda: 0)
    tasks = builder().add(step, name="last", **options)

    with pytest.raises(InvalidLink, match="task 2 last"):
        tasks.reverse()

    assert [task.name for task in tasks] == ["orders", "rate", "last"]
    assert [task.name for task in builder().add(orders, name="free").reverse()] == ["free", "rate", "orders"]


# Sub-workflows


def test_the_tasks_of_another_workflow() -> None:
    """Their links are to each other, and their parameters are filled by name: needs, tasks, parameters, defaults."""
    other = DotFlow(params={"orders": ..., "day": 1, "limit": 5, "top": ...})
    other.task.add(action(lambda orders, day, limit, top: 0), name="load").add(action(lambda load: 0), name="check")
    tasks = builder(day=2).add(other, name="prepare", needs={"top": rate}).add(action(lambda prepare: 0), name="end")

    load, check, end = list(tasks)[2:]
    assert [task.name for task in (load, check, end)] == ["prepare.load", "prepare.check", "end"]
    assert load.links is not None
    assert [bind.source for bind in load.links.binds] == [0, "day", Constant(5), 1]
    assert [bind.kind for bind in load.links.binds] == [VALUE, PARAM, PARAM, VALUE]
    assert check.links is not None
    assert [bind.source for bind in check.links.binds] == [2]
    assert end.links is not None
    assert [bind.source for bind in end.links.binds] == [3]


def test_a_parameter_of_another_workflow_needs_a_value() -> None:
    """One without a default and without a task or a parameter of its name."""
    other = DotFlow(params={"day": ...})
    other.task.add(action(lambda day: 0))

    with pytest.raises(MissingParam):
        builder().add(other, name="prepare")


def test_equal_steps_of_another_workflow_have_names_of_their_own() -> None:
    """Their checkpoints' keys have the names, so no two tasks share one."""
    other = TaskBuilder("other").add([orders, rate, orders]).add(orders, name="last")

    tasks = TaskBuilder("w").add(other, name="prepare")

    assert [task.key_name for task in tasks] == ["prepare.orders.0", "prepare.rate", "prepare.orders.2", "prepare.last"]


def test_a_copied_task_is_a_task_of_its_own() -> None:
    """The other workflow stays as it was."""
    other = TaskBuilder("other").add(orders)

    tasks = TaskBuilder("w").add(other, name="one").add(other, name="two", when="one")

    assert [task.name for task in tasks] == ["one.orders", "two.orders"]
    assert [task.links for task in other] == [None]


def test_a_word_of_another_library_is_answered_with_ours() -> None:
    """`task.map(...)` is `task.add(..., each=...)`."""
    with pytest.raises(AttributeError, match="no attribute 'map': Write each=task"):
        builder().map  # type: ignore[attr-defined]  # noqa: B018

    assert not hasattr(builder(), "connect")
