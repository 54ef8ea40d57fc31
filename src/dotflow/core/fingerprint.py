"""Fingerprint: a digest of a step's code, with the functions, classes and constants of the user's own that it uses."""

import enum
import functools
import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping
from types import BuiltinFunctionType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any, Final

from dotflow.core.action import Action, action_of
from dotflow.core.bytecode import SIZE, CodeForm, form_of
from dotflow.core.own_code import codes_of_import, is_own
from dotflow.core.secret import SecretRef

PLAIN: Final = frozenset((type(None), bool, int, str, bytes, type(...), type(NotImplemented)))
#: Types whose repr is their value.
BY_REPR: Final = frozenset((float, complex, range, slice, bytearray))
#: The same, of modules that are not imported here.
BY_REPR_NAMED: Final = frozenset(
    (
        "datetime.date",
        "datetime.datetime",
        "datetime.time",
        "datetime.timedelta",
        "decimal.Decimal",
        "fractions.Fraction",
        "pathlib.PosixPath",
        "pathlib.PurePosixPath",
        "pathlib.WindowsPath",
        "pathlib.PureWindowsPath",
        "pathlib._local.PosixPath",
        "pathlib._local.PurePosixPath",
        "uuid.UUID",
        "re.Pattern",
        "zoneinfo.ZoneInfo",
    )
)

#: Members of a class that are code, though their names look like CPython's own.
MEMBERS: Final = (FunctionType, classmethod, staticmethod, property)


def fingerprint(step: Action[..., Any]) -> str:
    """Returns the fingerprint of a step's code, such as "3.11:9f…". It is computed once for each step and process.

    It changes with the code and with the constants, defaults and closures that it uses, through all functions and
    classes of the user's own. It does not change with comments, docstrings, layout and annotations.
    It says nothing on other packages, on files, and on the state of instances.
    Empty if it can't be made: a value is nested too deep, or its own code raises.
    """
    if step._code is None:
        digest = "" if step.version is not None else _digest(step.function)
        step._code = f"version {step.version}" if step.version is not None else digest and f"{PYTHON}:{digest}"
    return step._code


def can_compare(one: str, other: str) -> bool:
    """Returns whether two fingerprints are of one kind: of the same minor version of Python, or declared ones."""
    return _kind(one) == _kind(other)


def _kind(value: str) -> str:
    return "version" if value.startswith("version ") else value.partition(":")[0]


#: Bytecode is the same within one minor version; `-O` removes asserts.
PYTHON: Final = f"{sys.version_info[0]}.{sys.version_info[1]}{'O' * sys.flags.optimize}"


def _digest(function: object) -> str:
    walk = _Walk(_top_package(function))
    try:
        parts = [walk.describe(function), *walk]
    except Exception:  # of the user's own types, or a value nested too deep
        return ""
    return hashlib.blake2b(repr(parts).encode(errors="surrogatepass"), digest_size=SIZE).hexdigest()


def _top_package(function: Any) -> str:
    while not hasattr(function, "__module__") and hasattr(function, "func"):
        function = function.func
    return str(getattr(function, "__module__", None) or "").partition(".")[0]


class _Walk:
    """Describes values as nested tuples of plain values. A function or class is a number, and is described later.

    Iterating yields the descriptions of the functions and classes, in the order of their numbers.

    Args:
        package: The top package of the step, whose modules are the user's own wherever they are installed.
    """

    def __init__(self, package: str) -> None:
        self._package = package
        self._numbers: dict[int, int] = {}  # by id of the object
        self._waiting: list[Any] = []  # also keeps the ids valid
        self._open: dict[int, int] = {}  # by id: how deep the containers are that are being described
        self._imported: set[str] = set()

    def __iter__(self) -> Iterator[Any]:
        count = 0
        while count < len(self._waiting):  # a description may add more
            yield self._describe_code(self._waiting[count])
            count += 1

    def describe(self, value: Any) -> Any:
        """Returns the description of a value."""
        kind = type(value)
        if kind in PLAIN:
            return (kind.__name__, value)
        if kind in BY_REPR or f"{kind.__module__}.{kind.__qualname__}" in BY_REPR_NAMED:
            return (kind.__name__, repr(value))
        describe_kind = KINDS.get(kind)
        if describe_kind is not None:
            return describe_kind(self, value)
        if isinstance(value, type):
            return self._reference(value)
        return self._describe_instance(value, kind)

    def _describe_instance(self, value: Any, kind: type) -> Any:
        action = action_of(value)
        if action is not None:
            return ("action", self.describe(action.function))
        if isinstance(value, enum.Enum):
            return ("enum", self._reference(kind), str(value.name))
        if isinstance(value, functools.partial):
            return ("partial", *map(self.describe, (value.func, value.args, value.keywords)))
        if isinstance(value, dict | list | tuple | set | frozenset | MappingProxyType):
            return ("subclass", self._reference(kind), self._describe_items(value))
        wrapped = vars(value).get("__wrapped__") if hasattr(value, "__dict__") else None
        return ("instance", self._reference(kind), None if wrapped is None else self.describe(wrapped))

    def _describe_items(self, value: Any) -> Any:
        if id(value) in self._open:  # it contains itself
            return ("outer", self._open[id(value)])
        self._open[id(value)] = len(self._open)
        if isinstance(value, dict | MappingProxyType):
            items = tuple((self.describe(key), self.describe(each)) for key, each in list(value.items()))
        elif isinstance(value, set | frozenset):
            items = tuple(map(self.describe, sorted(value, key=_sort_key)))
        else:
            items = tuple(map(self.describe, list(value)))
        del self._open[id(value)]
        return (type(value).__name__, items)

    def _describe_method(self, method: MethodType) -> Any:
        owner = method.__self__
        cls = owner if isinstance(owner, type) else type(owner)
        return ("method", self.describe(method.__func__), self._reference(cls))

    def _reference(self, value: Any) -> Any:
        """Returns the number of a function or class of the user's own, and the name of any other."""
        number = self._numbers.get(id(value))
        if number is not None:
            return ("#", number)
        module = getattr(value, "__module__", None) or ""
        if not is_own(module, self._package):
            wrapped = getattr(value, "__wrapped__", None)
            inner = () if wrapped is None else (self.describe(wrapped),)
            closure = self._describe_closure(value) if isinstance(value, FunctionType) else ()
            return ("name", module, getattr(value, "__qualname__", type(value).__qualname__), *inner, *closure)
        self._numbers[id(value)] = number = len(self._waiting)
        self._waiting.append(value)
        return ("#", number)

    def _describe_code(self, value: Any) -> Any:
        if isinstance(value, type):
            return self._describe_class(value)
        return self._describe_function(value)

    def _describe_function(self, function: FunctionType) -> Any:
        form = form_of(function.__code__)
        return (
            "function",
            form.shape,
            self.describe(function.__defaults__),
            self.describe(function.__kwdefaults__),
            self._describe_closure(function),
            self._describe_names(form, function.__globals__),
            self._describe_imports(form, str(function.__globals__.get("__package__") or "")),
            None if "__wrapped__" not in vars(function) else self.describe(vars(function)["__wrapped__"]),
        )

    def _describe_closure(self, function: FunctionType) -> Any:
        values = []
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                value = cell.cell_contents
            except ValueError:  # it is empty
                continue
            values.append((name, self.describe(value)))
        return tuple(values)

    def _describe_names(self, form: CodeForm, namespace: Mapping[str, Any]) -> Any:
        """Describes the global values that a function uses, and the members of modules among them."""
        values = []
        modules: list[ModuleType] = []
        for name in form.globals:
            if name in namespace:
                value = namespace[name]
                values.append((name, self.describe(value)))
                if isinstance(value, ModuleType):
                    modules.append(value)
        for module in modules:  # it grows
            if not is_own(module.__name__, self._package):
                continue
            for name in form.attributes:
                if name in vars(module):
                    value = vars(module)[name]
                    values.append((f"{module.__name__}.{name}", self.describe(value)))
                    if isinstance(value, ModuleType) and value not in modules:
                        modules.append(value)
        return tuple(values)

    def _describe_imports(self, form: CodeForm, package: str) -> Any:
        """Describes the modules that a function imports when it runs: their code, since they may not be loaded yet."""
        values = []
        for statement in form.imports:
            for name, code in codes_of_import(statement, package, self._package):
                if name not in self._imported:
                    self._imported.add(name)
                    module_form = form_of(code)
                    parent = name if statement.names else name.rpartition(".")[0]
                    values.append((name, module_form.shape, self._describe_imports(module_form, parent)))
        return tuple(values)

    def _describe_class(self, cls: type) -> Any:
        members: list[tuple[str, Any]] = []
        is_enum = isinstance(cls, enum.EnumMeta)
        if isinstance(cls, enum.EnumMeta):
            members += ((name, self.describe(cls[name].value)) for name in cls.__members__)
        for name, member in list(vars(cls).items()):
            is_code = isinstance(member, MEMBERS)
            if name.startswith("__") and name.endswith("__") and not is_code and name != "__slots__":
                continue  # CPython's own, layout and annotations
            if is_enum and not (is_code and self._is_own_member(member)):
                continue  # enum's own
            members.append((name, self.describe(member)))
        members += self._pydantic_fields(cls)
        bases = tuple(self.describe(base) for base in cls.__bases__ if base is not object)
        meta = None if type(cls) is type else self.describe(type(cls))
        return ("class", cls.__qualname__, bases, meta, tuple(members))

    def _pydantic_fields(self, cls: type) -> list[tuple[str, Any]]:
        """Describes the fields of a Pydantic model, which takes them out of the class."""
        fields = vars(cls).get("__pydantic_fields__")
        if not isinstance(fields, dict):
            return []
        return [
            (name, (str(field.annotation), self.describe(field.default), self.describe(field.default_factory)))
            for name, field in fields.items()
        ]

    def _is_own_member(self, member: Any) -> bool:
        function = getattr(member, "__func__", getattr(member, "fget", member))
        return is_own(getattr(function, "__module__", None) or "", self._package)


def _sort_key(value: object) -> str:
    """Returns a key for an element of a set that does not depend on the hash seed."""
    if isinstance(value, tuple):
        return f"({','.join(map(_sort_key, value))})"
    if isinstance(value, frozenset):
        return f"{{{','.join(sorted(map(_sort_key, value)))}}}"
    name = getattr(value, "__qualname__", None)
    if name is not None:
        return f"{getattr(value, '__module__', '')}.{name}"
    if isinstance(value, enum.Enum):
        return f"{type(value).__qualname__}.{value.name}"
    return f"{type(value).__name__} {value!r}"


def _builtin(walk: _Walk, value: Any) -> Any:
    owner = value.__self__
    return ("name", str(value.__module__ or type(owner).__qualname__), value.__qualname__)


Describe = Callable[[_Walk, Any], Any]

#: How values of a type are described.
KINDS: Final[Mapping[type, Describe]] = {
    FunctionType: _Walk._reference,
    BuiltinFunctionType: _builtin,
    MethodType: _Walk._describe_method,
    ModuleType: lambda walk, value: ("name", value.__name__),
    SecretRef: lambda walk, value: ("secret", value.name),
    type: _Walk._reference,
    list: _Walk._describe_items,
    tuple: _Walk._describe_items,
    dict: _Walk._describe_items,
    set: _Walk._describe_items,
    frozenset: _Walk._describe_items,
    staticmethod: lambda walk, value: ("static", walk.describe(value.__func__)),
    classmethod: lambda walk, value: ("class", walk.describe(value.__func__)),
    property: lambda walk, value: ("property", *map(walk.describe, (value.fget, value.fset, value.fdel))),
    functools.cached_property: lambda walk, value: ("cached", walk.describe(value.func)),
}
