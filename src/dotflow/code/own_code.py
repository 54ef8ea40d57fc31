"""Which code is the user's own, and the code of the modules that a function imports."""

import functools
import os
import sys
from collections.abc import Iterator, Mapping
from importlib.machinery import ModuleSpec
from pathlib import PurePath
from types import CodeType, FunctionType, GetSetDescriptorType, MemberDescriptorType
from typing import Any, Final

from dotflow.code.bytecode import Import

#: The folder of the standard library.
STDLIB: Final = os.__file__.removesuffix("os.py")
#: Folders of installed packages.
INSTALLED: Final = frozenset(("site-packages", "dist-packages"))


@functools.lru_cache(maxsize=4096)
def is_own(module: str, package: str) -> bool:
    """Returns whether a module is the user's own.

    That is a module of the top package *package*, or one outside of the standard library and of installed packages.
    """
    top = module.partition(".")[0]
    if _is_known(top):
        return False
    if top == package:
        return True
    loaded = sys.modules.get(module) or sys.modules.get(top)
    return _is_outside(attributes_of(loaded).get("__file__"))


def file_of(module: str) -> str | None:
    """Returns the file of a module; None if there is no such module, or it is no file. Imports nothing."""
    spec = _spec_of(module)
    return spec.origin if spec is not None and spec.has_location else None


def is_own_file(path: str | None, module: str = "") -> bool:
    """Returns whether a file, as that module, is neither of the standard library, nor installed, nor of dotflow."""
    if path is None or _is_known(module.partition(".")[0]):
        return False
    return _is_outside(path) and not path.startswith(STDLIB)


def attributes_of(value: Any) -> Mapping[str, Any]:
    """Returns the attributes that a value itself has. Unlike vars() it runs none of the value's own code."""
    for cls in type(value).__mro__:
        member = cls.__dict__.get("__dict__")
        if member is not None:
            is_cpythons = type(member) is GetSetDescriptorType or type(member) is MemberDescriptorType
            return member.__get__(value) or {} if is_cpythons else {}
    return {}


def module_of(value: Any) -> str:
    """Returns the module of a function's code or of a class. A decorator may copy `__module__`, which is another."""
    module = value.__globals__.get("__name__") if type(value) is FunctionType else value.__module__
    return str(module or "")


def codes_of_import(statement: Import, parent: str, package: str) -> Iterator[tuple[str, CodeType]]:
    """Yields the names and codes of the user's own modules that an import statement loads. Runs none of them.

    Args:
        statement: The statement.
        parent: The package of the module that it stands in, for a relative import.
        package: The top package of the step.
    """
    name = statement.module
    if statement.level:
        parents = parent.split(".")
        parents = parents[: len(parents) - statement.level + 1]
        name = ".".join((*parents, name)) if name else ".".join(parents)
    for module in (name, *(f"{name}.{member}" for member in statement.names)):
        top = module.partition(".")[0]
        if not top or _is_known(top):
            continue
        spec = _spec_of(module)
        if spec is None or (top != package and not _is_outside(spec.origin)):
            continue
        code = _code_of(spec)
        if code is not None:
            yield module, code


def _is_known(top: str) -> bool:
    """Returns whether a top package is of the standard library, or dotflow."""
    return top in sys.stdlib_module_names or top == "dotflow"


def _is_outside(path: str | None) -> bool:
    return path is None or INSTALLED.isdisjoint(PurePath(path).parts)


def _spec_of(module: str) -> ModuleSpec | None:
    """Returns the spec of a module; None if there is none. Unlike importlib's find_spec it imports no parent."""
    path: Any = None
    spec = None
    name = ""
    for part in module.split("."):
        name = f"{name}.{part}" if name else part
        spec = None
        for finder in sys.meta_path:
            try:
                spec = finder.find_spec(name, path)
            except Exception:  # the finder may be the user's
                spec = None
            if spec is not None:
                break
        if spec is None:
            return None
        path = spec.submodule_search_locations
        if path is None and name != module:
            return None
    return spec


def _code_of(spec: ModuleSpec) -> CodeType | None:
    get_code = getattr(spec.loader, "get_code", None)
    try:
        return None if get_code is None else get_code(spec.name)
    except (Exception, SystemExit):  # the import would raise it, too
        return None
