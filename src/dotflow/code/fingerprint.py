"""Fingerprint: a digest of a step's code, with the functions, classes and constants of the user's own that it uses."""

import sys
from collections.abc import Mapping
from typing import Any, Final
from weakref import WeakKeyDictionary

from dotflow.code.description import MISSING, Walk, hash_of
from dotflow.core.action import AnyAction
from dotflow.core.callables import unwrapped


def fingerprint(step: AnyAction) -> str:
    """Returns the fingerprint of a step's code, such as "3.11:9f…". It is computed once for each step and process,
    and by `renew`.

    It changes with the code and with the constants, defaults and closures that it uses, through all functions and
    classes of the user's own. It does not change with comments, docstrings, layout and annotations.
    It says nothing on other packages, on files, and on the state of instances. It runs none of the user's code.
    Empty if it can't be made: a value is nested too deep, or the constants are more than 100,000 values.
    """
    if step.code_fingerprint is None:
        step.code_fingerprint = _digest(step) if step.version is None else f"version {step.version}"
    return step.code_fingerprint


def renew(step: AnyAction) -> str:
    """Returns the fingerprint, made anew if a name stands for another object now, as in a notebook.

    An object that has changed itself does not count, and neither does a name that the code assigns: the step may have
    done it.
    """
    for namespace, name, value in _names.get(step, ()):
        if namespace.get(name, MISSING) is not value:
            step.code_fingerprint = None
    return fingerprint(step)


def actions_in(step: AnyAction) -> list[AnyAction]:
    """Returns the actions that the code of a step uses, as far as its names lead to them."""
    walk = _walk_of(step)
    try:
        walk.describe(step.function)
        for _ in walk:
            pass
    except Exception:  # as in _digest: those found so far
        pass
    return [*walk.actions]


def can_compare(one: str, other: str) -> bool:
    """Returns whether two fingerprints are of one kind: of the same minor version of Python, or declared ones."""
    return _kind(one) == _kind(other)


def _kind(value: str) -> str:
    return "version" if value.startswith("version ") else value.partition(":")[0]


#: Bytecode is the same within one minor version; `-O` removes asserts.
PYTHON: Final = f"{sys.version_info[0]}.{sys.version_info[1]}{'O' * sys.flags.optimize}"


#: What `renew` compares: the names in modules that the code of a step uses, with their values.
_names: Final = WeakKeyDictionary[AnyAction, list[tuple[Mapping[str, Any], str, Any]]]()


def _walk_of(step: AnyAction) -> Walk:
    return Walk(str(getattr(unwrapped(step.function), "__module__", None) or "").partition(".")[0])


def _digest(step: AnyAction) -> str:
    walk = _walk_of(step)
    try:
        parts = [walk.describe(step.function), *walk]
        _names[step] = [used for used in walk.names if (id(used[0]), used[1]) not in walk.assigned]
    except Exception:  # too deep, too much, or a metaclass of the user's own that raises
        return ""
    return f"{PYTHON}:{hash_of(repr(parts))}"
