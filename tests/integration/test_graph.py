"""The graph: values by name, needs, branches, fallbacks, cleanup and parameters, in every mode and executor."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from dotflow import Context, DotFlow, Task, action
from dotflow.abc.executor import Executor
from dotflow.errors import (
    AmbiguousTask,
    DefinitionError,
    InvalidLink,
    MissingParam,
    UnknownParam,
    UnknownParameter,
    UnknownTask,
)
from dotflow.providers import ExecutorAsync, ExecutorProcess, ExecutorThread
from tests.integration.modes import COMPLETED, FAILED, MODES, NOT_STARTED, SKIPPED, group, start, statuses
from tests.marks import in_any_worker

MakeWorkflow = Callable[..., DotFlow]
WAIT = 45.0  # seconds, for what happens at once


@action
def orders() -> list[int]:
    return [1, 2, 3]


@action
def customers() -> dict[str, int]:
    return {"a": 1}


@action
def join(orders: list[int], customers: dict[str, int]) -> tuple[int, int]:
    return len(orders), len(customers)


# Values by name


@in_any_worker
@pytest.mark.parametrize("mode", MODES)
def test_a_parameter_called_like_a_task_is_given_its_value(make_workflow: MakeWorkflow, mode: str) -> None:
    """In every mode, across groups too."""
    workflow = make_workflow()
    workflow.task.add(orders, group_name=group(mode, 0)).add(customers, group_name=group(mode, 1))
    workflow.task.add(join, group_name=group(mode, 0))

    run = start(workflow, mode)

    assert run.status is COMPLETED
    assert workflow.result_storage() == [[1, 2, 3], {"a": 1}, (3, 1)]


@pytest.mark.parametrize("executor", [ExecutorThread, ExecutorAsync, ExecutorProcess])
def test_on_every_executor(make_workflow: MakeWorkflow, executor: Callable[[], Executor]) -> None:
    """Values reach their tasks in threads, in one event loop and in processes."""

    @action
    async def total(orders: list[int]) -> int:
        return sum(orders)

    workflow = make_workflow(executor=executor())
    workflow.task.add(orders).add(total).add(customers).add(join)

    run = workflow.start(mode="parallel")

    assert run.status is COMPLETED
    assert workflow.result_storage() == [[1, 2, 3], 6, {"a": 1}, (3, 1)]


def test_in_one_process_it_is_the_same_object(make_workflow: MakeWorkflow) -> None:
    """Nothing is copied where no process lies between."""
    value = [1]
    make = action(lambda: value)
    seen = []

    @action
    def take(made: list[int]) -> None:
        seen.append(made)

    workflow = make_workflow()
    workflow.task.add(make, name="made").add(take)
    workflow.start()

    assert seen[0] is value


@in_any_worker
def test_a_context_by_name(make_workflow: MakeWorkflow) -> None:
    """`orders_context` is the Context of the task `orders`."""

    @action
    def look(orders_context: Context) -> tuple[Any, Any]:
        return orders_context.storage, orders_context.task_id

    workflow = make_workflow()
    workflow.task.add(customers).add(orders).add(look)
    workflow.start()

    assert workflow.result_storage()[-1] == ([1, 2, 3], 1)


@in_any_worker
def test_needs_wire_by_hand(make_workflow: MakeWorkflow) -> None:
    """`needs={"rows": orders}` names the parameter; a task by its step or by its name."""

    @action
    def count(rows: list[int], people: dict[str, int]) -> int:
        return len(rows) + len(people)

    workflow = make_workflow()
    workflow.task.add(orders).add(customers).add(count, needs={"rows": orders, "people": "customers"})
    workflow.start(mode="parallel")

    assert workflow.result_storage()[-1] == 4


def test_needs_may_only_wait(make_workflow: MakeWorkflow) -> None:
    """`needs=[migrate]` gives no value, and the order is kept in parallel mode."""
    ended = []

    @action
    def migrate() -> None:
        time.sleep(0.1)
        ended.append("migrate")

    @action
    def load() -> None:
        ended.append("load")

    workflow = make_workflow(executor=ExecutorThread())
    workflow.task.add(migrate).add(load, needs=[migrate])
    workflow.start(mode="parallel")

    assert ended == ["migrate", "load"]


def test_names_tell_equal_steps_apart(make_workflow: MakeWorkflow) -> None:
    """`name=` names a task; it shows wherever the task does."""

    @action
    def clean(initial_context: Context) -> str:
        return f"clean {initial_context.storage}"

    @action
    def both(left: str, right: str) -> str:
        return f"{left}, {right}"

    workflow = make_workflow()
    workflow.task.add(clean, initial_context="a", name="left").add(clean, initial_context="b", name="right").add(both)
    workflow.start()

    assert workflow.result_storage()[-1] == "clean a, clean b"
    assert [task.name for task in workflow.result_task()] == [
        "left",
        "right",
        next(iter(workflow.task)).step.name and workflow.result_task()[2].name,
    ]
    assert workflow.result().tasks[0].name == "left"


def test_a_run_finds_a_task_by_its_name_or_step(make_workflow: MakeWorkflow) -> None:
    """With the rules of `add`, and a hint for a name that no task has."""

    @action
    def orders() -> int:
        return 3

    @action
    def clean(orders: int) -> int:
        return orders + 1

    workflow = make_workflow()
    workflow.task.add(orders).add(clean, name="first").add(clean, name="second")
    run = workflow.start()

    assert run.task("first") is run.tasks[1]
    assert run.task(orders).current_context.storage == 3
    with pytest.raises(AmbiguousTask, match="tasks 1 and 2"):
        run.task(clean)
    with pytest.raises(UnknownTask, match="No task is called 'ordres'"):
        run.task("ordres")


@pytest.mark.parametrize("ref", [True, 3, len], ids=repr)
def test_a_need_that_is_no_task_is_refused(make_workflow: MakeWorkflow, ref: Any) -> None:
    """A value or a plain function, where a task's name or its step is wanted."""
    with pytest.raises(InvalidLink, match="is not a task"):
        make_workflow().task.add(action(lambda: 1), when=ref)


def test_the_last_part_of_a_steps_name_counts(make_workflow: MakeWorkflow) -> None:
    """A method `Report.load` is called `load`."""

    class Report:
        @action
        def load(self) -> str:
            return "loaded"

    @action
    def show(load: str) -> str:
        return f"{load}, shown"

    workflow = make_workflow()
    workflow.task.add(Report().load).add(show)
    workflow.start()

    assert workflow.result_storage()[-1] == "loaded, shown"


def test_existing_functions_become_steps(make_workflow: MakeWorkflow) -> None:
    """A function with ordinary parameters needs no wrapper; a default makes a need optional."""

    def merge(orders: list[int], stock: Mapping[str, int] | None = None, limit: int = 2) -> list[int]:
        return orders[:limit] if stock is None else []

    workflow = make_workflow()
    workflow.task.add(orders).add(action(merge))
    workflow.start()

    assert workflow.result_storage()[-1] == [1, 2]


@in_any_worker
def test_the_actions_of_a_class_may_name_each_other(make_workflow: MakeWorkflow) -> None:
    """`__init__` is given values by name, and an action the value of an earlier action of its class."""

    @action
    class Report:
        def __init__(self, orders: list[int]) -> None:
            self.orders = orders

        @action
        def total(self) -> int:
            return sum(self.orders)

        @action
        def text(self, total: int) -> str:
            return f"total {total}"

    workflow = make_workflow()
    workflow.task.add(orders).add(Report)
    run = workflow.start()

    assert run.status is COMPLETED
    assert [context.storage for context in workflow.result_storage()[-1]] == [6, "total 6"]


# Side by side


def test_tasks_whose_needs_are_met_run_at_once(make_workflow: MakeWorkflow) -> None:
    """Five sources side by side and their join; a slow sibling holds up nobody but those who need it."""
    names = [f"source_{number}" for number in range(5)]
    together = threading.Barrier(5)

    def source() -> int:
        together.wait(WAIT)
        return 1

    workflow = make_workflow(executor=ExecutorThread())
    for name in names:
        workflow.task.add(action(source), name=name)
    total = action(
        lambda source_0, source_1, source_2, source_3, source_4: source_0 + source_1 + source_2 + source_3 + source_4
    )
    workflow.task.add(total, name="total")

    assert workflow.start(mode="parallel").status is COMPLETED
    assert workflow.result_storage()[-1] == 5


def test_a_slow_sibling_delays_no_other_branch(make_workflow: MakeWorkflow) -> None:
    """A fast branch goes on to its end while the slow one still runs."""
    go = threading.Event()

    @action
    def slow() -> bool:
        return go.wait(WAIT)

    @action
    def fast() -> int:
        return 1

    @action
    def after(fast: int) -> int:
        go.set()
        return fast

    workflow = make_workflow(executor=ExecutorThread())
    workflow.task.add(slow).add(fast).add(after)
    workflow.start(mode="parallel")

    assert workflow.result_storage() == [True, 1, 1]


# Refused at add


def added_workflow() -> DotFlow:
    workflow = DotFlow()
    workflow.task.add(orders)
    return workflow


class RaisingRepr:
    def __repr__(self) -> str:
        raise ValueError("my own repr")


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda add: add(orders).add(action(lambda ordres: 0)), UnknownParameter, "Did you mean 'orders'"),
        (
            lambda add: add(orders).add(action(lambda rows: 0), needs={"rows": "ordres"}),
            UnknownTask,
            "Did you mean 'orders'",
        ),
        (
            lambda add: add(orders).add(orders).add(join, needs={"customers": orders}),
            AmbiguousTask,
            "names tasks 0 and 1",
        ),
        (lambda add: add(orders, name="a").add(orders, name="a"), DefinitionError, "'a'"),
        (lambda add: add([orders, customers], name="a"), DefinitionError, "several"),
        (lambda add: add(orders, name="2a"), DefinitionError, "letter"),
        (lambda add: add(orders, max_parallel=3), InvalidLink, "each"),
        (lambda add: add(orders).add(customers, always=True, when=orders), InvalidLink, "always"),
        (lambda add: add(orders, needs={"rows": "customers"}), DefinitionError, "rows"),
        (lambda add: add(added_workflow(), name="inner", each=[]), InvalidLink, "no parameter for its items"),
        (lambda add: add([orders, customers]).add(join, needs=[[orders, customers]]), InvalidLink, "is not a task"),
        (lambda add: add(orders, needs=[RaisingRepr()]), InvalidLink, "is not a task"),
        (lambda add: add(action(lambda row: 0), each=RaisingRepr()), InvalidLink, "neither a task nor a list"),
    ],
)
def test_refused_at_add(make_workflow: MakeWorkflow, build: Any, error: type[Exception], message: str) -> None:
    """Mistakes are refused with a hint, and the call that made one adds nothing."""
    workflow = make_workflow()
    counts: list[int] = []

    def add(*arguments: Any, **options: Any) -> Any:
        counts.append(workflow.task.count())
        workflow.task.add(*arguments, **options)
        return type("Chain", (), {"add": staticmethod(add)})

    with pytest.raises(error, match=message):
        build(add)

    assert workflow.task.count() == counts[-1]


def test_plain_classes_that_can_not_fit(make_workflow: MakeWorkflow) -> None:
    """A list where a text is annotated is refused at add; a mapped task gives a list."""

    @action
    def text(orders: str) -> str:
        return orders

    workflow = make_workflow()
    workflow.task.add(orders)
    numbers = action(lambda: 1)
    numbers.function.__annotations__["return"] = int
    workflow.task.add(numbers, name="number")

    def wants_text(number: str) -> None: ...

    with pytest.raises(InvalidLink, match="returns int"):
        workflow.task.add(action(wants_text))

    def wants_float(number: float) -> None: ...

    workflow.task.add(action(wants_float))


def test_a_linked_task_gets_no_previous_context_in_parallel(make_workflow: MakeWorkflow) -> None:
    """It would be empty, so start() says to name the task instead."""

    @action
    def both(orders: list[int], previous_context: Context) -> int:
        return len(orders)

    workflow = make_workflow()
    workflow.task.add(orders).add(both)

    with pytest.raises(DefinitionError, match="previous_context"):
        workflow.start(mode="parallel")
    assert workflow.start().status is COMPLETED


def test_reverse_keeps_links(make_workflow: MakeWorkflow) -> None:
    """reverse() is refused where it would break a link."""
    workflow = make_workflow()
    workflow.task.add(orders).add(customers).add(join)

    with pytest.raises(InvalidLink):
        workflow.task.reverse()
    assert [task.step.name for task in workflow.task] == ["orders", "customers", "join"]


# Branches


@action
def good() -> bool:
    return True


@action
def route() -> str:
    return "fast"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"when": good}, ""),
        ({"when": "good"}, ""),
        ({"unless": good}, "good was True"),
        ({"when": {"route": "fast"}}, ""),
        ({"when": {"route": "slow"}}, "route was 'fast'"),
        ({"when": [good, route], "unless": {"route": "slow"}}, ""),
    ],
)
def test_branches(make_workflow: MakeWorkflow, mode: str, options: dict[str, Any], reason: str) -> None:
    """`when` and `unless` decide; a skipped task has a reason and fails nothing."""
    deploy = action(lambda: "deployed")
    workflow = make_workflow()
    workflow.task.add(good, group_name=group(mode, 0)).add(route, group_name=group(mode, 1))
    workflow.task.add(deploy, name="deploy", group_name=group(mode, 0), **options)

    run = start(workflow, mode)

    task = workflow.result_task()[-1]
    assert run.status is COMPLETED
    assert task.status is (SKIPPED if reason else COMPLETED)
    assert task.reason == reason


def test_who_requires_a_skipped_task_is_skipped(make_workflow: MakeWorkflow) -> None:
    """A default goes on without it. To previous_context, a skipped task is as if it were not there."""
    bad = action(lambda: False)
    deploy = action(lambda: "deployed")
    report = action(lambda deploy: f"report on {deploy}")
    summary = action(lambda deploy=None: f"deploy: {deploy}")

    @action
    def before(previous_context: Context) -> Any:
        return previous_context.storage

    workflow = make_workflow()
    workflow.task.add(bad, name="bad").add(deploy, name="deploy", when="bad").add(before, name="before")
    workflow.task.add(report, name="report").add(summary, name="summary")

    run = workflow.start()

    assert run.status is COMPLETED
    assert statuses(workflow) == [COMPLETED, SKIPPED, COMPLETED, SKIPPED, COMPLETED]
    assert workflow.result_storage() == [False, None, False, None, "deploy: None"]
    assert workflow.result_task()[3].reason == "it needs 'deploy', which was skipped"


def test_a_condition_that_raises_fails_its_task(make_workflow: MakeWorkflow) -> None:
    """The value's own code decides whether it is true."""

    class Undecided:
        def __bool__(self) -> bool:
            raise ValueError("neither")

    workflow = make_workflow()
    workflow.task.add(action(Undecided), name="value").add(orders, when="value")

    assert workflow.start().status is FAILED
    error = workflow.result_task()[1].errors[0]
    assert error.message == "neither"
    assert "Return True or False from a step" in error.traceback


def test_a_reason_is_of_its_run_only(make_workflow: MakeWorkflow) -> None:
    """A second run starts from the definition."""
    answers = iter([False, True])
    workflow = make_workflow()
    workflow.task.add(action(lambda: next(answers)), name="good").add(orders, when="good")

    workflow.start()
    first = workflow.result_task()[1]
    workflow.start()
    second = workflow.result_task()[1]

    assert (first.status, first.reason) == (SKIPPED, "good was False")
    assert (second.status, second.reason) == (COMPLETED, "")
    assert [task.reason for task in workflow.task] == ["", ""]


# Failures


@action
def broken() -> None:
    raise ValueError("broken")


@in_any_worker
@pytest.mark.parametrize("mode", MODES)
def test_keep_going_skips_who_requires_a_failed_task(make_workflow: MakeWorkflow, mode: str) -> None:
    """Others go on; the reason names the task that failed."""
    needs = action(lambda broken: 0)
    optional = action(lambda broken="nothing": broken)
    workflow = make_workflow()
    workflow.task.add(broken, group_name=group(mode, 0)).add(needs, name="needs", group_name=group(mode, 1))
    workflow.task.add(optional, name="optional", group_name=group(mode, 0))

    run = start(workflow, mode, keep_going=True)

    assert run.status is FAILED
    assert statuses(workflow) == [FAILED, SKIPPED, COMPLETED]
    assert workflow.result_task()[1].reason == "it needs 'broken', which failed"
    assert workflow.result_storage()[2] == "nothing"


def test_keep_going_of_one_task(make_workflow: MakeWorkflow) -> None:
    """A task's own keep_going wins over that of start(), in both directions."""
    workflow = make_workflow()
    workflow.task.add(broken, keep_going=True).add(orders)
    workflow.start()
    assert statuses(workflow) == [FAILED, COMPLETED]

    workflow = make_workflow()
    workflow.task.add(broken, keep_going=False).add(orders)
    workflow.start(keep_going=True)
    assert statuses(workflow) == [FAILED, NOT_STARTED]


@in_any_worker
@pytest.mark.parametrize("mode", MODES)
def test_a_fallback_mends(make_workflow: MakeWorkflow, mode: str) -> None:
    """After the last attempt the fallback makes further ones, by its own policy and with the same parameters."""

    @action(retry=2, retry_delay=0)
    def fragile(orders: list[int]) -> str:
        raise ValueError("fragile")

    @action(retry=3, retry_delay=0)
    def sturdy(orders: list[int]) -> str:
        return f"{len(orders)} orders"

    use = action(lambda fragile: fragile)
    workflow = make_workflow()
    workflow.task.add(orders, group_name=group(mode, 0))
    workflow.task.add(fragile, fallback=sturdy, group_name=group(mode, 1)).add(
        use, name="use", group_name=group(mode, 0)
    )

    run = start(workflow, mode)

    task = workflow.result_task()[1]
    assert run.status is COMPLETED
    assert task.status is COMPLETED
    assert [error.exception for error in task.errors] == ["ValueError", "ValueError"]
    assert task.attempt == 3
    assert workflow.result_storage()[2] == "3 orders"


@in_any_worker
def test_a_fallback_runs_after_an_error_that_retry_on_refuses(make_workflow: MakeWorkflow) -> None:
    """`retry_on` is about the same step; another one may succeed. It may raise the error that it takes."""
    refused = action(retry=3, retry_delay=0, retry_on=ConnectionError)(lambda: 1 / 0)
    workflow = make_workflow()
    workflow.task.add(refused, name="refused", fallback=action(lambda error: error.exception))

    run = workflow.start()

    assert run.value("refused") == "ZeroDivisionError"
    assert len(run["refused"].errors) == 1


@in_any_worker
def test_a_fallback_that_fails(make_workflow: MakeWorkflow) -> None:
    """Its attempts are counted by its own policy, and its error is the last one."""
    sturdy = action(retry=2, retry_delay=0)(lambda: 1 / 0)
    workflow = make_workflow()
    workflow.task.add(broken, fallback=sturdy)

    assert workflow.start().status is FAILED
    task = workflow.result_task()[0]
    assert [error.exception for error in task.errors] == ["ValueError", "ZeroDivisionError", "ZeroDivisionError"]


# Cleanup


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fails", [False, True])
def test_cleanup_runs_after_success_and_failure(make_workflow: MakeWorkflow, mode: str, fails: bool) -> None:
    """Exactly if there is something to clean up, and what failed stays failed."""
    workflow = make_workflow()
    workflow.task.add(action(lambda: "cluster"), name="cluster", group_name=group(mode, 0))
    work = broken if fails else orders
    workflow.task.add(work, name="work", needs=["cluster"], group_name=group(mode, 1))
    workflow.task.add(
        action(lambda cluster: f"{cluster} ended"), name="teardown", always=True, group_name=group(mode, 0)
    )

    run = start(workflow, mode)

    assert run.status is (FAILED if fails else COMPLETED)
    assert statuses(workflow) == [COMPLETED, FAILED if fails else COMPLETED, COMPLETED]
    assert workflow.result_storage()[-1] == "cluster ended"


def test_nothing_to_clean_up(make_workflow: MakeWorkflow) -> None:
    """Where the task that it cleans up failed, cleanup is skipped."""
    workflow = make_workflow()
    workflow.task.add(broken, name="cluster").add(orders).add(action(lambda cluster: 0), name="teardown", always=True)

    workflow.start()

    assert statuses(workflow) == [FAILED, NOT_STARTED, SKIPPED]


@pytest.mark.parametrize("mode", ["sequential", "background", "parallel"])
def test_cleanup_runs_after_cancel(make_workflow: MakeWorkflow, mode: str) -> None:
    """cancel() ends what runs, then what cleans up runs."""
    begun = threading.Event()

    @action
    def work() -> None:
        begun.set()
        while True:
            time.sleep(0.01)

    workflow = make_workflow(executor=ExecutorThread())
    workflow.task.add(action(lambda: "cluster"), name="cluster").add(work, needs=["cluster"])
    workflow.task.add(action(lambda cluster: "ended"), name="teardown", always=True)
    threading.Thread(target=lambda: begun.wait(WAIT) and workflow._last.cancel()).start()

    run = start(workflow, mode)

    assert run.status is FAILED
    assert statuses(workflow) == [COMPLETED, FAILED, COMPLETED]


# Parameters of a run


@action
def extract(day: str, limit: int) -> str:
    return f"{limit} rows of {day}"


@in_any_worker
def test_parameters_reach_the_steps(make_workflow: MakeWorkflow) -> None:
    """Declared with defaults, given to start(), taken by name or all together."""
    workflow = make_workflow(params={"day": ..., "limit": 100})
    workflow.task.add(extract).add(action(lambda params: dict(params)), name="all")

    workflow.start(params={"day": "monday"})

    assert workflow.result_storage() == ["100 rows of monday", {"day": "monday", "limit": 100}]


def test_parameters_that_are_missing_or_unknown(make_workflow: MakeWorkflow) -> None:
    """Both are refused before anything runs."""
    workflow = make_workflow(params={"day": ..., "limit": 100})
    workflow.task.add(extract)

    with pytest.raises(MissingParam, match="day"):
        workflow.start()
    with pytest.raises(UnknownParam, match="Did you mean 'day'"):
        workflow.start(params={"dya": 1})
    assert statuses(workflow) == [NOT_STARTED]


def test_a_task_is_not_called_like_a_parameter(make_workflow: MakeWorkflow) -> None:
    """One name means one thing."""
    workflow = make_workflow(params={"orders": 1})

    with pytest.raises(DefinitionError, match="orders"):
        workflow.task.add(orders)


# Workflows inside of workflows


@pytest.mark.parametrize("mode", MODES)
def test_a_workflow_inside_of_another(make_workflow: MakeWorkflow, mode: str) -> None:
    """add(other.task, name="prepare") runs its tasks; "prepare" is the value of the last one."""
    inner = make_workflow(params={"rows": ...})
    inner.task.add(action(lambda rows: [row * 2 for row in rows]), name="double")
    inner.task.add(action(lambda double: sum(double)), name="total")
    outer = make_workflow()
    outer.task.add(orders, name="rows").add(inner.task, name="prepare")
    outer.task.add(action(lambda prepare: f"total {prepare}"), name="show")

    run = start(outer, mode)

    assert run.status is COMPLETED
    assert [task.name for task in outer.result_task()] == ["rows", "prepare.double", "prepare.total", "show"]
    assert outer.result_storage()[-1] == "total 12"


def test_a_cleanup_is_not_the_value_of_a_nested_workflow(make_workflow: MakeWorkflow) -> None:
    """No resume would restore it, so the value is that of the task before."""
    inner = DotFlow()
    inner.task.add(action(lambda: "rows"), name="load").add(action(lambda: "closed"), name="close", always=True)
    workflow = make_workflow()
    workflow.task.add(inner, name="source").add(action(lambda source: f"{source}!"), name="show")

    run = workflow.start()

    assert run.value("show") == "rows!"
    assert run["source"].name == "source.load"


def test_a_workflow_inside_twice(make_workflow: MakeWorkflow) -> None:
    """Each copy has its own needs."""
    inner = make_workflow(params={"number": ...})
    inner.task.add(action(lambda number: number + 1), name="next")
    outer = make_workflow()
    outer.task.add(action(lambda: 1), name="one").add(inner.task, name="first", needs={"number": "one"})
    outer.task.add(inner, name="second", needs={"number": "first"})
    outer.start()

    assert outer.result_storage() == [1, 2, 3]


def task_named(workflow: DotFlow, name: str) -> Task:
    return next(task for task in workflow.result_task() if task.name == name)
