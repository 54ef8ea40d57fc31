"""How a user's `info`, `error` or `send` takes the task: by place, or by its name only."""

import inspect
from collections.abc import Callable
from typing import Any

from dotflow.core.task import Task

Listener = Callable[[Task], Any]

BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def as_listener(method: Callable[..., Any]) -> Listener:
    """Returns what can be called with a task: *method*, or `method(task=task)` where it takes it by name only.

    It is asked once for each run, since reading a signature takes longer than writing a line.
    """
    code = getattr(getattr(method, "__func__", None), "__code__", None)
    if code is not None and code.co_argcount > 1:  # self and one more: nearly all
        return method
    try:
        parameters = inspect.signature(method).parameters.values()
    except (TypeError, ValueError):  # written in C: the call will tell
        return method
    if any(parameter.kind in BY_PLACE for parameter in parameters):
        return method
    if not any(parameter.name == "task" or parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return method  # the call will tell that it takes none
    return lambda task: method(task=task)
