"""Every error that dotflow raises. A branch says whose move it is.

    DotflowError
    ├── DefinitionError           the workflow is wrong: raised before anything runs
    │   ├── InvalidStep           (TypeError)   what was added is no action
    │   ├── InvalidPath           (ValueError)  a dotted path leads nowhere
    │   ├── UnknownParameter   (TypeError)   a step asks for what no context can give
    │   ├── InvalidPolicy         (ValueError)  retry, timeout, retry_delay, backoff
    │   ├── InvalidArgument       (ValueError)  any other argument of a wrong value
    │   ├── UnknownArgument       (TypeError)   an argument that there is none of
    │   ├── InvalidCallback       (TypeError)   a callback that can't be called
    │   ├── InvalidProvider       (TypeError)   a provider of the wrong kind
    │   ├── InvalidSchedule       (ValueError)  a cron expression or time zone that means nothing
    │   └── NoSchedule      (ValueError)  schedule() without a schedule
    ├── AttemptError              what happened to one attempt of a step
    │   ├── StepTimeout           (TimeoutError) its time was up
    │   ├── WorkerDied            its worker process ended under it
    │   ├── WorkerNotStarted      no worker process could be started for it
    │   ├── NotPicklable          (TypeError) what it takes or gives can't be sent between processes
    │   ├── ModuleNotOnWorker     its worker, on another machine, can't import what it needs
    │   ├── EventLoopBlocked              another step blocked the event loop that it ran in
    │   ├── ValueNotStorable      (TypeError) what it returned can't be kept so that it comes back as it was
    │   ├── RunStopped            the run was cancelled or interrupted while it ran
    │   └── StepFailed            what it raised, as far as it is known: the cause of a RunFailed
    ├── ProviderError             storage, notification, schedule, cluster
    │   ├── ClusterError          a cluster can't be reached, is lost, or can't do what is asked of it
    │   ├── MissingExtra          (ImportError) what a provider needs is not installed
    │   ├── NotifyError           somebody could not be told
    │   ├── StorageError          a value could not be saved or read
    │   │   └── LeaseLost         another process has the workflow now
    └── RunError                  the run as a whole
        ├── AlreadyScheduled      a scheduler was started that is running already
        ├── ProcessesUnsupported           this system has no worker processes
        ├── RunFailed             it did not complete, and raise_for_failure() was called
        ├── VirtualClockMisuse    a test's clock was used where or when it can't work
        ├── CheckpointMismatch    a checkpoint was made by another step
        ├── CheckpointUnreadable  a checkpoint is there, but can't be read
        └── WorkflowBusy          another process is working on the workflow

A class takes facts and builds its sentence from them, so that it survives pickling.
"""

import signal
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

__all__ = [
    "AlreadyScheduled",
    "AttemptError",
    "CheckpointMismatch",
    "CheckpointUnreadable",
    "ClusterError",
    "DefinitionError",
    "DotflowError",
    "EventLoopBlocked",
    "InvalidArgument",
    "InvalidCallback",
    "InvalidPath",
    "InvalidPolicy",
    "InvalidProvider",
    "InvalidSchedule",
    "InvalidStep",
    "LeaseLost",
    "MissingExtra",
    "ModuleNotOnWorker",
    "NoSchedule",
    "NotPicklable",
    "NotifyError",
    "ProcessesUnsupported",
    "ProviderError",
    "RunError",
    "RunFailed",
    "RunStopped",
    "StepFailed",
    "StepTimeout",
    "StorageError",
    "UnknownArgument",
    "UnknownParameter",
    "ValueNotStorable",
    "VirtualClockMisuse",
    "WorkerDied",
    "WorkerNotStarted",
    "WorkflowBusy",
]


class DotflowError(Exception):
    """The root: catch this to catch everything that dotflow itself raises."""


class DefinitionError(DotflowError):
    """The workflow is wrong; nothing has run yet."""


class InvalidStep(DefinitionError, TypeError):
    """What was added as a step is no action, or what was decorated can't be one."""

    def __init__(
        self,
        got: str,
        hint: str,
        accepted: str = (
            "A step is an action, a list of actions or the dotted path of one ('pkg.mod.fn' or 'pkg.mod:fn')"
        ),
    ) -> None:
        super().__init__(got, hint, accepted)
        self.got: str = got
        self.hint: str = hint
        self.accepted: str = accepted

    def __str__(self) -> str:
        return f"{self.accepted}; this is {self.got}. {self.hint}"


class InvalidPath(DefinitionError, ValueError):
    """A dotted path leads nowhere."""

    def __init__(self, path: str, reason: str, hint: str = "") -> None:
        super().__init__(path, reason, hint)
        self.path: str = path
        self.reason: str = reason
        self.hint: str = hint

    def __str__(self) -> str:
        return f"Can't import {self.path!r}: {self.reason}" + (f" {self.hint}" if self.hint else "")


class UnknownParameter(DefinitionError, TypeError):
    """A step asks for something that no context can give."""

    def __init__(self, step: str, parameter: str, hint: str) -> None:
        super().__init__(step, parameter, hint)
        self.step: str = step
        self.parameter: str = parameter
        self.hint: str = hint

    def __str__(self) -> str:
        return (
            f"Step '{self.step}' asks for the parameter '{self.parameter}', which nothing can fill: a step is given "
            f"'initial_context' and 'previous_context', by name. {self.hint}"
        )


class InvalidPolicy(DefinitionError, ValueError):
    """A retry, timeout, retry_delay, backoff or isolate that means nothing."""

    def __init__(self, name: str, got: object, accepted: str) -> None:
        super().__init__(name, got, accepted)
        self.name: str = name
        self.got: object = got
        self.accepted: str = accepted

    def __str__(self) -> str:
        return f"@action({self.name}={self.got!r}): {self.name} is {self.accepted}."


class InvalidArgument(DefinitionError, ValueError):
    """An argument whose value is not among those accepted."""

    def __init__(self, name: str, got: object, accepted: str, hint: str = "") -> None:
        super().__init__(name, got, accepted, hint)
        self.name: str = name
        self.got: object = got
        self.accepted: str = accepted
        self.hint: str = hint

    def __str__(self) -> str:
        return f"{self.name}={self.got!r} is not accepted: {self.name} is {self.accepted}. {self.hint}".rstrip()


class UnknownArgument(DefinitionError, TypeError):
    """An argument by a name that the function does not take.

    Args:
        function: The function, as a user writes it: "add".
        name: The argument's name.
        accepted: The names that it takes.
        hint: What to write instead; empty where that is not known.
    """

    def __init__(self, function: str, name: str, accepted: tuple[str, ...], hint: str = "") -> None:
        super().__init__(function, name, accepted, hint)
        self.function: str = function
        self.name: str = name
        self.accepted: tuple[str, ...] = accepted
        self.hint: str = hint

    def __str__(self) -> str:
        *most, last = self.accepted
        hint = f" {self.hint}" if self.hint else ""
        return f"{self.function} has no argument '{self.name}'.{hint} It takes {', '.join(most)} and {last}."


class InvalidCallback(DefinitionError, TypeError):
    """A callback that can't be called."""

    def __init__(self, name: str, got: str, signature: str, hint: str = "") -> None:
        super().__init__(name, got, signature, hint)
        self.name: str = name
        self.got: str = got
        self.signature: str = signature
        self.hint: str = hint

    def __str__(self) -> str:
        wanted = (
            f"{self.name} is {self.got}. Pass a plain function that can be called as {self.signature}, or the dotted "
            f"path of one, without calling it."
        )
        return f"{wanted} {self.hint}" if self.hint else wanted


class InvalidProvider(DefinitionError, TypeError):
    """A provider of the wrong kind."""

    def __init__(self, name: str, got: str, contract: str, hint: str = "") -> None:
        super().__init__(name, got, contract, hint)
        self.name: str = name
        self.got: str = got
        self.contract: str = contract
        self.hint: str = hint

    def __str__(self) -> str:
        wanted = f"{self.name} takes an instance of {self.contract}; this is {self.got}."
        return f"{wanted} {self.hint}" if self.hint else wanted


class NoSchedule(DefinitionError, ValueError):
    """schedule() was called, but no schedule was configured."""

    def __str__(self) -> str:
        return (
            "There is no schedule to run on: this workflow has the default scheduler, which never fires. Pass one, "
            "Config(scheduler=...), or run the workflow once with start()."
        )


class InvalidSchedule(DefinitionError, ValueError):
    """A cron expression or a time zone that means nothing.

    Args:
        name: The argument: "cron" or "timezone".
        got: What it was.
        reason: What is wrong with it, and what to write instead.
    """

    def __init__(self, name: str, got: object, reason: str) -> None:
        super().__init__(name, got, reason)
        self.name: str = name
        self.got: object = got
        self.reason: str = reason

    def __str__(self) -> str:
        return f"SchedulerCron can't use {self.name}={self.got!r}: {self.reason}"


class AttemptError(DotflowError):
    """What happened to one attempt of a step."""


class StepTimeout(AttemptError, TimeoutError):
    """The step's time was up."""

    def __init__(self, step: str, seconds: float, note: str = "") -> None:
        super().__init__(step, seconds, note)
        self.step: str = step
        self.seconds: float = seconds
        self.note: str = note

    def __str__(self) -> str:
        return f"Step '{self.step}' did not finish within its timeout of {self.seconds:g} s." + (
            f" {self.note}" if self.note else ""
        )


class WorkerDied(AttemptError):
    """A worker process ended in the middle of a step.

    Args:
        step: The step it was running.
        exit_code: What the process returned; minus the signal's number where a signal ended it; None where the
            system no longer knows.
        lost: Which worker of a cluster was lost, with all that ran on it, and what the cluster says of it; empty where
            it was the step's own process that ended.
    """

    def __init__(self, step: str, exit_code: int | None, lost: str = "") -> None:
        super().__init__(step, exit_code, lost)
        self.step: str = step
        self.exit_code: int | None = exit_code
        self.lost: str = lost

    def __str__(self) -> str:
        if self.lost:
            return (
                f"The cluster lost the worker of step '{self.step}' in the middle of it: {self.lost}. It was killed, "
                f"ran out of memory, or its machine is gone."
            )
        return f"The worker process of step '{self.step}' {_how_it_ended(self.exit_code)}"


_KILLERS: Final = {
    "SIGKILL": (
        "The system does this when memory runs out: its log (dmesg) says so. Let the step hold less at once, or lower "
        "max_workers."
    ),
    "SIGTERM": "Somebody ended it from outside.",
    "SIGINT": "Somebody ended it from outside.",
}
_CRASH: Final = "Code in C crashed: with PYTHONFAULTHANDLER=1 in the environment, it is printed where."


def _how_it_ended(exit_code: int | None) -> str:
    if exit_code is None:
        return "died, and nobody knows of what."
    if exit_code >= 0:
        return (
            f"ended by itself with exit code {exit_code} before the step returned. The step, or a library in it, "
            f"called os._exit(): raise an exception instead, which says what is wrong."
        )
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    return f"was killed by {name}. {_KILLERS.get(name, _CRASH)}"


class WorkerNotStarted(AttemptError):
    """No worker process could be started for a step."""

    def __init__(self, step: str, reason: str) -> None:
        super().__init__(step, reason)
        self.step: str = step
        self.reason: str = reason

    def __str__(self) -> str:
        return (
            f"No worker process could be started for step '{self.step}': {self.reason}. Free some resources, or "
            f"lower the number of workers: Config(executor=ExecutorProcess(max_workers=...))."
        )


class NotPicklable(AttemptError, TypeError):
    """What a step takes or gives can't be sent between processes."""

    def __init__(self, step: str, what: str, reason: str) -> None:
        super().__init__(step, what, reason)
        self.step: str = step
        self.what: str = what
        self.reason: str = reason

    def __str__(self) -> str:
        return (
            f"Step '{self.step}': {self.what[:1].lower()}{self.what[1:]} can't be sent between processes "
            f"({self.reason}). Use something that can be pickled, or run the step in this process: in sequential mode "
            f"or with Config(executor=ExecutorThread())."
        )


class ModuleNotOnWorker(AttemptError):
    """A step's worker can't import a module that it needs.

    Args:
        module: The module.
    """

    def __init__(self, module: str) -> None:
        super().__init__(module)
        self.module: str = module

    def __str__(self) -> str:
        package = self.module.partition(".")[0]
        return (
            f"The worker can't import '{self.module}', which is there on the machine that started the run. Install it "
            f"on the workers too, in the same version; or send it along, with "
            f"cloudpickle.register_pickle_by_value({package}) before start(), or with what the cluster has for it "
            f"(Dask: client.upload_file; Ray: ExecutorRay(runtime_env={{'working_dir': '.'}}))."
        )


class EventLoopBlocked(AttemptError):
    """Another step blocked the event loop that the step ran in."""

    def __str__(self) -> str:
        return (
            "The event loop that this coroutine ran in was blocked by another step, and had to be left behind. A step "
            "that computes or waits without await belongs in a plain function, or gets isolate=True."
        )


class ValueNotStorable(AttemptError, TypeError):
    """What a step returned can't be kept so that it comes back as it was.

    Args:
        kind: The type's name.
        place: Where inside the value it stands, as one would write it: `['rows'][3].conn`; empty for the value itself.
        reason: Why, where the type alone doesn't say.
        step: The step that returned it; empty where none is known.
    """

    def __init__(self, kind: str, place: str = "", reason: str = "", step: str = "") -> None:
        super().__init__(kind, place, reason, step)
        self.kind: str = kind
        self.place: str = place
        self.reason: str = reason
        self.step: str = step

    def by(self, step: str) -> "ValueNotStorable":
        """The same, with the step's name."""
        return ValueNotStorable(self.kind, self.place, self.reason, step)

    def __str__(self) -> str:
        whose = f"What step '{self.step}' returned" if self.step else "This value"
        where = f" at {self.place}" if self.place else ""
        reason = f" ({self.reason})" if self.reason else ""
        return (
            f"{whose} can't be stored: it {'holds' if where else 'is'} a {self.kind}{where}, which would not come back "
            f"as it was{reason}. Return plain data (numbers, text, lists, dicts, dates, dataclasses, Pydantic models, "
            f"data frames), or, in a storage that only you can write to, choose pickle: StorageFile(pickle=True)."
        )


class RunStopped(AttemptError):
    """The run was cancelled or interrupted while the step was running."""

    def __init__(self, step: str, reason: str) -> None:
        super().__init__(step, reason)
        self.step: str = step
        self.reason: str = reason

    def __str__(self) -> str:
        return f"Step '{self.step}' was stopped in the middle: {self.reason}."


class StepFailed(AttemptError):
    """What a step raised, without the exception, which ended with its attempt.

    Args:
        exception: The exception's type name.
        message: What it said.
        traceback: The formatted traceback; empty where there is none.
    """

    def __init__(self, exception: str, message: str, traceback: str = "") -> None:
        super().__init__(exception, message, traceback)
        self.exception: str = exception
        self.message: str = message
        self.traceback: str = traceback

    def __str__(self) -> str:
        said = f"{self.exception}: {self.message}" if self.message else self.exception
        return f"{said}\n\n{self.traceback}".rstrip() if self.traceback else said


class ProviderError(DotflowError):
    """A provider could not do its work."""


class MissingExtra(ProviderError, ImportError):
    """What a provider needs is not installed.

    Args:
        who: The provider.
        package: What it needs, as it is called where packages are looked for.
        extra: The extra of dotflow that brings it.
    """

    def __init__(self, who: str, package: str, extra: str) -> None:
        super().__init__(who, package, extra)
        self.who: str = who
        self.package: str = package
        self.extra: str = extra

    def __str__(self) -> str:
        # In quotes: zsh would look for a file of such a name, and run nothing.
        return f"{self.who} needs {self.package}, which is not installed: pip install 'dotflow[{self.extra}]'"


class NotifyError(ProviderError):
    """Somebody could not be told where a task stands.

    Args:
        who: The service that should have told it; no address, which may be a secret.
        reason: What it said, or that it said nothing.
        hint: What to do about it.
    """

    def __init__(self, who: str, reason: str, hint: str) -> None:
        super().__init__(who, reason, hint)
        self.who: str = who
        self.reason: str = reason
        self.hint: str = hint

    def __str__(self) -> str:
        return f"{self.who} did not pass the message on: {self.reason}. {self.hint}"


class StorageError(ProviderError):
    """The storage failed: a value could not be saved, and its task failed, or nothing could be read."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(what, reason)
        self.what: str = what
        self.reason: str = reason

    def __str__(self) -> str:
        return f"{self.what}: {self.reason.rstrip('.')}."


class LeaseLost(StorageError):
    """Another process has the workflow now: nothing was written, and no other step of this run begins."""


class ClusterError(ProviderError):
    """A cluster can't be reached, is lost, or can't do what is asked of it.

    Args:
        cluster: Which one.
        reason: What is the matter with it.
        hint: What to do about it.
    """

    def __init__(self, cluster: str, reason: str, hint: str) -> None:
        super().__init__(cluster, reason, hint)
        self.cluster: str = cluster
        self.reason: str = reason
        self.hint: str = hint

    def __str__(self) -> str:
        return f"{self.cluster} {self.reason}. {self.hint}"


class RunError(DotflowError):
    """The run as a whole can't be what was asked for."""


class AlreadyScheduled(RunError):
    """A scheduler was started that is running already."""

    def __init__(self, scheduler: str) -> None:
        super().__init__(scheduler)
        self.scheduler = scheduler

    def __str__(self) -> str:
        return (
            f"{self.scheduler} is running already. Call stop() and wait for its start() to return before it is started "
            f"again, or make another one: each workflow's Config takes a scheduler of its own."
        )


class ProcessesUnsupported(RunError):
    """Worker processes were asked for on a system that dotflow can't start them on."""

    def __init__(self, system: str) -> None:
        super().__init__(system)
        self.system = system

    def __str__(self) -> str:
        return (
            f"Worker processes need a POSIX system, and this is {self.system}. Run in sequential or background mode "
            f"without groups and isolate, or choose threads: Config(executor=ExecutorThread())."
        )


class FailedTask(NamedTuple):
    """What a RunFailed still knows of a task after it was pickled."""

    task_id: int
    name: str
    group_name: str
    status: str
    attempt: int
    errors: list[Any]
    error: Any


class RunFailed(RunError):
    """A run did not complete. Its cause is the last error of the first task that failed, as a StepFailed.

    Args:
        workflow_id: The workflow.
        run_id: The run.
        tasks: The tasks that failed, in the order of `add`; none where it was cancelled between two tasks.
        count: How many tasks the run has.
    """

    def __init__(self, workflow_id: str, run_id: str, tasks: Iterable[Any], count: int) -> None:
        self.workflow_id: str = workflow_id
        self.run_id: str = run_id
        self.tasks: tuple[Any, ...] = tuple(tasks)
        self.count: int = count
        super().__init__(workflow_id, run_id, self.tasks, count)
        first = next((task.error for task in self.tasks if task.error is not None), None)
        if first is not None:
            # Through setattr(), since type checkers take a plain assignment for a new attribute of this class.
            setattr(self, "__cause__", StepFailed(first.exception, first.message, first.traceback))  # noqa: B010

    def __reduce__(self) -> tuple[Any, ...]:
        """A task's step and contexts may not travel; what went wrong does."""
        told = [FailedTask(*(getattr(task, field) for field in FailedTask._fields)) for task in self.tasks]
        return RunFailed, (self.workflow_id, self.run_id, told, self.count)

    def __str__(self) -> str:
        run = f"Run {self.run_id} of workflow {self.workflow_id!r}"
        if not self.tasks:
            return f"{run} did not complete: it was cancelled before all of its {self.count} tasks had run."
        told = "; ".join(f"task {task.task_id} {task.name}: {_in_short(task.error)}" for task in self.tasks[:SHOWN])
        more = f"; and {len(self.tasks) - SHOWN} more" if len(self.tasks) > SHOWN else ""
        return f"{run} failed at {len(self.tasks)} of {self.count} tasks: {told}{more}."


SHOWN: Final = 3  # tasks that a RunFailed names


def _in_short(error: Any) -> str:
    """An error in at most one line."""
    if error is None:
        return "no error"
    first = error.message.strip().partition("\n")[0].rstrip(".")
    said = f"{error.exception}: {first}" if first else error.exception
    return said if len(said) <= 200 else f"{said[:199]}…"


class VirtualClockMisuse(RunError):
    """A test's clock was used where or when it can't work."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class CheckpointMismatch(RunError):
    """A checkpoint was made by another step than the one that stands at its place now."""

    def __init__(self, mismatches: Iterable[tuple[int, str, str]]) -> None:
        self.mismatches: tuple[tuple[int, str, str], ...] = tuple(mismatches)
        super().__init__(self.mismatches)

    def __str__(self) -> str:
        places = "; ".join(f"task {number}: saved by {was}, now {now}" for number, was, now in self.mismatches)
        return (
            f"This workflow is not the one its checkpoints were made by ({places}). Put the steps back in their old "
            f"order, or start without resume to run everything anew."
        )


class CheckpointUnreadable(RunError):
    """A checkpoint is there, but can't be read. It has been left as it is.

    Args:
        reason: What is wrong with it.
        where: The file, or the key and its storage; empty where it is not known.
        task: The task's place and name; empty where it is not known.
    """

    def __init__(self, reason: str, where: str = "", task: str = "") -> None:
        super().__init__(reason, where, task)
        self.reason: str = reason
        self.where: str = where
        self.task: str = task

    def at(self, where: str = "", task: str = "") -> "CheckpointUnreadable":
        """The same, with what else is known by now."""
        return CheckpointUnreadable(self.reason, self.where or where, self.task or task)

    def __str__(self) -> str:
        whose = f"The checkpoint of task {self.task}" if self.task else "A checkpoint"
        where = f" in {self.where}" if self.where else ""
        return (
            f"{whose}{where} can't be read: {self.reason}. Nothing was run and nothing was changed. Put it in order, "
            f"or delete it, and what it held runs again."
        )


class WorkflowBusy(RunError):
    """Another process is working on the workflow.

    Args:
        workflow_id: The workflow.
        where: What is held: a file, a table, a bucket.
        holder: Who holds it, as far as it is known: "process 4711 on host alpha".
        since: Since when, as it was written down; empty where it is not known.
    """

    def __init__(self, workflow_id: str, where: str, holder: str, since: str = "") -> None:
        super().__init__(workflow_id, where, holder, since)
        self.workflow_id: str = workflow_id
        self.where: str = where
        self.holder: str = holder
        self.since: str = since

    def __str__(self) -> str:
        since = f" since {self.since}" if self.since else ""
        return (
            f"Workflow {self.workflow_id!r} is being run by {self.holder}{since} ({self.where}), so nothing was run "
            f"here. Wait until it has ended, stop it, or give this run a workflow_id of its own."
        )
