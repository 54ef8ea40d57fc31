"""Calls of a user's `info`, `error` or `send`, which may take the task by name only, and of their tracer."""

import inspect
from collections.abc import Callable
from typing import Any

from dotflow.abc.tracer import Tracer
from dotflow.core.call import Carrier, plain_carrier
from dotflow.core.events import Traced
from dotflow.core.task import Task

Listener = Callable[[Task], Any]

BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def as_listener(method: Callable[..., Any]) -> Listener:
    """Returns a function of a task: *method*, or `method(task=task)` where it takes the task by name only.

    Called once for each run, since reading a signature takes longer than writing a line.
    """
    code = getattr(getattr(method, "__func__", None), "__code__", None)
    if code is not None and code.co_argcount > 1:  # self and one more: most methods
        return method
    try:
        parameters = inspect.signature(method).parameters.values()
    except (TypeError, ValueError):  # written in C: the call itself may fail
        return method
    if any(parameter.kind in BY_POSITION for parameter in parameters):
        return method
    if not any(parameter.name == "task" or parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return method  # the call itself fails
    return lambda task: method(task=task)


def carrier_of(tracer: Tracer, run_id: str, task_id: int, item: int | None) -> Carrier | None:
    """Returns a copy of the carrier for an attempt of a task, or of one of its items."""
    found = tracer.carrier(run_id, task_id) if item is None else tracer.item_carrier(run_id, task_id, item)
    return plain_carrier(found)


def trace_of(tracer: Tracer, run_id: str, task_id: int, item: int | None, attempt: int) -> Traced | None:
    """Returns the event with the ids of an attempt, or with a *task_id* of -1 of the run; None if there are none."""
    ids = tracer.trace_ids(run_id, None if task_id < 0 else task_id, item)
    return None if ids is None else Traced(task_id, attempt, str(ids[0]), str(ids[1]), item)
