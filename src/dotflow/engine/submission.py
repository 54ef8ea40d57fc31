"""What a submission needs: the queue of a history, the moment from which a run is due, and declared parameters."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from dotflow import clock
from dotflow.abc.history import History
from dotflow.abc.operations import LAST_MOMENT, Operations
from dotflow.codec.json import decode, encode, is_plain_data
from dotflow.core.durations import TEXTS, to_seconds
from dotflow.core.masks import Masks
from dotflow.core.task import Task
from dotflow.errors import (
    CheckpointUnreadable,
    InvalidArgument,
    MissingParam,
    NotServable,
    UnknownParam,
    ValueNotStorable,
)
from dotflow.graph.param_types import SCALARS, type_of_run_param
from dotflow.graph.params import Params, run_id_of

NO_ID: Final = "it has no workflow_id, by which other processes find its runs: DotFlow(workflow_id='nightly')"
NO_HISTORY: Final = "it has no history, which has the queue: Config(history=HistorySQLite('/path/history.db'))"
FACTORY: Final = "the arguments of the function that made it name its runs. Declare them: DotFlow(params={...})"
SECRET: Final = "secret"  # in place of the type of a parameter

#: How a parameter is described to those that can't import its workflow: its type, and its default if it has one.
Description = list[Any]


def queue_of(what: str, history: History | None) -> Operations:
    """Returns the queue of a history. Raises NotServable."""
    queue = None if history is None else history.operations()
    if queue is None:
        raise NotServable(what, NO_HISTORY if history is None else f"{type(history).__name__} has no queue")
    return queue


def due_at(at: object) -> datetime | None:
    """Returns the moment of the argument `at`; now for one that has passed. Raises InvalidArgument."""
    if at is None:
        return None
    now = clock.now()
    if isinstance(at, datetime):
        seconds = None if at.utcoffset() is None else (at - now).total_seconds()
    else:
        seconds = at.total_seconds() if isinstance(at, timedelta) else to_seconds(at)
    if seconds is None:
        raise InvalidArgument("at", at, f"a datetime with a time zone, or a time from now: seconds, {TEXTS}")
    if now.timestamp() + seconds >= LAST_MOMENT - 1:
        raise InvalidArgument("at", at, "a moment before the year 2255")
    if seconds <= 0:
        return now
    return at if isinstance(at, datetime) else now + timedelta(seconds=seconds)


def check_submission(key: object, priority: object) -> None:
    """Raises InvalidArgument for a key that is no text, or a priority that is no number."""
    if key is not None and (not isinstance(key, str) or not key):
        raise InvalidArgument("key", key, 'a text, such as "click-17"')
    if type(priority) is not int or abs(priority) >= 2**31:
        raise InvalidArgument("priority", priority, "a whole number; higher ones begin first")


def params_text(given: Params, masks: Masks, secrets: Iterable[str]) -> str:
    """Returns run parameters for a queue. Raises InvalidArgument for a secret, and for what the codec can't keep."""
    for name in given:
        if name in secrets:
            raise refuse_secret(name)
    try:
        text = encode(dict(given))
    except ValueNotStorable as error:
        raise InvalidArgument("params", dict(given), "plain data, such as text, numbers or dates") from error
    if masks.mask(text) != text:
        raise refuse_secret(next((name for name, value in given.items() if masks.mask(repr(value)) != repr(value)), ""))
    return text


def refuse_secret(name: str) -> InvalidArgument:
    """Returns the error for a run parameter that is a secret."""
    hint = "Leave it out: the process that runs it finds secrets in Config(secrets=...) or its environment."
    return InvalidArgument(f"params[{name!r}]", "***", "no secret, since the queue keeps it as clear text", hint)


def describe_params(declared: Params, secrets: Iterable[str], tasks: Iterable[Task]) -> str:
    """Returns the names, types and defaults of declared parameters as text of the codec."""
    described: dict[str, Description] = {}
    tasks = list(tasks)
    for name, default in declared.items():
        if name in secrets:
            described[name] = [SECRET, None]
            continue
        kind = type_of_run_param(name, default, tasks)
        found = next((scalar.__name__ for scalar, known in SCALARS.items() if known is kind), "")
        if default is ...:
            described[name] = [found]
        else:
            described[name] = [found, default] if _is_plain(default) else ["", None]
    return encode(described)


def _is_plain(value: object) -> bool:
    """Returns whether any process can read a value: its codec has it, and it is of no class of a program."""
    try:
        return is_plain_data(encode(value))
    except ValueNotStorable:
        return False


def named_by(workflow_id: str, description: str | None, given: Mapping[str, Any]) -> tuple[str | None, str]:
    """Returns the name and the parameters of a run of a workflow that this process can't import.

    Args:
        workflow_id: The workflow.
        description: What `describe_params` has returned; None where the workflow is unknown.
        given: The parameters; a text becomes what the parameter is.

    Returns:
        The name, None where only the workflow itself can make it; and the parameters as text of the codec.

    Raises:
        UnknownParam, MissingParam, InvalidArgument: As in `submit` of the workflow.
    """
    for name, value in given.items():
        if not _is_plain(value):
            raise InvalidArgument(f"params[{name!r}]", value, "plain data, such as text, numbers or dates")
    try:
        described: dict[str, Description] | None = None if description is None else decode(description)
    except CheckpointUnreadable:  # an earlier dotflow has written defaults of a program's classes
        described = None
    if described is None:
        return (None if given else workflow_id), encode(dict(given))
    values = dict(given)
    for name, value in given.items():
        if name not in described:
            raise UnknownParam(name, tuple(described))
        kind = described[name][0]
        if kind == SECRET:
            raise refuse_secret(name)
        scalar = next((known for known in SCALARS if known.__name__ == kind), None)
        if scalar is not None and isinstance(value, str):
            try:
                values[name] = SCALARS[scalar].convert(value)
            except ValueError:
                raise InvalidArgument(f"params[{name!r}]", value, SCALARS[scalar].accepted) from None
    missing = [name for name, described_by in described.items() if len(described_by) < 2 and name not in values]
    if missing:
        raise MissingParam(tuple(missing))
    if not values:
        return workflow_id, encode({})
    if any(not kind for kind, *_ in described.values()):
        return None, encode(values)
    secrets = [name for name, (kind, *_) in described.items() if kind == SECRET]
    defaults = {name: rest[0] for name, (_, *rest) in described.items() if rest and name not in secrets}
    return run_id_of(workflow_id, {**defaults, **values}, secrets), encode(values)
