"""Turns steps, as users add them, into actions, and callbacks into callables."""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from typing import Any, Final

from dotflow.core.action import CLASS_ACTION, Action, AnyAction, action_of, actions_of, names_of_actions
from dotflow.core.failure import describe
from dotflow.errors import InvalidCallback, InvalidPath, InvalidStep, close_match

SIMILAR: Final = 0.7  # how similar a name in a hint is at least: many modules are on sys.path


def as_actions(step: object) -> list[AnyAction]:
    """Returns the actions of an action, a decorated class, a dotted path or a list of them.

    Raises:
        InvalidStep: It is none of these.
        InvalidPath: The path leads nowhere, or its module does not import.
    """
    if step.__class__ is Action:  # the most frequent case
        return [step]
    if isinstance(step, list | tuple):
        if not step:
            raise InvalidStep("an empty list", "Put at least one action into it.")
        if len(step) == 1:
            return as_actions(step[0])
        return [action for index, member in enumerate(step) for action in _actions_of_item(index, member)]
    target = resolve(step) if isinstance(step, str) else step
    action = action_of(target)
    if action is None:
        got = f"{step!r}, which leads to {describe(target)}" if isinstance(step, str) else describe(target)
        raise InvalidStep(got, _hint(target))
    return [action]


def _actions_of_item(index: int, member: object) -> list[AnyAction]:
    try:
        return as_actions(member)
    except InvalidStep as error:
        raise InvalidStep(f"item {index} of the list, {error.got}", error.hint) from None


def as_callback(name: str, callback: object, argument: str) -> Callable[..., Any] | None:
    """Returns the callable of a callback, which may be a dotted path; None for None.

    Args:
        name: The argument, for errors: "callback".
        callback: The callback.
        argument: The name of its parameter: "task".

    Raises:
        InvalidCallback: It can't be called.
        InvalidPath: The path leads nowhere, or its module does not import.
    """
    if callback is None:
        return None
    function: Any = resolve(callback, list_actions=False) if isinstance(callback, str) else callback
    signature = f"{name}({argument}=...)"
    if not callable(function):
        raise InvalidCallback(name, f"{describe(function)}, which can't be called", signature)
    if inspect.iscoroutinefunction(function):
        raise InvalidCallback(name, f"{describe(function)}, whose coroutine dotflow does not await", signature)
    if not _has_parameter(function, argument):
        hint = "Add several steps as a list: add(step=[one, other])." if action_of(function) is not None else ""
        raise InvalidCallback(name, f"{describe(function)}, which does not take '{argument}'", signature, hint)
    return function  # type: ignore[no-any-return]


def resolve(path: str, *, list_actions: bool = True) -> Any:
    """Returns the object at the dotted path "pkg.mod.name" or "pkg.mod:name".

    Args:
        path: The path.
        list_actions: Whether an error lists the actions of the module: where a step is expected.

    Raises:
        InvalidPath: There is no such module or name, or the module's own code raised.
    """
    module_path, colon, rest = path.partition(":")
    parts = module_path.split(".") + (rest.split(".") if colon else [])
    if not all(part.isidentifier() for part in parts) or len(parts) < 2:
        hint = _spelling_hint(path) or "Write it as 'pkg.mod.name' or 'pkg.mod:name'."
        raise InvalidPath(path, "it is no dotted path.", hint)
    length = len(module_path.split(".")) if colon else _module_length(path, parts)
    target = _import(path, ".".join(parts[:length]))
    for depth in range(length, len(parts)):
        if not hasattr(target, parts[depth]):
            if not colon and depth == length == len(parts) - 1 and hasattr(target, "__path__") and _is_module(path):
                raise InvalidPath(path, "it is a module.", f"Add a name in it: '{path}:name'.")
            owner = ".".join(parts[:depth])
            names = sorted(names_of_actions(getattr(target, "__dict__", {})))
            actions = f"Its actions are: {', '.join(names)}." if names and list_actions else ""
            public = (name for name in dir(target) if not name.startswith("_"))
            hint = f"{close_match(parts[depth], public, f'{owner}.', SIMILAR)} {actions}".strip()
            raise InvalidPath(path, f"'{owner}' has no '{parts[depth]}'.", hint)
        target = getattr(target, parts[depth])
    return target


def _module_length(path: str, parts: list[str]) -> int:
    """Returns how many of the parts name a module: as many as can be found, but never all."""
    length = 0
    while length < len(parts) - 1:
        name = ".".join(parts[: length + 1])
        if name in sys.modules:
            length += 1
            continue
        try:
            spec = importlib.util.find_spec(name)
        except (Exception, SystemExit) as error:  # the user's package runs during the search
            raise _import_failed(path, ".".join(parts[:length]), error) from error
        if spec is None:
            break
        length += 1
        if spec.submodule_search_locations is None:
            break
    return max(length, 1)


def _import(path: str, module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
            hint = _spelling_hint(path) or _near_module(error.name)
            hint = hint or "Is it spelt right, and installed or in a folder on sys.path?"
            raise InvalidPath(path, f"there is no module '{error.name}'.", hint) from error
        raise _import_failed(path, module, error) from error
    except (Exception, SystemExit) as error:  # the user's module runs during its import
        raise _import_failed(path, module, error) from error


def _import_failed(path: str, module: str, error: BaseException) -> InvalidPath:
    message = str(error)
    end = "" if message.endswith((".", "!", "?")) else "."
    reason = f"importing '{module}' raised {type(error).__name__}: {message}{end}"
    return InvalidPath(path, reason, f'To see where: python -c "import {module}"')


def _spelling_hint(path: str) -> str:
    """Returns a correction of a file's path, or of a module without a name in it; "" for others."""
    module, _, name = path.partition(":")
    dotted = module.removeprefix("./").removesuffix(".py").replace("/", ".")
    if not all(part.isidentifier() for part in dotted.split(".")):
        return ""
    if dotted != module:
        return f"Write it without slashes and '.py': '{dotted}:{name or 'name'}'."
    is_module = "." not in dotted and _is_module(dotted)  # to find one in a package, it would be imported
    return f"'{dotted}' is a module: add a name in it, '{dotted}:name'." if is_module else ""


def _is_module(name: str) -> bool:
    """Returns whether a module of that name exists. Imports nothing but its package."""
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:  # __main__ has none
        return False


def _near_module(name: str) -> str:
    """Returns a hint at a module of a similar name in the same package or on sys.path."""
    import pkgutil

    parent, dot, last = name.rpartition(".")
    folders = getattr(sys.modules.get(parent), "__path__", ()) if parent else None
    public = (module.name for module in pkgutil.iter_modules(folders) if not module.name.startswith("_"))
    return close_match(last, public, f"{parent}{dot}", SIMILAR)


def _has_parameter(function: Callable[..., Any], argument: str) -> bool:
    try:
        inspect.signature(function).bind(**{argument: None})
    except ValueError:  # some callables written in C have no signature to read
        return True
    except TypeError:
        return False
    return True


def _hint(target: object) -> str:
    if getattr(target, "__name__", None) == "<lambda>":
        return "Make it one: action(lambda ...), or a function with @action above it."
    if CLASS_ACTION in getattr(target, "__dict__", {}):
        return "Another decorator made a new class of it, such as @dataclass(slots=True): put @action above that one."
    if isinstance(target, type) or callable(target):
        return f"Decorate it: @action above '{getattr(target, '__name__', target)}'."
    if actions_of(target):
        cls = type(target).__name__
        return (
            f"Decorate its class with @action, and add '{cls}' itself. Where the class needs arguments, add a step "
            f"that returns an instance: action(lambda: {cls}(...))."
        )
    return (
        "Write a function, put @action above it, and add it by its name, without parentheses: add(step=extract), not "
        "add(step=extract())."
    )
