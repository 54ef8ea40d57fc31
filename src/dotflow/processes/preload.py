"""The installed modules that the steps of a run need, as far as the caller has imported them."""

import sys
from collections.abc import Iterable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

from dotflow.code.own_code import is_own
from dotflow.core.action import Action
from dotflow.core.task import Task


def needed_modules(tasks: Iterable[Task]) -> list[str]:
    """Returns the modules that a worker imports for these tasks, without the user's own: those may be edited."""
    search = _Search()
    for task in tasks:
        search.visit(task.step)
        search.visit(task.initial_context.storage)
    return list(search.modules)


class _Search:
    """Searches functions of `__main__` by the names that they use, classes and the user's modules completely."""

    def __init__(self) -> None:
        self.modules: dict[str, None] = {}
        self._seen: set[int] = set()

    def visit(self, value: Any) -> None:
        """Adds the modules that *value* needs."""
        if isinstance(value, Action):
            value = value.function
        if isinstance(value, ModuleType):
            self._add(value.__name__)
        elif isinstance(value, FunctionType | type):
            if value.__module__ != "__main__":
                self._add(value.__module__)
            elif id(value) not in self._seen:
                self._seen.add(id(value))
                for used in _globals_of(value) if isinstance(value, FunctionType) else tuple(vars(value).values()):
                    self.visit(used)
        elif value is not None and type(value) not in (str, int, float, bool, bytes):
            self.visit(type(value))

    def _add(self, name: Any) -> None:
        module = sys.modules.get(name) if isinstance(name, str) else None
        if module is None or name in self.modules or id(module) in self._seen:
            return
        if not is_own(name, ""):
            self.modules[name] = None
        elif name != "__main__":
            self._seen.add(id(module))
            for value in tuple(vars(module).values()):
                if isinstance(value, ModuleType | FunctionType | type | Action):
                    self.visit(value)


def _globals_of(function: FunctionType) -> Iterator[Any]:
    for name in _names_in(function.__code__):
        if name in function.__globals__:
            yield function.__globals__[name]
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # it is empty
            continue


def _names_in(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_in(constant)
