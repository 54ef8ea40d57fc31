"""The types of run parameters: which values fit one, and how a text becomes one, in Python as on the command line."""

import contextlib
import enum
import inspect
import itertools
import json
import numbers
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple
from uuid import UUID

from dotflow.core.callables import parameters, unwrapped
from dotflow.core.links import PARAM
from dotflow.core.secret import SecretRef, check_no_secret
from dotflow.errors import InvalidArgument

if TYPE_CHECKING:
    from dotflow.core.task import Task

UNIONS: Final = (typing.Union, types.UnionType)
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

#: Annotation -> the types that fit it, too, as for type checkers and for the numbers of NumPy.
PROMOTED: Final[Mapping[Any, Any]] = {
    int: numbers.Integral,
    float: numbers.Real,
    complex: numbers.Complex,
    bytes: (bytearray, memoryview),
}
#: The same for values, which may come from JSON.
ALSO: Final[Mapping[Any, Any]] = {**PROMOTED, list: tuple, tuple: list}
#: The numbers of Python, and the name of the base class of the scalars of NumPy.
NUMBERS: Final = (int, float, complex)
SCALAR: Final = ("numpy", "generic")
#: In Python, too, a text becomes one of these. A text for any other type is a mistake.
PARSED: Final = (date, Path, enum.Enum)
#: The types of defaults by which values are judged. A value of another class may only look like the default.
JUDGED: Final = (
    enum.Enum, *SCALARS, bytes, complex, time, timedelta, Decimal, UUID, list, tuple, dict, set, frozenset,
)  # fmt: skip


def type_of_default(default: Any) -> ParamType | None:
    """Returns the type of a declared default: a text for `...`, None and a Secret. None where no text can become it."""
    return TEXT if default is None or default is ... or type(default) is SecretRef else _type_of(type(default))


def type_of_parameter(function: Any, parameter: Parameter) -> ParamType | None:
    """Returns the type of a function's parameter, by its annotation or else its default. None as above."""
    annotation = _annotation(function, parameter)
    if annotation is not Parameter.empty and type(parameter.default) is not SecretRef:
        return _type_of(annotation)
    return type_of_default(None if parameter.default is Parameter.empty else parameter.default)


def type_of_run_param(name: str, default: Any, tasks: "Iterable[Task]") -> ParamType | None:
    """Returns the type of a declared run parameter: of its default, or else of the first step that takes it."""
    takers = list(_takers(name, tasks))
    if _is_secret(default, takers):
        return TEXT
    is_open = default is None or default is ...
    if is_open and _is_list(name, tasks):
        return CONTAINERS[list]
    return type_of_parameter(*takers[0]) if takers and is_open else type_of_default(default)


def checked_value(name: str, value: Any, default: Any, tasks: "Iterable[Task]") -> Any:
    """Returns the value of a run parameter; a text for a date, datetime, Path or Enum becomes one.

    Raises InvalidArgument for a value that is neither of the type of the declared default nor of that of a step.
    """
    check_no_secret(f"params[{name!r}]", value)
    if value is default or value is ...:  # `...`: the value is missing, which is another error
        return value
    takers = list(_takers(name, tasks))
    if _is_secret(default, takers):
        if value is not None and not isinstance(value, str):  # which must not be shown
            raise InvalidArgument(f"params[{name!r}]", type(value).__name__, "a text, since it is a Secret")
        return value
    # A decorator around a function may convert values, as `pydantic.validate_call` does.
    plain = [taker for taker in takers if not hasattr(unwrapped(taker[0]), "__wrapped__")]
    annotations = [_annotation(function, parameter) for function, parameter in plain]
    annotations = [annotation for annotation in annotations if annotation is not Parameter.empty]
    if _is_list(name, tasks):
        annotations.append(list)
    wanted = [*_judged(default), *annotations]
    fitting = [annotation for annotation in wanted if fits(annotation, value)]
    if any(annotation not in (Any, object) for annotation in fitting):
        return value
    if isinstance(value, str):
        for convert in _parsers(wanted, takers):
            with contextlib.suppress(ValueError):
                return convert(value)
    if fitting or not wanted or (value is None and not annotations):  # None often stands for a default
        return value
    accepted = " or ".join(dict.fromkeys(map(_accepted, wanted)))
    hint = "Call the function, and pass its value." if inspect.isroutine(value) else ""
    raise InvalidArgument(f"params[{name!r}]", value, accepted, hint)


def _is_secret(default: Any, takers: Iterable[tuple[Any, Parameter]]) -> bool:
    """Returns whether a run parameter is a secret: it is declared as one, or a step takes it as one."""
    return any(type(declared) is SecretRef for declared in (default, *(parameter.default for _, parameter in takers)))


def _parsers(wanted: Iterable[Any], takers: Iterable[tuple[Any, Parameter]]) -> Iterator[Callable[[str], Any]]:
    """Yields what makes a date, datetime, Path or Enum of a text, where a type is one of these."""
    others = [(_annotation(function, parameter), *_judged(parameter.default)) for function, parameter in takers]
    for annotation in (*wanted, *itertools.chain.from_iterable(others)):
        kind, kinds = _type_of(annotation), options(annotation)
        if kind is not None and len(kinds) == 1 and isinstance(kinds[0], type) and issubclass(kinds[0], PARSED):
            yield kind.convert


def fits(annotation: Any, value: Any) -> bool:
    """Returns whether a value may be of an annotated type. It is False only for what is certainly wrong."""
    annotation = _plain(annotation)
    origin = typing.get_origin(annotation)
    if origin in UNIONS:
        return any(fits(option, value) for option in typing.get_args(annotation))
    if origin is typing.Literal:
        return any(type(option) is type(value) and option == value for option in typing.get_args(annotation))
    kind = origin or annotation
    if is_unknown(kind):
        return True
    try:
        return isinstance(value, (kind, ALSO.get(kind, kind))) or are_numbers(type(value), kind)
    except TypeError:  # a class without instances, such as a TypedDict
        return True


def is_unknown(kind: Any) -> bool:
    """Returns whether the class of a value does not show that it is of a type.

    It is no class, one of `typing`, a protocol, or a class that stands for a check of Pydantic, such as EmailStr.
    """
    if not isinstance(kind, type) or kind.__module__ == "typing" or getattr(kind, "_is_protocol", False):
        return True
    return hasattr(kind, "__get_pydantic_core_schema__") and not hasattr(kind, "model_validate")


def are_numbers(kind: type, other: type) -> bool:
    """Returns whether one is a scalar of NumPy, and the other one, too, or a number: which of them fit is unknown."""
    scalars = [any((base.__module__, base.__name__) == SCALAR for base in one.__mro__) for one in (kind, other)]
    return all(scalars) or (any(scalars) and issubclass(kind if scalars[1] else other, NUMBERS))


def or_none(annotation: Any, default: Any) -> Any:
    """Returns the annotation of a parameter, with None where that is its default: people leave it out."""
    if default is not None or annotation is Parameter.empty or annotation is Any:
        return annotation
    try:
        return annotation | None
    except Exception:  # of a type of the user's own
        return annotation


def choices(annotation: Any) -> list[Any]:
    """Returns the types of a union, or the type itself, without Annotated and NewType."""
    annotation = _plain(annotation)
    if typing.get_origin(annotation) in UNIONS:
        return [choice for option in typing.get_args(annotation) for choice in choices(option)]
    return [annotation]


def _plain(annotation: Any) -> Any:
    """Returns the annotated type of Annotated and of a NewType."""
    while True:
        if typing.get_origin(annotation) is Annotated:
            annotation = typing.get_args(annotation)[0]
        elif isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        else:
            return annotation


def _judged(default: Any) -> list[type]:
    """Returns the type by which values are judged where this is the default; none for other classes."""
    kind = next((kind for kind in JUDGED if isinstance(default, kind)), None)
    return [] if kind is None else [type(default) if kind is enum.Enum else kind]


def _accepted(annotation: Any) -> str:
    kind = _type_of(annotation)
    if kind is not None and kind.accepted not in (LIST, DICT):  # JSON is for the command line
        return kind.accepted
    return f"a value of type {getattr(annotation, '__name__', None) or annotation}"


def _takers(name: str, tasks: "Iterable[Task]") -> Iterable[tuple[Any, Parameter]]:
    """Yields the functions of the steps that take a run parameter, with their parameter."""
    for task in tasks:
        for bind in () if task.links is None else task.links.binds:
            if bind.kind == PARAM and bind.source == name:
                parameter = parameters(task.step.function).get(bind.parameter)  # none where a **kwargs takes it
                if parameter is not None:
                    yield task.step.function, parameter


def _is_list(name: str, tasks: "Iterable[Task]") -> bool:
    """Returns whether a task is mapped over a run parameter."""
    return any(link.source == name for task in tasks if task.links is not None for link in task.links.innermost)


def options(annotation: Any) -> list[Any]:
    """Returns the types of a union other than None, or the type itself."""
    kinds = choices(annotation)
    return [kind for kind in kinds if kind is not types.NoneType] if len(kinds) > 1 else kinds


def _type_of(annotation: Any) -> ParamType | None:
    kinds = options(annotation)
    if len(kinds) > 1:
        return TEXT if str in kinds else None
    annotation = kinds[0]
    origin = typing.get_origin(annotation)
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
    annotation = parameter.annotation
    annotation = resolved(function, annotation) if isinstance(annotation, str) else annotation
    return or_none(annotation, parameter.default)


def resolved(function: Any, annotation: Any) -> Any:
    """Returns an annotation of a function with its texts as types; `Parameter.empty` if one can't be resolved."""

    def holder() -> None: ...

    holder.__annotations__ = {"it": annotation}
    module = sys.modules.get(getattr(function, "__module__", ""))
    try:
        return typing.get_type_hints(holder, vars(module) if module else {})["it"]
    except Exception:  # a name that only type checkers import, for example
        return Parameter.empty
