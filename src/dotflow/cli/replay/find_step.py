"""Finds what is replayed, and today's step of it."""

import functools
import inspect
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import click

from dotflow.abc.archive import Archive
from dotflow.cli.load import Loaded, load, make_folder_importable
from dotflow.cli.replay.consent import HOW, Consent, is_own_module, is_own_object, module_in
from dotflow.cli.replay.handover import Program, handover
from dotflow.code.own_code import INSTALLED, file_of
from dotflow.core.action import AnyAction, action_of
from dotflow.core.masks import MASK
from dotflow.core.secret import SecretUse
from dotflow.core.steps import as_actions, resolve
from dotflow.core.task import Task
from dotflow.core.types.attempt_state import TypeAttemptState
from dotflow.errors import DotflowError, InvalidPath
from dotflow.records.record import AttemptRecord, RunRecord, TaskRecord
from dotflow.report.next_steps import command_of
from dotflow.resume.changed_code import is_same_step
from dotflow.workflow import DotFlow

MAX_LISTED = 3  # items in an error


class Target(NamedTuple):
    """A task or an item of a run, and the attempt of it with which the replay is compared."""

    run: RunRecord
    task: TaskRecord
    item: int | None
    then: AttemptRecord


def find_target(archive: Archive, run: str, step: str, attempt: int | None) -> Target:
    """Returns what is replayed. Raises NotInHistory, or ClickException for what has made no attempt."""
    record = archive.load(run)
    task, item = record.find(step)
    attempts = task.attempts_of(item)
    if item is None and task.count is not None:
        bad = [index for index, of_item in task.items.items() if of_item[-1].state is TypeAttemptState.FAILED]
        names = ", ".join(map(task.name_of, (bad or list(task.items))[:MAX_LISTED]))
        raise click.ClickException(
            f"Can't replay '{task.name_of(None)}': it is a map. Name an item{f': {names}' * bool(names)}."
        )
    if not attempts:
        raise click.ClickException(f"Can't replay '{task.name}': it has not begun in the run {record.short_id}.")
    if attempts[-1].state is TypeAttemptState.SKIPPED:
        raise click.ClickException(f"Can't replay '{task.name}': it was skipped, since {attempts[-1].glimpse}.")
    return Target(record, task, item, task.attempts_of(item, attempt)[-1])


class StepFinder:
    """Finds the step of a task: by its name, in the workflow of --workflow, or in that which its program starts.

    Attributes:
        has_run: Whether any code has been imported or run.
    """

    def __init__(self, target: Target, consent: Consent, options: Mapping[str, Any]) -> None:
        self.has_run = False
        self._consent = consent
        self._run = target.run
        self._task = target.task
        self._fallback = target.then.fallback
        self._options = options
        self._handed: Loaded | None = None
        self._import_error: InvalidPath | None = None

    @property
    def workflow(self) -> DotFlow | None:
        """The workflow, if it was needed so far."""
        return self.loaded.workflow if "loaded" in vars(self) else None

    @property
    def workflow_id(self) -> str | None:
        """The id of that workflow's run; None if it is generated, or the workflow was not needed."""
        workflow = self.workflow
        return None if workflow is None or not workflow.is_named else workflow.id_of_run(self.loaded.params)

    @functools.cached_property
    def secrets(self) -> Mapping[str, SecretUse]:
        """The parameters that run parameters fill with secrets in today's workflow, if that can be found."""
        try:
            workflow, task = self.loaded.workflow, self.definition
        except (DotflowError, click.ClickException):
            return {}
        links = workflow.new_records("", None, {})[0][task.task_id].links
        return {} if links is None else {use.parameter: use for use in links.secrets if use.param is not None}

    def find(self) -> AnyAction:
        """Returns the step, or the fallback that made the attempt. Raises ClickException or DotflowError."""
        if self._options["named"] and self._options["workflow"]:
            raise click.UsageError("Can't use --step with --workflow. Remove one of them.")
        if self._options["param"] and not self._options["workflow"]:
            raise click.UsageError("--param is for --workflow. Add that.")
        make_folder_importable()
        if self._options["named"]:
            self.has_run = True
            with handover():
                (action,) = as_actions(self._options["named"])
                return action
            raise click.ClickException("The module of --step starts a workflow when it is imported. Guard its start().")
        fallback = self._fallback
        if not fallback:
            step = None if self._options["workflow"] else self._find_by_identity()
            return self.definition.step if step is None else step
        links = self.definition.links
        index = None if links is None else links.fallback_named(fallback)
        if links is None or index is None:
            what = f"Can't replay the fallback '{fallback}': '{self._task.name}' no longer has it."
            raise click.ClickException(f"{what} Pass --attempt 1 to replay the step itself.")
        return links.fallbacks[index].step

    def _find_by_identity(self) -> AnyAction | None:
        """Returns the step that a module has under the name; None if it can only be found in its workflow."""
        module, _, name = self._task.identity.partition(":")
        if module in ("__main__", "?", "") or "<" in name:
            return None
        if self._program is not None and not self._consent.foreign and self._program.is_own:
            self._program.make_importable()
        file = file_of(module)
        if file is None:
            self._import_error = InvalidPath(self._task.identity, f"there is no module '{module}'.", f"{HOW}.")
            return None
        what = f"the step {self._task.identity} ({file})"
        self._consent.require(what, is_own=is_own_module(module), how=f"Pass --step {shlex.quote(self._task.identity)}")
        self.has_run = True
        with handover() as handed:
            try:
                target = resolve(self._task.identity, list_actions=False)
            except InvalidPath as error:
                self._import_error = error
                return None
        if handed:  # the module has no guard
            self._handed = handed[0]
            return None
        action = action_of(target)
        if action is None or action.identity != self._task.identity or self._is_method(action):
            return None
        return action

    def _is_method(self, action: AnyAction) -> bool:
        """Returns whether the step takes an instance, which only its workflow has."""
        owner, _, name = self._task.identity.rpartition(".")
        if ":" not in owner or isinstance(action.function, type):
            return False
        member = action_of(inspect.getattr_static(resolve(owner, list_actions=False), name))
        return member is None or not isinstance(member.function, staticmethod | classmethod)

    @functools.cached_property
    def definition(self) -> Task:
        """The task in today's workflow. Raises ClickException if another one has taken its place."""
        tasks, task = list(self.loaded.workflow.task), self._task
        if task.task_id < len(tasks) and self._is_same(tasks[task.task_id]):
            return tasks[task.task_id]
        moved = [candidate for candidate in tasks if self._is_same(candidate)]
        if len(moved) == 1:
            return moved[0]
        now = tasks[task.task_id].step.identity if task.task_id < len(tasks) else "none"
        raise click.ClickException(
            f"Can't replay '{task.name}': another step is in its place (task {task.task_id}: then {task.identity}, "
            f"now {now}). Restore the old order, or pass the --workflow that has it."
        )

    def _is_same(self, other: Task) -> bool:
        return other.name == self._task.name and is_same_step(self._task.identity, other.step.identity)

    @functools.cached_property
    def loaded(self) -> Loaded:
        """Today's workflow, and the parameters of the run."""
        if self._handed is not None:
            return self._handed
        options = self._options if self._options["workflow"] else self._request()
        if options is not None:
            with handover() as handed:
                self._require_own(options)
                self.has_run = True
                return load(options)
            return handed[0]  # the module has no guard
        if self._run.parent is None and self._program is not None:
            program = self._program
            command = shlex.join(["python", str(program.path), *program.argv[1:]])
            self._consent.require(f"`{command}`", is_own=program.is_own)
            self.has_run = True
            return program.run()
        if self._import_error is not None:
            raise self._import_error
        by = " by a step of another run" if self._run.parent is not None else ""
        raise click.ClickException(
            f"Can't find the step {self._task.identity}: its workflow was started{by} in a way that can't be repeated. "
            f"Pass --workflow, the path of a function that returns the workflow."
        )

    def _require_own(self, options: Mapping[str, Any]) -> None:
        """Asks for consent to the options of the run, unless they name the user's own code only."""
        if self._options["workflow"]:  # the user has named it
            return
        paths = [path for path in (*options["step"], options["workflow"], options["callback"]) if path]
        is_own = all(is_own_module(module_in(path)) for path in paths) and not options["pickle"]
        if is_own and not self._consent.foreign:
            self.has_run = True
            is_own = all(is_own_object(resolve(path, list_actions=False)) for path in paths)
        command = shlex.join(["dotflow", *self._run.environment["argv"][1:]])
        self._consent.require(f"`{command}`", is_own=is_own)

    def _request(self) -> Mapping[str, Any] | None:
        """Returns what `dotflow start` or `dotflow schedule` was asked for; None if neither started the run."""
        words = command_of(self._run.environment)
        if self._run.trigger not in ("command", "schedule") or not words:
            return None
        if any(MASK in word for word in words):
            what = "Can't repeat the command that started the run: it had a secret, which the history does not keep."
            raise click.ClickException(f"{what} Pass --workflow and --param.")
        from dotflow.cli.main import dotflow

        context = click.Context(dotflow)
        command = dotflow.get_command(context, words[0])
        assert command is not None
        try:
            # --help is no option here: it would print the help, and end.
            return command.make_context(words[0], words[1:], parent=context, help_option_names=[]).params
        except click.ClickException:  # a program has called main()
            return None

    @functools.cached_property
    def _program(self) -> Program | None:
        """The program that started the run; None if it was no script of the user's own."""
        environment = self._run.environment
        folder, argv = environment.get("folder") or "", environment.get("argv") or [""]
        path = Path(folder, argv[0])
        is_file = os.path.isfile(path)  # noqa: PTH113 (unlike that of a Path, it raises nothing)
        if self._run.trigger or path.suffix != ".py" or not is_file or not INSTALLED.isdisjoint(path.parts):
            return None
        module = environment.get("module") or ""
        return Program(path, module if module.rpartition(".")[2] == path.stem else "", folder, argv)
