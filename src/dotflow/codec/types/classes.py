"""The classes of values, which are found again by name: nothing is imported, and nothing is run.

A name from a checkpoint is looked up among the modules that the program has imported, in the plain dictionaries of
modules and classes. So no module's `__getattr__`, lazy module, descriptor or metaclass runs.

The name of a script's class has the name under which the script is imported, too: `__main__/weather:Row`. So the class
is found where the script is imported, and where it runs again, under another file name as well.
"""

import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from keyword import iskeyword
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, Final

from dotflow.core.failure import name_of
from dotflow.errors import CheckpointUnreadable, ValueNotStorable

_module_dict: Final = vars(ModuleType)["__dict__"].__get__
_class_module: Final = type.__dict__["__module__"].__get__
_class_qualname: Final = type.__dict__["__qualname__"].__get__

#: Returns the class and those that it inherits from.
mro_of: Final[Callable[[type], tuple[type, ...]]] = type.__dict__["__mro__"].__get__
#: Returns the attributes of the class itself.
dict_of: Final[Callable[[type], MappingProxyType[str, Any]]] = type.__dict__["__dict__"].__get__

#: A class has this flag if a class statement (or type()) made it, or C code at run time. Built-in ones don't have it.
_HEAP_TYPE: Final = 1 << 9  # Py_TPFLAGS_HEAPTYPE, Include/object.h

_MISSING: Final = object()

_MAIN: Final = "__main__"
_SCRIPT_PREFIX: Final = f"{_MAIN}/"


class NotEncodable(Exception):
    """A value, or any value of a class, can't be kept. The message is the reason."""


def inherits(cls: type, base: type) -> bool:
    """Whether a class is another one or inherits from it, without asking their metaclasses."""
    return type.__subclasscheck__(base, cls)


def is_class(value: object) -> bool:
    """Whether *value* is a class, whatever its `__class__` is."""
    return inherits(type(value), type)


def attribute_of(cls: type, name: str, default: Any = None) -> Any:
    """Returns an attribute of the class, or of the first base that has it, without calling a descriptor."""
    for base in mro_of(cls):
        attribute = dict_of(base).get(name, _MISSING)
        if attribute is not _MISSING:
            return attribute
    return default


def module_of(cls: type) -> str:
    """Returns the name of a class's module."""
    return str(_class_module(cls))


def qualname_of(cls: type) -> str:
    """Returns the name of a class inside its module."""
    return str(_class_qualname(cls))


def is_built_in(cls: type) -> bool:
    """Whether a class is a part of Python or of an extension, so that its instances' state is in C."""
    return not type.__dict__["__flags__"].__get__(cls) & _HEAP_TYPE


def size_of(cls: type) -> int:
    """Returns the bytes of an instance's body; -1 where they differ between instances."""
    own = type.__dict__
    return -1 if own["__itemsize__"].__get__(cls) else int(own["__basicsize__"].__get__(cls))


def name_for(cls: type) -> str:
    """Returns the name that leads to the class, `module:qualname`; `__main__/module:qualname` for one of a script.

    Raises:
        ValueNotStorable: No name leads to it.
    """
    qualname, module = qualname_of(cls), module_of(cls)
    if module == _MAIN:
        script = name_of_main()
        module = f"{_SCRIPT_PREFIX}{script}" if script != _MAIN and _module(script) is sys.modules[_MAIN] else module
    name = f"{module}:{qualname}"
    if "<locals>" in qualname:
        reason = "its class is defined inside a function and can't be found again; define it at the top of a module"
    elif _look_up(name) is cls:
        return name
    elif "[" in qualname:
        reason = "a generic class can be found again only if it was made at the top of a module: Rows = Page[Row]"
    else:
        reason = f"its class can't be found again: {name} leads elsewhere, or nowhere"
    raise ValueNotStorable(name_of(cls), "", reason)


def without_prefix(name: str) -> str:
    """Returns the name without the script's prefix: the same in the script and where it is imported."""
    return name.removeprefix(_SCRIPT_PREFIX)


def find(name: object) -> type:
    """Returns the class that a checkpoint names.

    Raises:
        CheckpointUnreadable: No module that is imported by now has it.
    """
    if type(name) is not str or ":" not in name:
        raise CheckpointUnreadable("the name of a class in it is invalid")
    module, _, qualname = without_prefix(name).partition(":")
    if _module(name.partition(":")[0]) is None:
        raise CheckpointUnreadable(
            f"it holds a {qualname} of the module {module!r}, which this program has not imported; import it before "
            f"start()"
        )
    cls = _look_up(name)
    if not is_class(cls):
        raise CheckpointUnreadable(f"it holds a {qualname}, and there is no such class in the module {module!r}")
    assert isinstance(cls, type)
    return cls


def _module(name: str) -> ModuleType | None:
    """Returns the module of that name, if it is imported. It may be what runs as `__main__`.

    A script that is also imported is there twice, with two classes of each name: then each has its own module's name.
    """
    own_name = without_prefix(name)
    module = sys.modules.get(own_name)
    if module is None and (own_name != name or own_name == name_of_main()):
        module = sys.modules.get(_MAIN)
    return module if inherits(type(module), ModuleType) else None


def name_of_main() -> str:
    """Returns the name under which other programs import what runs as `__main__`; `__main__` if there is none.

    `python -m pkg.jobs` has it. `python weather.py` makes the script's folder importable, so there it is `weather`.
    """
    main = sys.modules.get(_MAIN)
    names = _module_dict(main) if inherits(type(main), ModuleType) else {}
    spec, path = names.get("__spec__"), names.get("__file__")
    if spec is not None:
        return spec.name if type(spec) is ModuleSpec and type(spec.name) is str else _MAIN
    stem = Path(path).name.removesuffix(".py") if type(path) is str else ""
    return stem if stem.isidentifier() and not iskeyword(stem) else _MAIN


def _look_up(name: str) -> object:
    """Returns what the name leads to; None for nothing."""
    module_name, _, qualname = name.partition(":")
    module = _module(module_name)
    if module is None:
        return None
    names = _module_dict(module)
    if qualname in names:  # also the names of generic models, which may have dots in them: Page[app.Row]
        value: object = names[qualname]
        return value
    *outer, last = qualname.split(".")
    for part in outer:
        cls = names.get(part)
        if not is_class(cls):
            return None
        names = dict_of(cls)
    return names.get(last)
