"""One round: a workflow is run once, in a process of its own, perhaps to be killed on its way."""

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from dotflow.abc.storage import Storage
from dotflow.core.failure import name_of
from dotflow.core.task import Task
from dotflow.core.types.status import TypeStatus
from dotflow.testing.crash.instrumented import InstrumentedHistory, InstrumentedStorage, QuietLog
from dotflow.testing.crash.journal import Journal
from dotflow.testing.crash.kill_points import KillPoint, KillSwitch

DEFAULT_LOG: Final = "dotflow.providers.logs.default"  # the module of LogDefault, which this floor doesn't import


class Workflow(Protocol):
    """What is used of a DotFlow: it comes from the user's function, from a floor above this one."""

    config: Any
    workflow_id: str
    task: Iterable[Task]

    def start(self, **arguments: Any) -> Any:
        """Runs it."""

    def result_task(self) -> list[Task]:
        """The tasks of the last run."""

    def result_storage(self) -> list[Any]:
        """What they returned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """What is to be proved.

    Attributes:
        build: Makes the workflow; given the storage if it asks for one.
        storage: The storage, or what makes one; None leaves the workflow the one that it has.
        arguments: Those of start().
    """

    build: Callable[..., Workflow]
    storage: Storage | Callable[[], Storage] | None
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialOptions:
    """What a round is to do.

    Attributes:
        resume: Whether it goes on with what is in the storage, or begins anew.
        workflow_id: The id that the workflow is given; None leaves it the one that it has.
        kill_at: Where it is killed, if anywhere.
        discover: Whether it finds out where it could be.
    """

    resume: bool = False
    workflow_id: str | None = None
    kill_at: KillPoint | None = None
    discover: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What came of a round that was not killed.

    Attributes:
        workflow_id: The workflow's.
        names: The steps' names, in options.
        open: The tasks that are not COMPLETED, for readers: each with its status and last error.
        values: What they returned.
        storage: The name of the storage's type.
        points: Where it could have been killed.
        modules: What was imported by its end.
    """

    workflow_id: str
    names: list[str]
    open: list[str]
    values: list[Any]
    storage: str
    points: list[KillPoint]
    modules: list[str]


def storage_parameter(build: Callable[..., Any]) -> inspect.Parameter | None:
    """Which parameter of the user's function is for the storage: the one of that name, else one that it needs."""
    try:
        parameters = inspect.signature(build).parameters
    except (TypeError, ValueError):  # some callables written in C have no signature to read
        return None
    single = [
        parameter
        for parameter in parameters.values()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    needed = (parameter for parameter in single if parameter.default is parameter.empty)
    return next((parameter for parameter in single if parameter.name == "storage"), next(needed, None))


def run_trial(pipeline: Pipeline, options: TrialOptions, journal: Journal) -> RunResult:
    """Runs the workflow as the order says, in this process."""
    switch = KillSwitch(journal, options.kill_at, options.discover)
    workflow, storage = _build(pipeline, switch, journal)
    if options.workflow_id is not None and workflow.workflow_id != options.workflow_id:
        workflow.workflow_id = options.workflow_id
    config = workflow.config
    names = {task.task_id: task.name for task in workflow.task}
    config.history = InstrumentedHistory(config.history, switch, journal, names)
    if type(config.log).__module__ == DEFAULT_LOG and not config.log.is_silent:
        config.log = QuietLog()
    workflow.start(resume=options.resume, **pipeline.arguments).wait()
    tasks = workflow.result_task()
    return RunResult(
        workflow_id=workflow.workflow_id,
        names=[task.name for task in tasks],
        open=[_describe(task) for task in tasks if task.status is not TypeStatus.COMPLETED],
        values=workflow.result_storage(),
        storage=type(storage).__name__,
        points=switch.passed,
        modules=list(sys.modules) if options.discover else [],
    )


def _build(pipeline: Pipeline, switch: KillSwitch, journal: Journal) -> tuple[Workflow, Storage]:
    given = pipeline.storage
    storage = given if given is None or isinstance(given, Storage) else given()
    if storage is not None:
        if not isinstance(storage, Storage):
            raise TypeError(f"storage() has to return a Storage; it returned a {name_of(type(storage))}")
        storage = InstrumentedStorage.over(storage, switch, journal)
    parameter = storage_parameter(pipeline.build)
    if storage is None or parameter is None:
        workflow = pipeline.build()
    elif parameter.kind is parameter.POSITIONAL_ONLY:
        workflow = pipeline.build(storage)
    else:
        workflow = pipeline.build(**{parameter.name: storage})
    if not hasattr(workflow, "result_storage"):
        raise TypeError(f"build_workflow() has to return a DotFlow; it returned a {name_of(type(workflow))}")
    if storage is None:
        storage = workflow.config.storage = InstrumentedStorage.over(workflow.config.storage, switch, journal)
    elif parameter is None:
        workflow.config.storage = storage
    return workflow, storage


def _describe(task: Task) -> str:
    lines = [f"task {task.task_id} ({task.name}): {task.status}"]
    lines += [
        f"attempt {error.attempt}: {error.exception}: {error.message}\n{error.traceback}" for error in task.errors
    ]
    return "\n".join(lines)
