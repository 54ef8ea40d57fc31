"""The options of start(), checked before anything runs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any, Final

from dotflow.abc.storage import Storage
from dotflow.core.callback import WorkflowCallback
from dotflow.core.durations import as_seconds
from dotflow.core.links import KEEP_GOING, KEEP_GOING_HINT, Tolerance, is_tolerance
from dotflow.core.masks import Masks
from dotflow.core.steps import as_callback
from dotflow.core.task import Task
from dotflow.core.types.execution import TypeExecution, mode_of
from dotflow.errors import InvalidArgument
from dotflow.graph.names import TaskRef, listed, named_ids, split_calls
from dotflow.graph.plan import Plan, not_asked_for
from dotflow.resume.choice import ChosenTasks, Resume, is_resume
from dotflow.resume.saved_values import usable

Callback = WorkflowCallback | str | None
Rerun = TaskRef | Sequence[TaskRef] | None
Only = TaskRef | Sequence[TaskRef] | None

RESUME_NEEDS: Final = (
    "start(resume=True) can't find the finished tasks of another process. For that, this workflow needs"
)


@dataclass(slots=True)
class RunOptions:
    """The arguments of `start`, checked, in its order.

    Attributes:
        mode: How the tasks run.
        keep_going: Whether other tasks continue after a failure; a number says how many items of a map may fail.
        resume: Whether to restore the finished tasks of earlier runs, and of which.
        on_success: Called at the end if no task failed.
        on_failure: Called at the end if a task failed.
        params: Values of the workflow's parameters.
        rerun: The tasks that run again in any case, by name or step, and durable steps from a call: "agent@12".
        cache: Whether cached values are used.
        timeout: The maximum number of seconds of a run; None for no limit.
        only: The tasks that are asked for, by name or step; None for all.

    Raises InvalidArgument, InvalidCallback or InvalidPath.
    """

    mode: TypeExecution = TypeExecution.SEQUENTIAL
    keep_going: bool | Tolerance = False
    resume: Resume = False
    on_success: Callable[..., Any] | None = None
    on_failure: Callable[..., Any] | None = None
    _: KW_ONLY
    params: Mapping[str, Any] | None = None
    rerun: Sequence[TaskRef] = ()
    cache: bool = True
    timeout: Any = None  # a Duration, and seconds once it is checked
    only: Sequence[TaskRef] | None = None

    def __post_init__(self) -> None:
        if self.mode.__class__ is not TypeExecution:
            self.mode = mode_of(self.mode)
        if not isinstance(self.keep_going, bool) and not is_tolerance(self.keep_going):
            raise InvalidArgument("keep_going", self.keep_going, KEEP_GOING, KEEP_GOING_HINT)
        if not isinstance(self.cache, bool):
            raise InvalidArgument("cache", self.cache, "True or False")
        if not isinstance(self.resume, bool) and not is_resume(self.resume):
            raise InvalidArgument("resume", self.resume, 'True, False, "changed" or "unfinished"')
        if self.timeout is not None:
            self.timeout = as_seconds("timeout", self.timeout, above=0)
        rerun: Any = self.rerun
        self.rerun = () if rerun is None else tuple(listed(rerun))
        self.resume = self.resume or bool(self.rerun)
        only: Any = self.only
        if only is not None:
            self.only = tuple(listed(only))
            if not self.only:
                raise InvalidArgument("only", only, "a task, several tasks, or None for all")
            if self.resume == "unfinished":
                raise InvalidArgument("resume", self.resume, 'True, False or "changed" with only')
        for name in ("on_success", "on_failure"):
            if (callback := getattr(self, name)) is not None:
                setattr(self, name, as_callback(name, callback, "tasks"))


def chosen_tasks(options: RunOptions, tasks: Sequence[Task], plan: Plan, masks: Masks) -> ChosenTasks:
    """Returns the tasks that the options name. Raises UnknownTask, AmbiguousTask, InvalidLink or InvalidArgument."""
    refs, calls = split_calls(options.rerun, tasks, masks)
    rerun = named_ids(refs, tasks, masks)
    if options.only is None:
        return ChosenTasks(rerun, calls=calls)
    left_out = not_asked_for(named_ids(options.only, tasks, masks), tasks, plan)
    for task_id in (rerun | calls.keys()) & left_out:
        raise InvalidArgument("rerun", tasks[task_id].name, "tasks that only asks for, or that these need")
    asked = [task.task_id for task in tasks if task.task_id not in left_out]
    return ChosenTasks(rerun, left_out, () if options.resume else asked, calls)


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
    for name in ("rerun", "only"):
        if arguments.get(name):
            raise InvalidArgument(name, arguments[name], "it to start(), for one run")
    return {**arguments, "resume": "unfinished"} if arguments.get("resume") else dict(arguments)
