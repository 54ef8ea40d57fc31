"""Tokens: short texts for the values that a checkpoint depends on. Equal tokens stand for equal inputs."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from dotflow.core.links import Bind, Condition, Constant, Links
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
    tokens = {}
    sources: Iterable[Bind | Condition] = (*links.binds, *links.fallback_binds, *links.conditions)
    for link in sources:
        label = link.parameter if isinstance(link, Bind) else f"when {link.name}"
        if isinstance(link.source, int):
            tokens[label] = token_of(tasks[link.source])
        elif isinstance(link.source, Constant):
            tokens[label] = digest_of(link.source.value)
        else:
            tokens[label] = digest_of(params[link.source] if link.source in params else dict(params))
    return tokens


def token_of(task: Task) -> str:
    """Returns the token of a task's value: the task and the run that made it; of a map, a digest of all items."""
    if not has_value(task):
        return NOTHING
    if not task.is_mapped:
        return f"{name_of(task)}:{task.current_context._run}"
    items = hashlib.blake2b(digest_size=8)
    for item in task.items:
        if item.status is TypeStatus.COMPLETED:
            items.update(f"{item.key_suffix}:{item.current_context._run}\n".encode())
    return f"{name_of(task)}:{items.hexdigest()}"


def difference(was: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Returns the first label whose tokens differ; "" if there is none."""
    return next((label for label in {**was, **now} if was.get(label) != now.get(label)), "")
