"""Large graphs: nothing recurses, and nothing grows faster than the graph. Their time is in the benchmarks."""

from collections.abc import Callable
from typing import Any

import pytest

from dotflow import DotFlow, Task, action
from dotflow.core.types.execution import TypeExecution
from dotflow.core.types.status import TypeStatus
from dotflow.graph.plan import make_plan
from dotflow.providers import ExecutorThread

MakeWorkflow = Callable[..., DotFlow]
COMPLETED, FAILED, SKIPPED = TypeStatus.COMPLETED, TypeStatus.FAILED, TypeStatus.SKIPPED
COLUMNS = 40


@action
def source() -> int:
    return 1


@action
def follow(source: int) -> int:
    return source + 1


@action
def broken() -> int:
    raise ValueError("as always")


@action
def join(**values: int) -> int:
    return sum(values.values())


@action
def add_up(left: int, right: int) -> int:
    return (left + right) % 1_000_003


@action
def double(number: int) -> int:
    return number * 2


@action
def count(double: list[int]) -> int:
    return len(double)


@pytest.fixture(params=["sequential", "parallel"])
def start(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Starts a workflow; in parallel mode in threads."""
    mode: str = request.param

    def start_in_mode(workflow: DotFlow, **arguments: Any) -> Any:
        if mode == "parallel":
            workflow.config.executor = ExecutorThread(max_workers=2)
        return workflow.start(mode=mode, **arguments)

    return start_in_mode


@pytest.mark.exhaustive
def test_a_map_of_many_items(make_workflow: MakeWorkflow) -> None:
    """Each has a value in its place, and a key of its own."""
    workflow = make_workflow()
    workflow.task.add(double, each=list(range(30_000))).add(count)
    workflow.start()

    mapped = workflow.result_task()[0]
    assert workflow.result_storage() == [list(range(0, 60_000, 2)), 30_000]
    assert len({item.key_suffix for item in mapped.items}) == 30_000


def test_a_fan_in(make_workflow: MakeWorkflow, start: Callable[..., Any]) -> None:
    """A task with 2,000 arguments."""
    workflow = make_workflow()
    names = [f"source_{number}" for number in range(2_000)]
    for name in names:
        workflow.task.add(source, name=name)
    workflow.task.add(join, needs={name: name for name in names})

    assert start(workflow).status is COMPLETED
    assert workflow.result_storage()[-1] == 2_000


def test_a_wide_graph(make_workflow: MakeWorkflow, start: Callable[..., Any]) -> None:
    """3,000 tasks that become ready at once."""
    workflow = make_workflow()
    workflow.task.add(source)
    for _ in range(3_000):
        workflow.task.add(follow)

    assert start(workflow).status is COMPLETED
    assert workflow.result_storage()[1:] == [2] * 3_000


def test_a_lattice(make_workflow: MakeWorkflow, start: Callable[..., Any]) -> None:
    """2,000 tasks in rows, each with two values of the row before."""
    workflow = make_workflow()
    expected = [1] * COLUMNS
    for number in range(2_000):
        row, column = divmod(number, COLUMNS)
        if not row:
            workflow.task.add(source, name=f"t0_{column}")
            continue
        if not column:
            expected = [(expected[at] + expected[(at + 1) % COLUMNS]) % 1_000_003 for at in range(COLUMNS)]
        needs = {"left": f"t{row - 1}_{column}", "right": f"t{row - 1}_{(column + 1) % COLUMNS}"}
        workflow.task.add(add_up, name=f"t{row}_{column}", needs=needs)

    assert start(workflow).status is COMPLETED
    assert workflow.result_storage()[-COLUMNS:] == expected


def test_a_long_chain_whose_first_task_fails(make_workflow: MakeWorkflow, start: Callable[..., Any]) -> None:
    """2,000 tasks are skipped one after the other."""
    workflow = make_workflow()
    workflow.task.add(broken, name="t0")
    for number in range(1, 2_001):
        workflow.task.add(follow, name=f"t{number}", needs={"source": f"t{number - 1}"})

    start(workflow, keep_going=True)
    assert [task.status for task in workflow.result_task()] == [FAILED] + [SKIPPED] * 2_000


@pytest.mark.exhaustive(keep_every=2)
def test_a_long_chain_of_maps_whose_first_item_fails(make_workflow: MakeWorkflow, start: Callable[..., Any]) -> None:
    """The same item of each map is skipped; the other one goes through all."""

    @action
    def halve(number: int) -> int:
        return 8 // number

    workflow = make_workflow()
    workflow.task.add(halve, name="m0", each=[0, 1])
    for number in range(1, 1_000):
        workflow.task.add(double, name=f"m{number}", each={"number": f"m{number - 1}"}, keep_going=True)

    start(workflow, keep_going=True)
    last = workflow.result_task()[-1]
    assert [item.status for item in last.items] == [SKIPPED, COMPLETED]
    assert last.items[1].current_context.storage == 8 * 2**999


def test_many_cleanups_after_a_failure(make_workflow: MakeWorkflow, start: Callable[..., Any]) -> None:
    """Each that has something to clean up runs, though the run has stopped."""
    workflow = make_workflow()
    for number in range(300):
        workflow.task.add(source, name=f"s{number}")
    workflow.task.add(broken, needs=[f"s{number}" for number in range(300)])
    for number in range(300):
        workflow.task.add(follow, name=f"c{number}", needs={"source": f"s{number}"}, always=True)

    assert start(workflow).status is FAILED
    assert [task.status for task in workflow.result_task()[301:]] == [COMPLETED] * 300


@pytest.mark.parametrize("mode", [TypeExecution.SEQUENTIAL, TypeExecution.PARALLEL])
def test_many_cleanups_have_few_needs(make_workflow: MakeWorkflow, mode: TypeExecution) -> None:
    """A cleanup waits for all tasks before it, and the cleanup before it has waited for most of them."""
    workflow = make_workflow()
    for number in range(500):
        workflow.task.add(source, name=f"s{number}")
        workflow.task.add(follow, name=f"c{number}", needs={"source": f"s{number}"}, always=True)
    tasks: list[Task] = list(workflow.task)

    plan = make_plan(tasks, mode)
    assert sum(len(plan.needs_of(task.task_id)) for task in tasks) < 3 * len(tasks)


def test_a_step_that_many_tasks_name(make_workflow: MakeWorkflow) -> None:
    """By itself, not by its name."""
    workflow = make_workflow()
    workflow.task.add(source)
    for number in range(1_000):
        workflow.task.add(double, name=f"d{number}", needs={"number": source})

    assert workflow.start().status is COMPLETED
    assert workflow.result_storage()[1:] == [2] * 1_000
