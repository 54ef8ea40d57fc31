"""The arguments of start() and DotFlow() are checked before anything runs."""

import asyncio
import re
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from dotflow import Config, DotFlow, action
from dotflow.abc.executor import Executor
from dotflow.abc.storage import Storage
from dotflow.core.types import TypeExecution, TypeStatus
from dotflow.errors import (
    DefinitionError,
    InvalidArgument,
    InvalidCallback,
    InvalidPath,
    InvalidProvider,
    NoSchedule,
    ResourcesNotOffered,
    StorageError,
)
from dotflow.providers import (
    ExecutorAsync,
    ExecutorDask,
    ExecutorInline,
    ExecutorProcess,
    ExecutorRay,
    ExecutorThread,
    LogDefault,
    StorageDefault,
)

MakeWorkflow = Callable[..., DotFlow]


class Watched:
    """A workflow that records calls of its step, storage and callbacks."""

    def __init__(self, make_workflow: MakeWorkflow) -> None:
        self.touched: list[str] = []
        touched = self.touched

        class Storage(StorageDefault):
            def clear(self, workflow_id: str) -> Any:
                touched.append("storage")
                return super().clear(workflow_id)

        @action
        def step() -> None:
            touched.append("step")

        self.workflow = make_workflow(storage=Storage())
        self.workflow.task.add(step)


@pytest.fixture
def watched(make_workflow: MakeWorkflow) -> Watched:
    return Watched(make_workflow)


class Away(StorageDefault):
    """Can't be used."""

    def clear(self, workflow_id: str) -> bool:
        raise OSError("away")


REFUSED: list[tuple[dict[str, Any], type[DefinitionError], str]] = [
    ({"mode": "fast"}, InvalidArgument, "mode='fast' is not accepted. Pass one of"),
    ({"mode": "Sequential"}, InvalidArgument, "mode='Sequential'"),
    ({"mode": ""}, InvalidArgument, "mode=''"),
    ({"mode": "Sequential "}, InvalidArgument, "Did you mean 'sequential'?"),
    ({"mode": "backgroud"}, InvalidArgument, "Did you mean 'background'?"),
    ({"mode": "groups"}, InvalidArgument, "Groups are made by add(group_name=...)"),
    ({"mode": "async"}, InvalidArgument, "Config(executor=ExecutorAsync())"),
    ({"mode": "threads"}, InvalidArgument, "Config(executor=ExecutorThread())"),
    ({"mode": "process"}, InvalidArgument, "The mode 'parallel' runs each task in a process of its own"),
    ({"mode": None}, InvalidArgument, "mode=None"),
    ({"mode": 5}, InvalidArgument, "mode=5"),
    ({"mode": ["parallel"]}, InvalidArgument, "mode=['parallel']"),
    ({"keep_going": "yes"}, InvalidArgument, "keep_going='yes'"),
    ({"keep_going": 0}, InvalidArgument, "keep_going=0"),
    ({"keep_going": None}, InvalidArgument, "keep_going=None"),
    ({"resume": "no"}, InvalidArgument, "resume='no'"),
    ({"resume": 0}, InvalidArgument, "resume=0"),
    ({"on_success": 5}, InvalidCallback, "on_success is 5"),
    ({"on_failure": [print]}, InvalidCallback, "on_failure is ["),
    ({"on_failure": "no_such_module.fn"}, InvalidPath, "no module 'no_such_module'"),
    ({"on_success": "nonsense"}, InvalidPath, "'nonsense'"),
]


@pytest.mark.parametrize(("name", "place"), [("add", r"workflow\.task\.add\(\)"), ("run", r"workflow\.start\(\)")])
def test_a_missing_attribute_has_a_hint(name: str, place: str) -> None:
    """workflow.add(...) and workflow.run() are frequent mistakes."""
    with pytest.raises(AttributeError, match=f"no attribute '{name}': it is {place}"):
        getattr(DotFlow(), name)

    assert not hasattr(DotFlow(), name)


@pytest.mark.parametrize(("arguments", "error", "message"), REFUSED, ids=lambda value: str(value)[:40])
def test_start_refuses_before_anything_runs(
    watched: Watched, arguments: dict[str, Any], error: type[DefinitionError], message: str
) -> None:
    """A wrong argument raises in start() itself: no step ran, no checkpoint was voided, there is no run."""
    with pytest.raises(error) as caught:
        watched.workflow.start(**arguments)

    assert message in str(caught.value)
    assert watched.touched == []
    assert [task.run_id for task in watched.workflow.result_task()] == [None]


@pytest.mark.parametrize(("arguments", "error", "message"), REFUSED, ids=lambda value: str(value)[:40])
def test_astart_refuses_the_same(
    watched: Watched, arguments: dict[str, Any], error: type[DefinitionError], message: str
) -> None:
    """The coroutine raises at its first step, before it needs an event loop."""
    with pytest.raises(error) as caught:
        watched.workflow.astart(**arguments).send(None)

    assert message in str(caught.value)
    assert watched.touched == []


def test_an_unknown_mode_names_the_allowed_ones(watched: Watched) -> None:
    """sequential, background and parallel are all in the message."""
    with pytest.raises(InvalidArgument) as caught:
        watched.workflow.start(mode="groups")

    for mode in TypeExecution:
        assert f"'{mode.value}'" in str(caught.value)


def test_an_unknown_argument_is_a_type_error(watched: Watched) -> None:
    """A misspelt argument is Python's own TypeError."""
    with pytest.raises(TypeError, match="kep_going"):
        watched.workflow.start(kep_going=True)
    assert watched.touched == []


@pytest.mark.parametrize("mode", ["sequential", TypeExecution.SEQUENTIAL])
def test_a_mode_is_a_word_or_its_enum(watched: Watched, mode: str) -> None:
    """Both spellings run it."""
    run = watched.workflow.start(mode=mode)

    assert run.status is TypeStatus.COMPLETED
    assert watched.touched == ["storage", "step"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"workflow_id": ""}, InvalidArgument, "workflow_id=''"),
        ({"workflow_id": 5}, InvalidArgument, "a non-empty string or a UUID"),
        ({"workflow_id": b"id"}, InvalidArgument, "workflow_id=b'id'"),
        ({"workflow_id": False}, InvalidArgument, "workflow_id=False"),
        ({"name": 5}, InvalidArgument, "name=5"),
        ({"config": {}}, InvalidProvider, "DotFlow(config=Config(...))"),
        ({"config": Config}, InvalidProvider, "Config(...)"),
        ({"config": "nightly"}, InvalidProvider, "of type str. Write DotFlow(name='nightly')."),
    ],
    ids=str,
)
def test_a_workflow_checks_its_arguments(arguments: dict[str, Any], error: type[DefinitionError], message: str) -> None:
    """The constructor checks its own arguments."""
    with pytest.raises(error) as caught:
        DotFlow(**arguments)

    assert message in str(caught.value)


def test_ids() -> None:
    """workflow_id is any non-empty string or UUID, kept as a string; without one it is a fresh UUID."""
    some_uuid = uuid.uuid4()

    assert DotFlow(workflow_id="my id / 7").workflow_id == "my id / 7"
    assert DotFlow(workflow_id=some_uuid).workflow_id == str(some_uuid)
    assert DotFlow(workflow_id=uuid.UUID(int=0)).workflow_id == str(uuid.UUID(int=0))
    assert uuid.UUID(DotFlow().workflow_id) != uuid.UUID(DotFlow().workflow_id)


def test_tasks_have_the_id_of_their_workflow(make_workflow: MakeWorkflow) -> None:
    """The builder's tasks carry the workflow's id."""
    workflow = make_workflow(workflow_id="w")
    workflow.task.add(action(lambda: None))

    assert [task.workflow_id for task in workflow.task] == ["w"]


def test_results_before_the_first_run(make_workflow: MakeWorkflow) -> None:
    """They have the definitions: NOT_STARTED, with empty contexts."""
    workflow = make_workflow()
    workflow.task.add(action(lambda: 1)).add(action(lambda: 2), initial_context=3)

    result = workflow.result()

    assert [(task.status, task.task_id) for task in workflow.result_task()] == [("Not started", 0), ("Not started", 1)]
    assert [context.storage for context in workflow.result_context()] == [None, None]
    assert workflow.result_storage() == [None, None]
    assert (result.run_id, result.status, len(result.tasks)) == (None, "Not started", 2)


def test_results_after_a_start_that_raised(make_workflow: MakeWorkflow) -> None:
    """They are those of the last run; before the first run, of the definitions."""
    workflow = make_workflow(workflow_id="w", storage=Away())
    workflow.task.add(action(lambda: 1))

    with pytest.raises(StorageError):
        workflow.start()

    assert [task.status for task in workflow.result_task()] == ["Not started"]
    assert workflow.result_storage() == [None]


@action(resources={"GPU": 1})
def train() -> int:
    return 1


@action
class Training:
    @action(resources={"GPU": 2})
    def fit(self) -> int:
        return 1


class ExecutorOwn(ExecutorThread):
    pass


class ExecutorGpu(ExecutorThread):
    offers_resources = True


@pytest.mark.parametrize(
    ("arguments", "step"),
    [
        ({"step": train}, "step 'train' needs {'GPU': 1}"),
        ({"step": Training}, "step 'Training.fit' needs {'GPU': 2}"),
        ({"step": action(lambda: 1), "fallback": train}, "step 'train' needs {'GPU': 1}"),
        ({"step": action(lambda item: 1), "each": [1], "fallback": Training}, "step 'Training.fit' needs {'GPU': 2}"),
    ],
    ids=["step", "class", "fallback", "map"],
)
@pytest.mark.parametrize(
    ("mode", "executor"),
    [
        ("sequential", None),
        ("background", None),
        ("parallel", None),
        ("parallel", ExecutorThread()),
        ("sequential", ExecutorInline()),
        ("parallel", ExecutorProcess()),
        ("parallel", ExecutorAsync()),
    ],
)
def test_resources_that_nobody_offers_are_refused(
    watched: Watched, arguments: dict[str, Any], step: str, mode: str, executor: Executor | None
) -> None:
    """Before anything runs: by start, plan and schedule, wherever the step stands."""
    watched.workflow.config.executor = executor
    watched.workflow.task.add(**arguments)

    for refused in (watched.workflow.start, watched.workflow.plan, watched.workflow.check_start):
        with pytest.raises(ResourcesNotOffered, match=rf"{re.escape(step)}, and this machine offers none\."):
            refused(mode=mode)
    with pytest.raises(ResourcesNotOffered):
        asyncio.run(watched.workflow.astart(mode=mode))

    assert watched.touched == []


def test_an_executor_of_ones_own_offers_resources_if_it_declares_that(make_workflow: MakeWorkflow) -> None:
    """Otherwise the error says how."""
    workflow = make_workflow(executor=ExecutorOwn())
    workflow.task.add(train)
    with pytest.raises(ResourcesNotOffered, match="If ExecutorOwn reserves them, set offers_resources = True in it"):
        workflow.start()

    workflow.config.executor = ExecutorGpu()
    assert workflow.start().status is TypeStatus.COMPLETED
    assert (ExecutorDask.offers_resources, ExecutorRay.offers_resources) == (True, True)


def test_a_workflow_in_a_step_is_refused_as_well(make_workflow: MakeWorkflow) -> None:
    """Its start raises in the step, which fails."""
    inner = make_workflow()
    inner.task.add(train)
    workflow = make_workflow()
    workflow.task.add(action(lambda: inner.start()))

    task = workflow.start().tasks[0]

    assert [error.exception for error in task.errors] == ["ResourcesNotOffered"]


@pytest.mark.parametrize("executor", [None, ExecutorGpu()])
def test_resources_of_an_action_of_an_instance_fail_its_step(
    make_workflow: MakeWorkflow, executor: Executor | None
) -> None:
    """It is known only after the step has returned it, and its worker was chosen before."""
    workflow = make_workflow(executor=executor)
    workflow.task.add(action(lambda: Training()))

    task = workflow.start().tasks[0]

    assert [error.exception for error in task.errors] == ["InvalidPolicy"]
    assert "resources is for whole steps: put it on the class, not on its 'Training.fit'" in task.errors[0].message


def test_a_workflow_can_be_called(make_workflow: MakeWorkflow) -> None:
    """A scheduler written as `start(workflow)` may call it: that is `start`."""
    workflow = make_workflow()
    workflow.task.add(action(lambda: 1))

    run = workflow(keep_going=True)

    assert (run.status, workflow.result_storage()) == ("Completed", [1])


def test_schedule_without_a_schedule(watched: Watched) -> None:
    """A schedule that never fires is an error."""
    with pytest.raises(NoSchedule):
        watched.workflow.schedule(mode="sequential")
    assert watched.touched == []


def test_an_empty_workflow_runs(make_workflow: MakeWorkflow) -> None:
    """No tasks is a run that is complete at once."""
    workflow = make_workflow()

    run = workflow.start()

    assert run.status is TypeStatus.COMPLETED
    assert workflow.result_task() == workflow.result_context() == workflow.result_storage() == []


def test_repr_names_the_workflow(make_workflow: MakeWorkflow) -> None:
    """A REPL shows its name or id, and its size."""
    workflow = make_workflow(name="nightly")
    workflow.task.add(action(lambda: None))

    assert "nightly" in repr(workflow)
    assert "1" in repr(workflow)


class Reports(LogDefault):
    """Records its reports."""

    def __init__(self) -> None:
        super().__init__(output="none")
        self.reports: list[str] = []

    def report(self, message: str) -> None:
        self.reports.append(message)


class Lasting(StorageDefault):
    """A storage that outlives its process, as a fake."""

    outlives_process = True


@pytest.mark.parametrize(
    ("storage", "workflow_id", "lacks"),
    [
        (StorageDefault, "nightly", ["a storage that lasts"]),
        (Lasting, None, ["an id that is the same in each process"]),
        (StorageDefault, None, ["a storage that lasts", "an id that is the same in each process"]),
        (Lasting, "nightly", []),
    ],
)
def test_a_resume_that_can_never_find_anything_is_reported(
    storage: type[Storage], workflow_id: str | None, lacks: list[str]
) -> None:
    """Once, in the log, at the first run, with the reason; it runs all the same."""
    log = Reports()
    workflow = DotFlow(Config(storage=storage(), log=log), workflow_id=workflow_id)
    workflow.task.add(action(lambda: 1))

    assert workflow.start(resume=True).status is TypeStatus.COMPLETED
    assert workflow.start(resume=True).status is TypeStatus.COMPLETED

    assert len(log.reports) == min(len(lacks), 1)
    assert all(lack in log.reports[0] for lack in lacks)


def test_a_resume_that_finds_something_in_memory_is_not_reported() -> None:
    """Two workflows may share a storage in memory."""
    log = Reports()
    config = Config(storage=StorageDefault(), log=log)
    for resume in (False, True):
        workflow = DotFlow(config, workflow_id="nightly")
        workflow.task.add(action(lambda: 1))
        workflow.start(resume=resume)

    assert log.reports == []
