"""The types of parameters, and how the text of --param becomes a value of one."""

import enum
import json
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import date, datetime
from inspect import Parameter
from pathlib import Path
from typing import Any, Final, NamedTuple

import click

TRUE: Final = ("true", "yes", "on", "1")
FALSE: Final = ("false", "no", "off", "0")


class ParamType(NamedTuple):
    """A type that a text can become.

    Attributes:
        accepted: What it accepts, for errors: "an int, such as 100".
        convert: Returns the value of a text, or raises ValueError.
    """

    accepted: str
    convert: Callable[[str], Any]


def _bool(text: str) -> bool:
    if text.lower() not in TRUE + FALSE:
        raise ValueError(text)
    return text.lower() in TRUE


def _json_of(kind: type, make: Callable[[Any], Any]) -> Callable[[str], Any]:
    def convert(text: str) -> Any:
        value = json.loads(text)
        if not isinstance(value, kind):
            raise ValueError(text)
        return make(value)

    return convert


TEXT: Final = ParamType("a text", str)

#: Type -> how a text becomes it; a subclass stands before its base.
SCALARS: Final[Mapping[type, ParamType]] = {
    bool: ParamType("true or false", _bool),
    int: ParamType("an int, such as 100", int),
    float: ParamType("a float, such as 0.5", float),
    datetime: ParamType("a datetime, such as 2026-11-25T02:30", datetime.fromisoformat),
    date: ParamType("a date, such as 2026-11-25", date.fromisoformat),
    Path: ParamType("a path", Path),
    str: TEXT,
}

LIST: Final = "a list as JSON, such as '[1, 2]'"
DICT: Final = """a dict as JSON, such as '{"a": 1}'"""
CONTAINERS: Final[Mapping[Any, ParamType]] = {
    **dict.fromkeys((list, Sequence, Collection, Iterable), ParamType(LIST, _json_of(list, list))),
    **dict.fromkeys((dict, Mapping), ParamType(DICT, _json_of(dict, dict))),
    **{kind: ParamType(LIST, _json_of(list, kind)) for kind in (tuple, set, frozenset)},
}


def type_of_default(default: Any) -> ParamType | None:
    """Returns the type of a declared default: a text for `...` and None. None where no text can become it."""
    return TEXT if default is None or default is ... else _type_of(type(default))


def type_of_parameter(function: Any, parameter: Parameter) -> ParamType | None:
    """Returns the type of a function's parameter, by its annotation or else its default. None as above."""
    annotation = _annotation(function, parameter)
    if annotation is not Parameter.empty:
        return _type_of(annotation)
    return type_of_default(None if parameter.default is Parameter.empty else parameter.default)


def convert(name: str, text: str, kind: ParamType | None) -> Any:
    """Returns the value of a text. Raises UsageError, which names parameter, value and type."""
    if kind is None:
        raise click.UsageError(
            f"Can't use --param {name}={text}: no text can become the type of '{name}'. "
            f"Annotate it with a plain type, such as int or date, or set it in Python."
        )
    try:
        return kind.convert(text)
    except (ValueError, RecursionError):
        raise click.UsageError(f"Can't use --param {name}={text}: '{name}' is {kind.accepted}.") from None


def _type_of(annotation: Any) -> ParamType | None:
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        kinds = [kind for kind in typing.get_args(annotation) if kind is not types.NoneType]
        return TEXT if str in kinds else _type_of(kinds[0]) if len(kinds) == 1 else None
    if origin is typing.Literal:
        return _choice({str(value): value for value in typing.get_args(annotation)})
    kind = origin or annotation
    if kind in (Any, object):
        return TEXT
    if kind in CONTAINERS:
        return CONTAINERS[kind]
    if not isinstance(kind, type):
        return None
    if issubclass(kind, enum.Enum):
        return _choice({str(member.value): member for member in kind}, {member.name: member for member in kind})
    return next((found for known, found in SCALARS.items() if issubclass(kind, known)), None)


def _choice(shown: Mapping[str, Any], hidden: Mapping[str, Any] = types.MappingProxyType({})) -> ParamType:
    def convert(text: str) -> Any:
        try:
            return {**hidden, **shown}[text]
        except KeyError:
            raise ValueError(text) from None

    return ParamType(f"one of {', '.join(shown)}", convert)


def _annotation(function: Any, parameter: Parameter) -> Any:
    """Returns the annotation; `Parameter.empty` without one, and where it is a text that can't be resolved."""
    if not isinstance(parameter.annotation, str):
        return parameter.annotation

    def holder() -> None: ...

    holder.__annotations__ = {parameter.name: parameter.annotation}
    module = sys.modules.get(getattr(function, "__module__", ""))
    try:
        return typing.get_type_hints(holder, vars(module) if module else {})[parameter.name]
    except Exception:  # a name that only type checkers import, for example
        return Parameter.empty
