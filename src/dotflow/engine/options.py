"""The options of start(), checked before anything runs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any, Final

from dotflow.abc.storage import Storage
from dotflow.core.callback import WorkflowCallback
from dotflow.core.durations import as_seconds
from dotflow.core.steps import as_callback
from dotflow.core.task import Task
from dotflow.core.types.execution import TypeExecution, mode_of
from dotflow.errors import InvalidArgument
from dotflow.graph.names import TaskRef
from dotflow.resume.choice import Resume, is_resume, resume_of_schedule
from dotflow.resume.earlier_runs import usable

Callback = WorkflowCallback | str | None
Rerun = TaskRef | Sequence[TaskRef] | None

RESUME_NEEDS: Final = (
    "start(resume=True) can't find the finished tasks of another process. For that, this workflow needs"
)


@dataclass(slots=True)
class RunOptions:
    """The arguments of `start`, checked, in its order.

    Attributes:
        mode: How the tasks run.
        keep_going: Whether other tasks continue after a failure.
        resume: Whether to restore the finished tasks of earlier runs, and of which.
        on_success: Called at the end if no task failed.
        on_failure: Called at the end if a task failed.
        params: Values of the workflow's parameters.
        rerun: The tasks that run again in any case, by name or step.
        cache: Whether cached values are used.
        timeout: The maximum number of seconds of a run; None for no limit.

    Raises InvalidArgument, InvalidCallback or InvalidPath.
    """

    mode: TypeExecution = TypeExecution.SEQUENTIAL
    keep_going: bool = False
    resume: Resume = False
    on_success: Callable[..., Any] | None = None
    on_failure: Callable[..., Any] | None = None
    _: KW_ONLY
    params: Mapping[str, Any] | None = None
    rerun: Sequence[TaskRef] = ()
    cache: bool = True
    timeout: Any = None  # a Duration, and seconds once it is checked

    def __post_init__(self) -> None:
        if self.mode.__class__ is not TypeExecution:
            self.mode = mode_of(self.mode)
        for name in ("keep_going", "cache"):
            if not isinstance(value := getattr(self, name), bool):
                raise InvalidArgument(name, value, "True or False")
        if not isinstance(self.resume, bool) and not is_resume(self.resume):
            raise InvalidArgument("resume", self.resume, 'True, False, "changed", "unfinished" or "then_anew"')
        if self.timeout is not None:
            self.timeout = as_seconds("timeout", self.timeout, above=0)
        rerun: Any = self.rerun
        self.rerun = () if rerun is None else tuple(rerun) if isinstance(rerun, list | tuple) else (rerun,)
        self.resume = self.resume or bool(self.rerun)
        for name in ("on_success", "on_failure"):
            if (callback := getattr(self, name)) is not None:
                setattr(self, name, as_callback(name, callback, "tasks"))

    def to_finish(self) -> dict[str, Any]:
        """Returns the arguments of the `start` that finishes the last run."""
        return {**{name: getattr(self, name) for name in START_ARGUMENTS}, "resume": "finish", "rerun": ()}


START_ARGUMENTS: Final = tuple(field.name for field in fields(RunOptions))


def note_on_resume(storage: Storage, tasks: Sequence[Task], *, is_named: bool) -> str:
    """Returns a note on what a workflow lacks to resume the run of another process; "" where it lacks nothing.

    Raises StorageError if the storage can't be used.
    """
    missing: list[str] = []
    with usable(storage):
        if not storage.outlives_process and not any(map(storage.contains, map(storage.key, tasks))):
            missing.append("a storage that lasts, such as Config(storage=StorageFile())")
    if not is_named:
        missing.append("an id that is the same in each process, such as DotFlow(workflow_id='nightly')")
    return f"{RESUME_NEEDS} {' and '.join(missing)}." if missing else ""


def scheduled_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments of `start` for the runs of a schedule. Raises InvalidArgument for those of a single run."""
    if arguments.get("resume") == "changed":
        raise InvalidArgument("resume", "changed", "True or False to schedule()")
    if arguments.get("rerun"):
        raise InvalidArgument("rerun", arguments["rerun"], "it to start(), for one run")
    resume = resume_of_schedule(arguments.get("resume", False))
    return {**arguments, "resume": resume} if resume else dict(arguments)
