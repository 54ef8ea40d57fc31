"""The workflow that the options of `start` and `schedule` describe."""

import inspect
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from dotflow.cli.command import RUN_HINT
from dotflow.cli.run.derived_id import derived_id
from dotflow.cli.storages import STORAGE_OPTIONS, make_storage
from dotflow.config import Config
from dotflow.core.action import action_of
from dotflow.core.failure import name_of
from dotflow.core.steps import resolve
from dotflow.errors import DotflowError
from dotflow.workflow import DotFlow


class RunRequest(NamedTuple):
    """The options that describe a workflow, by their names."""

    step: Sequence[str]
    workflow: str | None
    initial_context: str | None
    callback: str | None
    workflow_id: str | None
    storage: str | None
    storage_options: Mapping[str, str | None]
    resume: bool

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "RunRequest":
        """Selects them from all options of a command."""
        names = set(cls._fields) - {"storage_options"}
        storage_options = {name: options[name] for name in STORAGE_OPTIONS}
        return cls(**{name: options[name] for name in names}, storage_options=storage_options)


def build(request: RunRequest) -> DotFlow:
    """Builds a workflow to run. With a storage that outlives the process it has an id, by which a resume finds it.

    Raises:
        UsageError: Options can't be used together.
        DotflowError: A path leads nowhere, or a definition is wrong.
    """
    workflow = load(request)
    if not workflow.is_named and workflow.config.storage.outlives_process:
        workflow.set_id(derived_id(request.step, request.workflow))
        of, other = ("--step", "--workflow-id") if request.step else ("--workflow", "DotFlow(workflow_id=...)")
        workflow.config.log.note(f"Workflow id: {workflow.workflow_id} (derived from {of}; {other} sets another one).")
    return workflow


def load(request: RunRequest) -> DotFlow:
    """Builds a workflow without a derived id, and makes the current folder importable. Raises as `build` does."""
    _make_folder_importable()
    if not request.step and not request.workflow:
        raise click.UsageError(f"Nothing to run. {RUN_HINT}")
    if request.step and request.workflow:
        raise click.UsageError("Can't use --step with --workflow. Remove one of them.")
    storage = make_storage(request.storage, request.storage_options)
    workflow = _from_factory(request) if request.workflow else _from_steps(request)
    if storage is not None:
        workflow.config.storage = storage
    if request.resume and not workflow.config.storage.outlives_process:
        raise click.UsageError("--resume needs a storage that outlives the process. Add --storage file, for example.")
    return workflow


def _make_folder_importable() -> None:
    try:
        here = str(Path.cwd())
    except FileNotFoundError:
        raise click.ClickException("The current folder was removed. Use cd to leave it.") from None
    if not {"", here} & set(sys.path):
        sys.path.insert(0, here)


def _from_steps(request: RunRequest) -> DotFlow:
    workflow = DotFlow(config=Config(), workflow_id=request.workflow_id)
    context = None if request.initial_context is None else parse_value(request.initial_context)
    workflow.task.add(step=list(request.step), callback=request.callback, initial_context=context)
    return workflow


def _from_factory(request: RunRequest) -> DotFlow:
    for option in ("initial_context", "callback", "workflow_id"):
        if getattr(request, option) is not None:
            name = option.replace("_", "-")
            raise click.UsageError(f"Can't use --{name} with --workflow. Set it in the factory, or use --step.")
    path = str(request.workflow)
    target = resolve(path, list_actions=False)
    workflow = target if isinstance(target, DotFlow) else _call_factory(path, target)
    if not isinstance(workflow, DotFlow):
        verb = "is" if workflow is target else "returned"
        raise click.UsageError(
            f"--workflow {path} {verb} {workflow!r} ({name_of(type(workflow))}). "
            f"Use the path of a function that returns a DotFlow, or of a DotFlow."
        )
    return workflow


def _call_factory(path: str, factory: Any) -> Any:
    if action_of(factory) is not None:
        raise click.UsageError(f"--workflow {path} is a step. Use --step {path}.")
    if not callable(factory):
        return factory
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        raise click.UsageError(f"Can't call --workflow {path}: {error}. Give each parameter a default.") from None
    except ValueError:  # written in C, without a signature
        pass
    if inspect.iscoroutinefunction(factory):
        raise click.UsageError(f"--workflow {path} is a coroutine function. Remove its async.")
    try:
        return factory()
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
