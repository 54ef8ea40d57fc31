"""Every error that dotflow raises. The branch shows who has to act.

    DotflowError
    ├── DefinitionError           the workflow is wrong: raised before anything runs
    │   ├── InvalidStep           (TypeError)   the added object is no action
    │   ├── InvalidPath           (ValueError)  a dotted path leads nowhere
    │   ├── UnknownParameter      (TypeError)   a step has a parameter that nothing fills
    │   ├── UnknownTask           (ValueError)  a link to a task that is not there
    │   ├── AmbiguousTask         (ValueError)  a link that could mean several tasks
    │   ├── InvalidLink           (ValueError)  options of add that exclude each other, or a value that can't fit
    │   ├── UnknownParam          (ValueError)  a run parameter that the workflow does not declare
    │   ├── MissingParam          (ValueError)  a run parameter without a value
    │   ├── SecretMissing         (ValueError)  a secret that a step takes is not there
    │   ├── SecretChanged         (ValueError)  a run was given another secret than the one that is found
    │   ├── ResourcesNotOffered   (ValueError)  steps need resources that nobody offers
    │   ├── CallsNotKept          (ValueError)  a step is durable, and the executor can't keep its calls
    │   ├── InvalidPolicy         (ValueError)  retry, timeout, retry_delay, backoff
    │   ├── InvalidAction         (ValueError)  a shell command that can't be a step
    │   ├── InvalidArgument       (ValueError)  any other argument with an invalid value
    │   ├── UnknownArgument       (TypeError)   an argument that the function does not have
    │   ├── InvalidCallback       (TypeError)   a callback that can't be called
    │   ├── InvalidProvider       (TypeError)   a provider of the wrong kind
    │   ├── InvalidSchedule       (ValueError)  an invalid cron expression or time zone
    │   ├── NoSchedule            (ValueError)  schedule() without a schedule
    │   └── NotServable           (ValueError)  runs from outside need an id and a history with a queue
    ├── AttemptError              one attempt of a step failed
    │   ├── StepTimeout           (TimeoutError) the attempt exceeded its timeout
    │   ├── NotYet                what a step with poll waits for is not there yet
    │   ├── Throttled             a service has refused the step, which is asked again later
    │   ├── BudgetExceeded        a budget has no room for the attempt, which has not begun
    │   ├── LimitTooSmall         an attempt needs more than its limit ever has
    │   ├── PollTimeout           (TimeoutError) it was not there within the poll_timeout
    │   ├── CommandFailed         a shell command ended with an exit code that is no success
    │   ├── WorkerDied            the worker process ended during the attempt
    │   ├── MemoryExceeded        (MemoryError) the attempt exceeded the memory that it may use
    │   ├── WorkerNotStarted      no worker process could be started
    │   ├── NotPicklable          (TypeError) an argument or result can't be sent between processes
    │   ├── ModuleNotOnWorker     the worker, on another machine, can't import a module
    │   ├── EventLoopBlocked      another step blocked the event loop
    │   ├── ValueNotStorable      (TypeError) the result can't be stored and restored unchanged
    │   ├── CallRefused           (TypeError) a call in a durable step can't be kept
    │   ├── ArgumentChanged       (TypeError) a call in a durable step has changed its argument
    │   ├── NotAList              (TypeError) the value that a task is mapped over is no list
    │   ├── WrongOutputs          (TypeError) the value of a task lacks one of its outputs
    │   ├── UnequalLists          (ValueError) the lists that a task is mapped over have different lengths
    │   ├── ItemsFailed           items of a mapped task failed
    │   ├── NotReached            the rounds of a task are over, and `until` was never true
    │   ├── Rejected              a person has rejected the step, or has not approved it in time
    │   │   └── ApprovalExpired   nobody has approved it in time
    │   ├── RunStopped            the run was cancelled or interrupted during the attempt
    │   └── StepFailed            the exception of a step, as data: the cause of a RunFailed
    ├── ProviderError             storage, notification, schedule, cluster
    │   ├── ClusterError          a cluster can't be used
    │   │   └── ClusterLost       it can't be reached, or is lost; it may come back
    │   ├── HistoryError          a history can't be written, and the run goes on; or it can't be read
    │   │   └── NotInHistory      (LookupError) a run, step or value that the history does not have
    │   ├── MissingExtra          (ImportError) a provider's dependency is not installed
    │   ├── NotifyError           a notification was not delivered
    │   ├── StorageError          a value could not be saved or read
    │   │   └── LeaseLost         another process has the workflow now
    └── RunError                  the run as a whole
        ├── AlreadyScheduled      a running scheduler was started again
        ├── NotRun                the last run of a workflow that has not run
        ├── OrderRefused          a run can't be submitted, cancelled, paused or resumed
        ├── ProcessesUnsupported  this system has no worker processes
        ├── RunFailed             it did not complete, and raise_for_failure() was called
        │   └── RunTimeout        (TimeoutError) the timeout of start() ended it
        ├── VirtualClockMisuse    a test's clock was used where or when it can't work
        ├── CheckpointMismatch    a checkpoint was saved by another step
        ├── CheckpointUnreadable  a checkpoint exists, but can't be read
        ├── ValidityUnknown       a step's `valid` failed
        └── WorkflowBusy          another process is running the workflow

A class's annotations are the facts that it is constructed from, as in a dataclass. They survive pickling.
"""

import signal
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, ClassVar, Final, dataclass_transform

__all__ = [
    "AlreadyScheduled", "AmbiguousTask", "ApprovalExpired", "ArgumentChanged", "AttemptError", "BudgetExceeded",
    "CallRefused", "CallsNotKept", "CheckpointMismatch", "CheckpointUnreadable", "ClusterError", "ClusterLost",
    "CommandFailed", "DefinitionError", "DotflowError", "EventLoopBlocked", "HistoryError", "InvalidAction",
    "InvalidArgument", "InvalidCallback", "InvalidLink", "InvalidPath", "InvalidPolicy", "InvalidProvider",
    "InvalidSchedule", "InvalidStep", "ItemsFailed", "LeaseLost", "LimitTooSmall", "MemoryExceeded", "MissingExtra",
    "MissingParam", "ModuleNotOnWorker", "NoSchedule", "NotAList", "NotInHistory", "NotPicklable", "NotReached",
    "NotRun", "NotServable", "NotYet", "NotifyError", "OrderRefused", "PollTimeout", "ProcessesUnsupported",
    "ProviderError", "Rejected", "ResourcesNotOffered", "RunError", "RunFailed", "RunStopped", "RunTimeout",
    "SecretChanged", "SecretMissing", "StepFailed", "StepTimeout", "StorageError", "Throttled", "UnequalLists",
    "UnknownArgument", "UnknownParam", "UnknownParameter", "UnknownTask", "ValidityUnknown", "ValueNotStorable",
    "VirtualClockMisuse", "WorkerDied", "WorkerNotStarted", "WorkflowBusy", "WrongOutputs",
]  # fmt: skip


@dataclass_transform(eq_default=False)
class DotflowError(Exception):
    """The root: catch this to catch everything that dotflow itself raises."""

    _facts: ClassVar[tuple[str, ...]] = ()
    _template: ClassVar[str] = ""  # the message, of which the facts fill the fields

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.__init__ is DotflowError.__init__:
            # A user's subclass may have other annotations, too: only those with a value are facts.
            ours = cls.__module__ == __name__
            facts = [
                name
                for name, kind in cls.__annotations__.items()
                if ours or (name in vars(cls) and "ClassVar" not in str(kind))
            ]
            cls._facts = tuple(dict.fromkeys((*cls._facts, *facts)))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        names = self._facts
        if not names:
            super().__init__(*args, **kwargs)
            return
        defaults = {name: getattr(type(self), name) for name in names if hasattr(type(self), name)}
        facts = defaults | dict(zip(names, args, strict=False)) | kwargs
        if len(args) > len(names) or facts.keys() != set(names) or not kwargs.keys().isdisjoint(names[: len(args)]):
            raise TypeError(f"{type(self).__name__} takes {', '.join(names)}")
        super().__init__(*(facts[name] for name in names))
        vars(self).update(facts)

    def __str__(self) -> str:
        return self._template.format_map(vars(self)).rstrip() if self._template else super().__str__()


class DefinitionError(DotflowError):
    """The workflow is wrong; nothing has run yet."""


class InvalidStep(DefinitionError, TypeError):
    """The object added as a step is no action, or the decorated object can't be one."""

    got: str
    hint: str
    accepted: str = "A step is an action, a list of actions or the dotted path of one ('pkg.mod.fn' or 'pkg.mod:fn')"
    _template = "{accepted}; this is {got}. {hint}"


class InvalidPath(DefinitionError, ValueError):
    """A dotted path leads nowhere."""

    path: str
    reason: str
    hint: str = ""
    _template = "Can't import {path!r}: {reason} {hint}"


class UnknownParameter(DefinitionError, TypeError):
    """A step has a parameter that nothing fills."""

    step: str
    parameter: str
    hint: str
    cause: str = "no earlier task or run parameter has its name"
    _template = "Step '{step}' has the parameter '{parameter}', which nothing fills: {cause}. {hint}"


class UnknownTask(DefinitionError, ValueError):
    """No earlier task has the name or the step."""

    name: str
    known: tuple[str, ...] = ()
    where: str = " added before this one"
    output_of: str = ""  # the name of the task that has an output of this name
    is_param: bool = False  # whether a run parameter has the name
    hint: str = ""  # in place of a name that is near

    def __str__(self) -> str:
        if self.output_of:
            return f"'{self.name}' is no task, but an output of '{self.output_of}'. Write run.value('{self.name}')."
        if self.is_param:
            return f"'{self.name}' is no task, but a run parameter, which has its value from the start. Name a task."
        hint = self.hint or close_match(self.name, self.known) or (f"Add '{self.name}' first." if self.where else "")
        return f"No task{self.where} is called '{self.name}'. {hint}".rstrip()


class AmbiguousTask(DefinitionError, ValueError):
    """Several tasks have the name or the step."""

    name: str
    task_ids: tuple[int, ...]

    def __str__(self) -> str:
        tasks = " and ".join(map(str, self.task_ids))
        return f"'{self.name}' names tasks {tasks}. Give them names: add(step, name=...)."


class InvalidLink(DefinitionError, ValueError):
    """The options of `add` exclude each other, or a value can't fit its parameter."""

    reason: str  # and what to write instead
    _template = "{reason}"


class UnknownParam(DefinitionError, ValueError):
    """The workflow does not declare the run parameter."""

    name: str
    declared: tuple[str, ...] = ()
    hint: str = "Declare it: DotFlow(params={...})."  # where no declared one is close

    def __str__(self) -> str:
        hint = close_match(self.name, self.declared) or self.hint
        return f"The workflow has no parameter '{self.name}'. {hint}"


class MissingParam(DefinitionError, ValueError):
    """Run parameters without a default have no value."""

    names: tuple[str, ...]
    who: str = "run"  # or the "added workflow", or a "scheduled run"

    def __str__(self) -> str:
        names, first = " and ".join(f"'{name}'" for name in self.names), f"{{'{self.names[0]}': ...}}"
        hints = {
            "run": f"params={first}",
            "scheduled run": f"its scheduler params=lambda planned: {first}",
        }
        hint = hints.get(self.who, f"needs={first}, or declare DotFlow(params={first})")
        return f"The {self.who} needs {names}. Pass {hint}."


class SecretMissing(DefinitionError, ValueError):
    """Secrets that steps take, or that a run was given as parameters, are not there."""

    missing: tuple[tuple[str, str, str], ...]  # of each the step, "" for none, the parameter and the secret's name

    def __str__(self) -> str:
        uses = ", ".join(
            f"{name} for '{parameter}' of step '{step}'" if step else f"{name} for the run parameter '{parameter}'"
            for step, parameter, name in self.missing
        )
        given = next((name for step, _, name in self.missing if not step), None)
        if given is not None:
            return f"Secrets are missing: {uses}. Set {given} to the value that the run was given, or start a new run."
        return (
            f"Secrets are missing: {uses}. Set environment variables of these names, pass Config(secrets=...), or "
            f"write Secret({self.missing[0][2]!r}, default=...)."
        )


class SecretChanged(DefinitionError, ValueError):
    """A run was given another secret as a parameter than the one that the process finds, which continues it."""

    parameter: str
    name: str  # of the secret

    def __str__(self) -> str:
        return (
            f"The run can't go on: '{self.parameter}' was given as a parameter, and {self.name} has another value "
            f"here. Set {self.name} to the value that the run was given, or start a new run."
        )


class ResourcesNotOffered(DefinitionError, ValueError):
    """Steps need resources that neither this machine nor the executor offers."""

    needs: tuple[tuple[str, dict[str, float]], ...]  # of each step its name and its resources
    offered: str = ""  # the names of what this machine offers
    executor: str = ""  # the name of an executor of the user's own

    def __str__(self) -> str:
        steps = ", ".join(f"step '{step}' needs {resources!r}" for step, resources in self.needs)
        here = f"this machine offers {self.offered or 'none'}"
        hint = "Config(resources={'gpu': ['0', '1']}) says what it has; ExecutorDask and ExecutorRay have a cluster's."
        if self.executor:
            hint += f" If {self.executor} reserves them, set offers_resources = True in it."
        return f"Resources can't be reserved: {steps}, and {here}. {hint}"


def _sentence(what: str, reason: str) -> str:
    """Returns what failed and why, with one mark at the end; a reason may end with a question."""
    return f"{what}: {reason.rstrip('.')}{'' if reason.endswith('?') else '.'}"


def close_match(name: str, known: Iterable[str], prefix: str = "", cutoff: float = 0.6) -> str:
    """Returns a hint at the closest known name, with a prefix; "" if none is as similar as *cutoff*."""
    import difflib  # only errors need it

    close = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f"Did you mean '{prefix}{close[0]}'?" if close else ""


class CallsNotKept(DefinitionError, ValueError):
    """A step is durable, and the executor has no way to the coordinator, which keeps the calls."""

    step: str
    executor: str
    _template = (
        "'{step}' can't keep its calls: {executor} has no way to the coordinator. Use another executor, or leave out "
        "durable."
    )


class InvalidPolicy(DefinitionError, ValueError):
    """An invalid option of @action: retry, timeout, retry_delay, backoff, isolate and others."""

    name: str
    got: object
    accepted: str
    _template = "@action({name}={got!r}): {name} is {accepted}."


class InvalidAction(DefinitionError, ValueError):
    """A shell command can't be a step."""

    name: str  # of the step
    reason: str  # and what to write instead
    _template = "shell(name={name!r}): {reason}."


class InvalidArgument(DefinitionError, ValueError):
    """An argument whose value is not among those accepted."""

    name: str
    got: object
    accepted: str
    hint: str = ""
    _template = "{name}={got!r} is not accepted. Pass {accepted}. {hint}"


class UnknownArgument(DefinitionError, TypeError):
    """An argument that the function does not have."""

    function: str  # as a user writes it: "add"
    name: str
    accepted: tuple[str, ...]
    hint: str = ""

    def __str__(self) -> str:
        *most, last = self.accepted
        hint = f" {self.hint}" if self.hint else ""
        return f"{self.function} has no argument '{self.name}'.{hint} It takes {', '.join(most)} and {last}."


class InvalidCallback(DefinitionError, TypeError):
    """A callback that can't be called."""

    name: str
    got: str
    signature: str
    hint: str = ""
    _template = "{name} is {got}. Pass a function to call as {signature}, or its dotted path, not its result. {hint}"


class InvalidProvider(DefinitionError, TypeError):
    """A provider of the wrong kind."""

    name: str
    got: str
    contract: str
    hint: str = ""
    _template = "{name} takes an instance of {contract}; this is {got}. {hint}"


class NoSchedule(DefinitionError, ValueError):
    """schedule() was called, but no schedule was configured."""

    _template = "This workflow has no schedule. Pass Config(scheduler=...), or run it once with start()."


class InvalidSchedule(DefinitionError, ValueError):
    """An invalid cron expression or time zone, or a catch-up that its names don't allow."""

    name: str  # "cron", "timezone" or "catch_up"
    got: object
    reason: str  # and what to write instead
    _template = "{name}={got!r} is not accepted: {reason}"


class NotServable(DefinitionError, ValueError):
    """A workflow can't be submitted or served, or its runs can't be controlled from outside."""

    what: str
    reason: str
    _template = "{what}: {reason}."


class AttemptError(DotflowError):
    """One attempt of a step failed."""


class StepTimeout(AttemptError, TimeoutError):
    """The attempt exceeded its timeout."""

    step: str
    seconds: float
    note: str = ""
    _template = "Step '{step}' did not finish within its timeout of {seconds:g} s. {note}"


class NotYet(AttemptError):
    """What the step waits for is not there yet. Raise it in a step with `poll`, which is then called again.

    Another step fails by it, as by any error.
    """

    note: str = ""  # what it waits for, such as "3 of 5 files"
    _template = "{note}"


class Throttled(AttemptError):
    """A service has refused the step, as by a status 429. Raise it in a step: it is called again, in the same attempt.

    It closes the step's limits for all that share them, until then; with *limit* that name alone. Without a limit, the
    step waits alone. Ten refusals since an attempt got through are a failure, and so is more than a day.
    """

    #: Seconds, a duration such as "30s", a timedelta, or the text of Retry-After. Without one 1 s, then 2, 4, up to 60.
    after: float | str | timedelta | None = None
    limit: str | None = None  # the name of the limit that the service stands for; None for all of the step
    #: How often it has refused since an attempt got through, once that is so often that the attempt fails; else 0.
    refused: int = 0

    def __str__(self) -> str:
        if self.refused:
            return f"{self.limit or 'the service'} has refused {self.refused} attempts since one got through"
        return f"{self.limit or 'the service'} has refused the step, and said {self.after!r}"


class BudgetExceeded(AttemptError):
    """A budget has no room for an attempt, which has not begun. No retry changes it."""

    step: str
    budget: str  # its name
    part: str  # the part that is used up, such as "$5/run"
    used: str  # what is used of it, such as "$4.97"
    needs: str = ""  # what the attempt needs, as far as that is known
    again: str = ""  # when it fits in again, for a budget of a period

    def __str__(self) -> str:
        needs = f", and '{self.step}' needs {self.needs}" if self.needs else ""
        again = f" It fits in again at {self.again}." if self.again else ""
        advice = "Raise budget= and resume: what is finished stays."
        return f"{self.budget} has used {self.used} of {self.part}{needs}.{again} {advice}"


class LimitTooSmall(AttemptError):
    """An attempt needs more than its limit ever has: it would wait for ever."""

    step: str
    limit: str  # its name
    part: str  # such as "200000 tokens/min"
    needs: str  # such as "250000 tokens"
    _template = (
        "'{step}' needs {needs}, and {limit} allows {part}: it would wait for ever. Split it, or raise the limit."
    )


class PollTimeout(AttemptError, TimeoutError):
    """What the step waits for was not there within its poll_timeout."""

    step: str
    seconds: float
    times: str  # how often it was asked, such as "37 times"
    note: str = ""  # what it waited for
    _template = "Step '{step}' was not ready within its poll_timeout of {seconds:g} s, asked {times}. {note}"


class CommandFailed(AttemptError):
    """A shell command ended with an exit code that is no success."""

    name: str  # of the step
    code: int  # minus the number of the signal that killed the shell
    command: str  # as a person would write it, with *** in place of secrets
    output: str = ""  # the last lines that it wrote to stderr

    def __str__(self) -> str:
        output = f"\nIts last output:\n{self.output}" if self.output else ""
        how = f"was killed by {_signal_name(-self.code)}" if self.code < 0 else f"ended with exit code {self.code}"
        return f"Command '{self.name}' {how}: {self.command}{output}"


class WorkerDied(AttemptError):
    """A worker process ended during a step."""

    step: str
    exit_code: int | None  # minus the number of the signal that killed the process; None where it is unknown
    lost: str = ""  # the cluster's worker and why it was lost; empty where only the step's own process ended
    peak: int | None = None  # bytes of memory that the process had at most; None where that is unknown
    output: str = ""  # the last lines that it wrote to stderr, where output is captured

    def __str__(self) -> str:
        if self.lost:
            return (
                f"The cluster lost the worker of step '{self.step}' during the attempt: {self.lost}. It was killed, "
                f"ran out of memory, or its machine is gone."
            )
        how = _how_it_ended(self.exit_code, self.peak)
        if self.output:
            how = f"{how.removesuffix(_WHERE)}\nIts last output:\n{self.output}"
        return f"The worker process of step '{self.step}' {how}"


_WHERE: Final = " Set PYTHONFAULTHANDLER=1 to print where."
_SIGNALS: Final = {
    "SIGKILL": "Linux does this when memory runs out (see dmesg). Reduce the step's memory, or lower max_workers.",
    "SIGTERM": "Another program ended it.",
    "SIGINT": "Another program ended it.",
}


def _how_it_ended(exit_code: int | None, peak: int | None) -> str:
    if exit_code is None:
        return "ended for an unknown reason."
    if exit_code >= 0:
        how = "called os._exit() or closed descriptors of the process" if exit_code == 1 else "called os._exit()"
        return (
            f"ended with exit code {exit_code} before the step returned: the step, or a library in it, {how}. "
            f"Raise an exception instead."
        )
    name = _signal_name(-exit_code)
    memory = f" It had {_size(peak)} of memory." if peak and exit_code == -signal.SIGKILL else ""
    return f"was killed by {name}.{memory} {_SIGNALS.get(name, f'C code crashed.{_WHERE}')}"


def _signal_name(number: int) -> str:
    return next((known.name for known in signal.Signals if known == number), f"signal {number}")


def _exact_size(count: int) -> str:
    return f"{count / 1e9:.3g} GB" if count >= 999_500_000 else f"{count / 1e6:.3g} MB"


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


class MemoryExceeded(AttemptError, MemoryError):
    """An attempt used more memory than its step's `memory` allows, and was killed with all that it had started."""

    step: str
    limit: int  # in bytes, as all that follows
    used: int  # with that of its child processes, when it was killed
    children: int = 0  # how many child processes it had
    in_children: int = 0  # what of it was theirs
    __new__ = Exception.__new__  # type: ignore[assignment]  # MemoryError's takes no other class, and tblib calls it

    def __str__(self) -> str:
        count = self.children
        processes = f"{count} child process{'' if count == 1 else 'es'}"
        share = f", {_exact_size(self.in_children)} of it in {processes}" if count else ""
        used, limit = _exact_size(self.used), _exact_size(self.limit)
        return f"Step '{self.step}' has used {used} of memory{share}, and memory= allows {limit}."


class WorkerNotStarted(AttemptError):
    """No worker process could be started for a step."""

    step: str
    reason: str
    _template = "No worker started for step '{step}': {reason}. Free resources, or lower the executor's max_workers."


class NotPicklable(AttemptError, TypeError):
    """An argument or the result of a step can't be sent between processes."""

    step: str
    what: str
    reason: str
    instead: str = "in sequential mode or in a thread"  # where the step needs no other process

    def __str__(self) -> str:
        return (
            f"Step '{self.step}': {self.what[:1].lower()}{self.what[1:]} can't be sent between processes "
            f"({self.reason}). Use a value that can be pickled, or run the step in this process: "
            f"{self.instead}."
        )


class ModuleNotOnWorker(AttemptError):
    """A step's worker can't import a module that it needs."""

    module: str

    def __str__(self) -> str:
        package = self.module.partition(".")[0]
        return (
            f"The worker can't import '{self.module}', which the machine that started the run has. Install it on the "
            f"workers too, in the same version. Or send it with cloudpickle.register_pickle_by_value({package}) before "
            f"start()."
        )


class EventLoopBlocked(AttemptError):
    """Another step blocked the event loop of the step."""

    _template = "Another step blocked the event loop. Make that step a plain function, or give it isolate=True."


class ValueNotStorable(AttemptError, TypeError):
    """The result of a step can't be stored and restored unchanged."""

    kind: str  # the type's name
    place: str = ""  # the path inside the value, as in code: `['rows'][3].conn`; empty for the value itself
    reason: str = ""  # where the type alone is not enough
    step: str = ""  # empty where it is unknown
    is_of_call: bool = False  # whether it is that of a call in a durable step, and `step` its action

    def by(self, step: str, *, is_of_call: bool = False) -> "ValueNotStorable":
        """Returns the same error with the step's name, or that of the action that was called."""
        return ValueNotStorable(self.kind, self.place, self.reason, step, is_of_call)

    def __str__(self) -> str:
        value = f"The value of {'the call' if self.is_of_call else 'step'} '{self.step}'" if self.step else "This value"
        contains = f"holds a {self.kind} at {self.place}" if self.place else f"is a {self.kind}"
        reason = f" ({self.reason})" if self.reason else ""
        return (
            f"{value} can't be stored: it {contains}, which would not come back as it was{reason}. Return plain data "
            f"(numbers, text, lists, dicts, dates, dataclasses, Pydantic models, data frames). Or set pickle=True, or "
            f"--pickle on the command line, for a storage that only you can write to."
        )


class CallRefused(AttemptError, TypeError):
    """A call of an action in a durable step can't be kept, so it was not made."""

    call: str  # the name of the action
    reason: str
    hint: str = ""

    def __str__(self) -> str:
        return f"The call of '{self.call}' can't be kept: {self.reason}. {self.hint}".rstrip()


class ArgumentChanged(AttemptError, TypeError):
    """A call of an action in a durable step has changed its argument in place, so it was not kept."""

    call: str
    parameter: str
    _template = (
        "'{call}' changed its argument '{parameter}' in place, which a kept call would not repeat. Return the changed "
        "value instead."
    )


class NotAList(AttemptError, TypeError):
    """The value that a task is mapped over is no list."""

    task: str
    source: str
    kind: str
    _template = (
        "Task '{task}' is mapped over '{source}', whose value is of type {kind}. Return a list: list(...), or "
        "list(d.items()) of a dict."
    )


class WrongOutputs(AttemptError, TypeError):
    """The value of a task lacks one of its outputs."""

    task: str
    outputs: tuple[str, ...]
    value: str  # the name of its type
    reason: str  # what it has, or lacks

    def __str__(self) -> str:
        names = ", ".join(f"'{name}'" for name in self.outputs)
        return (
            f"Task '{self.task}' has outputs=[{names}], and returned a {self.value} that {self.reason}. Return a dict, "
            f"a NamedTuple or a dataclass with these names, or a tuple or list of {len(self.outputs)}."
        )


class UnequalLists(AttemptError, ValueError):
    """The lists that a task is mapped over have different lengths."""

    task: str
    lengths: dict[str, int]

    def __str__(self) -> str:
        lengths = ", ".join(f"{name}: {length}" for name, length in self.lengths.items())
        return f"Task '{self.task}' is mapped over lists of different lengths ({lengths}). Return lists of one length."


class ItemsFailed(AttemptError):
    """Items of a mapped task failed."""

    failed: int
    count: int
    first: str  # the first failed items
    beyond: str = ""  # that keep_going allows fewer
    _template = "{failed} of {count} items failed{beyond}: {first}"


class NotReached(AttemptError):
    """A task of a round failed, or the rounds were used up before `until` was true."""

    name: str
    why: str
    _template = "'{name}' stopped {why}."


class RunStopped(AttemptError):
    """The run was cancelled or interrupted during the attempt."""

    step: str
    reason: str
    _template = "Step '{step}' was stopped in the middle: {reason}."


class Rejected(AttemptError):
    """A person has rejected a step that asks for an approval, or the time for an answer was up."""

    step: str
    reason: str
    task: str  # the step itself, or the task of an item
    _template = "Step '{step}' did not run: {reason}. Pass rerun={task!r} to ask again."


class ApprovalExpired(Rejected):
    """The time for an answer was up before a person has approved or rejected a step."""


class StepFailed(AttemptError):
    """The exception of a step, as data: the exception itself ended with its attempt."""

    exception: str  # its type's name
    message: str
    traceback: str = ""  # formatted; empty where there is none

    def __str__(self) -> str:
        line = f"{self.exception}: {self.message}" if self.message else self.exception
        return f"{line}\n\n{self.traceback}".rstrip() if self.traceback else line


class ProviderError(DotflowError):
    """A provider could not do its work."""


class MissingExtra(ProviderError, ImportError):
    """A provider's dependency is not installed."""

    who: str  # the provider
    package: str  # its name on PyPI
    extra: str  # of dotflow, which installs the package
    # In quotes: zsh would look for a file of such a name, and run nothing.
    _template = "{who} needs {package}, which is not installed: pip install 'dotflow[{extra}]'"


class NotifyError(ProviderError):
    """A notification was not delivered."""

    who: str  # the service; no address, which may be a secret
    reason: str  # its answer, or that there was none
    hint: str
    _template = "{who} did not deliver the message: {reason}. {hint}"


class StorageError(ProviderError):
    """The storage failed: a value could not be saved, and its task failed, or nothing could be read."""

    what: str
    reason: str

    def __str__(self) -> str:
        return _sentence(self.what, self.reason)


class LeaseLost(StorageError):
    """Another process has the workflow now. Nothing was written, and the run starts no further step."""


class ClusterError(ProviderError):
    """A cluster can't be used."""

    cluster: str
    reason: str
    hint: str
    _template = "{cluster} {reason}. {hint}"


class ClusterLost(ClusterError):
    """A cluster can't be reached, or is lost. A run of `dotflow serve` goes on when it is back."""


class HistoryError(ProviderError):
    """The history can't be written, so the run logs it as a line and goes on; or it can't be read."""

    what: str
    reason: str

    def __str__(self) -> str:
        return _sentence(self.what, self.reason)


class NotInHistory(HistoryError, LookupError):
    """There is no such run, step, item or value in the history, or there are several."""


class RunError(DotflowError):
    """The run as a whole failed, or can't be started."""


class NotRun(RunError):
    """The last run of a workflow was asked for, which has not run."""

    _template = "This workflow has no last run: it was not started in this process. Call start() first."


class OrderRefused(RunError):
    """A run can't be submitted, cancelled, paused or resumed, since of its state."""

    verb: str
    run_id: str
    reason: str
    needs_steps: bool = False  # whether it would do to name the steps that run again

    def __str__(self) -> str:
        return _sentence(f"Can't {self.verb} the run {self.run_id}", self.reason)


class AlreadyScheduled(RunError):
    """A running scheduler was started again."""

    scheduler: str
    _template = "{scheduler} is already running. Call stop() and wait for its start() to return, or use another one."


class ProcessesUnsupported(RunError):
    """dotflow can't start worker processes on this system."""

    system: str
    _template = (
        "Worker processes need POSIX; this is {system}. Use threads, or avoid parallel mode, groups and isolate."
    )


class RunFailed(RunError):
    """A run did not complete. Its cause is the last error of the first task that failed, as a StepFailed."""

    def __init__(
        self,
        workflow_id: str,
        run_id: str,
        tasks: Iterable[Any],
        count: int,
        reason: str = "",
        is_paused: bool = False,
    ) -> None:
        self.workflow_id = workflow_id
        self.run_id = run_id
        self.tasks: tuple[Any, ...] = tuple(tasks)  # the failed ones, in the order of add; none after a cancellation
        self.count = count  # of all tasks of the run
        self.reason = reason  # why it was stopped; "" if a failure stopped it
        self.is_paused = is_paused  # so that start(resume=True) goes on with it
        super().__init__(workflow_id, run_id, self.tasks, count)
        first = next((task.error for task in self.tasks if task.error is not None), None)
        if first is not None:
            # Through setattr(), since type checkers take a plain assignment for a new attribute of this class.
            setattr(self, "__cause__", StepFailed(first.exception, first.message, first.traceback))  # noqa: B010

    def __reduce__(self) -> tuple[Any, ...]:
        """Leaves out a task's step and contexts, which can't always be pickled."""
        tasks = [SimpleNamespace(**{name: getattr(task, name) for name in _PICKLED}) for task in self.tasks]
        kind = RunTimeout if isinstance(self, RunTimeout) else RunFailed
        return kind, (self.workflow_id, self.run_id, tasks, self.count, self.reason, self.is_paused)

    def __str__(self) -> str:
        run = f"Run {self.run_id} of workflow {self.workflow_id!r}"
        if self.is_paused:
            return f"{run} is paused. Start the workflow with resume=True to go on."
        if not self.tasks:
            reason = self.reason or "it was cancelled"
            return f"{run} did not complete: {reason} before all of its {self.count} tasks had run."
        tasks = "; ".join(
            f"task {task.task_id} {task.name}: {_in_short(task.error)}" for task in self.tasks[:MAX_NAMED]
        )
        more = f"; and {len(self.tasks) - MAX_NAMED} more" if len(self.tasks) > MAX_NAMED else ""
        return f"{run} failed at {len(self.tasks)} of {self.count} tasks: {tasks}{more}."


class RunTimeout(RunFailed, TimeoutError):
    """The run took longer than the timeout of `start`."""


MAX_NAMED: Final = 3  # tasks that the message of a RunFailed names
_PICKLED: Final = ("task_id", "name", "group_name", "status", "attempt", "errors", "error")


def _in_short(error: Any) -> str:
    """Returns at most one line of an error."""
    if error is None:
        return "no error"
    first = error.message.strip().partition("\n")[0].rstrip(".")
    line = f"{error.exception}: {first}" if first else error.exception
    return line if len(line) <= 200 else f"{line[:199]}…"


class VirtualClockMisuse(RunError):
    """A test's clock was used where or when it can't work."""

    reason: str
    _template = "{reason}"


class CheckpointMismatch(RunError):
    """A checkpoint was saved by another step than the one at its position now."""

    mismatches: Sequence[tuple[int, str, str]]  # the task's id, the step that saved the checkpoint, the step now

    def __str__(self) -> str:
        steps = "; ".join(f"task {number}: saved by {before}, now {now}" for number, before, now in self.mismatches)
        return (
            f"The checkpoints were saved by other steps ({steps}). Restore the old order, or start without resume; or "
            f"give tasks names, add(step, name=...): then they may come, go and move."
        )


class CheckpointUnreadable(RunError):
    """A checkpoint exists, but can't be read. It has been left unchanged."""

    reason: str
    where: str = ""  # the file, or the key and its storage; empty where it is unknown
    task: str = ""  # the id and the name; empty where they are unknown
    time: datetime | None = None  # when its step returned; None where that can't be read either
    is_of_journal: bool = False  # whether it is the journal of a workflow, and no value

    def at(self, where: str = "", task: str = "", time: datetime | None = None) -> "CheckpointUnreadable":
        """Returns the same error with the facts that it lacks."""
        time = self.time or time
        return CheckpointUnreadable(self.reason, self.where or where, self.task or task, time, self.is_of_journal)

    def __str__(self) -> str:
        what = f"The checkpoint of task {self.task}" if self.task else "A checkpoint"
        advice = "Repair the checkpoint, or delete it to run the task again."
        if self.is_of_journal:
            what = "The journal of earlier runs"
            advice = (
                "Repair it, or delete it: a resume then knows files from the checkpoints alone, and steps that did not "
                "finish get new idempotency keys."
            )
        where = f" in {self.where}" if self.where else ""
        return f"{what}{where} can't be read: {self.reason}. Nothing was run and nothing was changed. {advice}"


class ValidityUnknown(RunError):
    """A step's `valid` failed, so whether its value counts is unknown."""

    task: str  # the id and the name
    reason: str
    _template = (
        "Whether the value of task {task} is still valid is unknown: {reason}. Nothing was run and nothing was "
        "deleted. Start again when its valid() works; without resume, everything runs anew."
    )


class WorkflowBusy(RunError):
    """Another process is running the workflow."""

    workflow_id: str
    where: str  # the lock: a file, a table, a bucket
    holder: str  # of the lock, as far as it is known: "process 4711 on host alpha"
    since: str = ""  # empty where it is unknown

    def __str__(self) -> str:
        since = f" since {self.since}" if self.since else ""
        return (
            f"Workflow {self.workflow_id!r} is being run by {self.holder}{since} ({self.where}), so nothing was run "
            f"here. Wait until it has ended, stop it, or give this run another workflow_id."
        )
