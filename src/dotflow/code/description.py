"""Walk: describes code and values as nested tuples of plain values, for a fingerprint."""

import enum
import functools
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from types import BuiltinFunctionType, FunctionType, GenericAlias, MappingProxyType, MethodType, ModuleType, UnionType
from typing import Any, Final

from dotflow.code.bytecode import SIZE, CodeForm, form_of
from dotflow.code.own_code import attributes_of, codes_of_import, is_own, module_of
from dotflow.core.action import Action
from dotflow.core.secret import SecretRef

PLAIN: Final = frozenset((type(None), bool, int, type(...), type(NotImplemented)))
#: Types whose repr is their value.
BY_REPR: Final = frozenset((float, complex, range, bytearray))
#: The same: all types of these modules, which are not imported here.
BY_REPR_MODULES: Final = frozenset(
    ("datetime", "decimal", "fractions", "pathlib", "pathlib._local", "uuid", "zoneinfo", "ipaddress")
)

#: The most values that are read for one fingerprint. They take about a fifth of a second.
MAX_VALUES: Final = 100_000
#: From this length on, a text counts by its digest.
LONG_TEXT: Final = 1000

CONTAINERS: Final = (dict, list, tuple, set, frozenset)

MISSING: Final = object()  # instead of the value of a global name that has none

#: Members of a class that are code, though their names look like CPython's own.
MEMBERS: Final = (FunctionType, classmethod, staticmethod, property)


class Walk:
    """Describes values as nested tuples of plain values. A function or class is a number, and is described later.

    Iterating yields the descriptions of the functions and classes, in the order of their numbers.

    Args:
        package: The top package of the step, whose modules are the user's own wherever they are installed.

    Attributes:
        names: The names that were looked up in modules, each with its namespace and its value, or MISSING.
        assigned: Those of them that the code assigns, by the id of the namespace.
        actions: The actions that the code uses.
    """

    def __init__(self, package: str) -> None:
        self._package = package
        self._numbers: dict[int, int] = {}  # by id of the object
        self._waiting: list[Any] = []  # also keeps the ids valid
        self._open: dict[int, int] = {}  # by id: how deep the containers are that are being described
        self._imported: set[str] = set()
        self._count = 0  # of the values
        self.names: list[tuple[Mapping[str, Any], str, Any]] = []
        self.assigned: set[tuple[int, str]] = set()
        self.actions: dict[Action[..., Any], None] = {}

    def __iter__(self) -> Iterator[Any]:
        count = 0
        while count < len(self._waiting):  # a description may add more
            yield self._describe_code(self._waiting[count])
            count += 1

    def describe(self, value: Any) -> Any:
        """Returns the description of a value. It asks types only, since `isinstance` may run a value's own code."""
        self._count += 1
        if self._count > MAX_VALUES:
            raise OverflowError("too many values")
        kind = type(value)
        if kind in PLAIN:
            return (kind.__name__, value)
        if kind is str or kind is bytes:
            return (kind.__name__, value if len(value) < LONG_TEXT else hash_of(value))
        describe_kind = KINDS.get(kind)
        if describe_kind is not None:
            return describe_kind(self, value)
        if kind in BY_REPR or kind.__module__ in BY_REPR_MODULES:
            return (kind.__name__, repr(value))
        if issubclass(kind, type):
            return self._reference(value)
        return self._describe_instance(value, kind)

    def _describe_instance(self, value: Any, kind: type) -> Any:
        if issubclass(kind, enum.Enum):
            return ("enum", self._reference(kind), str(value._name_))
        if issubclass(kind, functools.partial | functools.partialmethod):
            return ("partial", *map(self.describe, (value.func, value.args, value.keywords)))
        if issubclass(kind, CONTAINERS):
            return ("subclass", self._reference(kind), self._describe_items(value))
        if issubclass(kind, ModuleType):
            return _module(self, value)
        attributes = attributes_of(value)
        if kind.__module__ == "typing" and "__origin__" in attributes:
            return ("alias", self.describe(attributes["__origin__"]), self.describe(attributes.get("__args__")))
        wrapped = attributes.get("__wrapped__")
        return ("instance", self._reference(kind), None if wrapped is None else self.describe(wrapped))

    def _describe_items(self, value: Any) -> Any:
        if id(value) in self._open:  # it contains itself
            return ("outer", self._open[id(value)])
        self._open[id(value)] = len(self._open)
        kind = type(value)
        # A subclass may have own code.
        base: Any = next((container for container in CONTAINERS if issubclass(kind, container)), kind)
        if self._count + base.__len__(value) > MAX_VALUES:
            raise OverflowError("too many values")
        items: Any
        if base is dict or base is MappingProxyType:
            items = tuple((self.describe(key), self.describe(item)) for key, item in list(base.items(value)))
        elif base is set or base is frozenset:
            items = tuple(map(self.describe, sorted(base.__iter__(value), key=_sort_key)))
        else:
            items = tuple(map(self.describe, list(base.__iter__(value))))
        del self._open[id(value)]
        return (kind.__name__, items)

    def _describe_action(self, action: Action[..., Any]) -> Any:
        self.actions[action] = None
        return ("action", self.describe(action.function))

    def _describe_method(self, method: MethodType) -> Any:
        owner = method.__self__
        kind = type(owner)
        return ("method", self.describe(method.__func__), self._reference(owner if issubclass(kind, type) else kind))

    def _reference(self, value: Any) -> Any:
        """Returns the number of a function or class, and the name of one that has nothing of the user's own."""
        number = self._numbers.get(id(value))
        if number is not None:
            return ("#", number)
        module = module_of(value)
        has_more = type(value) is FunctionType and (value.__closure__ or "__wrapped__" in attributes_of(value))
        if not has_more and not is_own(module, self._package):
            return ("name", module, value.__qualname__)
        self._numbers[id(value)] = number = len(self._waiting)
        self._waiting.append(value)
        return ("#", number)

    def _describe_code(self, value: Any) -> Any:
        if type(value) is not FunctionType:
            return self._describe_class(value)
        module = module_of(value)
        wrapped = attributes_of(value).get("__wrapped__")
        outer = (self._describe_closure(value), None if wrapped is None else self.describe(wrapped))
        if not is_own(module, self._package):  # a decorator of another package, say
            return ("name", module, value.__qualname__, *outer)
        form = form_of(value.__code__)
        return (
            "function",
            form.shape,
            self.describe(value.__defaults__),
            self.describe(value.__kwdefaults__),
            self._describe_names(form, value.__globals__),
            self._describe_imports(form, str(value.__globals__.get("__package__") or "")),
            *outer,
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
        self.assigned.update((id(namespace), name) for name in form.assigned)
        for name in form.globals:
            value = namespace.get(name, MISSING)
            self.names.append((namespace, name, value))
            if value is not MISSING:
                values.append((name, self.describe(value)))
                if issubclass(type(value), ModuleType):
                    modules.append(value)
        for module in modules:  # it grows
            members = attributes_of(module)
            module_name = str(members.get("__name__"))
            if not is_own(module_name, self._package):
                continue
            for name in form.attributes:
                if name in members:
                    value = members[name]
                    self.names.append((members, name, value))
                    values.append((f"{module_name}.{name}", self.describe(value)))
                    if issubclass(type(value), ModuleType) and value not in modules:
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
        enum_members = vars(cls).get("_member_map_") if issubclass(type(cls), enum.EnumMeta) else None
        members += ((name, self.describe(member._value_)) for name, member in (enum_members or {}).items())
        for name, member in list(vars(cls).items()):
            is_code = isinstance(member, MEMBERS)
            if name.startswith("__") and name.endswith("__") and not is_code and name != "__slots__":
                continue  # CPython's own, layout and annotations
            if enum_members is not None and not (is_code and self._is_own_member(member)):
                continue  # enum's own
            members.append((name, self.describe(member)))
        bases = tuple(self.describe(base) for base in cls.__bases__ if base is not object)
        meta = None if type(cls) is type else self.describe(type(cls))
        return ("class", cls.__qualname__, bases, meta, tuple(members), self._describe_fields(cls))

    def _describe_fields(self, cls: type) -> Any:
        """Describes the fields of a Pydantic model, which takes them out of the class."""
        own = vars(cls)
        fields = own.get("__pydantic_fields__", own.get("model_fields"))  # the second before Pydantic 2.10
        if "__pydantic_decorators__" not in own or type(fields) is not dict:
            return ()
        values = []
        for name, field in fields.items():
            parts = (field.annotation, field.default, field.default_factory, field.alias)
            values.append(
                (name, [self.describe(part) for part in parts], list(map(self._describe_constraint, field.metadata)))
            )
        return tuple(values)

    def _describe_constraint(self, value: Any) -> Any:
        names = vars(type(value)).get("__dataclass_fields__") or attributes_of(value)
        return (self.describe(value), *((name, self.describe(getattr(value, name))) for name in names))

    def _is_own_member(self, member: Any) -> bool:
        function = getattr(member, "__func__", getattr(member, "fget", member))
        return is_own(getattr(function, "__module__", None) or "", self._package)


def _sort_key(value: Any) -> str:
    """Returns a key for an element of a set that does not depend on the hash seed."""
    kind = type(value)
    if kind is tuple:
        return f"({','.join(map(_sort_key, value))})"
    if kind is frozenset:
        return f"{{{','.join(sorted(map(_sort_key, value)))}}}"
    if kind is FunctionType or issubclass(kind, type):
        return f"{value.__module__}.{value.__qualname__}"
    if issubclass(kind, enum.Enum):
        return f"{kind.__qualname__}.{value._name_}"
    is_plain = kind in PLAIN or kind in BY_REPR or kind is str or kind is bytes or kind.__module__ in BY_REPR_MODULES
    return f"{kind.__name__} {value!r}" if is_plain else f"{kind.__module__}.{kind.__qualname__}"


def hash_of(value: str | bytes) -> str:
    """Returns the digest of a text or of bytes."""
    data = value.encode(errors="surrogatepass") if isinstance(value, str) else value
    return hashlib.blake2b(data, digest_size=SIZE).hexdigest()


def _builtin(walk: Walk, value: Any) -> Any:
    kind = type(value.__self__)
    return ("name", str(value.__module__ or kind.__qualname__), value.__qualname__)


def _module(walk: Walk, value: Any) -> Any:
    return ("name", str(attributes_of(value).get("__name__")))


Describe = Callable[[Walk, Any], Any]

#: How values of a type are described.
KINDS: Final[Mapping[type, Describe]] = {
    FunctionType: Walk._reference,
    BuiltinFunctionType: _builtin,
    MethodType: Walk._describe_method,
    ModuleType: _module,
    SecretRef: lambda walk, value: ("secret", value.name),
    Action: Walk._describe_action,
    re.Pattern: lambda walk, value: ("pattern", value.flags, walk.describe(value.pattern)),
    GenericAlias: lambda walk, value: ("alias", walk.describe(value.__origin__), walk.describe(value.__args__)),
    slice: lambda walk, value: ("slice", *map(walk.describe, (value.start, value.stop, value.step))),
    UnionType: lambda walk, value: ("union", walk.describe(value.__args__)),
    type: Walk._reference,
    list: Walk._describe_items,
    tuple: Walk._describe_items,
    dict: Walk._describe_items,
    set: Walk._describe_items,
    frozenset: Walk._describe_items,
    staticmethod: lambda walk, value: ("static", walk.describe(value.__func__)),
    classmethod: lambda walk, value: ("class", walk.describe(value.__func__)),
    property: lambda walk, value: ("property", *map(walk.describe, (value.fget, value.fset, value.fdel))),
    functools.cached_property: lambda walk, value: ("cached", walk.describe(value.func)),
    functools.singledispatchmethod: lambda walk, value: ("dispatch", walk.describe(value.dispatcher.registry)),
    MappingProxyType: Walk._describe_items,
}
