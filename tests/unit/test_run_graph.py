"""The graph's decisions, without a runner: what begins, and what follows from an end."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from dotflow import Context, Task, action
from dotflow.core.action import Action
from dotflow.core.events import MapOpened, TaskCompleted, TaskRestored, TaskSkipped
from dotflow.core.types.execution import TypeExecution
from dotflow.engine.node_inputs import Ended, StopNew
from dotflow.engine.ready import Ready
from dotflow.engine.run_graph import Decision, Leave, RunGraph
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
    builder: TaskBuilder,
    mode: TypeExecution = TypeExecution.SEQUENTIAL,
    restored: Mapping[int, Context] | None = None,
    **options: Any,
) -> tuple[RunGraph, Sequence[Task]]:
    tasks = [task._new_record("w", "r") for task in builder]
    plan = make_plan(tasks, mode)
    checkpoints = Checkpoints(StorageDefault(), "w", exclusive=False, log_line=print)
    checkpoints.open(tasks, resume=False, sources=plan.previous, params=NO_PARAMS)
    checkpoints.found.restored |= restored or {}
    return RunGraph(tasks, plan, NO_PARAMS, checkpoints, **{"keep_going": False, **options}), tasks


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
    """Its end makes the next one ready, the last end ends the map."""
    graph, tasks = graph_of(TaskBuilder("w").add(double, each=[1, 2]))
    (ready,) = graph.start()
    assert isinstance(ready, Ready)
    opened = graph.enter(ready)
    assert isinstance(opened, list)
    assert kinds(opened) == [MapOpened, Ready]  # after what is restored of it, its items begin
    following = graph.enter(opened[1])
    numbers = []

    for index in (0, 1):
        assert isinstance(following, list)
        (begun,) = following
        assert isinstance(begun, Ready)
        assert isinstance(begun.task, Item)
        assert (begun.task.item, begun.inputs and begun.inputs[0]) == (index, {"number": index + 1})
        numbers.append(begun.number)
        following = graph.end(begun.task, Context(index))

    assert isinstance(following, list)
    assert kinds(following) == [Ended]
    assert len({*numbers, tasks[0].task_id}) == 3


# A map over a map


def open_both(builder: TaskBuilder) -> tuple[RunGraph, list[Ready]]:
    """Opens a map and a map over it. Returns what is ready then: items of the first one."""
    graph, tasks = graph_of(builder, TypeExecution.PARALLEL)
    decisions = graph.start()
    ready = []
    for decision in decisions:  # the list grows meanwhile
        if isinstance(decision, Ready) and not isinstance(decision.task, Item):
            entered = graph.enter(decision)
            assert isinstance(entered, list)
            decisions += entered
        elif isinstance(decision, Ready):
            ready.append(decision)
        elif isinstance(decision, MapOpened):
            tasks[decision.task_id]._apply(decision)
    return graph, ready


def enter(graph: RunGraph, decision: Decision) -> Ready:
    """Enters an item, and returns it with its inputs."""
    assert isinstance(decision, Ready)
    entered = graph.enter(decision)
    assert isinstance(entered, Ready)
    return entered


def end_item(graph: RunGraph, begun: Ready, value: int) -> list[Decision]:
    """Ends an item with a value; returns what follows."""
    context = Context(value)
    assert isinstance(begun.task, Item)
    begun.task._apply(TaskCompleted(begun.task.task_id, context, 1.0, begun.task.item))
    return graph.end(begun.task, context)


def test_an_item_of_a_map_over_a_map_continues_the_lane_of_its_source() -> None:
    """It goes before new tasks, since that lane's worker has its value. The lane is left after it."""
    graph, (source, *_) = open_both(two_maps(double))

    (waiting,) = end_item(graph, source, 2)

    begun = enter(graph, waiting)
    assert (begun.task.task_id, begun.lane, begun.continues) == (1, source.lane, True)
    assert begun.inputs is not None
    assert begun.inputs[0] == {"number": 2}
    assert end_item(graph, begun, 4) == [Leave(source.lane)]


@pytest.mark.parametrize("cache", [False, True])
def test_items_continue_their_sources_in_the_order_of_their_ends(cache: bool) -> None:
    """Each one in the lane of its own source, whose worker has the value. Of a cached step, too."""
    graph, sources = open_both(two_maps(action(double.function, cache=cache)))

    items = [enter(graph, end_item(graph, source, 0)[0]) for source in reversed(sources)]

    assert [item.task.item for item in items] == [2, 1, 0]
    assert [item.lane for item in items] == [source.lane for source in reversed(sources)]


def test_an_item_beyond_the_limit_of_its_map_waits_for_its_turn() -> None:
    """It keeps the lane of its source, whose worker has its value."""
    graph, sources = open_both(two_maps(double, max_parallel=1))
    begun = enter(graph, end_item(graph, sources[0], 0)[0])
    assert [kinds(end_item(graph, source, 0)) for source in sources[1:]] == [[], [Ended]]  # of the first map
    order = []

    for _ in sources[1:]:
        left, following = end_item(graph, begun, 0)
        assert left == Leave(begun.lane)
        begun = enter(graph, following)
        order.append((begun.task.item, begun.lane))

    assert order == [(1, sources[1].lane), (2, sources[2].lane)]


@pytest.mark.parametrize("isolated", ["source", "follower"])
def test_an_item_does_not_continue_a_process_that_was_not_for_it(isolated: str) -> None:
    """An isolated attempt has a process to itself, so its lane is left at once."""
    alone = action(double.function, isolate=True)
    builder = two_maps(double, source=alone) if isolated == "source" else two_maps(alone)
    graph, (source, *_) = open_both(builder)

    waiting, left = end_item(graph, source, 2)

    assert left == Leave(source.lane)
    begun = enter(graph, waiting)
    assert not begun.continues
    assert begun.lane != source.lane
