"""The options of start(), checked before anything runs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dotflow.abc.storage import Storage
from dotflow.core.callback import WorkflowCallback
from dotflow.core.steps import as_callback
from dotflow.core.task import Task
from dotflow.engine.earlier_runs import Resume
from dotflow.errors import InvalidArgument

Callback = WorkflowCallback | str | None

#: The options of start(), without the mode -> their defaults.
START_DEFAULTS: Final[Mapping[str, Any]] = {
    "keep_going": False,
    "resume": False,
    "on_success": None,
    "on_failure": None,
    "params": None,
}

RESUME_NEEDS: Final = (
    "start(resume=True) can't find the finished tasks of another process. For that, this workflow needs"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """The options of one run, without the mode.

    Attributes:
        keep_going: Whether other tasks continue after a failure.
        resume: Whether to restore the finished tasks of earlier runs; "unfinished": unless the last run finished all.
        alone: Whether the run locks the workflow against other processes.
        on_success: Called at the end if no task failed.
        on_failure: Called at the end if a task failed.
        params: Values of the workflow's parameters.
    """

    keep_going: bool
    resume: Resume
    alone: bool
    on_success: Callable[..., Any] | None
    on_failure: Callable[..., Any] | None
    params: Mapping[str, Any] | None = None


def make_options(
    keep_going: object, resume: object, on_success: Callback, on_failure: Callback, params: Any = None, *, alone: bool
) -> RunOptions:
    """Returns the checked options. Raises InvalidArgument, InvalidCallback or InvalidPath."""
    if not isinstance(keep_going, bool):
        raise InvalidArgument("keep_going", keep_going, "True or False")
    if not isinstance(resume, bool) and resume != "unfinished":
        raise InvalidArgument("resume", resume, 'True, False or "unfinished"')
    return RunOptions(
        keep_going=keep_going,
        resume=resume if isinstance(resume, bool) else "unfinished",
        alone=alone,
        on_success=as_callback("on_success", on_success, "tasks"),
        on_failure=as_callback("on_failure", on_failure, "tasks"),
        params=params,
    )


def note_on_resume(storage: Storage, tasks: Sequence[Task], *, is_named: bool) -> str:
    """Returns a note on what a workflow lacks to resume the run of another process; "" where it lacks nothing."""
    missing: list[str] = []
    if not storage.outlives_process and not any(map(storage.contains, map(storage.key, tasks))):
        missing.append("a storage that lasts, such as Config(storage=StorageFile())")
    if not is_named:
        missing.append("an id that is the same in each process, such as DotFlow(workflow_id='nightly')")
    return f"{RESUME_NEEDS} {' and '.join(missing)}." if missing else ""
