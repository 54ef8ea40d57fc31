"""The classes that values name: found again by name, without importing or running anything.

A name from a checkpoint is looked up in what the program has imported already, through the plain dictionaries of its
modules and classes: module `__getattr__`, lazy modules, descriptors and metaclasses are not asked.

A class of a script is named by the name under which the script is imported, too: `__main__/weather:Row`. So it is found
again where the script is imported, and in the script when it runs again, under another file name as well.
"""

import sys
from importlib.machinery import ModuleSpec
from keyword import iskeyword
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, Final

from dotflow.core.failure import name_of
from dotflow.errors import CheckpointUnreadable, ValueNotStorable

_module_dict: Final = vars(ModuleType)["__dict__"].__get__
_class_dict: Final = type.__dict__["__dict__"].__get__
_class_mro: Final = type.__dict__["__mro__"].__get__
_class_module: Final = type.__dict__["__module__"].__get__
_class_qualname: Final = type.__dict__["__qualname__"].__get__

_class_flags: Final = type.__dict__["__flags__"].__get__
_class_basicsize: Final = type.__dict__["__basicsize__"].__get__
_class_itemsize: Final = type.__dict__["__itemsize__"].__get__

#: A class has this flag if a class statement (or type()) made it, or C code at run time; built-in ones don't have it.
_HEAP_TYPE: Final = 1 << 9  # Py_TPFLAGS_HEAPTYPE, Include/object.h

_MISSING: Final = object()

_MAIN: Final = "__main__"
_MARK: Final = f"{_MAIN}/"  # before a script's own name


class NotEncodable(Exception):
    """Why a value, or any value of a class, can't be kept."""


def mro_of(cls: type) -> tuple[type, ...]:
    """The class and those that it inherits from."""
    found: tuple[type, ...] = _class_mro(cls)
    return found


def dict_of(cls: type) -> MappingProxyType[str, Any]:
    """What stands in the class itself."""
    found: MappingProxyType[str, Any] = _class_dict(cls)
    return found


def inherits(cls: type, base: type) -> bool:
    """Whether a class is another one or inherits from it, whatever their metaclasses say."""
    return type.__subclasscheck__(base, cls)


def is_class(value: object) -> bool:
    """Whether *value* is a class, whatever it says of itself."""
    return inherits(type(value), type)


def attribute_of(cls: type, name: str, default: Any = None) -> Any:
    """What the class or the first that it inherits from has under *name*, as it stands there."""
    for base in mro_of(cls):
        found = dict_of(base).get(name, _MISSING)
        if found is not _MISSING:
            return found
    return default


def module_of(cls: type) -> str:
    """The name of the module that a class says it is from."""
    return str(_class_module(cls))


def qualname_of(cls: type) -> str:
    """The name of a class inside its module."""
    return str(_class_qualname(cls))


def is_built_in(cls: type) -> bool:
    """Whether a class is a part of Python or of an extension, so that its instances' state is in C."""
    return not _class_flags(cls) & _HEAP_TYPE


def size_of(cls: type) -> int:
    """The bytes of an instance's body; -1 where that is not the same for all of them."""
    return -1 if _class_itemsize(cls) else int(_class_basicsize(cls))


def name_for(cls: type) -> str:
    """The name that leads to the class, `module:qualname`; for one of a script `__main__/module:qualname`.

    Raises:
        ValueNotStorable: No name leads to it.
    """
    qualname, module = qualname_of(cls), module_of(cls)
    if module == _MAIN:
        own = _name_of_main()
        module = f"{_MARK}{own}" if own != _MAIN and _module(own) is sys.modules[_MAIN] else module
    name = f"{module}:{qualname}"
    if "<locals>" in qualname:
        reason = "its class is defined inside a function and can't be found again; define it at the top of a module"
    elif "[" in qualname and _look_up(name) is not cls:
        reason = "a generic class can be found again only if it was made at the top of a module: Rows = Page[Row]"
    elif _look_up(name) is not cls:
        reason = f"its class can't be found again: {name} leads elsewhere, or nowhere"
    else:
        return name
    raise ValueNotStorable(name_of(cls), "", reason)


def unmarked(name: str) -> str:
    """The name without the note that the class is a script's: the same in the script and where it is imported."""
    return name.removeprefix(_MARK)


def find(name: object) -> type:
    """The class that a checkpoint names.

    Raises:
        CheckpointUnreadable: There is none, as far as the program has been imported by now.
    """
    if type(name) is not str or ":" not in name:
        raise CheckpointUnreadable("a class in it has no proper name")
    module, _, qualname = unmarked(name).partition(":")
    if _module(name.partition(":")[0]) is None:
        raise CheckpointUnreadable(
            f"it holds a {qualname} of the module {module!r}, which this program has not imported; import it before "
            f"start()"
        )
    found = _look_up(name)
    if not is_class(found):
        raise CheckpointUnreadable(f"it holds a {qualname}, and there is no such class in the module {module!r}")
    assert isinstance(found, type)
    return found


def _module(name: str) -> ModuleType | None:
    """The module of that name, as far as it has been imported: `__main__` too, if that is what it is called else.

    A script that is also imported is there twice, with two classes of each name: then each has its own module's name.
    """
    own = unmarked(name)
    found = sys.modules.get(own)
    if found is None and (own != name or own == _name_of_main()):
        found = sys.modules.get(_MAIN)
    return found if inherits(type(found), ModuleType) else None


def _name_of_main() -> str:
    """The name under which what runs as `__main__` is imported elsewhere; `__main__` if it has none.

    `python -m pkg.jobs` says it. `python weather.py` makes the script's folder importable, so there it is `weather`.
    """
    main = sys.modules.get(_MAIN)
    found = _module_dict(main) if inherits(type(main), ModuleType) else {}
    spec, path = found.get("__spec__"), found.get("__file__")
    if spec is not None:
        return spec.name if type(spec) is ModuleSpec and type(spec.name) is str else _MAIN
    stem = Path(path).name.removesuffix(".py") if type(path) is str else ""
    return stem if stem.isidentifier() and not iskeyword(stem) else _MAIN


def _look_up(name: str) -> object:
    """What stands under the name; None if there is nothing."""
    module, _, qualname = name.partition(":")
    found = _module(module)
    if found is None:
        return None
    place = _module_dict(found)
    if qualname in place:  # also the names of generic models, which may have dots in them: Page[app.Row]
        value: object = place[qualname]
        return value
    *outer, last = qualname.split(".")
    for part in outer:
        cls = place.get(part)
        if not is_class(cls):
            return None
        place = _class_dict(cls)
    return place.get(last)
