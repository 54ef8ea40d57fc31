"""Tokens: short texts for the values that a checkpoint depends on. Equal tokens stand for equal inputs."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

from dotflow.core.links import CONTEXT, VALUE, Constant, Links
from dotflow.core.task import Task
from dotflow.core.types.status import TypeStatus
from dotflow.graph.linked_task import Item, LinkedTask, MapContext, Row
from dotflow.graph.maps import BY_INDEX
from dotflow.graph.params import Params
from dotflow.graph.wiring import ALL_PARAMS
from dotflow.resume.restoring import digest_of

NOTHING: Final = ""  # the token of a task without a value


def tokens_of_params(params: Params) -> Mapping[str, str]:
    """Returns a token for each run parameter, and one for all. A step may change the values, so it comes before all."""
    tokens = {name: _token(value) for name, value in params.items()}
    return {**tokens, ALL_PARAMS: _token(tokens)}


def tokens_of(links: Links, tasks: Sequence[Task], params: Mapping[str, str]) -> dict[str, str]:
    """Returns a token for each argument and condition of a task, by parameter or condition.

    Args:
        links: The task's links.
        tasks: The tasks, which have ended where the task depends on them.
        params: The tokens of the run's parameters.
    """
    tokens = {}
    for parameter, kind, source, _ in links.binds:
        tokens[parameter] = _token_at(source, kind, tasks, params)
    for parameter, kind, source, _ in links.fallback_binds:
        tokens[f"fallback {parameter}"] = _token_at(source, kind, tasks, params)
    for condition in links.conditions:
        tokens[f"when {condition.name}"] = _token_at(condition.source, VALUE, tasks, params)
    return tokens


def _token_at(source: int | str | Constant, kind: str, tasks: Sequence[Task], params: Mapping[str, str]) -> str:
    if isinstance(source, int):
        return token_of(tasks[source], by_index=kind == CONTEXT)
    return _token(source.value) if isinstance(source, Constant) else params[source]


def _token(value: object) -> str:
    return f"={digest_of(value)}"  # never that of a task without a value


def token_of(task: Task, *, by_index: bool = False) -> str:
    """Returns the token of a task's value: the task and the run that made it; of a map, a digest of all items.

    Args:
        task: The task. It has ended.
        by_index: Whether the items without a value count, as they do in a map's Context.
    """
    if not task.has_value:
        return NOTHING
    context = task.current_context
    if not isinstance(context, MapContext) or not isinstance(task, LinkedTask):
        return f"{task.key_name}:{context._origin.run}"
    if not context.token:  # once: many tasks may take the values
        items = hashlib.blake2b(digest_size=8)
        for item in task.items:
            if item.status is TypeStatus.COMPLETED:
                items.update(f"{item.key_suffix}:{item.current_context._origin.run}\n".encode())
        context.token = f"{task.key_name}:{items.hexdigest()}"
    missing = [item.item for item in task.items if item.status is not TypeStatus.COMPLETED] if by_index else []
    return f"{context.token}/{digest_of(missing)}" if missing else context.token


def tokens_of_item(item: Item, tasks: Sequence[Task]) -> dict[str, str]:
    """Returns the tokens of an item's own arguments, as far as its key does not show them."""
    is_known_by_index = item.key_suffix.startswith(BY_INDEX)  # another list may have another value there
    if not is_known_by_index and type(item.entry) not in (Item, Row):
        return {}
    task = tasks[item.task_id]
    assert task.links is not None
    tokens = {}
    for parameter, source in task.links.each:
        entry = item.entry[parameter] if type(item.entry) is Row else item.entry
        if type(entry) is Item:
            tokens[f"item of {parameter}"] = f"{tasks[entry.task_id].key_name}:{entry.current_context._origin.run}"
        elif is_known_by_index and isinstance(source, int):
            tokens[f"each {parameter}"] = token_of(tasks[source])
    return tokens


def difference(was: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Returns the first label whose tokens differ; "" if there is none."""
    if was == now:
        return ""
    return next((label for label in {**was, **now} if was.get(label) != now.get(label)), "")
