"""The graph's decisions, without a runner: what begins, and what follows from an end."""

from collections.abc import Sequence
from typing import Any

from dotflow import Context, Task, action
from dotflow.core.events import MapOpened, TaskRestored, TaskSkipped
from dotflow.core.types.execution import TypeExecution
from dotflow.engine.ready import NextItem, Ready
from dotflow.engine.run_graph import Decision, Ended, Leave, RunGraph, StopNew
from dotflow.graph.builder import TaskBuilder
from dotflow.graph.linked_task import Item
from dotflow.graph.params import NO_PARAMS
from dotflow.graph.plan import make_plan
from dotflow.providers import StorageDefault
from dotflow.resume.checkpoint import Checkpoints


@action
def first() -> int:
    return 1


@action
def second(first: int) -> int:
    return first + 1


@action
def double(number: int) -> int:
    return 2 * number


def graph_of(
    builder: TaskBuilder, mode: TypeExecution = TypeExecution.SEQUENTIAL, **options: Any
) -> tuple[RunGraph, Sequence[Task]]:
    tasks = [task._new_record("w", "r") for task in builder]
    plan = make_plan(tasks, mode)
    checkpoints = Checkpoints(StorageDefault(), "w", exclusive=False, log_line=print)
    checkpoints.open(tasks, resume=False, sources=plan.previous, params=NO_PARAMS)
    return RunGraph(tasks, plan, NO_PARAMS, checkpoints, **{"restored": {}, "keep_going": False, **options}), tasks


def kinds(decisions: Sequence[Decision]) -> list[type]:
    return [type(decision) for decision in decisions]


def test_an_end_makes_the_next_task_of_the_lane_ready() -> None:
    """With the context of the ended one; the last task leaves the lane."""
    graph, tasks = graph_of(TaskBuilder("w").add([first, first]))
    value = Context(1)

    (begun,) = graph.start()
    (following,) = graph.end(tasks[0], value)

    assert isinstance(begun, Ready)
    assert isinstance(following, Ready)
    assert (begun.task, following.task) == (tasks[0], tasks[1])
    assert following.previous is value
    assert following.continues
    assert graph.end(tasks[1], value) == [Leave(0)]


def test_a_failure_stops_and_makes_nothing_ready() -> None:
    """With keep_going the next task is ready, with an empty context."""
    graph, tasks = graph_of(TaskBuilder("w").add([first, first]))
    assert graph.end(tasks[0], None) == [StopNew()]

    graph, tasks = graph_of(TaskBuilder("w").add([first, first]), keep_going=True)
    (following,) = graph.end(tasks[0], None)
    assert isinstance(following, Ready)
    assert following.previous.storage is None


def test_after_a_stop_an_end_makes_nothing_ready() -> None:
    """A task that was running ends by itself."""
    graph, tasks = graph_of(TaskBuilder("w").add([first, first]))

    assert graph.stop()
    assert not graph.stop()
    assert graph.end(tasks[0], Context(1)) == []


def test_a_restored_task_ends_when_its_turn_comes() -> None:
    """It needs no room, and its followers are released by that end."""
    value = Context(1)
    graph, tasks = graph_of(TaskBuilder("w").add([first, first]), restored={0: value})
    (ready,) = graph.start()
    assert isinstance(ready, Ready)

    assert ready.inputs is None
    assert graph.enter(ready) == [Ended(TaskRestored(0, value, ready.previous), tasks[0], value)]


def test_a_task_whose_need_has_no_value_is_skipped() -> None:
    """The reason names the need."""
    graph, tasks = graph_of(TaskBuilder("w").add([first, second]), keep_going=True)
    (ready,) = graph.end(tasks[0], None)
    assert isinstance(ready, Ready)

    (ended,) = graph.enter(ready)

    assert isinstance(ended, Ended)
    assert ended.event == TaskSkipped(1, "it needs 'first', which did not run")


def test_a_map_begins_one_item_after_the_other() -> None:
    """Which item it is, is decided when there is room; its end makes the next one ready, the last end ends the map."""
    graph, tasks = graph_of(TaskBuilder("w").add(double, each=[1, 2]))
    (ready,) = graph.start()
    assert isinstance(ready, Ready)
    opened = graph.enter(ready)
    assert isinstance(opened, list)
    assert kinds(opened) == [MapOpened, NextItem]
    following: list[Decision] = opened[1:]
    numbers = []

    for index in (0, 1):
        (waiting,) = following
        assert isinstance(waiting, NextItem)
        assert waiting.calls == 1
        begun, more = graph.begin_item(waiting.items)
        assert isinstance(begun.task, Item)
        assert (begun.task.item, begun.inputs and begun.inputs[0], more) == (index, {"number": index + 1}, None)
        numbers.append(begun.number)
        following = graph.end(begun.task, Context(index))

    assert kinds(following) == [Ended]
    assert len({*numbers, tasks[0].task_id}) == 3
