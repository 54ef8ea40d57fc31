"""Run parameters: declared with defaults in DotFlow, with values in `start`.

Those that are not their default name a run: `nightly@day=2026-11-25`.
"""

import enum
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import date
from pathlib import Path
from types import EllipsisType, MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from dotflow.core.masks import NO_MASKS, Masks, digest_of_secret
from dotflow.core.setting import Setting
from dotflow.errors import InvalidArgument, MissingParam, UnknownParam, ValueNotStorable

if TYPE_CHECKING:
    from dotflow.core.task import Task

Params = Mapping[str, Any]
#: Parameters of steps that dotflow fills itself.
RESERVED: Final = ("initial_context", "previous_context", "params", "idempotency_key")
OWN_NAMES: Final = "initial_context, previous_context, params and idempotency_key"
NO_PARAMS: Final[Params] = MappingProxyType({})
MAX_LENGTH: Final = 80  # characters of the parameters in an id; a digest replaces longer ones
#: Characters of a text that is written as JSON.
QUOTED: Final = frozenset(',="@/\\')


class DeclaredParams(Mapping[str, Any]):
    """The declared parameters with their defaults; `...` for one without a default.

    Args:
        params: The parameters, as `DotFlow` accepts them.

    Attributes:
        settings: Those that are Settings: they name no run, and are no inputs.
    """

    __slots__ = ("_defaults", "settings")

    def __init__(self, params: Params) -> None:
        self.settings = frozenset(name for name, default in params.items() if type(default) is Setting)
        self._defaults = {name: params[name].default if name in self.settings else params[name] for name in params}

    def __getitem__(self, name: str) -> Any:
        return self._defaults[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._defaults)

    def __len__(self) -> int:
        return len(self._defaults)

    def __repr__(self) -> str:
        return repr({name: Setting(value) if name in self.settings else value for name, value in self.items()})


def settings_of(declared: Params) -> frozenset[str]:
    """Returns the declared parameters that are Settings."""
    return declared.settings if isinstance(declared, DeclaredParams) else frozenset()


def check_declared(params: Any) -> Params:
    """Returns the declared parameters. Raises InvalidArgument."""
    if params is None:
        return NO_PARAMS
    if not isinstance(params, Mapping) or not all(isinstance(name, str) and is_name(name) for name in params):
        accepted = f'a dict of names and defaults, such as {{"day": ..., "limit": 100}}, other than {OWN_NAMES}'
        raise InvalidArgument("params", params, accepted)
    return DeclaredParams(params)


def is_name(name: str) -> bool:
    """Returns whether a text may name a task or a run parameter: a letter, then letters, digits and `_`."""
    return name.isidentifier() and not name.startswith("_") and name not in RESERVED


def resolve(declared: Params, values: Params | None, tasks: "Iterable[Task]" = ()) -> Params:
    """Returns each parameter's value for one run. *tasks* show the types of those without a default.

    Raises:
        InvalidArgument: The values are no mapping, or one of them is certainly of another type.
        UnknownParam: One of them is not declared.
        MissingParam: A parameter without a default has no value.
    """
    if values is not None and not isinstance(values, Mapping):
        raise InvalidArgument("params", values, 'a dict of values, such as {"day": "2026-11-25"}')
    for name in values or ():
        if name not in declared:
            raise UnknownParam(str(name), tuple(declared))
    resolved = dict(declared)
    if values:
        from dotflow.graph.param_types import checked_value  # here, since most runs have none

        resolved |= {name: checked_value(name, value, declared[name], tasks) for name, value in values.items()}
    missing = [name for name, value in resolved.items() if isinstance(value, EllipsisType)]
    if missing:
        raise MissingParam(tuple(missing))
    return MappingProxyType(resolved)


def naming(declared: Params, values: Params) -> Params:
    """Returns the values that name a run: those that are not the default of their parameter.

    So a default that is given names nothing, and a new parameter with a default renames nothing. A parameter without a
    default always names the run, and a Setting never does.
    """
    named = {name: value for name, value in values.items() if name not in settings_of(declared)}
    return {name: value for name, value in named.items() if not _is_default(value, declared.get(name, ...))}


def _is_default(value: Any, default: Any) -> bool:
    if default is ...:
        return False
    if value is default:
        return True
    if type(value) is int and type(default) is float:  # which every float may be
        return value == default
    try:
        return _text("", value) == _text("", default)
    except InvalidArgument:  # the codec can't keep one of them
        return False


#: Beside the parameters that the history has of a run, under names that no parameter has: the names of those that a
#: submission with a key has given, those of the Settings among them, and the digests of the secrets of the run.
GIVEN: Final = "=given"
SETTINGS: Final = "=settings"
DIGESTS: Final = "=digests"


def params_in(stored: Params) -> dict[str, Any]:
    """Returns the parameters among what the history has of a run."""
    return {name: value for name, value in stored.items() if not name.startswith("=")}


def given_in(stored: Params) -> dict[str, Any]:
    """Returns the parameters that a submission has given, among what the history has of its run."""
    return {name: stored[name] for name in stored.get(GIVEN, params_in(stored))}


def run_id_of(workflow_id: str, values: Params, secrets: Collection[str] = (), masks: Masks = NO_MASKS) -> str:
    """Returns the id of a run that these parameters name: `nightly@day=2026-11-25,limit=100`.

    A digest stands in place of a secret. Secrets without a value name no run.

    Args:
        workflow_id: The id of the workflow.
        values: The values that `naming` returns.
        secrets: The parameters that are secrets.
        masks: The secrets of the run.

    Raises InvalidArgument for a value that can't name a run.
    """
    texts = {}
    for name in sorted(values):
        value = values[name]
        if name in secrets and (not isinstance(value, str) or not value):
            continue
        text = _text(name, value)
        if name in secrets or masks.mask(text) != text or (isinstance(value, str) and masks.mask(value) != value):
            text = secret_digest(workflow_id, name, text)
        texts[name] = text
    workflow_id = masks.mask_id(workflow_id)
    suffix = ",".join(f"{name}={text}" for name, text in texts.items())
    if len(suffix) > MAX_LENGTH:
        suffix = _digest(suffix)
    return f"{workflow_id}@{suffix}" if suffix else workflow_id


def secret_digest(workflow_id: str, name: str, value: str) -> str:
    """Returns what stands for a secret that a run was given as a parameter, in its id and in the history."""
    return digest_of_secret(value, f"{workflow_id}@{name}")


def keyed_id(workflow_id: str, key: str, masks: Masks = NO_MASKS) -> str:
    """Returns the id of a run with a key: `report#click-17`."""
    text = _text("key", key)
    return f"{masks.mask_id(workflow_id)}#{text if len(text) <= MAX_LENGTH else _digest(text)}"


def value_text(value: object) -> str:
    """Returns a value as it stands in the id of its run, a text without quotes: a day as 2026-11-25."""
    plain = _plain(value)
    return plain if isinstance(plain, str) else json.dumps(plain, separators=(",", ":"), default=str)


def _plain(value: Any) -> Any:
    """Returns the value of an enum's member, and the text of a day, a moment or a path."""
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, date):
        return value.isoformat()
    return str(value) if isinstance(value, Path) else value


def _text(name: str, value: Any) -> str:
    value = _plain(value)
    if isinstance(value, str):
        return value if _is_plain(value) else json.dumps(value)
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"))
    except (TypeError, ValueError):
        pass
    try:
        return _digest(value)
    except ValueNotStorable as error:
        accepted = "plain data, such as text, numbers or dates, since it names the run"
        raise InvalidArgument(f"params[{name!r}]", value, accepted) from error


def _is_plain(text: str) -> bool:
    """Returns whether a text stands in an id unquoted: '5' would read like the number 5."""
    if not text or not text.isprintable() or QUOTED & set(text):
        return False
    try:
        json.loads(text)
    except ValueError:
        return True
    return False


def _digest(value: Any) -> str:
    from dotflow.codec.canonical import digest  # here, since most runs never need it

    return digest(value)
