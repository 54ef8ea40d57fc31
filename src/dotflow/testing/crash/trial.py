"""A trial: a workflow is run once, in a process of its own, which may be killed on the way."""

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from dotflow.abc.storage import Storage
from dotflow.core.events import NOT_NEEDED
from dotflow.core.failure import name_of
from dotflow.core.task import Task
from dotflow.core.types.status import TypeStatus
from dotflow.testing.crash.instrumented import InstrumentedStorage, KillPoints, instrument_blocks
from dotflow.testing.crash.kill_points import KillPoint, KillSwitch
from dotflow.worker.files import digest_of, find_paths

COMPLETED: Final = TypeStatus.COMPLETED
DEFAULT_LOG: Final = "dotflow.providers.logs.default"  # the module of LogDefault, which this floor must not import


class Pipeline(NamedTuple):
    """What is verified."""

    build: Callable[..., Any]  # returns a DotFlow
    storage: Storage | Callable[[], Storage] | None  # None for the workflow's own
    arguments: Mapping[str, Any]  # of start()


class TrialOptions(NamedTuple):
    """How one trial runs."""

    resume: bool = False
    workflow_id: str | None = None  # None for the workflow's own
    kill_at: KillPoint | None = None


class RunResult(NamedTuple):
    """The result of a run that was not killed."""

    workflow_id: str
    names: list[str]  # of the tasks, by id
    values: list[Any]  # that they returned
    files: list[dict[str, str]]  # of each task: the digests of the files in its value, "" for what is none
    statuses: list[list[str]]  # of each task and its items
    incomplete: list[str]  # a text for each task that did not end as it should: its status and errors
    left_out: set[int]  # the tasks without checkpoints that no other one needs, and the cleanups that need them
    is_saved: bool  # whether a task completed whose value is to be saved
    storage: str  # the name of its type
    kill_points: list[KillPoint]  # that the run passed
    modules: list[str]  # that were imported by its end


def storage_parameter(build: Callable[..., Any]) -> inspect.Parameter | None:
    """Returns the parameter that takes the storage: the one named so, else the first one without a default."""
    parameters = inspect.signature(build).parameters.values()
    single = [one for one in parameters if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    named = [one for one in single if one.name == "storage"]
    required = [one for one in single if one.default is one.empty]
    return next(iter(named + required), None)


def run_trial(pipeline: Pipeline, options: TrialOptions, journal: Path) -> RunResult:
    """Runs the workflow in this process."""
    switch = KillSwitch(journal, options.kill_at)
    workflow, storage = _build(pipeline, switch)
    if options.workflow_id is not None:
        workflow.workflow_id = options.workflow_id
    config = workflow.config
    points = KillPoints(switch)
    config.listeners.append(points)
    instrument_blocks(switch, points)
    if type(config.log).__module__ == DEFAULT_LOG and not config.log.is_silent:
        config.log = type(config.log)("WARNING", "console").without_console()  # its reports stay
    # A fresh run makes cached values anew, so that it is killed in their writes, too.
    workflow.start(resume=options.resume, **{"cache": options.resume, **pipeline.arguments}).wait()
    tasks, values = workflow.result_task(), workflow.result_storage()
    return RunResult(
        workflow_id=workflow.workflow_id,
        names=[task.name for task in tasks],
        values=values,
        files=[_digests(task, value) if config.files else {} for task, value in zip(tasks, values, strict=True)],
        statuses=[[str(record.status) for record in (task, *task.items)] for task in tasks],
        incomplete=[_describe(task) for task in tasks if not _is_complete(task, pipeline.arguments)],
        left_out=_left_out(tasks),
        is_saved=any(map(_is_saved, tasks)),
        storage=type(storage).__name__,
        kill_points=switch.passed,
        modules=list(sys.modules),
    )


def _digests(task: Task, value: Any) -> dict[str, str]:
    return {str(path): digest_of(path, sys.maxsize) for path in find_paths(value)} if task.step.files else {}


def _build(pipeline: Pipeline, switch: KillSwitch) -> tuple[Any, Storage]:
    storage = pipeline.storage
    if storage is not None and not isinstance(storage, Storage):
        storage = storage()
        if not isinstance(storage, Storage):
            raise TypeError(f"storage() has to return a Storage; it returned a {name_of(type(storage))}")
    parameter = None if storage is None else storage_parameter(pipeline.build)
    if storage is not None:
        InstrumentedStorage(storage, switch)
    workflow = pipeline.build(**({} if parameter is None else {parameter.name: storage}))
    if not hasattr(workflow, "result_storage"):
        raise TypeError(f"build_workflow() has to return a DotFlow; it returned a {name_of(type(workflow))}")
    if storage is None:
        storage = workflow.config.storage
        InstrumentedStorage(storage, switch)
    elif parameter is None:
        workflow.config.storage = storage
    return workflow, storage


def _is_complete(task: Task, arguments: Mapping[str, Any]) -> bool:
    """Returns whether a task ended as it should. With `keep_going` it may fail."""
    if task.status is TypeStatus.FAILED:
        own = None if task.links is None else task.links.keep_going
        return bool(arguments.get("keep_going") if own is None else own)
    return task.status in (COMPLETED, TypeStatus.SKIPPED)


def _left_out(tasks: Sequence[Task]) -> set[int]:
    """Returns the tasks that a resume does not need, or items of them, and the cleanups that need those."""
    left_out: set[int] = {task.task_id for task in tasks if any(item.reason == NOT_NEEDED for item in task.items)}
    for task in tasks:
        needs = task.links.sources() if task.links is not None and task.links.always else []
        is_skipped = TypeStatus.SKIPPED in [record.status for record in (task, *task.items)]
        if is_skipped and (task.reason == NOT_NEEDED or not left_out.isdisjoint(needs)):
            left_out.add(task.task_id)
    return left_out


def _is_saved(task: Task) -> bool:
    if not task.step.checkpoint or (task.links is not None and task.links.always):
        return False
    return any(record.status is COMPLETED for record in (task.items if task.is_mapped else (task,)))


def _describe(task: Task) -> str:
    errors = (
        f"attempt {error.attempt}: {error.exception}: {error.message}\n{error.traceback}" for error in task.errors
    )
    return "\n".join([f"task {task.task_id} ({task.name}): {task.status}", *errors])
