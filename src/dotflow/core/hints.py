"""Unknown arguments and attributes: errors with hints for the words of other libraries."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, NoReturn

from dotflow.core.callables import parameters
from dotflow.errors import UnknownArgument, close_match

#: Hints by word.
Hints = Mapping[str, str]

_DECORATOR: Final = "Give it to the decorator: @action(retry=3, timeout=30)."
_PARAMS: Final = "Write params={'day': '2026-11-25'}, and declare it: DotFlow(params={'day': ...})."
_START: Final = "Give it to start(): workflow.start(resume=True)."

_WORKERS: Final = "The executor has it: Config(executor=ExecutorProcess(max_workers=4))."
_ADD: Final = "Give it to add: workflow.task.add(step, ...)."
_WORKFLOW: Final = "Give it to the workflow: DotFlow(config=..., workflow_id=..., name=...)."
_CONFIG: Final = "Give it to the configuration: DotFlow(Config(storage=...))."
_RATE: Final = (
    "Give it to the decorator: @action(limit='10/s, 5 at once') limits it over all runs and processes, and "
    "add(each=task, max_parallel=10) the items at once in one run."
)
_SETTING: Final = (
    "What neither names a run nor is an input is a Setting: DotFlow(params={'day': ..., 'budget': Setting(50)})."
)

# Arguments that belong to one place, wherever they are passed.
_DECORATORS: Final = (
    "retry", "retries", "max_retries", "retry_delay", "backoff", "retry_on", "max_delay", "jitter", "poll",
    "poll_timeout", "isolate", "resources", "checkpoint", "version", "files", "valid", "approve", "approve_within",
    "durable", "key", "limit", "budget", "uses", "memory",
)  # fmt: skip
_RATES: Final = (
    "rate", "rate_limit", "rate_limits", "throttle", "rps", "requests_per_second", "max_rate", "concurrency",
    "max_concurrency", "pool", "slots", "quota",
)  # fmt: skip
_SCHEDULES: Final = ("cron", "schedule", "schedule_interval", "interval", "timezone", "tz", "overlap")
_CATCH_UPS: Final = ("catchup", "backfill", "misfire_grace_time", "coalesce", "depends_on_past")
_ORDERS: Final = ("after", "depends", "depends_on", "dependencies", "needs", "requires", "upstream", "wait_for")


def by_word(words: Mapping[str, Sequence[str]]) -> Hints:
    """Returns the hint for each word, from the words of each hint."""
    return {word: hint for hint, words_of in words.items() for word in words_of}


#: Arguments that no function has, or the scheduler alone -> the hint.
_ELSEWHERE: Final[Hints] = by_word({
    _RATE: _RATES,
    _SETTING: ("significant", "insignificant", "is_significant"),
    (
        "Give it to the scheduler, Config(scheduler=SchedulerCron('30 2 * * *', timezone='Europe/Berlin')), and "
        "call workflow.schedule()."
    ): _SCHEDULES,
    (
        "Give it to the scheduler: SchedulerCron('30 2 * * *', catch_up='all', params=lambda planned: {'day': "
        "planned.date()}). `dotflow serve` catches up missed runs."
    ): ("catch_up", *_CATCH_UPS),
})  # fmt: skip

#: Arguments that `add` does not have -> the hint.
ADD: Final[Hints] = {**_ELSEWHERE, **by_word({
    (
        "A parameter with the name of an earlier task receives its value, as with needs={'parameter': task}. "
        "needs=[task] runs after a task that completed, after=[task] after its end. Without names, tasks run in "
        "the order of add."
    ): (
        "before", "depends", "depends_on", "dependencies", "requires", "upstream", "wait_for", "input",
        "inputs", "downstream", "previous", "previous_context",
    ),
    "Write each=task, where the task returns a list: the step runs once for each item.": (
        "for_each", "foreach", "map", "mapped", "map_over", "over", "expand", "items", "iterate", "parallel",
    ),
    "Write cross={'city': cities, 'day': [1, 2]}: the step runs for every combination.": (
        "product", "grid", "combinations", "cross_product", "matrix",
    ),
    "Write repeat=8, until=step: the step runs again until that one returns True, at most 8 times.": (
        "loop", "rounds", "max_rounds", "iterations", "max_iterations", "times", "while_", "repeat_until",
    ),
    "Write at_limit='go on': the last round's value counts, even if `until` was not true.": (
        "on_limit", "on_exhausted", "or_else", "limit_reached", "soft_limit",
    ),
    "Write max_parallel=10: the number of items of each=... in flight at once.": ("max_active", "batch_size"),
    "Write when=task or unless=task: whether the task runs depends on that task's value.": (
        "condition", "conditions", "if_", "only_if", "run_if", "skip_if", "branch", "trigger_rule",
    ),
    "Write fallback=step, or fallback={ValueError: step}: the step of further attempts after the last one failed.": (
        "recover", "rescue", "except_", "on_error", "otherwise",
    ),
    "Write always=True: a cleanup, which runs however the tasks before it ended.": (
        "finally_", "cleanup", "clean_up", "teardown", "ensure", "run_always",
    ),
    _DECORATOR: (*_DECORATORS, "attempts", "timeout", "cache"),
    "Write name='...'.": ("id", "task_id", "task_name", "alias"),
    (
        "Write params={'depth': 3} for parameters of the step, or pass initial_context=..., which it reads as "
        "initial_context.storage. A value of the whole run is a run parameter: DotFlow(params={'day': ...})."
    ): ("args", "kwargs", "param", "parameters", "arguments", "data", "value", "context", "initial"),
    "Write outputs=['train', 'test']: names of the parts of the value, which later tasks take.": (
        "output", "returns", "multiple_outputs", "n_outputs", "produces",
    ),
    "Write group_name='...'.": ("group", "groups", "lane", "queue"),
    _START: ("mode", "resume"),
    (
        "Write callback=..., called at the end of the task, or fallback=step, for further attempts. The end of "
        "the run is that of start(): workflow.start(on_failure=...)."
    ): ("on_success", "on_failure", "on_complete", "callbacks"),
    _WORKERS: ("max_workers", "workers", "executor"),
})}  # fmt: skip

#: Options that `@action` does not have -> the hint.
ACTION: Final[Hints] = {**_ELSEWHERE, **by_word({
    "Write retry=3: the total number of attempts.": ("retries", "max_retries", "attempts", "max_attempts", "tries"),
    "Write retry_delay=5: the seconds between attempts.": (
        "delay", "wait", "retry_wait", "retries_delay", "retry_delay_seconds", "countdown",
    ),
    "Write timeout=30: the seconds for each attempt.": ("time_limit", "timeout_seconds", "execution_timeout"),
    "Write resources={'gpu': 1}: what each attempt has of this machine.": ("gpu", "gpus", "num_gpus", "cpu", "cpus"),
    "Write memory='2GB': what each attempt may use.": (
        "memory_limit", "mem", "mem_limit", "max_memory", "memory_mb", "mem_mb", "ram",
    ),
    "Write poll='30s': a step that returns None is called again, until it returns something.": (
        "poke_interval", "poll_interval", "polling_interval", "sensor", "wait_until",
    ),
    "Write poll_timeout='2h': the maximum time for which a step with poll waits.": (
        "poke_timeout", "wait_timeout", "max_wait",
    ),
    _ADD: (
        "name", "id", "task_id", "task_name", *_ORDERS, "each", "map", "cross", "when", "unless", "fallback",
        "always", "repeat", "until", "carry", "at_limit", "callback", "group", "group_name", "initial_context",
        "keep_going", "max_parallel", "params", "outputs",
    ),
    _WORKERS: ("max_workers", "workers", "executor"),
    "Write cache=True, or the maximum age in seconds.": ("cached", "cache_key_fn", "memoize"),
    "Write checkpoint=False for a value that is not saved. Each resume that needs it makes it anew.": (
        "persist", "persist_result", "save", "store", "checkpoints",
    ),
    "Give it to start(), or write callback=... in workflow.task.add().": ("on_success", "on_failure"),
})}  # fmt: skip

#: Arguments that `start` does not have -> the hint.
START: Final[Hints] = {**_ELSEWHERE, **by_word({
    "Write only='task': it runs with what it needs.": (
        "target", "targets", "select", "tasks", "task", "steps", "until",
    ),
    _ADD: (
        *_ORDERS, "each", "cross", "when", "unless", "outputs", "repeat", "carry", "at_limit", "max_parallel",
        "fallback", "always",
    ),
    "Groups are made by add: workflow.task.add(step, group_name='...').": ("group", "groups", "group_name"),
    _DECORATOR: _DECORATORS,
    "Write timeout='4h': the maximum time of the run.": (
        "time_limit", "timeout_seconds", "execution_timeout", "deadline",
    ),
    _WORKERS: ("max_workers", "workers", "concurrency", "n_jobs", "executor"),
    "Give the value to add: workflow.task.add(step, initial_context=...).": ("initial_context", "data", "context"),
    _PARAMS: ("param", "parameters", "args", "kwargs", "arguments", "inputs", "input", "variables"),
    _WORKFLOW: ("workflow_id", "id", "name", "config"),
    _CONFIG: ("storage", "log", "notify", "scheduler", "history", "tracer"),
    "Write mode='background' or mode='parallel'.": ("background", "parallel", "wait", "block"),
    "Write on_success=... or on_failure=....": ("callback", "callbacks", "on_complete", "on_error"),
    "Write keep_going=True.": ("continue_on_failure", "fail_fast", "ignore_errors"),
})}  # fmt: skip

#: Arguments that `DotFlow` does not have -> the hint.
WORKFLOW: Final[Hints] = {**_ELSEWHERE, **by_word({
    _CONFIG: ("storage", "log", "notify", "scheduler", "executor", "history", "tracer", "secrets"),
    _WORKERS: ("max_workers", "workers", "concurrency", "n_jobs"),
    _START: ("mode", "resume", "keep_going", "on_success", "on_failure", "rerun"),
    _ADD: (*_ORDERS, "each", "max_parallel"),
    _DECORATOR: (*_DECORATORS, "attempts", "timeout", "cache"),
    "Add it: workflow.task.add(step).": ("task", "tasks", "step", "steps"),
    _PARAMS: ("param", "parameters", "args", "kwargs", "inputs", "variables"),
    "Write workflow_id='nightly'.": ("id", "dag_id", "flow_id"),
})}  # fmt: skip

#: Arguments that `Config` does not have -> the hint.
CONFIG: Final[Hints] = {**_ELSEWHERE, **by_word({
    _WORKFLOW: ("workflow_id", "id", "name", "params"),
    "Give it to the executor: Config(executor=ExecutorProcess(max_workers=4)).": ("max_workers", "workers"),
    _START: ("mode", "resume", "keep_going", "on_success", "on_failure"),
    _ADD: (*_ORDERS, "each", "max_parallel"),
    _DECORATOR: ("retry", "retries", "max_retries", "timeout"),
    "Write notify=NotifyTelegram(...).": ("notifier", "notifiers", "notification", "notifications"),
    "Write log=LogDefault(...).": ("logger", "logging", "logs", "log_level"),
    "Write storage=StorageFile(...).": ("store", "backend", "checkpoint", "checkpoints", "path"),
    "Write tracer=TracerOpenTelemetry().": ("tracing", "opentelemetry", "telemetry"),
})}  # fmt: skip

#: Arguments that `SchedulerCron` does not have -> the hint.
CRON: Final[Hints] = by_word({
    "Write timezone='Europe/Berlin'.": ("tz", "time_zone", "tzinfo", "zone"),
    "Write catch_up='latest', 'all', 'none' or a span such as '6h'.": _CATCH_UPS,
    "Not yet: a schedule has no begin and no end. stop() ends it.": ("start_date", "end_date", "start", "end"),
    "Not yet: a scheduled run has no random delay.": ("jitter", "splay"),
    "Write max_parallel=3, with overlap='parallel'.": ("max_instances", "max_active_runs", "concurrency"),
    "Write overlap='skip', 'queue' or 'parallel'.": ("overlapping", "allow_overlap", "no_overlap"),
    "Give it to schedule(): workflow.schedule(resume=True).": ("mode", "resume", "keep_going"),
    "Write only=is_workday, a function of the planned moment.": ("calendar", "holidays", "skip", "when", "filter"),
    "Write params=lambda planned: {'day': planned.date()}.": ("param", "parameters", "args", "kwargs"),
    "Write late_after='15m'.": ("sla", "deadline", "alert_after", "max_delay"),
    _RATE: _RATES,
    "Write SchedulerCron('30 2 * * *').": ("schedule", "crontab", "expression", "interval", "every"),
})  # fmt: skip

_RESULT_WORDS: Final = ("result", "results", "output", "return_value", "returned", "storage", "data", "context")

#: Attributes that a task does not have -> what to write instead.
READ_TASK: Final[Hints] = by_word({"write task.value, or task.current_context": _RESULT_WORDS})

#: Attributes that a run does not have -> what to write instead.
READ_RUN: Final[Hints] = by_word({
    "write run.value('task'), or workflow.result()": (*_RESULT_WORDS, "outputs", "values"),
    "write run['task'].errors, or run.raise_for_failure()": ("error", "errors", "exception"),
    "it is run.run_id": ("id",),
    "compare run.status with 'Completed', or call run.raise_for_failure()": ("ok", "success", "failed", "done"),
    "it is run.wait()": ("join",),
    "it is run.cancel()": ("stop", "kill", "abort", "terminate"),
})  # fmt: skip

#: Attributes that a workflow does not have -> where they are.
READ_WORKFLOW: Final[Hints] = by_word({
    "it is workflow.task.add()": ("add", "add_step", "add_task", "step"),
    "it is workflow.task": ("tasks", "steps"),
    "it is workflow.task.count()": ("count",),
    "it is workflow.start()": ("execute", "run", "trigger"),
    "it is workflow.start(resume=True)": ("resume", "restart", "retry"),
    "it is workflow.last.status": ("status", "state"),
    "it is workflow.last": ("last_run",),
    "it is workflow.last.wait()": ("wait", "join"),
    "it is workflow.last.cancel()": ("cancel", "stop"),
    "it is dotflow.serve(workflow)": ("serve",),
})  # fmt: skip

#: Attributes that `workflow.task` does not have -> where they are.
READ_BUILDER: Final[Hints] = {**ADD, **by_word({
    "it is workflow.task.add()": ("append", "extend", "insert"),
    "it is workflow.start()": ("start", "run", "execute"),
})}  # fmt: skip

#: Names that the package does not have -> the name that it has.
NAMES: Final[Hints] = by_word({
    "action": ("task", "step", "node", "job", "op", "Action"),
    "Setting": ("significant", "Insignificant", "insignificant"),
    "DotFlow": ("Workflow", "Flow", "Pipeline", "DAG", "flow", "Dotflow", "dotflow"),
})  # fmt: skip

#: Commands that `dotflow` does not have -> the commands to use instead, as far as a group has them.
COMMANDS: Final[Hints] = by_word({
    "start": ("run", "exec", "execute", "launch", "trigger"),
    "runs list": ("list", "ls", "ps", "jobs"),
    "runs show": ("status", "state"),
    "show": ("describe", "inspect", "info", "details", "output", "error", "errors", "failed", "last"),
    "resume start": ("retry", "rerun", "continue", "restart", "unpause"),
    "cancel": ("stop", "kill", "abort", "terminate", "revoke"),
    "forget clear": ("delete", "rm", "remove", "purge", "prune", "clean", "clear"),
    "serve": ("worker", "workers", "server", "agent", "daemon", "consumer"),
    "ui": ("web", "webserver", "dashboard", "page", "open"),
    "schedule": ("cron", "scheduler", "beat"),
    "submit": ("queue", "enqueue", "defer"),
    "init": ("new", "create", "startproject"),
    "plan": ("check", "validate", "dry-run", "preview", "test"),
    "graph": ("dag", "draw", "diagram", "visualize", "viz"),
    "log": ("tail", "follow"),
    "report": ("export", "html"),
    "replay": ("debug",),
    "cache": ("storage",),
    "--help": ("help",),
    "--version": ("version",),
})  # fmt: skip

#: Options that a command does not have -> the options to use instead, as far as it has them.
OPTIONS: Final[Hints] = by_word({
    "--workflow-id": ("--id", "--name", "--run-id"),
    "--param": ("--params", "--arg", "--args", "--parameter", "--parameters", "--var", "--set", "--input"),
    "--max-runs": ("--workers", "--max-workers", "--concurrency", "--jobs"),
    "--mode": ("--parallel", "--background", "--async"),
    "--only": ("--task", "--tasks", "--select", "--target"),
    "--resume": ("--continue", "--restart"),
    "--cron": ("--every", "--interval"),
    "--timezone": ("--tz", "--time-zone"),
    "--failed --running": ("--status", "--state"),
    "--lines --limit": ("--tail", "--last", "-n"),
    "--output": ("--logs", "--log", "--out"),
    "--older-than": ("--before", "--until", "--keep"),
    "--debug": ("--verbose", "-v", "--traceback"),
    "--history": ("--db", "--database"),
})  # fmt: skip

#: Options that commands which run steps do not have -> the hint.
RUN_OPTIONS: Final[Hints] = by_word({
    _DECORATOR: ("--retry", "--retries", "--max-retries", "--retry-delay"),
    _WORKERS: ("--workers", "--max-workers", "--concurrency", "--jobs"),
    "`dotflow schedule` has it.": ("--cron", "--timezone", "--tz", "--overlap", "--every", "--interval"),
    "`dotflow plan` prints what would run.": ("--dry-run", "--plan", "--check"),
    "Without --resume, everything runs anew.": ("--force", "--fresh", "--no-resume"),
})  # fmt: skip


def no_attribute(instance: object, name: str, hints: Hints) -> AttributeError:
    """Returns the error about an attribute that an object, or a class, does not have."""
    hint = f": {hints[name]}" if name in hints else ""
    kind = instance if isinstance(instance, type) else type(instance)
    what = f"type object {kind.__name__!r}" if kind is instance else f"{kind.__name__!r} object"
    return AttributeError(f"{what} has no attribute {name!r}{hint}", name=name, obj=instance)


class Absent:
    """An attribute that a class does not have, for an error with a hint.

    `__getattr__` would make the same error, but with one Python 3.11 reads all attributes of its class slowly.
    """

    def __init__(self, name: str, hints: Hints) -> None:
        self._name = name
        self._hints = hints

    def __get__(self, instance: object, owner: type) -> NoReturn:
        raise no_attribute(owner if instance is None else instance, self._name, self._hints)


def instead_of(word: str, words: Hints, known: Collection[str], otherwise: str = "") -> str:
    """Returns the hint for an unknown command or option: "Did you mean 'runs' or 'show'?".

    Args:
        word: The unknown word.
        words: The words to use instead, by the unknown one.
        known: The words that exist.
        otherwise: The hint if none of these exists; by default the closest known word.
    """
    from difflib import get_close_matches  # here: only errors need it

    found = [name for name in words.get(word, "").split() if name in known]
    if not found and not otherwise:  # by the letters: with their dashes all short options are close
        bare = {name.lstrip("-"): name for name in known}
        found = [bare[near] for near in get_close_matches(word.lstrip("-"), bare, n=1, cutoff=0.7)]
    return f"Did you mean {' or '.join(map(repr, found))}?" if found else otherwise


def start_hints(params: Collection[str]) -> Hints:
    """Returns the hints for `start` of a workflow with these run parameters, which may be passed by mistake."""
    return {**START, **{name: f"Write start(params={{'{name}': ...}})." for name in params}}


def refuse_unknown(
    function: str, unknown: Mapping[str, Any], accepted: Collection[str] | Callable[..., Any], hints: Hints
) -> None:
    """Raises UnknownArgument for the first unknown argument; does nothing without one.

    Args:
        function: The function, as a user writes it: "add".
        unknown: The unknown keyword arguments.
        accepted: The names of the function's arguments, or the function, whose last parameter takes the unknown ones.
        hints: The hints for words of other libraries.
    """
    for name in unknown:
        names = tuple(parameters(accepted))[:-1] if callable(accepted) else tuple(accepted)
        raise UnknownArgument(function, name, names, hints.get(name) or close_match(name, names))
