"""Why a value is refused, and what to return instead: for the types that are common in steps."""

import collections
import functools
import io
import types
from collections.abc import AsyncIterator, Coroutine, ItemsView, Iterator, KeysView, ValuesView
from datetime import date, time, timedelta, tzinfo
from typing import Final

from dotflow.codec.types.classes import inherits, module_of
from dotflow.core.failure import name_of

#: The first entry that the type inherits from, or is registered with, counts.
_HINTS: Final[tuple[tuple[tuple[type, ...], str], ...]] = (
    ((io.IOBase,), "it is an open file; return its path"),
    ((types.GeneratorType, Iterator), "it can be read only once; return a list"),
    ((Coroutine, AsyncIterator), "it has not been awaited; await it in the step, and return its result"),
    ((KeysView, ValuesView, ItemsView), "it is a view of a dict; return a list"),
    ((types.FunctionType, types.BuiltinFunctionType, types.MethodType, functools.partial), "it is code, not data"),
    ((type, types.GenericAlias, types.UnionType), "it is a class, not data; return its name"),
    ((types.ModuleType,), "it is code, not data"),
    ((BaseException,), "it is an exception; raise it, or return its text"),
    ((bytearray, memoryview), "it can be changed; return bytes(...)"),
    ((tzinfo,), "return its name"),
)

#: Types that are kept, though their subclasses are not: these may hold and mean more.
_KEPT: Final = (
    *(bool, int, float, complex, str, bytes, list, tuple, set, frozenset, date, time, timedelta),
    *(collections.Counter, collections.OrderedDict, collections.defaultdict, collections.deque, dict),
)


def hint_for(cls: type) -> str:
    """Returns why the codec refuses a type; empty where there is nothing to add to its name."""
    for kinds, hint in _HINTS:
        if issubclass(cls, kinds):
            return hint
    for kind in _KEPT:
        if inherits(cls, kind):
            return f"it is a subclass of {name_of(kind)}; return a plain {name_of(kind)}"
    if module_of(cls) in ("_thread", "threading", "_multiprocessing", "socket", "_socket", "ssl", "sqlite3"):
        return "it belongs to this process"
    return ""
