"""The values of --param: for a factory, for the workflow that it returned, or for steps."""

import inspect
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from dotflow.core.action import BY_NAME, AnyAction
from dotflow.core.callables import parameters
from dotflow.core.masks import Masks, hide, hide_all
from dotflow.core.secret import SecretRef
from dotflow.core.task import Task
from dotflow.errors import MissingParam, UnknownParam, close_match
from dotflow.graph.param_types import ParamType, type_of_parameter, type_of_run_param
from dotflow.graph.params import Params
from dotflow.graph.run_secrets import secret_params
from dotflow.graph.wiring import ALL_PARAMS

Texts = Mapping[str, str]


def parse_params(options: Sequence[str]) -> Texts:
    """Returns the texts by name. Raises UsageError for an option that is not NAME=VALUE, or given twice."""
    texts: dict[str, str] = {}
    for option in options:
        name, equals, text = option.partition("=")
        if not equals or not name.isidentifier():
            raise click.UsageError(f"Can't use --param {option}: it is not NAME=VALUE. Write --param day=2026-11-25.")
        if name in texts:
            raise click.UsageError(f"--param {name} is there twice. Remove one of them.")
        texts[name] = text
    return texts


def values_for_factory(factory: Any, texts: Texts) -> Params:
    """Returns what the factory is called with. What is not its default names the workflow's runs.

    Raises:
        UsageError: A text is no value of its parameter's type.
        MissingParam: A parameter without a default has no --param.
        UnknownParam: It has none, and there is a --param of a similar name.
    """
    arguments: dict[str, Any] = {}
    missing = []
    for name, parameter in factory_params(factory).items():
        if name in texts:
            if type(parameter.default) is SecretRef:
                hide(name, texts[name])
            arguments[name] = convert(name, texts[name], type_of_parameter(factory, parameter))
        elif parameter.default is parameter.empty:
            missing.append(name)
    if missing:
        for name in texts.keys() - arguments.keys():
            if close_match(name, missing):
                raise UnknownParam(name, tuple(missing))
        raise MissingParam(tuple(missing))
    return arguments


def factory_params(factory: Any) -> Mapping[str, inspect.Parameter]:
    """Returns the parameters of a factory that --param can fill."""
    return {name: parameter for name, parameter in parameters(factory).items() if parameter.kind in BY_NAME}


def values_for_steps(actions: Iterable[AnyAction], texts: Texts) -> Params:
    """Returns the values for parameters of steps, each of the type of the first step that has the parameter.

    Raises:
        UsageError: A text is no value of its parameter's type, or a step has the parameter's name.
        UnknownParam: No step has such a parameter.
    """
    actions = list(actions) if texts else []
    known: dict[str, tuple[Any, inspect.Parameter]] = {}
    for action in actions:
        for name, parameter in parameters(action.function).items():
            if name in action.named_params:
                known.setdefault(name, (action.function, parameter))
    hide_all(Masks(os.environ.get(secret.name, "") for one in actions for secret in one.secrets.values()))
    names = {action.name.rpartition(".")[2] for action in actions}
    values: dict[str, Any] = {}
    for name, text in texts.items():
        if name in names:
            raise click.UsageError(f"Can't use --param {name}: the step '{name}' fills this parameter. Remove one.")
        if any(name in action.secrets for action in actions):
            hide(name, text)
        if name in known:
            function, parameter = known[name]
            values[name] = convert(name, text, type_of_parameter(function, parameter))
        elif ALL_PARAMS in known:
            values[name] = text
        else:
            raise UnknownParam(name, tuple(known.keys() - names), "No step has it.")
    return values


def values_for_workflow(
    declared: Params, texts: Texts, others: Iterable[str] = (), tasks: Iterable[Task] = ()
) -> Params:
    """Returns the values for the parameters that a workflow declares, each of the type of its default.

    Without a default, it has the type that the first step that takes it declares.

    Args:
        declared: The parameters with their defaults.
        texts: The texts by name.
        others: What else might have been meant, for a hint.
        tasks: The workflow's tasks.

    Raises:
        UsageError: A text is no value of its parameter's type.
        UnknownParam: It is not declared.
    """
    secrets = secret_params(declared, tasks) if texts else ()
    for name, text in texts.items():
        if name not in declared:
            raise UnknownParam(name, (*declared, *others))
        if name in secrets:
            hide(name, text)
    return {name: convert(name, text, type_of_run_param(name, declared[name], tasks)) for name, text in texts.items()}


def convert(name: str, text: str, kind: ParamType | None) -> Any:
    """Returns the value of a text. Raises UsageError, which names parameter, value and type."""
    if kind is None:
        raise click.UsageError(
            f"Can't use --param {name}={text}: no text can become the type of '{name}'. "
            f"Annotate it with a plain type, such as int or date, or set it in Python."
        )
    try:
        return kind.convert(text)
    except (ValueError, RecursionError):
        raise click.UsageError(f"Can't use --param {name}={text}: '{name}' is {kind.accepted}.") from None
