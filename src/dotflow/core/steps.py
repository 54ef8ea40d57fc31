"""What users may add as a step, turned into actions; what they may pass as a callback, turned into a callable."""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable
from typing import Any

from dotflow.core.action import Action, action_of, actions_of, names_of_actions
from dotflow.core.failure import describe
from dotflow.errors import InvalidCallback, InvalidPath, InvalidStep


def as_actions(step: object) -> list[Action[..., Any]]:
    """An action, a list of them or a dotted path, as a list of actions that contexts can fill.

    Raises:
        InvalidStep: It is none of these.
        InvalidPath: The path leads nowhere, or its module does not import.
        UnknownParameter: The step asks for what no context can give.
    """
    if step.__class__ is Action:  # what most are
        step.check_parameters()
        return [step]
    if isinstance(step, list | tuple):
        if not step:
            raise InvalidStep("an empty list", "Put at least one action into it.")
        return [found for member in step for found in as_actions(member)]
    found = resolve(step) if isinstance(step, str) else step
    action = action_of(found)
    if action is None:
        raise InvalidStep(_what_it_is(step, found), _hint(found))
    action.check_parameters()
    return [action]


def as_callback(name: str, callback: object, argument: str) -> Callable[..., Any] | None:
    """A callable, the dotted path of one, or None.

    Raises:
        InvalidCallback: It can't be called.
        InvalidPath: The path leads nowhere, or its module does not import.
    """
    if callback is None:
        return None
    found: Any = resolve(callback, list_actions=False) if isinstance(callback, str) else callback
    signature = f"{name}({argument}=...)"
    if not callable(found):
        raise InvalidCallback(name, f"{describe(found)}, which can't be called", signature)
    if inspect.iscoroutinefunction(found):
        raise InvalidCallback(name, f"{describe(found)}, whose coroutine nobody would await", signature)
    if not _takes(found, argument):
        hint = "Several steps are added as a list: add(step=[one, other])." if action_of(found) is not None else ""
        raise InvalidCallback(name, f"{describe(found)}, which does not take '{argument}'", signature, hint)
    return found  # type: ignore[no-any-return]


def resolve(path: str, *, list_actions: bool = True) -> Any:
    """What the dotted path "pkg.mod.name" or "pkg.mod:name" leads to.

    Args:
        path: The path.
        list_actions: Whether an error lists the actions that are there: where a step is wanted.

    Raises:
        InvalidPath: There is no such module or name, or the module's own code raised.
    """
    module_path, colon, rest = path.partition(":")
    parts = module_path.split(".") + (rest.split(".") if colon else [])
    if not all(part.isidentifier() for part in parts) or len(parts) < 2:
        hint = _spelt(path) or "Write it as 'pkg.mod.name' or 'pkg.mod:name'."
        raise InvalidPath(path, "it is no dotted path.", hint)
    length = len(module_path.split(".")) if colon else _module_length(path, parts)
    found = _import(path, ".".join(parts[:length]))
    for depth in range(length, len(parts)):
        if not hasattr(found, parts[depth]):
            owner = ".".join(parts[:depth])
            names = sorted(names_of_actions(getattr(found, "__dict__", {})))
            actions = f"Its actions are: {', '.join(names)}." if names and list_actions else ""
            hint = f"{_did_you_mean(parts[depth], dir(found), f'{owner}.')} {actions}".strip()
            raise InvalidPath(path, f"'{owner}' has no '{parts[depth]}'.", hint)
        found = getattr(found, parts[depth])
    return found


def _module_length(path: str, parts: list[str]) -> int:
    """How many of the parts name a module: the longest row of them that can be found, but never all."""
    length = 0
    while length < len(parts) - 1:
        name = ".".join(parts[: length + 1])
        if name in sys.modules:
            length += 1
            continue
        try:
            spec = importlib.util.find_spec(name)
        except (Exception, SystemExit) as error:  # the user's package runs while its parts are looked for
            module = ".".join(parts[:length])
            raise InvalidPath(path, f"importing '{module}' raised {_told(error)}.", _where(module)) from error
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
            hint = _spelt(path) or _near_module(error.name)
            hint = hint or "Is it spelt right, and installed or in a folder on sys.path?"
            raise InvalidPath(path, f"there is no module '{error.name}'.", hint) from error
        raise InvalidPath(path, f"importing '{module}' raised {_told(error)}.", _where(module)) from error
    except (Exception, SystemExit) as error:  # the user's module runs as it is imported
        raise InvalidPath(path, f"importing '{module}' raised {_told(error)}.", _where(module)) from error


def _spelt(path: str) -> str:
    """What was meant by the path of a file, or by a module without a name in it."""
    module, _, name = path.partition(":")
    meant = module.removeprefix("./").removesuffix(".py").replace("/", ".")
    if not all(part.isidentifier() for part in meant.split(".")):
        return ""
    if meant != module:
        return f"It is written without slashes and '.py': '{meant}:{name or 'name'}'."
    return f"'{meant}' is a module: add what is meant in it, '{meant}:name'." if _is_module(meant) else ""


def _is_module(name: str) -> bool:
    """Whether a module of that name, without a dot, can be found; nothing is run for it."""
    try:
        return "." not in name and importlib.util.find_spec(name) is not None
    except ValueError:  # __main__ has none
        return False


def _where(module: str) -> str:
    return f'To see where: python -c "import {module}"'


def _near_module(name: str) -> str:
    """A guess at the module that was meant, among those that lie where it was looked for."""
    import pkgutil

    parent, dot, last = name.rpartition(".")
    places = getattr(sys.modules.get(parent), "__path__", ()) if parent else None
    return _did_you_mean(last, (found.name for found in pkgutil.iter_modules(places)), f"{parent}{dot}")


def _did_you_mean(name: str, known: Iterable[str], before: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, [one for one in known if not one.startswith("_")], n=1, cutoff=0.7)
    return f"Did you mean '{before}{near[0]}'?" if near else ""


def _takes(function: Callable[..., Any], argument: str) -> bool:
    try:
        inspect.signature(function).bind(**{argument: None})
    except ValueError:  # some callables written in C have no signature to read
        return True
    except TypeError:
        return False
    return True


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _what_it_is(step: object, found: object) -> str:
    return f"{step!r}, which leads to {describe(found)}" if isinstance(step, str) else describe(found)


def _hint(found: object) -> str:
    if getattr(found, "__name__", None) == "<lambda>":
        return "Make it one: action(lambda ...), or a function with @action above it."
    if isinstance(found, type) or callable(found):
        return f"Decorate it: @action above '{getattr(found, '__name__', found)}'."
    if actions_of(found):
        cls = type(found).__name__
        return (
            f"Decorate its class with @action, and add '{cls}' itself; or, where that needs arguments, add a step that "
            f"returns one: action(lambda: {cls}(...))."
        )
    return (
        "Write a function, put @action above it, and add it by its name, without the brackets: add(step=extract), not "
        "add(step=extract())."
    )
