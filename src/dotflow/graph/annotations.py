"""Annotations: whether a step's value may fit another step's parameter. Only plain classes are compared."""

import builtins
import inspect
from typing import Any, Final

from dotflow.core.callables import unwrapped

#: Type checkers accept the left number for the right one, too.
PROMOTED: Final = {(int, float), (int, complex), (float, complex)}


def misfit(source: Any, step: Any, parameter: str, *, is_mapped: bool) -> str:
    """Returns why the value can't fit the parameter; "" if it may.

    Args:
        source: The function that returns the value.
        step: The function that has the parameter.
        parameter: The parameter.
        is_mapped: Whether the source is mapped, so that its value is a list.
    """
    wanted = _annotation(step, parameter)
    if wanted is None or wanted is object:
        return ""
    if is_mapped:
        name = getattr(source, "__name__", "it")
        return "" if _fits(list, wanted) else f"'{name}' is mapped: you get a list of them. Annotate it as list."
    returned = _annotation(source, "return")
    if returned is None or returned is object or _fits(returned, wanted):
        return ""
    return (
        f"it returns {returned.__name__}, and the parameter is annotated as {wanted.__name__}. Correct the annotation, "
        f"or wire another task: needs={{'{parameter}': task}}."
    )


def _fits(returned: type, wanted: type) -> bool:
    if (returned, wanted) in PROMOTED:
        return True
    try:
        return issubclass(returned, wanted) or issubclass(wanted, returned)
    except TypeError:  # some protocols can't be compared
        return True


def _annotation(function: Any, name: str) -> type | None:
    """Returns the annotation if it is a plain class, or the name of one; None for all others."""
    function = unwrapped(function)
    if isinstance(function, type):
        if name == "return":
            return None  # an instance whose actions run: the value is a list of contexts
        function = getattr(function, "__init__")  # noqa: B009 (of the class, not of an instance)
    if hasattr(function, "__wrapped__"):
        function = inspect.unwrap(function)
    annotation = getattr(function, "__annotations__", {}).get(name)
    if isinstance(annotation, str) and annotation.isidentifier():
        namespace = getattr(function, "__globals__", {})
        annotation = namespace.get(annotation, getattr(builtins, annotation, None))
    return annotation if type(annotation) is type else None
