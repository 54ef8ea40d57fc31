"""Calls of a user's `info`, `error` or `send`, which may take the task by name only."""

import inspect
from collections.abc import Callable
from typing import Any

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
