"""The options of start(), checked before anything runs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dotflow.abc.storage import Storage
from dotflow.core.callback import WorkflowCallback
from dotflow.core.steps import as_callback
from dotflow.core.task import Task
from dotflow.errors import InvalidArgument
from dotflow.graph.names import TaskRef
from dotflow.resume.earlier_runs import Resume, usable

Callback = WorkflowCallback | str | None
Rerun = TaskRef | Sequence[TaskRef] | None

#: The options of start(), without the mode -> their defaults.
START_DEFAULTS: Final[Mapping[str, Any]] = {
    "keep_going": False,
    "resume": False,
    "on_success": None,
    "on_failure": None,
    "params": None,
    "rerun": None,
    "cache": True,
}

#: The texts that start() takes as `resume`.
RESUMES: Final[Mapping[str, Resume]] = {
    "changed": "changed",
    "unfinished": "unfinished",
    "then_anew": "then_anew",
    "finish": "finish",
    "anew": "anew",
}

RESUME_NEEDS: Final = (
    "start(resume=True) can't find the finished tasks of another process. For that, this workflow needs"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """The options of one run, without the mode.

    Attributes:
        keep_going: Whether other tasks continue after a failure.
        resume: Whether to restore the finished tasks of earlier runs, and of which.
        alone: Whether the run locks the workflow against other processes.
        on_success: Called at the end if no task failed.
        on_failure: Called at the end if a task failed.
        params: Values of the workflow's parameters.
        rerun: The tasks that run again in any case, by name or step.
        cache: Whether cached values are used.
    """

    keep_going: bool
    resume: Resume
    alone: bool
    on_success: Callable[..., Any] | None
    on_failure: Callable[..., Any] | None
    params: Mapping[str, Any] | None = None
    rerun: tuple[TaskRef, ...] = ()
    cache: bool = True


def make_options(
    keep_going: object,
    resume: object,
    on_success: Callback,
    on_failure: Callback,
    params: Any = None,
    rerun: Any = None,
    cache: object = True,
    *,
    alone: bool,
) -> RunOptions:
    """Returns the checked options. Raises InvalidArgument, InvalidCallback or InvalidPath."""
    if not isinstance(keep_going, bool):
        raise InvalidArgument("keep_going", keep_going, "True or False")
    if not isinstance(cache, bool):
        raise InvalidArgument("cache", cache, "True or False")
    if not isinstance(resume, bool) and resume not in RESUMES:
        raise InvalidArgument("resume", resume, 'True, False, "changed", "unfinished" or "then_anew"')
    names = () if rerun is None else tuple(rerun) if isinstance(rerun, list | tuple) else (rerun,)
    return RunOptions(
        keep_going=keep_going,
        resume=(resume or bool(names)) if isinstance(resume, bool) else RESUMES[str(resume)],
        alone=alone,
        on_success=as_callback("on_success", on_success, "tasks"),
        on_failure=as_callback("on_failure", on_failure, "tasks"),
        params=params,
        rerun=names,
        cache=cache,
    )


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
        raise InvalidArgument("resume", "changed", "True or False in schedule()")
    if arguments.get("rerun"):
        raise InvalidArgument("rerun", arguments["rerun"], "for one run. Use start()")
    resumes = arguments.get("resume") in (True, "unfinished")
    return {**arguments, "resume": "then_anew"} if resumes else dict(arguments)
