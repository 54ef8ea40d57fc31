"""What a submission needs: the queue of a history, the moment from which a run is due, and declared parameters."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from dotflow import clock
from dotflow.abc.history import History
from dotflow.abc.operations import Operations
from dotflow.codec.json import decode, encode
from dotflow.core.durations import TEXTS, to_seconds
from dotflow.core.masks import Masks
from dotflow.core.task import Task
from dotflow.errors import InvalidArgument, MissingParam, NotServable, UnknownParam, ValueNotStorable
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
    """Returns the moment of the argument `at`. Raises InvalidArgument."""
    if at is None:
        return None
    if isinstance(at, datetime) and at.tzinfo is not None:
        return at
    seconds = at.total_seconds() if isinstance(at, timedelta) else to_seconds(at)
    if seconds is None or isinstance(at, datetime):
        raise InvalidArgument("at", at, f"a datetime with a time zone, or a time from now: seconds, {TEXTS}")
    return clock.now() + timedelta(seconds=seconds)


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
        described[name] = [found] if default is ... else [found, default]
    try:
        return encode(described)
    except ValueNotStorable:
        return encode({name: ["", None] if len(value) > 1 else [""] for name, value in described.items()})


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
    if description is None:
        return (None if given else workflow_id), encode(dict(given))
    described: dict[str, Description] = decode(description)
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
