"""Parameters of a run: declared with defaults, and given to `start`."""

from collections.abc import Mapping
from types import EllipsisType, MappingProxyType
from typing import Any, Final

from dotflow.errors import InvalidArgument, MissingParam, UnknownParam

Params = Mapping[str, Any]
NO_PARAMS: Final[Params] = MappingProxyType({})


def check_declared(params: Any) -> Params:
    """Returns the declared parameters with their defaults; `...` stands for one that must be given.

    Raises InvalidArgument.
    """
    if params is None:
        return NO_PARAMS
    if not isinstance(params, Mapping) or not all(isinstance(name, str) and is_name(name) for name in params):
        raise InvalidArgument("params", params, 'a dict of names and defaults, such as {"day": ..., "limit": 100}')
    return MappingProxyType(dict(params))


def is_name(name: str) -> bool:
    """Returns whether it may name a task or a parameter: a letter, then letters, digits and `_`."""
    return name.isidentifier() and not name.startswith("_")


def resolve(declared: Params, given: Params | None) -> Params:
    """Returns each parameter's value for one run.

    Raises:
        InvalidArgument: It is no mapping.
        UnknownParam: One was given that is not declared.
        MissingParam: One must be given and is not.
    """
    if given is not None and not isinstance(given, Mapping):
        raise InvalidArgument("params", given, 'a dict of values, such as {"day": "2026-11-25"}')
    for name in given or ():
        if name not in declared:
            raise UnknownParam(str(name), tuple(declared))
    values = {**declared, **(given or {})}
    missing = tuple(name for name, value in values.items() if isinstance(value, EllipsisType))
    if missing:
        raise MissingParam(missing)
    return MappingProxyType(values)
