"""The inputs of an attempt: those of a file, the copies in the history, or what the storage of the run still has."""

import functools
import json
from collections.abc import Iterator, Mapping
from typing import IO, Final, NoReturn

import click

from dotflow.abc.archive import Archive
from dotflow.cli.replay.find_step import StepFinder, Target
from dotflow.codec.document import unpack
from dotflow.codec.json import decode
from dotflow.core.action import AnyAction
from dotflow.core.context import Context
from dotflow.core.failure import Failure, TaskError
from dotflow.core.links import PARAM, PARAMS, Carried, Constant
from dotflow.core.types.attempt_state import TypeAttemptState
from dotflow.core.types.execution import mode_of
from dotflow.errors import CheckpointUnreadable, DotflowError
from dotflow.graph.linking import ERROR
from dotflow.graph.params import resolve
from dotflow.graph.plan import make_plan
from dotflow.providers.histories.sql.tables import ARGUMENT, INITIAL, PREVIOUS
from dotflow.records.record import ValueRecord
from dotflow.resume.stored_inputs import StoredInputs, TaskInputs

MAX_INPUT: Final = 100_000_000  # characters of --input, as many as bytes of all copies of a run

#: Roles -> the parameters that they fill.
CONTEXTS: Final = {PREVIOUS: "previous_context", INITIAL: "initial_context"}

#: States in which a task has no value.
WITHOUT_VALUE: Final = (TypeAttemptState.FAILED, TypeAttemptState.SKIPPED, TypeAttemptState.PAUSED, None)

#: The state of an attempt -> what would have kept its inputs.
WOULD_KEEP: Final[Mapping[TypeAttemptState | None, str]] = {
    TypeAttemptState.FAILED: "A history with values='failed' keeps a copy",
    TypeAttemptState.CRASHED: "Of a crash, only a storage that outlives the process keeps them",
}
#: What a document of a pickle has; no text in one has a line end.
PICKLED: Final = b'\n"value": {"$pickle"'
#: The note on a copy of an object that the step had itself.
AFTER: Final = "copied after the attempt, which may have changed it"

#: The note on a value of the workflow's definition, or a run parameter, that may have been another one.
TODAY: Final = "as today's workflow has it: the history did not keep it"

OTHERWISE: Final = "The history keeps the inputs of failed steps, and with values='all' those of all"


class InputFinder:
    """Finds the inputs of one attempt: edited values, copies, or what the storage has; both by role.

    Attributes:
        notes: What is uncertain about them, by role.
    """

    def __init__(
        self,
        archive: Archive,
        target: Target,
        copies: Mapping[str, ValueRecord],
        edited: Mapping[str, Context],
        finder: StepFinder,
    ) -> None:
        self.notes: dict[str, str] = {}
        self._archive = archive
        self._run, self._task, self._item, self._attempt = target
        self._copies, self._edited, self._finder = copies, edited, finder

    def find(self, step: AnyAction) -> TaskInputs:
        """Returns the inputs of the step. Raises ClickException for one that was not kept."""
        has_actions = isinstance(step.function, type)  # those of a class may take both contexts
        taken = [role for role, name in CONTEXTS.items() if has_actions or name in step.context_params]
        known = {*self._copies, *self._edited}
        is_required = bool(taken) or any(step.named_params.values())
        had_none = self._attempt.state is TypeAttemptState.FAILED and not is_required  # and so no copies
        if not known and (taken or step.named_params) and not had_none:
            return self._from_storage(taken[0] if taken else "")
        if not step.named_params:  # it may return an instance whose actions take contexts
            kept = {*self._edited, *(role for role, copy in self._copies.items() if copy.document)}
            taken += [role for role in CONTEXTS if role in kept and role not in taken]
        names = {name for name, required in step.named_params.items() if required or f"{ARGUMENT}{name}" in known}
        if any(f"{ARGUMENT}{name}" not in known for name in names):  # no history keeps a secret
            names -= self._finder.secrets.keys()
        if step.takes_any:
            names |= {role.removeprefix(ARGUMENT) for role in known if role.startswith(ARGUMENT)}
        previous, initial = (self._value(role) if role in taken else Context() for role in CONTEXTS)
        arguments = {name: self._value(f"{ARGUMENT}{name}") for name in sorted(names)}
        values = {  # a task's Context, or its value
            name: value if value.task_id is not None and name.endswith("_context") else value.storage
            for name, value in arguments.items()
        }
        return TaskInputs(previous, initial, values)

    @functools.cached_property
    def _fallback(self) -> int | None:
        """The index of the fallback that made the attempt; None for the step itself."""
        links = self._finder.definition.links if self._attempt.fallback else None
        return None if links is None else links.fallback_named(self._attempt.fallback)

    @functools.cached_property
    def _error(self) -> Mapping[str, TaskError]:
        """The error that a fallback was given, by its parameter; empty if it takes none."""
        if not self._attempt.fallback:  # no workflow has to be found
            return {}
        links, index = self._finder.definition.links, self._fallback
        if links is None or index is None or not links.fallbacks[index].takes_error:
            return {}
        attempts = [one for one in self._task.attempts_of(self._item) if one.errors and not one.fallback]
        return {ERROR: TaskError(attempts[-1].attempt, Failure(*attempts[-1].errors[-1][:3]))} if attempts else {}

    def _value(self, role: str) -> Context:
        """Returns the edited value, the copy or, where there is none, what the storage of the run has."""
        if role in self._edited:
            return self._edited[role]
        copy, name = self._copies.get(role), _name_of(role)
        if name in self._error:
            return Context(self._error[name])
        if copy is None or copy.document is None:
            inputs = self._from_storage(role)
            if role in CONTEXTS:
                return inputs.previous if role == PREVIOUS else inputs.initial
            if name not in inputs.arguments:
                self._refuse(role, "no task or parameter filled it")
            value = inputs.arguments[name]
            return value if isinstance(value, Context) else Context(value)
        if copy.note:
            self.notes[name] = AFTER
        try:
            return unpack(copy.document, role, pickle=PICKLED in copy.document and self._has_pickles)
        except CheckpointUnreadable as error:
            raise click.ClickException(
                f"Can't read '{name}' of '{self._task.name}': {error.reason.partition(';')[0].rstrip('.')}. "
                f"Pass --import with the module of a class, or --input FILE."
            ) from error

    @functools.cached_property
    def _has_pickles(self) -> bool:
        """Whether today's workflow keeps its history, with pickles, in this very place: then those are trusted."""
        history = self._finder.loaded.workflow.config.history
        store = None if history is None else history.store
        return bool(store and getattr(history, "pickle", False)) and store == getattr(self._archive, "store", None)

    @functools.cached_property
    def _stored(self) -> TaskInputs:
        """The inputs, from the storage of the run. Raises DotflowError or ClickException."""
        run, loaded = self._run, self._finder.loaded
        storage = loaded.workflow.config.storage
        if not run.storage or run.storage.startswith("StorageDefault") or not storage.outlives_process:
            raise click.ClickException("The run had no storage that outlives its process")
        workflow = loaded.workflow
        values = resolve(workflow.params, loaded.params or None, workflow.task)
        tasks, params = workflow.new_records(run.workflow_id, None, values)
        plan = make_plan(tasks, mode_of(run.mode))
        without = {task.task_id for task in run.steps if task.state in WITHOUT_VALUE}
        stored = StoredInputs(storage, tasks, plan, params, without, self._is_of_run)
        task_id = self._finder.definition.task_id
        inputs = stored.of(task_id, self._item, self._fallback)
        return inputs._replace(arguments={**inputs.arguments, **self._error})

    def _is_of_run(self, context: Context, task_id: int, item: int | None) -> bool:
        """Returns whether the run made or restored the value."""
        if context.inputs is not None and context.inputs.is_of(self._run.run_id):
            return True
        attempts = self._run.steps[task_id].attempts_of(item) if task_id < len(self._run.steps) else ()
        return bool(attempts) and attempts[-1].attempt == 0 and attempts[-1].began == context.time

    def _from_storage(self, role: str) -> TaskInputs:
        try:
            inputs = self._stored
        except (DotflowError, click.ClickException) as error:
            self._refuse(role, error.message if isinstance(error, click.ClickException) else str(error))
        if inputs.initial.storage is not None:
            self.notes[CONTEXTS[INITIAL]] = TODAY
        kept = {_name_of(role) for role, copy in self._copies.items() if copy.document} | {*map(_name_of, self._edited)}
        self.notes.update((name, TODAY) for name in self._of_today() if name not in kept)
        return inputs

    def _of_today(self) -> Iterator[str]:
        """Yields the parameters whose values are no task's, so that the storage does not show what the run had."""
        links, loaded = self._finder.definition.links, self._finder.loaded
        if links is None:
            return
        # The id of a run has the parameters that were passed.
        same = loaded.params if self._finder.workflow_id == self._run.workflow_id else {}
        binds = links.binds if self._fallback is None else links.fallbacks[self._fallback].binds
        carried = {bind.parameter for bind in binds if isinstance(bind.source, Carried)} if self._item else set()
        for bind in binds:
            if bind.parameter in carried:  # of the round before
                continue
            names = {PARAM: (bind.source,), PARAMS: tuple(loaded.workflow.params)}.get(bind.kind, ())
            if isinstance(bind.source, Constant) or not all(name in same for name in names):
                yield bind.parameter
        for link in links.innermost:
            if isinstance(link.source, tuple) or (isinstance(link.source, str) and link.source not in same):
                yield link.parameter

    def _refuse(self, role: str, why_not_stored: str) -> NoReturn:
        copy = self._copies.get(role)
        what = f"'{_name_of(role)}' was" if role else "arguments were"
        reason = copy.note if copy is not None and copy.note else WOULD_KEEP.get(self._attempt.state, OTHERWISE)
        reasons = ". ".join(text.rstrip(".") for text in (reason, why_not_stored) if text)
        raise click.ClickException(
            f"Can't replay '{self._task.name}': its {what} not kept. {reasons}. Pass it with --input FILE."
        )


def _name_of(role: str) -> str:
    """Returns the parameter of a role."""
    return CONTEXTS.get(role) or role.removeprefix(ARGUMENT)


def read_input(file: IO[str]) -> dict[str, Context]:
    """Returns the values of a file by role. Raises ClickException for another file.

    The checksum of a document does not count, since an edit breaks it.
    """
    values = {}
    try:
        text = file.read(MAX_INPUT + 1)
        if len(text) > MAX_INPUT:
            raise ValueError(f"it has more than {MAX_INPUT} characters")
        for line in text.splitlines():
            copy = json.loads(line)
            document = copy["document"]
            if document is not None:
                value = decode(json.dumps(document["value"]))
                values[copy["role"]] = Context(value, document.get("task_id"), document.get("workflow_id"))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, CheckpointUnreadable) as error:
        reason = error.reason if isinstance(error, CheckpointUnreadable) else f"{type(error).__name__}: {error}"
        how = "Make it with dotflow show RUN STEP --input --json, and edit its values."
        raise click.ClickException(f"Can't read --input: {reason.rstrip('.')}. {how}") from error
    return values
