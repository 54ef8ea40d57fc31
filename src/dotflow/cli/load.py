"""The workflow that the options of a command describe, and the values of --param for it."""

import inspect
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple

import click

from dotflow.cli.command import RUN_HINT
from dotflow.cli.storages import STORAGE_ARGUMENTS, make_storage
from dotflow.config import Config
from dotflow.core.action import BY_NAME, AnyAction, action_of
from dotflow.core.callables import parameters
from dotflow.core.failure import name_of
from dotflow.core.masks import Masks, hide, hide_all
from dotflow.core.secret import SecretRef, secrets_in
from dotflow.core.steps import as_actions, resolve
from dotflow.core.task import Task
from dotflow.errors import (
    AmbiguousTask,
    DotflowError,
    MissingParam,
    NotServable,
    UnknownParam,
    UnknownParameter,
    close_match,
)
from dotflow.graph.param_types import ParamType, type_of_parameter, type_of_run_param
from dotflow.graph.params import Params, naming
from dotflow.graph.run_secrets import secret_params
from dotflow.graph.wiring import ALL_PARAMS
from dotflow.resume.choice import Resume
from dotflow.workflow import DotFlow

MAX_LENGTH: Final = 100  # characters of a derived id; every line of the log has it
#: The options that ask for a resume.
RESUME_OPTIONS: Final = ("resume", "resume_changed", "resume_unfinished", "rerun")


def resume_of(options: Mapping[str, Any]) -> Resume:
    """Returns the argument of `start` for the options that ask for a resume. Raises UsageError for two of them."""
    one, *others = [name for name in RESUME_OPTIONS[:-1] if options[name]] or [""]
    if others:
        names = (f"--{name.replace('_', '-')}" for name in (one, others[0]))
        which = "--resume, which the other one includes" if one == "resume" else "one of them"
        raise click.UsageError(f"Can't use {' with '.join(names)}. Remove {which}.")
    if options["resume_unfinished"]:
        return "unfinished"
    return "changed" if options["resume_changed"] else bool(options["resume"] or options["rerun"])


class Loaded(NamedTuple):
    """A workflow, and the parameters to start it with."""

    workflow: DotFlow
    params: Params


def build(options: Mapping[str, Any], *, is_plan: bool = False, is_scheduled: bool = False) -> Loaded:
    """Builds a workflow to run. With a storage that outlives the process it has an id, by which a resume finds it.

    Args:
        options: The options of the command.
        is_plan: Whether it is only planned, so that nothing is logged.
        is_scheduled: Whether its own schedule runs it, whose params, if it has some, are checked when it starts.

    Raises:
        UsageError: Options can't be used together.
        DotflowError: A path leads nowhere, a definition is wrong, or a parameter is missing or unknown.
    """
    workflow, params = load(options)
    steps, factory = options["step"], options["workflow"]
    is_derived = not workflow.is_named and workflow.config.storage.outlives_process
    if is_derived:
        workflow.set_id(derived_id(steps, factory))
    has_own = is_scheduled and getattr(workflow.config.scheduler, "params", None) is not None
    workflow_id = workflow.workflow_id if has_own else workflow.id_of_run(params)  # raises before anything is written
    if is_derived and not is_plan:
        of, other = ("--step", "--workflow-id") if steps else ("--workflow", "DotFlow(workflow_id=...)")
        workflow.config.log.note(f"Workflow id: {workflow_id} (derived from {of}; {other} sets another one).")
    elif not workflow.is_named and workflow.name is None:  # for the list of runs, where a generated id means nothing
        workflow.name = derived_id(steps, factory)
    return Loaded(workflow, params)


def load_servable(path: str, options: Mapping[str, Any]) -> Loaded:
    """Returns a workflow to serve or to queue, with the id that `dotflow start` derives if it has none.

    Args:
        path: The workflow, or a function that returns it.
        options: The options of the command, for its storage and its parameters.

    Raises:
        NotServable: The function needs arguments.
        UsageError, DotflowError: As `build`.
    """
    try:
        loaded = load({**options, "workflow": path})
    except MissingParam as error:
        from dotflow.engine.submission import FACTORY  # here: only this error needs it

        raise NotServable(f"{path} can't be queued or served", FACTORY) from error
    if not loaded.workflow.is_named:
        loaded.workflow.set_id(derived_id((), path))
    return loaded


def load(options: Mapping[str, Any]) -> Loaded:
    """Builds a workflow without a derived id, and makes the current folder importable. Raises as `build` does.

    A command may lack most of the options: what is run, stored or resumed.
    """
    make_folder_importable()
    steps, factory = options.get("step"), options.get("workflow")
    if not steps and not factory:
        raise click.UsageError(f"Nothing to run. {RUN_HINT}")
    if steps and factory:
        raise click.UsageError("Can't use --step with --workflow. Remove one of them.")
    storage = make_storage(options.get("storage"), {name: options.get(name) for name in STORAGE_ARGUMENTS})
    loaded = _from_factory(options) if factory else _from_steps(options)
    config = loaded.workflow.config
    if storage is not None:
        config.storage = storage
    resume = next((f"--{name.replace('_', '-')}" for name in RESUME_OPTIONS if options.get(name)), None)
    if resume is not None and not config.storage.outlives_process:
        raise click.UsageError(f"{resume} needs a storage that outlives the process. Add --storage file, for example.")
    return loaded


def derived_id(steps: Sequence[str], workflow: str | None) -> str:
    """Returns the id of a workflow without one for its dotted paths; `jobs.load` and `jobs:load` have the same one.

    Args:
        steps: The paths of the steps, in order.
        workflow: The path of a factory, if there are no steps.
    """
    if workflow is not None:
        module, _, name = workflow.replace(":", ".").rpartition(".")
        text = f"{module}:{name}"
    else:
        text = "+".join(path.replace(":", ".") for path in steps)
    if len(text) <= MAX_LENGTH:
        return text
    digest = f"~{sha256(text.encode()).hexdigest()[:16]}"  # of all of it
    return text[: MAX_LENGTH - len(digest)] + digest


def make_folder_importable() -> None:
    """Makes the modules of the current folder importable."""
    try:
        here = str(Path.cwd())
    except FileNotFoundError:
        raise click.ClickException("The current folder was removed. Use cd to leave it.") from None
    if not {"", here} & set(sys.path):
        sys.path.insert(0, here)


def _from_steps(options: Mapping[str, Any]) -> Loaded:
    actions: list[Any] = as_actions(list(options["step"]))
    params = values_for_steps(actions, parse_params(options["param"]))
    workflow = DotFlow(Config(), workflow_id=options.get("workflow_id"), params=dict.fromkeys(params, ...))
    context, callback = options.get("initial_context"), options.get("callback")
    context = None if context is None else parse_value(context)
    try:
        workflow.task.add(step=actions, callback=callback, initial_context=context)
    except UnknownParameter as error:
        hint = error.hint if error.hint.startswith("Did you mean") else "Or add the --step of this name before it."
        raise click.UsageError(
            f"Step '{error.step}' needs '{error.parameter}'. Pass --param {error.parameter}=VALUE. {hint}"
        ) from error
    except AmbiguousTask as error:
        raise click.UsageError(
            f"Several steps are called '{error.name}', and one is needed. Remove one, or name them in a --workflow."
        ) from error
    return Loaded(workflow, params)


def _from_factory(options: Mapping[str, Any]) -> Loaded:
    for option in ("initial_context", "callback", "workflow_id"):
        if options.get(option) is not None:
            name = option.replace("_", "-")
            raise click.UsageError(f"Can't use --{name} with --workflow. Set it in the factory, or use --step.")
    path, texts = str(options["workflow"]), parse_params(options.get("param", ()))
    target = resolve(path, list_actions=False)
    is_factory = not isinstance(target, DotFlow) and callable(target)
    own: Mapping[str, Any] = {}
    if is_factory:
        _check_factory(path, target)
        own = factory_params(target)
        arguments = values_for_factory(target, texts)
        workflow = _call_factory(path, target, arguments)
    else:
        workflow, arguments = target, {}
    if not isinstance(workflow, DotFlow):
        raise click.UsageError(
            f"--workflow {path} {'returned' if is_factory else 'is'} {workflow!r} ({name_of(type(workflow))}). "
            f"Use the path of a function that returns a DotFlow, or of a DotFlow."
        )
    defaults = {name: parameter.default for name, parameter in own.items() if parameter.default is not parameter.empty}
    workflow.set_built_with(naming(defaults, arguments), secrets_in(own))
    hide_all(workflow.masks())
    others = {name: text for name, text in texts.items() if name not in own or name in workflow.params}
    return Loaded(workflow, values_for_workflow(workflow.params, others, own, workflow.task))


def _check_factory(path: str, factory: Any) -> None:
    if action_of(factory) is not None:
        raise click.UsageError(f"--workflow {path} is a step. Use --step {path}.")
    try:
        inspect.signature(factory).bind(**dict.fromkeys(factory_params(factory)))
    except TypeError as error:
        raise click.UsageError(f"Can't call --workflow {path}: {error}. Give each parameter a default.") from None
    except ValueError:  # written in C, without a signature
        pass
    if inspect.iscoroutinefunction(factory):
        raise click.UsageError(f"--workflow {path} is a coroutine function. Remove its async.")


def _call_factory(path: str, factory: Callable[..., Any], arguments: Params) -> Any:
    try:
        return factory(**arguments)
    except DotflowError:
        raise
    except (Exception, SystemExit) as error:  # the user's factory
        raised = f"{type(error).__name__}: {error}"
        raise click.ClickException(f"--workflow {path} raised {raised} (--debug shows where)") from error


def parse_value(text: str) -> Any:
    """Returns the value of a JSON text, or any other text itself."""

    def refuse(constant: str) -> Any:  # NaN and Infinity, which are not JSON
        raise ValueError(constant)

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        return text


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
