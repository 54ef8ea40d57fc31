"""Secret: the default of a step's parameter, in whose place the step receives a secret."""

import inspect
import os
from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple, NoReturn

from dotflow.errors import InvalidArgument, SecretMissing

NO_SECRETS: Final[Mapping[str, "SecretRef"]] = {}


def Secret(name: str, *, default: str | None = None) -> Any:  # noqa: N802 (it reads as a type, as users write it)
    """Declares a secret as the default of a step's parameter: `def sync(token: str = Secret("API_TOKEN"))`.

    The step receives a plain `str`. `start` looks for it in `Config(secrets=...)`, then in the environment. An empty
    text counts as missing. The value reaches the attempt alone: it is in no checkpoint, cache key, log or message.

    As the default of a run parameter, `DotFlow(params={"token": Secret("API_TOKEN")})`, it declares that the parameter
    is a secret: a value that `start` is passed comes first.

    Args:
        name: The name of the secret, which is that of the environment variable.
        default: The value where there is none; None if the secret is required.

    Returns:
        A value that fits any annotation.

    Raises:
        InvalidArgument: The name is empty, or an argument is no text.
    """
    if not isinstance(name, str) or not name:
        raise InvalidArgument("name", name, 'the name of an environment variable, such as Secret("API_TOKEN")')
    if default is not None and not isinstance(default, str):
        raise InvalidArgument("default", type(default).__name__, "a text, or None if the secret is required")
    return SecretRef(name, default)


class SecretRef:
    """Stands for a secret in a signature.

    Attributes:
        name: The name of the secret.
        default: The value where there is none; None if the secret is required. A pickle does not have it.
    """

    __slots__ = ("default", "name")

    def __init__(self, name: str, default: str | None = None) -> None:
        self.name = name
        self.default = default

    def __reduce__(self) -> tuple[type["SecretRef"], tuple[str]]:
        return SecretRef, (self.name,)

    def __copy__(self) -> "SecretRef":
        return self

    def __deepcopy__(self, memo: object) -> "SecretRef":
        return self

    def __str__(self) -> NoReturn:
        raise TypeError(
            f"{self!r} was used as a text: dotflow fills the parameters of steps only. Take it as a parameter of the "
            f"step, and pass it on."
        )

    def __repr__(self) -> str:
        return f"Secret({self.name!r})"


class SecretUse(NamedTuple):
    """A parameter that receives a secret.

    Attributes:
        step: The name of the step, or of the action of a class.
        parameter: The parameter.
        secret: The secret.
        required: Whether no run begins without it: it has no default, and nothing else fills the parameter.
        param: The run parameter whose value comes first; "" for that of an added workflow, which has none. None if the
            parameter is no run parameter.
    """

    step: str
    parameter: str
    secret: SecretRef
    required: bool = True
    param: str | None = None

    @property
    def key(self) -> str:
        """The key of its value in `Call.secrets`: no variable is called so, and only this parameter takes it."""
        return self.secret.name if self.param is None else f"{self.parameter}="


def check_no_secret(name: str, value: object) -> None:
    """Raises InvalidArgument for a Secret where only values of the run may be."""
    if type(value) is SecretRef:
        raise InvalidArgument(name, value, "a value", "A Secret is the default of a step's parameter.")


def own_secrets(values: Mapping[str, str], names: Collection[str]) -> dict[str, str]:
    """Returns the values that only one parameter takes, for those among *names*."""
    return {key[:-1]: value for key, value in values.items() if key[-1:] == "=" and key[:-1] in names}


def secrets_in(parameters: Mapping[str, inspect.Parameter]) -> Mapping[str, SecretRef]:
    """Returns the secrets among the defaults of parameters."""
    secrets = {
        name: parameter.default for name, parameter in parameters.items() if type(parameter.default) is SecretRef
    }
    return secrets or NO_SECRETS


def fill(arguments: dict[str, Any], secrets: Mapping[str, SecretRef], values: Mapping[str, str], step: str) -> None:
    """Adds the secrets that the arguments lack. Raises SecretMissing.

    Args:
        arguments: The arguments of the step.
        secrets: The secrets that it takes, by parameter.
        values: The values, by the names of the secrets.
        step: The name of the step.
    """
    missing = []
    for parameter, secret in secrets.items():
        if parameter in arguments:
            continue
        value = values.get(secret.name) or secret.default
        if value is None:
            missing.append((step, parameter, secret.name))
        else:
            arguments[parameter] = value
    if missing:
        raise SecretMissing(tuple(missing))


def keywords_with_secrets(
    function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], secrets: Mapping[str, SecretRef], step: str
) -> dict[str, Any]:
    """Returns the keyword arguments of a plain call, with those secrets of the environment that it does not pass."""
    try:
        passed = inspect.signature(function).bind_partial(*args, **kwargs).arguments
    except TypeError:  # the call itself raises it
        return dict(kwargs)
    arguments = dict(passed)
    fill(arguments, secrets, os.environ, step)
    return {**kwargs, **{name: arguments[name] for name in secrets if name not in passed}}
