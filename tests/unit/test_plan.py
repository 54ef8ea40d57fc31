"""The plan: which task waits for which, and which tasks share a lane."""

from graphlib import TopologicalSorter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dotflow import Context, Task, action
from dotflow.core.types.execution import TypeExecution
from dotflow.graph.plan import Plan, make_plan, note_on_groups

SEQUENTIAL, BACKGROUND, PARALLEL = TypeExecution.SEQUENTIAL, TypeExecution.BACKGROUND, TypeExecution.PARALLEL

GROUPS = st.lists(st.sampled_from(["default", "a", "b", "c"]), max_size=30)
MODES = st.sampled_from(TypeExecution)


@action
def step() -> None: ...


def tasks_in(groups: list[str]) -> list[Task]:
    return [Task(place, step, group_name=group) for place, group in enumerate(groups)]


def needs_in(plan: Plan) -> list[tuple[int, ...]]:
    return [plan.needs_of(place) for place in range(len(plan.previous))]


@pytest.mark.parametrize(
    ("groups", "mode", "needs", "lanes", "apart"),
    [
        ("", SEQUENTIAL, [], [], False),
        ("a", SEQUENTIAL, [()], [0], False),
        ("aaa", SEQUENTIAL, [(), (0,), (1,)], [0, 0, 0], False),
        ("aaa", BACKGROUND, [(), (0,), (1,)], [0, 0, 0], False),
        ("abab", SEQUENTIAL, [(), (), (0,), (1,)], [0, 1, 0, 1], True),
        ("abab", BACKGROUND, [(), (), (0,), (1,)], [0, 1, 0, 1], True),
        ("abcb", SEQUENTIAL, [(), (), (), (1,)], [0, 1, 2, 1], True),
        ("", PARALLEL, [], [], True),
        ("aaa", PARALLEL, [(), (), ()], [0, 1, 2], True),
        ("aba", PARALLEL, [(), (), ()], [0, 1, 2], True),
    ],
)
def test_each_mode(
    groups: str, mode: TypeExecution, needs: list[tuple[int, ...]], lanes: list[int], apart: bool
) -> None:
    """One lane in order; a lane for each of two or more groups; or a lane for each task."""
    plan = make_plan(tasks_in(list(groups)), mode)

    assert (needs_in(plan), list(plan.lanes), plan.apart) == (needs, lanes, apart)


@given(groups=GROUPS, mode=MODES)
def test_is_aligned_with_the_tasks(groups: list[str], mode: TypeExecution) -> None:
    """Each task has exactly one lane and one set of needs, at its index."""
    plan = make_plan(tasks_in(groups), mode)

    assert len(needs_in(plan)) == len(plan.lanes) == len(groups)
    assert set(plan.lanes) == set(range(len(set(plan.lanes))))


@given(groups=GROUPS, mode=MODES)
def test_is_a_graph_without_circles(groups: list[str], mode: TypeExecution) -> None:
    """Every task can be reached, and none waits for itself or a missing one."""
    plan = make_plan(tasks_in(groups), mode)

    order = list(TopologicalSorter(dict(enumerate(needs_in(plan)))).static_order())

    assert sorted(order) == list(range(len(groups)))
    assert all(need < place for place, needs in enumerate(needs_in(plan)) for need in needs)


@given(groups=GROUPS, mode=st.sampled_from([SEQUENTIAL, BACKGROUND]))
def test_a_group_runs_in_order(groups: list[str], mode: TypeExecution) -> None:
    """Each task of a group waits for the one before it in its group, and for no other."""
    plan = make_plan(tasks_in(groups), mode)

    for group in set(groups):
        places = [place for place, name in enumerate(groups) if name == group]
        assert [plan.needs_of(place) for place in places] == [(), *((before,) for before in places[:-1])]
        assert len({plan.lanes[place] for place in places}) == 1


@given(groups=GROUPS, mode=st.sampled_from([SEQUENTIAL, BACKGROUND]))
def test_groups_share_no_lane(groups: list[str], mode: TypeExecution) -> None:
    """Two groups are independent."""
    plan = make_plan(tasks_in(groups), mode)

    assert len(set(zip(groups, plan.lanes, strict=True))) == len(set(groups)) == len(set(plan.lanes))
    assert plan.apart is (len(set(groups)) > 1)


@given(groups=GROUPS)
def test_parallel_tasks_need_no_other(groups: list[str]) -> None:
    """All tasks at the same time, each in a lane of its own, in any group."""
    plan = make_plan(tasks_in(groups), PARALLEL)

    assert not any(needs_in(plan))
    assert len(set(plan.lanes)) == len(groups)


@given(groups=GROUPS, mode=MODES)
def test_followers_are_needs_turned_round(groups: list[str], mode: TypeExecution) -> None:
    """The followers of a task are those that need it."""
    tasks = tasks_in(groups)
    plan = make_plan(tasks, mode)

    turned = {(need, place) for place, needs in enumerate(needs_in(plan)) for need in needs}
    assert {(need, place) for need, followers in enumerate(plan.followers(tasks)) for place in followers} == turned


@given(groups=GROUPS, mode=MODES)
def test_the_last_of_a_lane_is_its_last(groups: list[str], mode: TypeExecution) -> None:
    """After it, the lane's worker is free."""
    plan = make_plan(tasks_in(groups), mode)

    for lane, last in plan.last_of_lanes().items():
        assert last == max(task_id for task_id, other in enumerate(plan.lanes) if other == lane)


@action
def plain() -> None: ...


@action
def taking(previous_context: Context) -> None: ...


@pytest.mark.parametrize(
    ("added", "mode", "named"),
    [
        ([(plain, "left"), (plain, "right"), (taking, "default")], "sequential", "Task 2 taking takes"),
        ([(plain, "left"), (taking, "default")], "background", "Task 1 taking takes"),
        ([(plain, "default"), (plain, "left"), (taking, "default")], "sequential", "Task 2 taking takes"),
        ([(plain, "left"), (plain, "right"), (plain, "default")], "sequential", ""),
        ([(plain, "default"), (taking, "default"), (plain, "left")], "sequential", ""),
        ([(plain, "left"), (taking, "left"), (taking, "right")], "sequential", ""),
        ([(plain, "default"), (taking, "default")], "sequential", ""),
        ([(plain, "left"), (taking, "default")], "parallel", ""),
    ],
)
def test_a_task_that_seems_to_follow_a_group_is_named(added: list[Any], mode: str, named: str) -> None:
    """Without group_name it runs beside the groups. The note names it where it takes previous_context."""
    tasks = [Task(number, step, group_name=group) for number, (step, group) in enumerate(added)]

    note = note_on_groups(tasks, TypeExecution(mode))

    assert note.startswith(named)
    assert bool(note) == bool(named)
    assert not note or "'left'" in note
    assert not note or "Give it the group_name of the tasks that it follows" in note
