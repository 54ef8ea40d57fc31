"""Callables as users write them: what they are called and ask for, inside of partials, static and class methods."""

import functools
import inspect
import sys
from typing import Any


def unwrapped(function: Any) -> Any:
    """The function inside of partials, static and class methods."""
    while isinstance(function, functools.partial | staticmethod | classmethod):
        function = function.func if isinstance(function, functools.partial) else function.__func__
    return function


def innermost(function: Any) -> Any:
    """What decides whether a call makes a coroutine: the function, or an instance's own __call__."""
    function = unwrapped(function)
    if inspect.isroutine(function) or isinstance(function, type):
        return function
    return getattr(function, "__call__", function)  # noqa: B004 (the instance's method is wanted, not a yes or no)


def parameters(function: Any) -> dict[str, inspect.Parameter]:
    """Its parameters by name; none where they can't be read."""
    try:
        return dict(inspect.signature(function.__func__ if isinstance(function, classmethod) else function).parameters)
    except (TypeError, ValueError):  # some callables written in C have no signature to read
        return {}


def qualname(function: Any) -> str:
    """Its qualified name, or that of its class."""
    function = unwrapped(function)
    name: str = getattr(function, "__qualname__", None) or type(function).__qualname__
    return name


def found(module: str, name: str) -> object:
    """What a module that is loaded has under the name; None for nothing."""
    member: object = sys.modules.get(module)
    for part in name.split("."):
        member = getattr(member, part, None)
    return member
