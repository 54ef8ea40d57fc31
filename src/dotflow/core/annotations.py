"""Annotations: whether what one step returns can be what another one takes. Only plain classes are judged."""

import inspect
from typing import Any, Final

from dotflow.core.callables import unwrapped

#: A number of the left kind is accepted where the right one is asked for, as type checkers do.
PROMOTED: Final = {(int, float), (int, complex), (float, complex)}


def misfit(source: Any, step: Any, parameter: str, *, is_mapped: bool) -> str:
    """Returns why the value can't fit the parameter; "" where it may.

    Args:
        source: The function whose value it is.
        step: The function that takes it.
        parameter: The parameter that takes it.
        is_mapped: Whether the source is mapped, so that its value is a list.
    """
    wanted = _annotation(step, parameter)
    if wanted is None or wanted is object:
        return ""
    if is_mapped:
        name = getattr(source, "__name__", "it")
        return "" if _fits(list, wanted) else f"'{name}' is mapped: you get a list of them."
    returned = _annotation(source, "return")
    if returned is None or returned is object or _fits(returned, wanted):
        return ""
    return f"it returns {returned.__name__}, and the parameter is annotated as {wanted.__name__}."


def _fits(returned: type, wanted: type) -> bool:
    if (returned, wanted) in PROMOTED:
        return True
    try:
        return issubclass(returned, wanted) or issubclass(wanted, returned)
    except TypeError:  # some classes can't be asked, such as protocols
        return True


def _annotation(function: Any, name: str) -> type | None:
    """The annotation where it is a plain class, or the name of one; None for everything else."""
    function = unwrapped(function)
    if isinstance(function, type):
        if name == "return":
            return None  # an instance whose actions run: the value is a list of contexts
        function = getattr(function, "__init__")  # noqa: B009 (of the class, not of an instance)
    function = inspect.unwrap(function)
    found = getattr(function, "__annotations__", {}).get(name)
    if isinstance(found, str) and found.isidentifier():
        namespace = getattr(function, "__globals__", {})
        found = namespace.get(found, getattr(__import__("builtins"), found, None))
    return found if type(found) is type else None
