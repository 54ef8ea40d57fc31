"""Types: whether a value may fit a step's parameter, by the annotations. Only what is certain is refused."""

import collections
import enum
import functools
import inspect
import re
import types
import typing
from abc import ABCMeta
from collections import abc
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal
from weakref import WeakKeyDictionary

from dotflow.core.callables import parameters, unwrapped
from dotflow.core.text import safe_repr, shorten
from dotflow.errors import InvalidLink
from dotflow.graph.names import MAX_REF
from dotflow.graph.param_types import PROMOTED, are_numbers, choices, fits, is_unknown, options, or_none, resolved

if TYPE_CHECKING:
    from dotflow.core.action import AnyAction
    from dotflow.core.task import Task

#: Generic types with a type of keys and one of values, and those whose first type is that of their items.
MAPPINGS: Final = (dict, collections.defaultdict, collections.OrderedDict, abc.Mapping, abc.MutableMapping)
ITERABLES: Final = (
    list, set, frozenset, collections.deque, collections.Counter, abc.Sequence, abc.MutableSequence, abc.Set,
    abc.MutableSet, abc.Collection, abc.Iterable, abc.Reversible, *MAPPINGS,
)  # fmt: skip
#: What stands for another value in a return annotation: a coroutine is awaited.
AWAITED: Final = (abc.Awaitable, abc.Coroutine)
#: The modules in the text of a type, which errors leave out.
MODULES: Final = re.compile(r"(?<!['\"\w.])(?:[\w<>]+\.)+(?=\w)")
#: Built-in types whose values may equal each other.
EQUAL: Final = ((int, float, complex), (set, frozenset), (bytes, bytearray, memoryview))

_hints: WeakKeyDictionary[Any, Mapping[str, Any]] = WeakKeyDictionary()


def check_value(step: "AnyAction", parameter: str, source: "Task", given: Any, verb: str = "", cure: str = "") -> None:
    """Raises InvalidLink if a value of a task, of the type *given*, can't fit a parameter.

    *verb* and *cure* are for the error: how the task has the value, and what to do instead of wiring another task.
    """
    wanted = hints_of(step.function).get(parameter, Any)
    if not may_fit(given, wanted):
        verb = verb or ("is mapped, and gives" if source.gives_list else "returns")
        cure = cure or f"wire another task: needs={{'{parameter}': task}}"
        raise InvalidLink(
            f"Step '{step.name}' takes '{parameter}' from task '{source.name}': it {verb} {_shown(given)}, and the "
            f"parameter is annotated as {_shown(wanted)}. Correct the annotation, or {cure}."
        )


def check_each(
    step: "AnyAction",
    parameter: str,
    source: "Task | Collection[Any]",
    part: tuple[str, int] | None,
    option: str,
    cure: str = "",
) -> None:
    """Raises InvalidLink if a task returns no list, or if the items of a list can't fit the parameter.

    *part* is the output of the task that is the list, or that its items have. *cure* is that of `check_value`.
    """
    if isinstance(source, Collection):
        seen: set[type] = set()
        for index, item in enumerate(source):
            if type(item) not in seen:  # one of each class
                seen.add(type(item))
                check_argument(step, parameter, item, f"{option}: item {index}")
        return
    given = returned_type(source, part)
    if source.gives_list:
        check_value(step, parameter, source, given, "returns", cure)
        return
    item = _item_of(given)
    if item is None:
        hint = f"Return a list from it, or {cure or 'correct the annotation'}."
        raise InvalidLink(f"{option}: task '{source.name}' returns {_shown(given)}, which is no list. {hint}")
    check_value(step, parameter, source, item, "lists", cure)


def check_argument(step: "AnyAction", parameter: str, value: Any, option: str) -> None:
    """Raises InvalidLink if a written-down value of an option of `add` can't fit a parameter."""
    wanted = hints_of(step.function).get(parameter, Any)
    if not fits(wanted, value):
        raise InvalidLink(
            f"{option}: step '{step.name}' takes '{parameter}' as {_shown(wanted)}, and "
            f"{shorten(safe_repr(value), MAX_REF)} is none. Correct the value or the annotation."
        )


def check_expected(option: str, name: str, given: Any, expected: Any) -> None:
    """Raises InvalidLink if a condition's value, which is of the type *given*, never equals the expected one."""
    if not any(_may_equal(choice, expected) for choice in choices(given)):
        raise InvalidLink(
            f"{option}: '{name}' returns {_shown(given)}, which never equals "
            f"{shorten(safe_repr(expected), MAX_REF)}. Correct the value or the annotation."
        )


def check_outputs(step: "AnyAction", outputs: Sequence[str]) -> None:
    """Raises InvalidLink if what a step returns can't have these parts."""
    given = hints_of(step.function).get("return", Any)
    if not any(_may_have(choice, outputs) for choice in choices(given)):
        raise InvalidLink(
            f"outputs={list(outputs)}: step '{step.name}' returns {_shown(given)}, which has other parts. Name these, "
            f"or correct the annotation."
        )


def value_type(task: "Task", part: tuple[str, int] | None = None) -> Any:
    """Returns the type of a task's value, of a mapped task that of the list. *part* is one of its outputs."""
    given = returned_type(task, part)
    for _ in range(task.depth):
        given = types.GenericAlias(list, given)
    return given


def returned_type(task: "Task", part: tuple[str, int] | None = None) -> Any:
    """Returns the type of what the step of a task returns. *part* is an output, as its name and position."""
    function = unwrapped(task.step.function)
    # The value of a class is a list of contexts.
    given = Any if isinstance(function, type) else hints_of(function).get("return", Any)
    return given if part is None else _part_of(options(given), *part)


def hints_of(function: Any) -> Mapping[str, Any]:
    """Returns the annotations that can be resolved. A decorated function has none: the decorator may convert."""
    if function.__class__ is not types.FunctionType:
        function = unwrapped(function)
        if isinstance(function, type):
            function = getattr(function, "__init__")  # noqa: B009 (of the class, not of an instance)
        elif not inspect.isroutine(function):
            function = getattr(type(function), "__call__", None)  # noqa: B004 (the method itself)
        function = getattr(function, "__func__", function)
    try:
        hints = _hints.get(function)
        if hints is None:
            hints = _hints[function] = {} if hasattr(function, "__wrapped__") else _hints_for(function)
    except TypeError:  # it has no weak references
        return {}
    return hints


def _hints_for(function: Any) -> Mapping[str, Any]:
    hints = dict(_resolved(function))
    if any((typing.get_origin(choice) or choice) in AWAITED for choice in choices(hints.get("return", Any))):
        hints["return"] = Any
    defaults = {name: parameter.default for name, parameter in parameters(function).items()}
    return {name: or_none(hint, defaults.get(name, ...)) for name, hint in hints.items()}


def _resolved(holder: Any) -> Mapping[str, Any]:
    try:
        return typing.get_type_hints(holder)
    except Exception:  # a name that only type checkers import, for example
        found = getattr(holder, "__annotations__", {}).items()
        hints = {name: resolved(holder, annotation) for name, annotation in found}
        return {name: hint for name, hint in hints.items() if hint is not inspect.Parameter.empty}


def may_fit(given: Any, wanted: Any) -> bool:
    """Returns whether a value of the one type may be of the other: an int is a float, a base may be a derived class."""
    if given is wanted or given is Any or wanted is Any:
        return True
    try:
        return _fit(given, wanted)
    except TypeError:  # one of them has no hash
        return True


@functools.lru_cache(maxsize=1024)  # a workflow has few types, and many tasks
def _fit(given: Any, wanted: Any) -> bool:
    accepted = choices(wanted)
    return any(_may_be(choice, other) for choice in options(given) for other in accepted)


def _may_be(given: Any, wanted: Any) -> bool:
    origin, other = typing.get_origin(given) or given, typing.get_origin(wanted) or wanted
    args, others = _args(given), _args(wanted)
    if origin is Literal:
        return any(fits(wanted, value) for value in args)
    if other is Literal:
        return any(_may_be(given, type(value)) for value in others)
    if not _are_related(origin, other):
        return False
    if not args or not others:
        return True
    if origin is other is tuple and ... not in (*args, *others):
        return len(args) == len(others) and all(map(may_fit, args, others))
    if origin in MAPPINGS and other in MAPPINGS:
        return all(map(may_fit, args, others))
    return all(may_fit(item, of_other) for item in _items(given) for of_other in _items(wanted))


def _are_related(kind: Any, other: Any) -> bool:
    """Returns whether a value may be of both classes. A type that only type checkers know may be anything."""
    kind, other = (dict if typing.is_typeddict(one) else one for one in (kind, other))
    if is_unknown(kind) or is_unknown(other):
        return True
    try:
        if issubclass(kind, (other, PROMOTED.get(other, other))) or issubclass(other, kind) or are_numbers(kind, other):
            return True
    except Exception:  # a metaclass may refuse
        return True
    # All but built-in types may be of an abstract class, too.
    is_abstract = isinstance(kind, ABCMeta) or isinstance(other, ABCMeta)
    return is_abstract and "builtins" not in (kind.__module__, other.__module__)


def _args(annotation: Any) -> tuple[Any, ...]:
    """Returns the arguments of a type; none for a tuple that has unpacked others: `tuple[int, *tuple[str, ...]]`."""
    args = typing.get_args(annotation)
    is_open = any(getattr(arg, "__unpacked__", False) or typing.get_origin(arg) is typing.Unpack for arg in args)
    return () if is_open else args


def _item_of(given: Any) -> Any:
    """Returns the type of the items of a value that may be a list or a tuple; None if it can't be one."""
    lists = [choice for choice in choices(given) if may_fit(choice, list) or may_fit(choice, tuple)]
    items = [item for choice in lists for item in _items(choice) or [Any]]
    return None if not items else items[0] if len(items) == 1 else Any


def _items(annotation: Any) -> Sequence[Any]:
    """Returns the types of the items, of a mapping those of the keys; none if they are unknown."""
    origin, args = typing.get_origin(annotation), _args(annotation)
    if origin is tuple:
        return [arg for arg in args if arg is not ...]
    return args[:1] if origin in ITERABLES else ()


def _part_of(kinds: Sequence[Any], name: str, position: int) -> Any:
    """Returns the type of a part of a value, by its name or else by its position."""
    if len(kinds) > 1:
        return Any
    origin, args = typing.get_origin(kinds[0]) or kinds[0], _args(kinds[0])
    if _names_of_parts(origin) is not None:
        return _resolved(origin).get(name, Any)
    if origin is tuple and ... not in args:
        return args[position] if position < len(args) else Any
    return args[1] if origin in MAPPINGS and args else next(iter(_items(kinds[0])), Any)


def _names_of_parts(kind: Any) -> Collection[str] | None:
    """Returns the keys of a TypedDict, or the fields of a dataclass or NamedTuple; None for other types."""
    names = "__annotations__" if typing.is_typeddict(kind) else "__dataclass_fields__"
    return getattr(kind, names, None) or getattr(kind, "_fields", None)


def _may_have(given: Any, outputs: Sequence[str]) -> bool:
    kind, args = typing.get_origin(given) or given, _args(given)
    if (names := _names_of_parts(kind)) is not None:
        return all(name in names for name in outputs)
    if kind is tuple and args and ... not in args:
        return len(args) == len(outputs)
    return not isinstance(kind, type) or kind.__module__ != "builtins" or kind in (object, dict, list, tuple)


def _may_equal(given: Any, expected: Any) -> bool:
    kind, values = typing.get_origin(given) or given, typing.get_args(given)
    if kind is Literal:
        return expected in values
    if not isinstance(kind, type) or fits(given, expected):
        return True
    if issubclass(kind, enum.Enum):
        return expected in list(kind)
    both = (kind, type(expected))
    if any(cls.__module__ != "builtins" for cls in both):  # they may be equal to anything
        return True
    return issubclass(*both) or any(all(issubclass(cls, group) for cls in both) for group in EQUAL)


def _shown(annotation: Any) -> str:
    return "None" if annotation is types.NoneType else MODULES.sub("", inspect.formatannotation(annotation))
