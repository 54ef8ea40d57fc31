"""Unknown arguments and attributes: errors with hints for the words of other libraries."""

from collections.abc import Collection, Mapping
from typing import Any, Final, NoReturn

from dotflow.errors import UnknownArgument, close_match

_DECORATOR: Final = "Give it to the decorator: @action(retry=3, timeout=30)."
_NEEDS: Final = (
    "A parameter with the name of an earlier task receives its value, as with needs={'parameter': task}. "
    "needs=[task] runs after a task that completed, after=[task] after its end. Without names, tasks run in the order "
    "of add."
)
_EACH: Final = "Write each=task, where the task returns a list: the step runs once for each item."
_CROSS: Final = "Write cross={'city': cities, 'day': [1, 2]}: the step runs for every combination."
_REPEAT: Final = "Write repeat=8, until=step: the step runs again until that one returns True, at most 8 times."
_ONLY: Final = "Write only='task': it runs with what it needs."
_LIMIT: Final = "Write max_parallel=10: the number of items of each=... in flight at once."
_CONDITION: Final = "Write when=task or unless=task: whether the task runs depends on that task's value."
_FALLBACK: Final = "Write fallback=step: the step of further attempts after the last one failed."
_ALWAYS: Final = "Write always=True: a cleanup, which runs however the tasks before it ended."
_NAME: Final = "Write name='...'."
_VALUE: Final = (
    "Write params={'depth': 3} for parameters of the step, or pass initial_context=..., which it reads as "
    "initial_context.storage. A value of the whole run is a run parameter: DotFlow(params={'day': ...})."
)
_OUTPUTS: Final = "Write outputs=['train', 'test']: names of the parts of the value, which later tasks take."
_PARAMS: Final = "Write params={'day': '2026-11-25'}, and declare it: DotFlow(params={'day': ...})."
_GROUP: Final = "Write group_name='...'."
_START: Final = "Give it to start(): workflow.start(resume=True)."
_TASKS_END: Final = (
    "Write callback=..., called at the end of the task, or fallback=step, for further attempts. The end of the run is "
    "that of start(): workflow.start(on_failure=...)."
)

_RETRY: Final = "Write retry=3: the total number of attempts."
_DELAY: Final = "Write retry_delay=5: the seconds between attempts."
_TIMEOUT: Final = "Write timeout=30: the seconds for each attempt."
_POLL: Final = "Write poll='30s': a step that returns None is called again, until it returns something."
_POLL_TIMEOUT: Final = "Write poll_timeout='2h': the maximum time for which a step with poll waits."
_RUN_TIMEOUT: Final = "Write timeout='4h': the maximum time of the run."
_WORKERS: Final = "The executor has it: Config(executor=ExecutorProcess(max_workers=4))."
_CACHE: Final = "Write cache=True, or the maximum age in seconds."
_CHECKPOINT: Final = "Write checkpoint=False for a value that is not saved. Each resume that needs it makes it anew."
_ADD: Final = "Give it to add: workflow.task.add(step, ...)."
_ADD_VALUE: Final = "Give the value to add: workflow.task.add(step, initial_context=...)."
_WORKFLOW: Final = "Give it to the workflow: DotFlow(config=..., workflow_id=..., name=...)."
_CONFIG: Final = "Give it to the configuration: DotFlow(Config(storage=...))."
_RUN_END: Final = "Give it to start(), or write callback=... in workflow.task.add()."
_NOT_YET: Final = "Not yet:"
_RATE: Final = (
    f"{_NOT_YET} nothing limits the calls per second. add(each=task, max_parallel=10) limits the calls at once."
)
_SCHEDULE: Final = (
    "Give it to the scheduler, Config(scheduler=SchedulerCron('30 2 * * *', timezone='Europe/Berlin')), and call "
    "workflow.schedule()."
)
_CATCH_UP: Final = (
    "Give it to the scheduler: SchedulerCron('30 2 * * *', catch_up='all', params=lambda planned: {'day': "
    "planned.date()}). `dotflow serve` makes up for missed firings."
)

# Arguments that belong to one place, wherever they are passed.
_DECORATORS: Final = (
    "retry", "retries", "max_retries", "retry_delay", "backoff", "retry_on", "max_delay", "jitter", "poll",
    "poll_timeout", "isolate", "resources", "checkpoint", "version", "files", "valid", "approve", "approve_within",
)  # fmt: skip
_RATES: Final = ("rate", "rate_limit", "rate_limits", "throttle", "rps", "requests_per_second", "max_rate")
_SCHEDULES: Final = ("cron", "schedule", "schedule_interval", "interval", "timezone", "tz", "overlap")
_CATCH_UPS: Final = ("catchup", "backfill", "misfire_grace_time", "coalesce", "depends_on_past")
_ORDERS: Final = ("after", "depends", "depends_on", "dependencies", "needs", "requires", "upstream", "wait_for")


def _of(hint: str, *words: str) -> dict[str, str]:
    return dict.fromkeys(words, hint)


#: Arguments that no function has, or the scheduler alone -> the hint.
_ELSEWHERE: Final[Mapping[str, str]] = {
    **_of(_RATE, *_RATES),
    **_of(_SCHEDULE, *_SCHEDULES),
    **_of(_CATCH_UP, "catch_up", *_CATCH_UPS),
}

#: Arguments that `add` does not have -> the hint.
ADD: Final[Mapping[str, str]] = {
    **_of(_NEEDS, "before", "depends", "depends_on", "dependencies", "requires", "upstream", "wait_for"),
    **_of(_NEEDS, "input", "inputs", "downstream", "previous", "previous_context"),
    **_ELSEWHERE,
    **_of(_EACH, "for_each", "foreach", "map", "mapped", "map_over", "over", "expand", "items", "iterate", "parallel"),
    **_of(_CROSS, "product", "grid", "combinations", "cross_product", "matrix"),
    **_of(_REPEAT, "loop", "rounds", "max_rounds", "iterations", "max_iterations", "times", "while_", "repeat_until"),
    **_of(_LIMIT, "concurrency", "max_concurrency", "limit", "max_active", "batch_size"),
    **_of(_CONDITION, "condition", "conditions", "if_", "only_if", "run_if", "skip_if", "branch", "trigger_rule"),
    **_of(_FALLBACK, "recover", "rescue", "except_", "on_error", "otherwise"),
    **_of(_ALWAYS, "finally_", "cleanup", "clean_up", "teardown", "ensure", "run_always"),
    **_of(_DECORATOR, *_DECORATORS, "attempts", "timeout", "cache"),
    **_of(_NAME, "id", "task_id", "task_name", "key", "alias"),
    **_of(_VALUE, "args", "kwargs", "param", "parameters", "arguments", "data", "value", "context", "initial"),
    **_of(_OUTPUTS, "output", "returns", "multiple_outputs", "n_outputs", "produces"),
    **_of(_GROUP, "group", "groups", "lane", "queue", "pool"),
    **_of(_START, "mode", "resume"),
    **_of(_TASKS_END, "on_success", "on_failure", "on_complete", "callbacks"),
    **_of(_WORKERS, "max_workers", "workers", "executor"),
}

#: Options that `@action` does not have -> the hint.
ACTION: Final[Mapping[str, str]] = {
    **_of(_RETRY, "retries", "max_retries", "attempts", "max_attempts", "tries"),
    **_of(_DELAY, "delay", "wait", "retry_wait", "retries_delay", "retry_delay_seconds", "countdown"),
    **_of(_TIMEOUT, "time_limit", "timeout_seconds", "execution_timeout"),
    **_of(_POLL, "poke_interval", "poll_interval", "polling_interval", "sensor", "wait_until"),
    **_of(_POLL_TIMEOUT, "poke_timeout", "wait_timeout", "max_wait"),
    **_of(_ADD, "name", "id", "task_id", "task_name"),
    **_of(_WORKERS, "max_workers", "workers", "concurrency", "executor"),
    **_of(_CACHE, "cached", "cache_key_fn", "memoize"),
    **_of(_CHECKPOINT, "persist", "persist_result", "save", "store", "checkpoints"),
    **_of(_ADD, *_ORDERS, "each", "map", "cross", "when", "unless", "fallback", "always", "repeat", "until", "carry"),
    **_ELSEWHERE,
    **_of(_ADD, "callback", "group", "group_name", "initial_context", "keep_going", "max_parallel"),
    **_of(_ADD, "params", "outputs"),
    **_of(_RUN_END, "on_success", "on_failure"),
}

#: Arguments that `start` does not have -> the hint.
START: Final[Mapping[str, str]] = {
    **_of(_ONLY, "target", "targets", "select", "tasks", "task", "steps", "until"),
    **_of(_ADD, *_ORDERS, "each", "cross", "when", "unless", "outputs", "repeat", "carry"),
    **_ELSEWHERE,
    **_of(_ADD, "max_parallel", "fallback", "always"),
    **_of("Groups are made by add: workflow.task.add(step, group_name='...').", "group", "groups", "group_name"),
    **_of(_DECORATOR, *_DECORATORS),
    **_of(_RUN_TIMEOUT, "time_limit", "timeout_seconds", "execution_timeout", "deadline"),
    **_of(_WORKERS, "max_workers", "workers", "concurrency", "n_jobs", "executor"),
    **_of(_ADD_VALUE, "initial_context", "data", "context"),
    **_of(_PARAMS, "param", "parameters", "args", "kwargs", "arguments", "inputs", "input", "variables"),
    **_of(_WORKFLOW, "workflow_id", "id", "name", "config"),
    **_of(_CONFIG, "storage", "log", "notify", "scheduler", "history", "tracer"),
    **_of("Write mode='background' or mode='parallel'.", "background", "parallel", "wait", "block"),
    **_of("Write on_success=... or on_failure=....", "callback", "callbacks", "on_complete", "on_error"),
    **_of("Write keep_going=True.", "continue_on_failure", "fail_fast", "ignore_errors"),
}

#: Arguments that `DotFlow` does not have -> the hint.
WORKFLOW: Final[Mapping[str, str]] = {
    **_of(_CONFIG, "storage", "log", "notify", "scheduler", "executor", "history", "tracer", "secrets"),
    **_of(_WORKERS, "max_workers", "workers", "concurrency", "n_jobs"),
    **_of(_START, "mode", "resume", "keep_going", "on_success", "on_failure", "rerun"),
    **_of(_ADD, *_ORDERS, "each", "max_parallel"),
    **_of(_DECORATOR, *_DECORATORS, "attempts", "timeout", "cache"),
    **_of("Add it: workflow.task.add(step).", "task", "tasks", "step", "steps"),
    **_of(_PARAMS, "param", "parameters", "args", "kwargs", "inputs", "variables"),
    **_of("Write workflow_id='nightly'.", "id", "dag_id", "flow_id"),
    **_ELSEWHERE,
}

#: Arguments that `Config` does not have -> the hint.
CONFIG: Final[Mapping[str, str]] = {
    **_of(_WORKFLOW, "workflow_id", "id", "name", "params"),
    **_of("Give it to the executor: Config(executor=ExecutorProcess(max_workers=4)).", "max_workers", "workers"),
    **_of(_START, "mode", "resume", "keep_going", "on_success", "on_failure"),
    **_of(_ADD, *_ORDERS, "each", "max_parallel"),
    **_of(_DECORATOR, "retry", "retries", "max_retries", "timeout"),
    **_of("Write notify=NotifyTelegram(...).", "notifier", "notifiers", "notification", "notifications"),
    **_of("Write log=LogDefault(...).", "logger", "logging", "logs", "log_level"),
    **_of("Write storage=StorageFile(...).", "store", "backend", "checkpoint", "checkpoints", "path"),
    **_of("Write tracer=TracerOpenTelemetry().", "tracing", "opentelemetry", "telemetry"),
    **_ELSEWHERE,
}

#: Arguments that `SchedulerCron` does not have -> the hint.
CRON: Final[Mapping[str, str]] = {
    **_of("Write timezone='Europe/Berlin'.", "tz", "time_zone", "tzinfo", "zone"),
    **_of("Write catch_up='latest', 'all', 'none' or a span such as '6h'.", *_CATCH_UPS),
    **_of(f"{_NOT_YET} a schedule has no begin and no end. stop() ends it.", "start_date", "end_date", "start", "end"),
    **_of(f"{_NOT_YET} a firing has no random delay.", "jitter", "splay"),
    **_of("Write max_parallel=3, with overlap='parallel'.", "max_instances", "max_active_runs", "concurrency"),
    **_of("Write overlap='skip', 'queue' or 'parallel'.", "overlapping", "allow_overlap", "no_overlap"),
    **_of("Give it to schedule(): workflow.schedule(resume=True).", "mode", "resume", "keep_going"),
    **_of("Write params=lambda planned: {'day': planned.date()}.", "param", "parameters", "args", "kwargs"),
    **_of("Write late_after='15m'.", "sla", "deadline", "alert_after", "max_delay"),
    **_of(_RATE, *_RATES),
    **_of("Write SchedulerCron('30 2 * * *').", "schedule", "crontab", "expression", "interval", "every"),
}

_RESULT_WORDS: Final = ("result", "results", "output", "return_value", "returned", "storage", "data", "context")

#: Attributes that a task does not have -> what to write instead.
READ_TASK: Final[Mapping[str, str]] = _of("write task.value, or task.current_context", *_RESULT_WORDS)

#: Attributes that a run does not have -> what to write instead.
READ_RUN: Final[Mapping[str, str]] = {
    **_of("write run.value('task'), or workflow.result()", *_RESULT_WORDS, "outputs", "values"),
    **_of("write run['task'].errors, or run.raise_for_failure()", "error", "errors", "exception"),
    **_of("it is run.run_id", "id"),
    **_of("compare run.status with 'Completed', or call run.raise_for_failure()", "ok", "success", "failed", "done"),
    **_of("it is run.wait()", "join"),
    **_of("it is run.cancel()", "stop", "kill", "abort", "terminate"),
}

#: Attributes that a workflow does not have -> where they are.
READ_WORKFLOW: Final[Mapping[str, str]] = {
    **_of("it is workflow.task.add()", "add", "add_step", "add_task", "step"),
    **_of("it is workflow.task", "tasks", "steps"),
    **_of("it is workflow.task.count()", "count"),
    **_of("it is workflow.start()", "execute", "run", "trigger"),
    **_of("it is workflow.start(resume=True)", "resume", "restart", "retry"),
    **_of("it is workflow.last.status", "status", "state"),
    **_of("it is workflow.last", "last_run"),
    **_of("it is workflow.last.wait()", "wait", "join"),
    **_of("it is workflow.last.cancel()", "cancel", "stop"),
    **_of("it is dotflow.serve(workflow)", "serve"),
}

#: Attributes that `workflow.task` does not have -> where they are.
READ_BUILDER: Final[Mapping[str, str]] = {
    **ADD,
    **_of("it is workflow.task.add()", "append", "extend", "insert"),
    **_of("it is workflow.start()", "start", "run", "execute"),
}

#: Names that the package does not have -> the name that it has.
NAMES: Final[Mapping[str, str]] = {
    **_of("action", "task", "step", "node", "job", "op", "Action"),
    **_of("DotFlow", "Workflow", "Flow", "Pipeline", "DAG", "flow", "Dotflow", "dotflow"),
}

#: Commands that `dotflow` does not have -> the commands to use instead, as far as a group has them.
COMMANDS: Final[Mapping[str, str]] = {
    **_of("start", "run", "exec", "execute", "launch", "trigger"),
    **_of("runs list", "list", "ls", "ps", "history", "jobs"),
    **_of("runs show", "status", "state"),
    **_of("show", "describe", "inspect", "info", "details", "output", "error", "errors", "failed", "last"),
    **_of("resume start", "retry", "rerun", "continue", "restart", "unpause"),
    **_of("cancel", "stop", "kill", "abort", "terminate", "revoke"),
    **_of("forget clear", "delete", "rm", "remove", "purge", "prune", "clean", "clear"),
    **_of("serve", "worker", "workers", "server", "agent", "daemon", "consumer"),
    **_of("ui", "web", "webserver", "dashboard", "page", "open"),
    **_of("schedule", "cron", "scheduler", "beat"),
    **_of("submit", "queue", "enqueue", "defer"),
    **_of("init", "new", "create", "startproject"),
    **_of("plan", "check", "validate", "dry-run", "preview", "test"),
    **_of("graph", "dag", "draw", "diagram", "visualize", "viz"),
    **_of("log", "tail", "follow"),
    **_of("report", "export", "html"),
    **_of("replay", "debug"),
    **_of("cache", "storage"),
    **_of("--help", "help"),
    **_of("--version", "version"),
}

#: Options that a command does not have -> the options to use instead, as far as it has them.
OPTIONS: Final[Mapping[str, str]] = {
    **_of("--workflow-id", "--id", "--name", "--run-id"),
    **_of("--param", "--params", "--arg", "--args", "--parameter", "--parameters", "--var", "--set", "--input"),
    **_of("--max-runs", "--workers", "--max-workers", "--concurrency", "--jobs"),
    **_of("--mode", "--parallel", "--background", "--async"),
    **_of("--only", "--task", "--tasks", "--select", "--target"),
    **_of("--resume", "--continue", "--restart"),
    **_of("--cron", "--every", "--interval"),
    **_of("--timezone", "--tz", "--time-zone"),
    **_of("--failed --running", "--status", "--state"),
    **_of("--lines --limit", "--tail", "--last", "-n"),
    **_of("--output", "--logs", "--log", "--out"),
    **_of("--older-than", "--before", "--until", "--keep"),
    **_of("--debug", "--verbose", "-v", "--traceback"),
    **_of("--history", "--db", "--database"),
}

#: Options that commands which run steps do not have -> the hint.
RUN_OPTIONS: Final[Mapping[str, str]] = {
    **_of(_DECORATOR, "--retry", "--retries", "--max-retries", "--retry-delay"),
    **_of(_WORKERS, "--workers", "--max-workers", "--concurrency", "--jobs"),
    **_of("`dotflow schedule` has it.", "--cron", "--timezone", "--tz", "--overlap", "--every", "--interval"),
    **_of("`dotflow plan` prints what would run.", "--dry-run", "--plan", "--check"),
    **_of("Without --resume, everything runs anew.", "--force", "--fresh", "--no-resume"),
}


def no_attribute(instance: object, name: str, hints: Mapping[str, str]) -> AttributeError:
    """Returns the error about an attribute that an object, or a class, does not have."""
    hint = f": {hints[name]}" if name in hints else ""
    kind = instance if isinstance(instance, type) else type(instance)
    what = f"type object {kind.__name__!r}" if kind is instance else f"{kind.__name__!r} object"
    return AttributeError(f"{what} has no attribute {name!r}{hint}", name=name, obj=instance)


class Absent:
    """An attribute that a class does not have, for an error with a hint.

    `__getattr__` would make the same error, but with one Python 3.11 reads all attributes of its class slowly.
    """

    def __init__(self, name: str, hints: Mapping[str, str]) -> None:
        self._name = name
        self._hints = hints

    def __get__(self, instance: object, owner: type) -> NoReturn:
        raise no_attribute(owner if instance is None else instance, self._name, self._hints)


def instead_of(word: str, words: Mapping[str, str], known: Collection[str], otherwise: str = "") -> str:
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


def start_hints(params: Collection[str]) -> Mapping[str, str]:
    """Returns the hints for `start` of a workflow with these run parameters, which may be passed by mistake."""
    return {**START, **{name: f"Write start(params={{'{name}': ...}})." for name in params}}


def refuse_unknown(
    function: str, unknown: Mapping[str, Any], accepted: Collection[str], hints: Mapping[str, str]
) -> None:
    """Raises UnknownArgument for the first unknown argument; does nothing without one.

    Args:
        function: The function, as a user writes it: "add".
        unknown: The unknown keyword arguments.
        accepted: The names of the function's arguments.
        hints: The hints for words of other libraries.
    """
    for name in unknown:
        raise UnknownArgument(function, name, tuple(accepted), hints.get(name) or close_match(name, accepted))
