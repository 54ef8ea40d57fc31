"""The same call: a call is known by its function, its arguments, and how many equal ones came before it."""

import inspect
import json
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from hashlib import blake2b
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from dotflow.codec.json import decode_plain, encode_bytes
from dotflow.codec.parts import Raw
from dotflow.core.action import IDEMPOTENCY_KEY, Action, AnyAction
from dotflow.core.callables import parameters
from dotflow.core.context import Context
from dotflow.core.secret import SecretRef
from dotflow.core.text import safe_repr, shorten
from dotflow.errors import CallRefused, ValueNotStorable
from dotflow.worker.files import SCALARS, are_scalars

MAX_ARGUMENTS: Final = 16 << 10  # bytes of a call's arguments that are kept, to show them
MAX_SHOWN: Final = 60  # characters of the arguments in a line
MAX_LINE: Final = 200  # characters of the arguments in a history
MAX_BEGINNING: Final = 1000  # characters of a call's arguments that a history is sent
ROOT_DIGITS: Final = 6  # hexadecimal digits of a key that are those of the step, so that a list of keys shows them
KEY_BYTES: Final = 9  # of the digest that follows them

BY_POSITION: Final = inspect.Parameter.POSITIONAL_OR_KEYWORD
PLAIN_KINDS: Final = frozenset({BY_POSITION, inspect.Parameter.KEYWORD_ONLY})
_DECODER: Final = json.JSONDecoder()
#: What is code, and counts by its fingerprint.
CODE: Final = (FunctionType, MethodType, ModuleType, type, Action)


class Asked(NamedTuple):
    """A call that was asked for, as far as it is known by its arguments.

    Attributes:
        action: The action.
        name: The identity of its function: the same in every process.
        digest: The digest of its arguments.
        text: These as JSON; empty where they are too large.
        beginning: The beginning of that, also where they are.
        counted: The arguments that tell it apart.
        is_fixed: Whether all of them are scalars, which no call can change.
        lacks_key: Whether it takes an idempotency key that was not passed.
    """

    action: AnyAction
    name: str
    digest: str
    text: str
    beginning: str
    counted: Mapping[str, Any]
    is_fixed: bool
    lacks_key: bool = False


class _Signature:
    """The parameters of a function, as far as they tell its calls apart."""

    def __init__(self, function: Any, name: str) -> None:
        self.name = name
        known = parameters(function)
        self.signature = inspect.Signature([*known.values()])
        self.names = [*known]
        self.known = {*known}
        self.is_plain = {parameter.kind for parameter in known.values()} <= PLAIN_KINDS
        self.positions = [one for one, parameter in known.items() if parameter.kind is BY_POSITION]
        self.defaults = {one: part.default for one, part in known.items() if part.default is not part.empty}
        self.filled = {one for one, default in self.defaults.items() if type(default) is SecretRef}

    def has(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        """Returns whether a call passes a parameter."""
        return name in kwargs or name in self.positions[: len(args)]

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the arguments by parameter, defaults included, in the order of these. Raises TypeError."""
        if self.is_plain and len(args) <= len(self.positions):
            bound = {**self.defaults, **dict(zip(self.positions, args, strict=False)), **kwargs}
            if bound.keys() == self.known and kwargs.keys().isdisjoint(self.positions[: len(args)]):
                return {one: bound[one] for one in self.names}
        return self._bind(args, kwargs)

    def _bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        found = self.signature.bind(*args, **kwargs)
        found.apply_defaults()
        bound = dict(found.arguments)
        for parameter in self.signature.parameters.values():
            if parameter.kind is parameter.VAR_KEYWORD:
                bound[parameter.name] = dict(sorted(bound[parameter.name].items()))
        return bound


_signatures: Final = WeakKeyDictionary[Any, _Signature]()


def _signature_of(function: Any) -> _Signature:
    owner = function.__func__ if type(function) is MethodType else function
    try:
        found = _signatures.get(owner)
        if found is None:
            found = _signatures[owner] = _Signature(function, identity_of(function))
    except TypeError:  # an object without weak references
        return _Signature(function, identity_of(function))
    return found


def identity_of(function: Any) -> str:
    """Returns the name of a function, `module:qualname`, with the name of its file in place of `__main__`."""
    module = getattr(function, "__module__", None) or "?"
    if module == "__main__":
        module = _name_of_script(function)
    return f"{module}:{getattr(function, '__qualname__', None) or type(function).__qualname__}"


def _name_of_script(function: Any) -> str:
    code = getattr(inspect.unwrap(function), "__code__", None)
    main = sys.modules["__main__"]
    path, spec = getattr(main, "__file__", None), getattr(main, "__spec__", None)
    file = path if code is None else code.co_filename
    if spec is not None and file == path:  # python -m
        return str(spec.name)
    return Path(file).stem if file else "__main__"


def _of_closure(function: Any, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """Yields the values in the closure of a local function, and of those that it calls."""
    if type(function) is MethodType:
        function = function.__func__
    if type(function) is not FunctionType or function.__closure__ is None or "<" not in function.__qualname__:
        return
    for name, cell in zip(function.__code__.co_freevars, function.__closure__, strict=True):
        try:
            value = cell.cell_contents
        except ValueError:  # it is empty
            continue
        if not isinstance(value, CODE):
            yield name, value
        elif id(value) not in seen:
            seen.add(id(value))
            inner = value.function if isinstance(value, Action) else value
            for inner_name, inner_value in _of_closure(inner, seen):
                yield f"{name}.{inner_name}", inner_value


def ask_for(action: AnyAction, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Asked:
    """Returns what tells a call of an action apart from other calls.

    Raises:
        TypeError: The arguments don't fit the parameters.
        CallRefused: An argument has no digest.
    """
    function: Any = action.function
    while isinstance(function, partial):
        args, kwargs, function = (*function.args, *args), {**function.keywords, **kwargs}, function.func
    signature = _signature_of(function)
    lacks_key = action.takes_key and not signature.has(IDEMPOTENCY_KEY, args, kwargs)
    if lacks_key:
        kwargs = {**kwargs, IDEMPOTENCY_KEY: ""}
    counted = signature.bind(args, kwargs)
    if lacks_key:
        del counted[IDEMPOTENCY_KEY]
    if action.key is not None:
        counted = {name: counted[name] for name in action.key if name in counted}
    else:
        for name in signature.filled:
            counted.pop(name, None)
        if type(function) is MethodType:
            owner = function.__self__
            counted["self"] = f"{owner.__module__}:{owner.__qualname__}" if isinstance(owner, type) else owner
        if (closure := getattr(function, "__closure__", None)) is not None and closure:
            counted |= dict(_of_closure(function, {id(function)}))
    for name, value in counted.items():
        if type(value) is Context:
            counted[name] = value.storage
    digest, text, beginning = _digest(action, counted)
    is_fixed = are_scalars(map(type, counted.values()))
    return Asked(action, signature.name, digest, text, beginning, counted, is_fixed, lacks_key)


def _digest(action: AnyAction, counted: Mapping[str, Any]) -> tuple[str, str, str]:
    parts: list[Raw] = []
    try:
        data = encode_bytes(counted, parts=parts, is_sorted=True)
    except ValueNotStorable as error:
        raise _refusal(action, counted, error) from None
    digest = blake2b(data, digest_size=16)
    for part in parts:
        digest.update(b"%d:" % part.data.nbytes)
        digest.update(part.data)
    if parts or len(data) > MAX_ARGUMENTS:
        return digest.hexdigest(), "", data[:MAX_BEGINNING].decode(errors="ignore")
    text = data.decode()
    return digest.hexdigest(), text, text


def changed_argument(asked: Asked) -> str:
    """Returns the argument that a call has changed; "" if it has changed none."""
    if asked.is_fixed:
        return ""
    try:
        if _digest(asked.action, asked.counted)[0] == asked.digest:
            return ""
    except CallRefused:  # it now holds what has no digest
        pass
    before = json.loads(asked.text or "{}")
    others = [name for name, value in asked.counted.items() if not are_scalars([type(value)])]
    for name in others:
        try:
            if json.loads(encode_bytes(asked.counted[name], is_sorted=True)) != before.get(name):
                return name
        except ValueNotStorable:
            return name
    return others[0]


def _refusal(action: AnyAction, counted: Mapping[str, Any], error: ValueNotStorable) -> CallRefused:
    article = "an" if error.kind[:1].lower() in "aeiou" else "a"
    place = error.place or f"[{next(iter(counted), '?')!r}]"
    others = [name for name in counted if f"[{name!r}]" not in place and name != "self"]
    names = "[" + ", ".join(f'"{name}"' for name in others or ["…"]) + "]"
    reason = f" ({error.reason})" if error.reason else ""
    hint = f"Name the parameters that tell its calls apart: @action(key={names})."
    return CallRefused(
        action.name, f"its argument {place} is {article} {error.kind}, which has no digest{reason}", hint
    )


def shown(name: str, text: str) -> str:
    """Returns a call as a line shows it, such as search('x'), by the identity of its action and its arguments."""
    values = json.loads(text).values() if text else ()
    arguments = ", ".join(safe_repr(decode_plain(value)) for value in values) if text else "…"
    return f"{name.rpartition(':')[2].rpartition('.')[2]}({shorten(arguments, MAX_SHOWN)})"


def shown_arguments(beginning: str) -> str:
    """Returns the arguments of a call as a line shows them, by the beginning of their JSON. What is cut is as it is."""
    at, shown = 1, list[str]()
    try:
        while at < len(beginning) - 1:
            _, end = _DECODER.raw_decode(beginning, at)  # the name
            at = end + len(": ")
            value, end = _DECODER.raw_decode(beginning, at)
            shown.append(repr(value) if type(value) in SCALARS else safe_repr(decode_plain(value)))
            at = end + len(", ")
    except ValueError:
        shown.append(beginning[at:])
    return shorten(", ".join(shown), MAX_LINE)


def root_of(base: str) -> str:
    """Returns the beginning of the keys of all calls of a step, by what these are made from."""
    return blake2b(base.encode(), digest_size=ROOT_DIGITS // 2).hexdigest()


def key_of(root: str, base: str, asked: Asked, number: int) -> str:
    """Returns the key of a call.

    Args:
        root: The beginning of the keys of its step.
        base: What the keys are made from; of a call in a durable call, the key of that.
        asked: The call.
        number: How many equal ones came before it.
    """
    text = f"{base}\n{asked.name}\n{asked.digest}\n{number}"
    return f"{root}{blake2b(text.encode(), digest_size=KEY_BYTES).hexdigest()}"
