"""Tokens: short texts for the values that a checkpoint depends on. Equal tokens stand for equal inputs."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

from dotflow.core.linked_task import MapContext
from dotflow.core.links import Constant, Links
from dotflow.core.names import name_of
from dotflow.core.params import Params
from dotflow.core.task import Task
from dotflow.core.types.status import TypeStatus
from dotflow.engine.restoring import digest_of
from dotflow.engine.verdict import has_value

NOTHING: Final = ""  # the token of a task without a value


def tokens_of(links: Links, tasks: Sequence[Task], params: Params) -> dict[str, str]:
    """Returns a token for each argument and condition of a task, by parameter or condition.

    Args:
        links: The task's links.
        tasks: The tasks, which have ended where the task depends on them.
        params: The run's parameters.
    """
    tokens = {
        bind.parameter: _token_at(bind.source, tasks, params)
        for binds in (links.binds, links.fallback_binds)
        for bind in binds
    }
    for condition in links.conditions:
        tokens[f"when {condition.name}"] = _token_at(condition.source, tasks, params)
    return tokens


def _token_at(source: int | str | Constant, tasks: Sequence[Task], params: Params) -> str:
    if isinstance(source, int):
        return token_of(tasks[source])
    if isinstance(source, Constant):
        return digest_of(source.value)
    return digest_of(params[source] if source in params else dict(params))


def token_of(task: Task) -> str:
    """Returns the token of a task's value: the task and the run that made it; of a map, a digest of all items."""
    if not has_value(task):
        return NOTHING
    context = task.current_context
    if not isinstance(context, MapContext):
        return f"{name_of(task)}:{context._run}"
    if not context.token:  # once: many tasks may take the values
        items = hashlib.blake2b(digest_size=8)
        for item in task.items:
            if item.status is TypeStatus.COMPLETED:
                items.update(f"{item.key_suffix}:{item.current_context._run}\n".encode())
        context.token = f"{name_of(task)}:{items.hexdigest()}"
    return context.token


def difference(was: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Returns the first label whose tokens differ; "" if there is none."""
    return next((label for label in {**was, **now} if was.get(label) != now.get(label)), "")
