"""A whole run in the calling thread: its result, its callbacks, and the workflow afterwards."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from dotflow import Context, DotFlow, Task, action
from dotflow.abc.executor import Executor, ExecutorSession, Report
from dotflow.abc.history import History
from dotflow.abc.tracer import Tracer
from dotflow.core.events import Event
from dotflow.core.types import TypeStatus
from dotflow.errors import NotRun, UnknownTask

MakeWorkflow = Callable[..., DotFlow]

COMPLETED, FAILED, NOT_STARTED = TypeStatus.COMPLETED, TypeStatus.FAILED, TypeStatus.NOT_STARTED


@action
def one() -> int:
    return 1


@action
def plus_one(previous_context: Context) -> Any:
    return previous_context.storage + 1


@action
def fails() -> None:
    raise ValueError("no")


class Callbacks:
    """Both callbacks of a run, which gives them the tasks by name."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[Task]]] = []

    def on_success(self, *, tasks: list[Task]) -> None:
        self.calls.append(("on_success", tasks))

    def on_failure(self, *, tasks: list[Task]) -> None:
        self.calls.append(("on_failure", tasks))

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.calls]


@pytest.fixture
def callbacks() -> Callbacks:
    return Callbacks()


def start(workflow: DotFlow, callbacks: Callbacks, **arguments: Any) -> Any:
    return workflow.start(on_success=callbacks.on_success, on_failure=callbacks.on_failure, **arguments)


class TestOutcome:
    def test_a_run_that_works(self, make_workflow: MakeWorkflow, callbacks: Callbacks) -> None:
        """COMPLETED, its records in the order of add, on_success called once with them."""
        workflow = make_workflow(workflow_id="w")
        workflow.task.add([one, plus_one])

        run = start(workflow, callbacks)

        assert (run.status, run.workflow_id) == (COMPLETED, "w")
        assert run.wait(0) is True
        assert [task.task_id for task in run.tasks] == [0, 1]
        assert [task.run_id for task in run.tasks] == [run.run_id] * 2
        assert callbacks.calls == [("on_success", run.tasks)]

    def test_a_run_that_fails(self, make_workflow: MakeWorkflow, callbacks: Callbacks) -> None:
        """FAILED if any task is, though the others continued; start() does not raise."""
        workflow = make_workflow()
        workflow.task.add([fails, one])

        run = start(workflow, callbacks, keep_going=True)

        assert run.status is FAILED
        assert [task.status for task in run.tasks] == [FAILED, COMPLETED]
        assert callbacks.names == ["on_failure"]

    def test_results_are_aligned(self, make_workflow: MakeWorkflow) -> None:
        """result_* are in the order of add, with empty contexts for tasks without a result."""
        workflow = make_workflow(workflow_id="w")
        workflow.task.add([one, fails, one])

        run = workflow.start()

        assert workflow.result_task() == run.tasks
        assert workflow.result_storage() == [1, None, None]
        assert [(context.storage, context.task_id) for context in workflow.result_context()] == [
            (1, 0),
            (None, None),
            (None, None),
        ]
        result = workflow.result()
        assert (result.workflow_id, result.run_id, result.status) == ("w", run.run_id, FAILED)
        assert [task.status for task in result.tasks] == [COMPLETED, FAILED, NOT_STARTED]

    def test_the_list_of_results_is_the_callers(self, make_workflow: MakeWorkflow) -> None:
        """Changing the list of result_task() does not change the workflow."""
        workflow = make_workflow()
        workflow.task.add(one)
        workflow.start()

        workflow.result_task().clear()

        assert len(workflow.result_task()) == 1

    def test_cancel_and_wait_after_the_end(self, make_workflow: MakeWorkflow) -> None:
        """They do nothing."""
        workflow = make_workflow()
        workflow.task.add(one)
        run = workflow.start()

        run.cancel()

        assert run.wait() is True
        assert run.status is COMPLETED


class TestAgain:
    def test_each_start_is_a_run_of_its_own(self, make_workflow: MakeWorkflow) -> None:
        """Two runs share no record; the workflow's results are those of the last one."""
        workflow = make_workflow()
        values = iter([1, 2])
        workflow.task.add(action(lambda: next(values)))

        first, second = workflow.start(), workflow.start()

        assert first.run_id != second.run_id
        assert first.workflow_id == second.workflow_id
        assert [run.tasks[0].current_context.storage for run in (first, second)] == [1, 2]
        assert workflow.result_storage() == [2]

    def test_the_builder_is_no_record(self, make_workflow: MakeWorkflow) -> None:
        """A run writes to its own records; tasks added later are in the next run."""
        workflow = make_workflow()
        workflow.task.add(one)
        first = workflow.start()
        workflow.task.add(plus_one)

        assert [task.status for task in workflow.task] == [NOT_STARTED] * 2
        assert len(first.tasks) == 1
        workflow.start()
        assert workflow.result_storage() == [1, 2]

    def test_a_workflow_inside_a_step(self, make_workflow: MakeWorkflow) -> None:
        """A step may run a workflow; timeouts inside and outside don't interfere."""
        inner = make_workflow()
        inner.task.add(action(timeout=10)(one.function))

        @action(timeout=20)
        def runs_another() -> Any:
            inner.start()
            return inner.result_storage()

        workflow = make_workflow()
        workflow.task.add(runs_another)
        workflow.start()

        assert workflow.result_storage() == [[1]]

    def test_a_callback_may_start_the_next_run(self, make_workflow: MakeWorkflow) -> None:
        """on_success sees the final status."""
        workflow = make_workflow()
        workflow.task.add(one)
        seen: list[TypeStatus] = []

        def again(tasks: list[Task]) -> None:
            seen.append(workflow.start().status)

        workflow.start(on_success=again)

        assert seen == [COMPLETED]


class TestInterrupts:
    def test_ctrl_c_in_a_step(self, make_workflow: MakeWorkflow, callbacks: Callbacks) -> None:
        """The task is FAILED, on_failure is called, the results exist, and KeyboardInterrupt reaches the caller."""

        @action
        def interrupted() -> None:
            raise KeyboardInterrupt

        workflow = make_workflow()
        workflow.task.add([one, interrupted, one])

        with pytest.raises(KeyboardInterrupt):
            start(workflow, callbacks, keep_going=True)

        assert [task.status for task in workflow.result_task()] == [COMPLETED, FAILED, NOT_STARTED]
        assert workflow.result().status is FAILED
        assert callbacks.names == ["on_failure"]

    def test_ctrl_c_between_steps(self, make_workflow: MakeWorkflow, callbacks: Callbacks) -> None:
        """A run that was interrupted before its end is not COMPLETED, though none of its tasks failed."""

        def interrupted(task: Task) -> None:
            raise KeyboardInterrupt

        workflow = make_workflow()
        workflow.task.add(one, callback=interrupted).add(one)

        with pytest.raises(KeyboardInterrupt):
            start(workflow, callbacks)

        assert [task.status for task in workflow.result_task()] == [COMPLETED, NOT_STARTED]
        assert workflow.result().status is FAILED
        assert "on_success" not in callbacks.names

    def test_a_wait_afterwards_raises_it_too(self, make_workflow: MakeWorkflow) -> None:
        """wait() raises KeyboardInterrupt after an interrupted run."""

        @action
        def interrupted() -> None:
            raise KeyboardInterrupt

        workflow = make_workflow()
        workflow.task.add(interrupted)
        with pytest.raises(KeyboardInterrupt):
            workflow.start()

        assert workflow.result_task()[0].errors[0].exception == "KeyboardInterrupt"


class Closed(Executor):
    """An executor that can't be opened."""

    def open(self, tasks: Mapping[int, Task], report: Report) -> ExecutorSession:
        raise OSError("the cluster is closed")


class TestExecutors:
    def test_one_that_cannot_be_opened(self, make_workflow: MakeWorkflow, callbacks: Callbacks) -> None:
        """Its error reaches the caller; the run is FAILED and on_success is not called."""
        workflow = make_workflow(executor=Closed())
        workflow.task.add(one)

        with pytest.raises(OSError, match="the cluster is closed"):
            start(workflow, callbacks)

        assert workflow.result().status is FAILED
        assert "on_success" not in callbacks.names


class TestCallbacks:
    def test_a_tasks_callback_sees_the_complete_record(self, make_workflow: MakeWorkflow) -> None:
        """It is called once, at the end of the task, completed or failed."""
        seen: list[tuple[int, TypeStatus, object, int]] = []

        def notify(task: Task) -> None:
            seen.append((task.task_id, task.status, task.current_context.storage, len(task.errors)))

        workflow = make_workflow()
        workflow.task.add([one, action(retry=2, retry_delay=0)(fails.function), one], callback=notify)
        workflow.start(keep_going=True)

        assert seen == [(0, COMPLETED, 1, 0), (1, FAILED, None, 2), (2, COMPLETED, 1, 0)]

    def test_one_that_is_broken_changes_nothing(self, make_workflow: MakeWorkflow) -> None:
        """Task and workflow callbacks may raise anything."""

        def breaks(**arguments: object) -> None:
            raise RuntimeError("broken")

        workflow = make_workflow()
        workflow.task.add([one, one], callback=breaks)

        run = workflow.start(on_success=breaks)

        assert run.status is COMPLETED


class Keeps(History, Tracer):
    """A history and a tracer."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    def record(self, run_id: str, event: Event) -> None:
        self.events.append((run_id, type(event).__name__))

    def trace(self, run_id: str, event: Event) -> None:
        self.events.append((run_id, type(event).__name__))


@pytest.mark.parametrize("who", ["history", "tracer"])
def test_history_and_tracer_follow_the_whole_run(make_workflow: MakeWorkflow, who: str) -> None:
    """They get every event from RunStarted to RunEnded, in order, with the run's id."""
    keeps = Keeps()
    workflow = make_workflow(**{who: keeps})
    workflow.task.add([one, action(retry=2, retry_delay=0)(fails.function)])

    run = workflow.start()

    assert {run_id for run_id, _ in keeps.events} == {run.run_id}
    assert [name for _, name in keeps.events] == [
        "RunStarted",
        "AttemptStarted",
        "TaskCompleted",
        "AttemptStarted",
        "AttemptFailed",
        "AttemptStarted",
        "TaskFailed",
        "RunEnded",
    ]


@pytest.mark.parametrize("value", [None, 0, "", [], {}, False, (), 0.0, b""], ids=repr)
def test_empty_values_are_values(make_workflow: MakeWorkflow, value: object) -> None:
    """The next step gets an empty value like any other."""
    workflow = make_workflow()
    workflow.task.add([action(lambda: value), action(lambda previous_context: [previous_context.storage])])

    workflow.start()

    assert workflow.result_storage() == [value, [value]]


def test_values_are_read_by_name_or_step(make_workflow: MakeWorkflow) -> None:
    """The task and its value; of an added workflow those of its last task; of a map the values that came."""

    @action
    def invert(item: int) -> float:
        return 1 / item

    part = make_workflow()
    part.task.add(action(lambda: "first"), name="one").add(action(lambda: "last"), name="two")
    workflow = make_workflow()
    workflow.task.add(invert, each=[1, 0, 2], keep_going=True).add(part, name="part")

    run = workflow.start()

    assert workflow.last is run
    assert (run["part.one"].value, run["part"].name, run.value("part")) == ("first", "part.two", "last")
    assert run[invert] is run.task("invert") is run.tasks[0]
    assert (run[invert].status, run[invert].has_value, run.value(invert)) == (FAILED, True, [1, 0.5])
    assert [item.value for item in run[invert].items] == [1, None, 0.5]


def test_unknown_tasks_and_attributes_of_a_run_are_refused(make_workflow: MakeWorkflow) -> None:
    """An unknown name with a close one; the words of other libraries with what to write; a loop over the run."""
    workflow = make_workflow()
    with pytest.raises(NotRun, match="no last run"):
        _ = workflow.last
    workflow.task.add(action(lambda: 1), name="report")
    run = workflow.start()

    with pytest.raises(UnknownTask, match="Did you mean 'report'"):
        run["reprot"]
    with pytest.raises(UnknownTask, match="Did you mean 'report'"):
        run.value("reprot")
    with pytest.raises(AttributeError, match=r"'Run' object has no attribute 'result': write run.value\('task'\)"):
        _ = run.result  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match=r"'DotFlow' object has no attribute 'run': it is workflow.start"):
        _ = workflow.run  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="not iterable"):
        list(run)


def test_a_task_without_an_initial_context_shares_none(make_workflow: MakeWorkflow) -> None:
    """A value that a class's own action puts into an empty initial context is in no other task."""
    seen: list[Any] = []

    @action
    class Report:
        @action
        def load(self, initial_context: Context) -> None:
            seen.append(initial_context.storage)
            initial_context.storage = "mine"

    workflow = make_workflow()
    workflow.task.add([Report, Report])
    workflow.start()

    assert seen == [None, None]
    assert [task.initial_context.storage for task in workflow.task] == [None, None]
