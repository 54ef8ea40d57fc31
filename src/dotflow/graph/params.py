"""Run parameters: declared with defaults in DotFlow, with values in `start`."""

from collections.abc import Iterable, Mapping
from types import EllipsisType, MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from dotflow.errors import InvalidArgument, MissingParam, UnknownParam

if TYPE_CHECKING:
    from dotflow.core.task import Task

Params = Mapping[str, Any]
#: Parameters of steps that dotflow fills itself.
RESERVED: Final = ("initial_context", "previous_context", "params")
OWN_NAMES: Final = "initial_context, previous_context and params"
NO_PARAMS: Final[Params] = MappingProxyType({})


def check_declared(params: Any) -> Params:
    """Returns the declared parameters with their defaults; `...` for one without a default.

    Raises InvalidArgument.
    """
    if params is None:
        return NO_PARAMS
    if not isinstance(params, Mapping) or not all(isinstance(name, str) and is_name(name) for name in params):
        accepted = f'a dict of names and defaults, such as {{"day": ..., "limit": 100}}, other than {OWN_NAMES}'
        raise InvalidArgument("params", params, accepted)
    return MappingProxyType(dict(params))


def is_name(name: str) -> bool:
    """Returns whether a text may name a task or a run parameter: a letter, then letters, digits and `_`."""
    return name.isidentifier() and not name.startswith("_") and name not in RESERVED


def resolve(declared: Params, values: Params | None, tasks: "Iterable[Task]" = ()) -> Params:
    """Returns each parameter's value for one run. *tasks* show the types of those without a default.

    Raises:
        InvalidArgument: The values are no mapping, or one of them is certainly of another type.
        UnknownParam: One of them is not declared.
        MissingParam: A parameter without a default has no value.
    """
    if values is not None and not isinstance(values, Mapping):
        raise InvalidArgument("params", values, 'a dict of values, such as {"day": "2026-11-25"}')
    for name in values or ():
        if name not in declared:
            raise UnknownParam(str(name), tuple(declared))
    if values:
        from dotflow.graph.param_types import checked_values  # here, since most runs have none

        values = checked_values(values, declared, tasks)
    resolved = {**declared, **(values or {})}
    missing = tuple(name for name, value in resolved.items() if isinstance(value, EllipsisType))
    if missing:
        raise MissingParam(missing)
    return MappingProxyType(resolved)
