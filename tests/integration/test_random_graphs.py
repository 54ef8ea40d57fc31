"""Random graphs: in every mode each task that may run does so once, after what it needs, with the same values."""

import inspect
import random
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from dotflow import DotFlow, action
from dotflow.core.types.execution import TypeExecution
from dotflow.core.types.status import TypeStatus
from dotflow.graph.plan import make_plan
from dotflow.providers import ExecutorAsync, ExecutorInline, ExecutorProcess, ExecutorThread

MODULO = 1_000_003
COMPLETED = TypeStatus.COMPLETED
MISSING = "no value"

MakeWorkflow = Callable[..., DotFlow]


class Graph:
    """A random workflow.

    Args:
        seed: Determines all of it.
        count: The number of tasks.
        failing: The share of the tasks that fail, of those that are not mapped.

    Attributes:
        values: The value of each task, computed without dotflow; MISSING where it has none.
        statuses: How each task ends, computed without dotflow.
        needs: For each task, the tasks that it waits for, for whatever reason.
        log: "+3" where task 3 begins and "-3" where it ends, if that is in this process; items as "+3[0]".
    """

    def __init__(self, seed: int, count: int = 14, failing: float = 0) -> None:
        self.random = random.Random(seed)
        self.failing = failing
        self.values: list[Any] = []
        self.lists: list[bool] = []  # whether a task returns a list
        self.statuses: list[TypeStatus] = []
        self.needs: list[set[int]] = []
        self.log: list[str] = []
        self.options: list[tuple[Any, dict[str, Any]]] = []
        for number in range(count):
            self._add_one(number)

    def _pick(self, number: int, most: int) -> list[int]:
        return self.random.sample(range(number), min(number, self.random.randint(0, most)))

    def _add_one(self, number: int) -> None:
        named, required, after = self._pick(number, 3), self._pick(number, 1), self._pick(number, 2)
        lists = [other for other in range(number) if self.lists[other]]
        over = self.random.choice(lists) if lists and self.random.random() < 0.4 else None
        named = [other for other in named if other != over]
        after = [other for other in after if other not in required]
        is_list = over is None and self.random.random() < 0.4
        fails = over is None and self.random.random() < self.failing
        own = {f"t{other}": self.values[other] for other in named}
        self.lists.append(is_list or over is not None)
        needs = {*named, *required} | ({over} if over is not None else set())
        self.needs.append(needs | {*after})
        if any(self.statuses[other] is not COMPLETED for other in needs):
            self.statuses.append(TypeStatus.SKIPPED)
        else:
            self.statuses.append(TypeStatus.FAILED if fails else COMPLETED)
        if self.statuses[-1] is not COMPLETED:
            self.values.append(MISSING)
        elif over is None:
            self.values.append(value_of(number, own, is_list))
        else:
            self.values.append([value_of(number, {**own, "entry": entry}, False) for entry in self.values[over]])
        options: dict[str, Any] = {"name": f"t{number}"}
        for word, others in (("needs", required), ("after", after)):
            if others:
                options[word] = [f"t{other}" for other in others]
        if over is not None:
            options |= {"each": f"t{over}", "max_parallel": self.random.randint(1, 3)}
        parameters = [f"t{other}" for other in named] + (["entry"] if over is not None else [])
        self.options.append((step_of(number, parameters, is_list, fails, self.log), options))

    def add_to(self, workflow: DotFlow, groups: int) -> DotFlow:
        for step, options in self.options:
            group = {"group_name": f"g{self.random.randrange(groups)}"} if groups else {}
            workflow.task.add(step, **options, **group)
        return workflow


def value_of(number: int, arguments: dict[str, Any], is_list: bool) -> Any:
    total = number + 1
    for name, value in sorted(arguments.items()):
        total = (total * 31 + len(name) + sum(value if isinstance(value, list) else [value])) % MODULO
    return [total, total + 1, total + 2][: total % 4] if is_list else total


def step_of(number: int, parameters: list[str], is_list: bool, fails: bool, log: list[str]) -> Any:
    def step(**arguments: Any) -> Any:
        log.append(f"+{number}")
        try:
            if fails:
                raise ValueError(number)
            return value_of(number, arguments, is_list)
        finally:
            log.append(f"-{number}")

    kind = inspect.Parameter.KEYWORD_ONLY
    step.__signature__ = inspect.Signature([inspect.Parameter(parameter, kind) for parameter in parameters])  # type: ignore[attr-defined]
    return action(step)


def check(graph: Graph, workflow: DotFlow, *, here: bool) -> None:
    tasks = workflow.result_task()
    assert [task.status for task in tasks] == graph.statuses
    assert [task.value if task.has_value else MISSING for task in tasks] == graph.values
    if not here:
        return
    counts = Counter(graph.log)
    for number, task in enumerate(tasks):
        runs = len(task.items) if task.is_mapped else task.status is not TypeStatus.SKIPPED
        assert counts[f"+{number}"] == runs
    for number, needs in enumerate(graph.needs):
        if counts[f"+{number}"] and not tasks[number].is_mapped:
            began = graph.log.index(f"+{number}")
            assert not {f"-{need}" for need in needs} & set(graph.log[began:])


in_every_mode = pytest.mark.parametrize(
    ("mode", "groups", "executor"),
    [
        ("sequential", 0, ExecutorInline),
        ("sequential", 3, lambda: ExecutorThread(max_workers=3)),
        ("background", 0, None),
        ("parallel", 0, lambda: ExecutorThread(max_workers=2)),
        ("parallel", 0, ExecutorThread),
        ("parallel", 0, ExecutorAsync),
    ],
    ids=["sequential", "groups", "background", "two-threads", "threads", "coroutines"],
)


@pytest.fixture(params=[0, 10, 20, 30])
def seeds(request: pytest.FixtureRequest, stride: int) -> range:
    """The seeds of some graphs: all forty with --exhaustive."""
    first: int = request.param
    return range(first, first + 10, stride)


@in_every_mode
def test_a_random_graph(make_workflow: MakeWorkflow, mode: str, groups: int, executor: Any, seeds: range) -> None:
    """Each task runs once, after its needs, and returns what it would return anywhere."""
    for seed in seeds:
        graph = Graph(seed)
        workflow = graph.add_to(make_workflow(executor=executor and executor()), groups)

        run = workflow.launch(threading.Event().set, mode=mode)

        assert run.wait(45), "a deadlock"
        check(graph, workflow, here=True)


@in_every_mode
def test_a_random_graph_in_which_tasks_fail(
    make_workflow: MakeWorkflow, mode: str, groups: int, executor: Any, seeds: range
) -> None:
    """Who needs a failed or skipped task, or takes its value, is skipped; who comes after it runs."""
    for seed in seeds:
        graph = Graph(seed, failing=0.2)
        workflow = graph.add_to(make_workflow(executor=executor and executor()), groups)

        run = workflow.launch(threading.Event().set, mode=mode, keep_going=True)

        assert run.wait(45), "a deadlock"
        check(graph, workflow, here=True)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.exhaustive) for seed in (1, 2))])
@pytest.mark.parametrize(("mode", "groups"), [("parallel", 0), ("sequential", 2)])
def test_a_random_graph_in_processes(make_workflow: MakeWorkflow, mode: str, groups: int, seed: int) -> None:
    """The values that stay in a worker are those that the next task of its lane takes."""
    graph = Graph(seed)
    workflow = graph.add_to(make_workflow(executor=ExecutorProcess(max_workers=2)), groups)

    assert workflow.launch(threading.Event().set, mode=mode).wait(45), "a deadlock"

    check(graph, workflow, here=False)


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
@pytest.mark.parametrize("groups", [0, 3])
def test_the_plan_of_a_random_graph(make_workflow: MakeWorkflow, mode: str, groups: int, seeds: range) -> None:
    """It only needs earlier tasks, so it has no cycle; the tasks of a lane follow each other."""
    for seed in seeds:
        graph = Graph(seed, count=30)
        workflow = graph.add_to(make_workflow(), groups)

        plan = make_plan(list(workflow.task), TypeExecution(mode))

        last: dict[int, int] = {}
        for number, needs in enumerate(map(plan.needs_of, range(len(plan.lanes)))):
            assert graph.needs[number] <= set(needs)
            assert all(need < number for need in needs)
            before = last.get(plan.lanes[number])
            assert before is None or before in needs
            last[plan.lanes[number]] = number
        assert plan.last_of_lanes() == last
