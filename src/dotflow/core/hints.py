"""Unknown arguments: an error with the accepted names, and a hint for the words of other libraries."""

from collections.abc import Collection, Mapping
from typing import Any, Final

from dotflow.errors import UnknownArgument

_DECORATOR: Final = "Give it to the decorator: @action(retry=3, timeout=30)."
_ORDER: Final = (
    "Tasks run in the order of add. Those of one group_name run in order, and groups side by side. The result of the "
    "previous step is previous_context.storage."
)
_NAME: Final = "A task has the name of its step's function: rename the function."
_VALUE: Final = "Pass initial_context=...; a step that has the parameter initial_context reads initial_context.storage."
_GROUP: Final = "Write group_name='...'."
_START: Final = "Give it to start(): workflow.start(keep_going=True)."
_TASKS_END: Final = "Write callback=..., or give it to start(): workflow.start(on_failure=...)."

_RETRY: Final = "Write retry=3: the total number of attempts."
_DELAY: Final = "Write retry_delay=5: the seconds between attempts."
_TIMEOUT: Final = "Write timeout=30: the seconds for each attempt."
_WORKERS: Final = "The executor has it: Config(executor=ExecutorProcess(max_workers=4))."
_RESUME: Final = (
    "A storage keeps the results of tasks, Config(storage=StorageFile()), and start(resume=True) skips the finished "
    "ones."
)
_ADD: Final = "Give it to add: workflow.task.add(step, ...)."
_ADD_VALUE: Final = "Give the value to add: workflow.task.add(step, initial_context=...)."
_WORKFLOW: Final = "Give it to the workflow: DotFlow(config=..., workflow_id=..., name=...)."
_CONFIG: Final = "Give it to the configuration: DotFlow(Config(storage=...))."
_RUN_END: Final = "Give it to start(), or write callback=... in workflow.task.add()."


def _of(hint: str, *words: str) -> dict[str, str]:
    return dict.fromkeys(words, hint)


#: Arguments that `add` does not have -> the hint.
ADD: Final[Mapping[str, str]] = {
    **_of(_ORDER, "after", "before", "depends", "depends_on", "dependencies", "needs", "requires", "upstream"),
    **_of(_DECORATOR, "retry", "retries", "max_retries", "attempts", "retry_delay", "backoff", "timeout"),
    **_of(_DECORATOR, "isolate", "resources"),
    **_of(_NAME, "name", "id", "task_id", "task_name", "key"),
    **_of(_VALUE, "args", "kwargs", "params", "parameters", "input", "inputs", "data", "value", "context", "initial"),
    **_of(_GROUP, "group", "groups", "lane", "queue", "pool"),
    **_of(_START, "mode", "keep_going", "resume"),
    **_of(_TASKS_END, "on_success", "on_failure", "on_complete", "callbacks"),
    **_of(_WORKERS, "max_workers", "workers", "executor"),
}

#: Options that `@action` does not have -> the hint.
ACTION: Final[Mapping[str, str]] = {
    **_of(_RETRY, "retries", "max_retries", "attempts", "max_attempts", "tries"),
    **_of(_DELAY, "delay", "wait", "retry_wait", "retries_delay", "retry_delay_seconds", "countdown"),
    **_of(_TIMEOUT, "time_limit", "timeout_seconds", "execution_timeout"),
    **_of(_NAME, "name", "id", "task_id", "task_name"),
    **_of(_WORKERS, "max_workers", "workers", "concurrency", "executor"),
    **_of(_RESUME, "cache", "cached", "cache_key_fn", "memoize", "persist_result"),
    **_of(_ORDER, "after", "depends_on", "needs", "upstream"),
    **_of(_ADD, "callback", "group", "group_name", "initial_context"),
    **_of(_RUN_END, "on_success", "on_failure"),
}

#: Arguments that `start` does not have -> the hint.
START: Final[Mapping[str, str]] = {
    **_of(_ORDER, "after", "depends", "depends_on", "dependencies", "needs", "requires"),
    **_of("Groups are made by add: workflow.task.add(step, group_name='...').", "group", "groups", "group_name"),
    **_of(_DECORATOR, "retry", "retries", "timeout"),
    **_of(_WORKERS, "max_workers", "workers", "concurrency", "n_jobs", "executor"),
    **_of(_ADD_VALUE, "initial_context", "params", "parameters", "inputs", "input", "data", "context"),
    **_of(_WORKFLOW, "workflow_id", "id", "name", "config"),
    **_of(_CONFIG, "storage", "log", "notify", "scheduler", "history", "tracer"),
    **_of("Write mode='background' or mode='parallel'.", "background", "parallel", "wait", "block"),
    **_of("Write on_success=... or on_failure=....", "callback", "callbacks", "on_complete", "on_error"),
    **_of("Give it to the scheduler: Config(scheduler=SchedulerCron('30 2 * * *')), schedule().", "cron", "schedule"),
    **_of("Write keep_going=True.", "continue_on_failure", "fail_fast", "ignore_errors"),
}


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
        raise UnknownArgument(function, name, tuple(accepted), hints.get(name) or _did_you_mean(name, accepted))


def _did_you_mean(name: str, accepted: Collection[str]) -> str:
    import difflib  # here: only errors need it

    close = difflib.get_close_matches(name, accepted, n=1)
    return f"Did you mean {close[0]}?" if close else ""
