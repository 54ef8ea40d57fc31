"""Callables as users write them: names and parameters, inside of partials, static and class methods."""

import functools
import inspect
import sys
from typing import Any


def unwrapped(function: Any) -> Any:
    """Returns the function inside of partials, static and class methods."""
    while isinstance(function, functools.partial | staticmethod | classmethod):
        function = function.func if isinstance(function, functools.partial) else function.__func__
    return function


def innermost(function: Any) -> Any:
    """Returns what makes a call a coroutine or not: the function, or an instance's own __call__."""
    function = unwrapped(function)
    if inspect.isroutine(function) or isinstance(function, type):
        return function
    return getattr(function, "__call__", function)  # noqa: B004 (the method itself)


def parameters(function: Any) -> dict[str, inspect.Parameter]:
    """Returns the parameters by name; none where there is no signature to read."""
    try:
        return dict(inspect.signature(function.__func__ if isinstance(function, classmethod) else function).parameters)
    except (TypeError, ValueError):  # some callables written in C have no signature to read
        return {}


def fixed_by_partials(function: Any) -> set[str]:
    """Returns the parameters that a partial fills."""
    names: set[str] = set()
    while isinstance(function, functools.partial):
        names.update(function.keywords)
        function = function.func
    return names


def qualname(function: Any) -> str:
    """Returns the qualified name, or that of the class."""
    function = unwrapped(function)
    name: str = getattr(function, "__qualname__", None) or type(function).__qualname__
    return name


def find_member(module: str, name: str) -> object:
    """Returns the member of a loaded module by its qualified name; None where there is none."""
    member: object = sys.modules.get(module)
    for part in name.split("."):
        member = getattr(member, part, None)
    return member
