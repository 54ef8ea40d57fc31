"""The graph's decisions, without a runner: what begins, and what follows from an end."""

from collections.abc import Sequence
from typing import Any

import pytest

from dotflow import Context, Task, action
from dotflow.core.action import Action
from dotflow.core.events import MapOpened, TaskCompleted, TaskRestored, TaskSkipped
from dotflow.core.types.execution import TypeExecution
from dotflow.engine.ready import NextItem, Ready
from dotflow.engine.run_graph import Decision, Ended, Leave, RunGraph, StopNew
from dotflow.graph.builder import TaskBuilder
from dotflow.graph.linked_task import Item
from dotflow.graph.maps import ItemMap
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


def two_maps(step: Action[..., Any], source: Action[..., Any] = double, **links: Any) -> TaskBuilder:
    """Returns a map of three items, and a map of *step* over it."""
    builder = TaskBuilder("w").add(source, each=[1, 2, 3], name="source")
    return builder.add(step, each="source", name="second", **links)


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


# A map over a map


def open_both(builder: TaskBuilder) -> tuple[RunGraph, ItemMap, ItemMap]:
    """Opens a map and a map over it."""
    graph, tasks = graph_of(builder, TypeExecution.PARALLEL)
    decisions = graph.start()
    for decision in decisions:  # the list grows meanwhile
        if isinstance(decision, Ready):
            entered = graph.enter(decision)
            assert isinstance(entered, list)
            decisions += entered
        elif isinstance(decision, MapOpened):
            tasks[decision.task_id]._apply(decision)
    first, second = graph._maps.values()
    return graph, first, second


def begin_all(graph: RunGraph, items: ItemMap) -> list[Ready]:
    """Begins all items that may begin."""
    begun, more = graph.begin_item(items)
    return [begun, *(begin_all(graph, items) if more else [])]


def end_item(graph: RunGraph, begun: Ready, value: int) -> list[Decision]:
    """Ends an item with a value; returns what follows."""
    context = Context(value)
    assert isinstance(begun.task, Item)
    begun.task._apply(TaskCompleted(begun.task.task_id, context, 1.0, begun.task.item))
    return graph.end(begun.task, context)


def test_an_item_of_a_map_over_a_map_continues_the_lane_of_its_source() -> None:
    """It goes before new tasks, since that lane's worker has its value. The lane is left after it."""
    graph, first_map, second_map = open_both(two_maps(double))
    source, _ = graph.begin_item(first_map)

    (waiting,) = end_item(graph, source, 2)

    assert isinstance(waiting, NextItem)
    assert (waiting.items, waiting.lane, waiting.continues) == (second_map, source.lane, True)
    begun, more = graph.begin_item(waiting.items)
    assert (begun.lane, begun.inputs and begun.inputs[0], more) == (source.lane, {"number": 2}, None)
    assert end_item(graph, begun, 4) == [Leave(source.lane)]


@pytest.mark.parametrize(
    ("step", "order"),
    [
        pytest.param(double, [2, 1, 0], id="plain"),
        pytest.param(action(double.function, cache=True), [0, 1, 2], id="cached"),
    ],
)
def test_the_item_whose_source_has_just_ended_goes_first(step: Action[..., Any], order: list[int]) -> None:
    """The worker that is free has its value. Of a cached step, the next item was looked up before, so it stays."""
    graph, first_map, second_map = open_both(two_maps(step))
    sources = begin_all(graph, first_map)

    for source in sources:
        end_item(graph, source, 0)
    items = [ready.task for ready in begin_all(graph, second_map)]

    assert [item.item for item in items if isinstance(item, Item)] == order


def test_an_item_beyond_the_limit_of_its_map_waits_for_its_turn() -> None:
    """Its source's worker goes on with other work, so there is no reason to change the order."""
    graph, first_map, second_map = open_both(two_maps(double, max_parallel=1))
    sources = begin_all(graph, first_map)
    end_item(graph, sources[0], 0)
    begun, _ = graph.begin_item(second_map)
    order = []

    for source in sources[1:]:
        end_item(graph, source, 0)
    for _ in sources[1:]:
        assert isinstance(begun.task, Item)
        end_item(graph, begun, 0)
        begun, _ = graph.begin_item(second_map)
        assert isinstance(begun.task, Item)
        order.append(begun.task.item)

    assert order == [1, 2]


@pytest.mark.parametrize("isolated", ["source", "follower"])
def test_an_item_does_not_continue_a_process_that_was_not_for_it(isolated: str) -> None:
    """An isolated attempt has a process to itself, so its lane is left at once."""
    alone = action(double.function, isolate=True)
    builder = two_maps(double, source=alone) if isolated == "source" else two_maps(alone)
    graph, first_map, second_map = open_both(builder)
    source, _ = graph.begin_item(first_map)

    waiting, left = end_item(graph, source, 2)

    assert isinstance(waiting, NextItem)
    assert left == Leave(source.lane)
    assert not waiting.continues
    assert graph.begin_item(second_map)[0].lane != source.lane
