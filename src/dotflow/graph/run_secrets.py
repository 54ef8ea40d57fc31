"""RunSecrets: the secrets of one run, found before anything runs, and what must not be written."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from dotflow.core.action import AnyAction
from dotflow.core.failure import name_of
from dotflow.core.links import PARAM, TRUE, Bind, Condition, Constant, Links
from dotflow.core.masks import MIN_LENGTH, NO_MASKS, Masks, hidden, secret_variables
from dotflow.core.secret import SecretRef, SecretUse
from dotflow.core.task import Task
from dotflow.errors import InvalidLink, InvalidProvider, SecretMissing
from dotflow.graph.linked_task import LinkedTask
from dotflow.graph.params import Params, secret_digest

Source = Mapping[str, str] | Callable[[str], str | None]
Values = Mapping[str, str]

NAME: Final = "Config(secrets=...)"


class SecretSource:
    """The secrets of `Config(secrets=...)`. Dumping it shows none.

    Raises InvalidProvider for what is neither a mapping nor a function.
    """

    __slots__ = ("_source",)

    def __init__(self, source: Source | None) -> None:
        if source is not None and not isinstance(source, Mapping) and not callable(source):
            hint = 'Pass {"API_TOKEN": value}, or a function of the name that returns a text or None.'
            raise InvalidProvider(NAME, f"of type {name_of(type(source))}", "Mapping", hint)
        self._source = source

    def get(self, name: str) -> str | None:
        """Returns the value of a secret; None if there is none. Raises InvalidProvider for what is no text."""
        source = self._source
        if source is None:
            return None
        try:
            value = source.get(name) if isinstance(source, Mapping) else source(name)
        except Exception as error:  # the user's function
            error.add_note(f"{NAME} was asked for {name!r}.")
            raise
        if value is not None and not isinstance(value, str):  # the value itself must not be shown
            got = f"one that returns {name_of(type(value))} for {name!r}"
            raise InvalidProvider(NAME, got, "Mapping[str, str]", "Return a str, or None for none.")
        return None if value is None else str.__str__(value)  # a subclass may hide itself

    def values(self) -> Iterable[str]:
        """Returns the values of a dict. Another mapping, or a function, may ask a service for each of them."""
        return [value for value in self._source.values() if value] if isinstance(self._source, dict) else ()


class TaskSecrets(dict[str, str]):
    """The values of one task's secrets, by name. No repr shows them."""

    def __repr__(self) -> str:
        return f"<{len(self)} secrets>"


class RunSecrets:
    """The secrets of one run. It is no tuple, whose values an error reporter would show with those of each frame.

    Attributes:
        by_task: The values of the secrets of those tasks that take any, by name.
        masks: What masks them.
        notes: Lines for the log on what is not masked.
    """

    __slots__ = ("_given", "by_task", "masks", "notes")

    def __init__(
        self, by_task: Mapping[int, Values], masks: Masks, notes: Sequence[str] = (), given: Values | None = None
    ) -> None:
        self.by_task = by_task
        self.masks = masks
        self.notes = notes
        self._given = TaskSecrets(given or {})

    def digests(self, workflow_id: str) -> dict[str, str]:
        """Returns the digests of the run parameters among them that have a value, by name."""
        return {name: secret_digest(workflow_id, name, value) for name, value in self._given.items()}


NO_RUN_SECRETS: Final = RunSecrets({}, NO_MASKS)


def secret_params(declared: Params, tasks: Iterable[Task]) -> dict[str, SecretRef]:
    """Returns the run parameters that are secrets: they are declared as one, or fill a parameter that is one."""
    secrets = {name: default for name, default in declared.items() if type(default) is SecretRef}
    for task in tasks if declared else ():
        if task.links is not None:
            for step, bind in _binds_of(task.step, task.links):
                if bind.kind == PARAM and isinstance(bind.source, str) and bind.parameter in step.secrets:
                    secrets.setdefault(bind.source, step.secrets[bind.parameter])
    return secrets


def _binds_of(step: AnyAction, links: Links) -> Iterator[tuple[AnyAction, Bind]]:
    yield from ((step, bind) for bind in links.binds)
    yield from ((handler.step, bind) for handler in links.fallbacks for bind in handler.binds)


def keep_secret(step: AnyAction, links: Links, secrets: Mapping[str, SecretRef], values: Params) -> Links:
    """Returns the links of a task where run parameters that are secrets fill it as secrets do, and no argument does.

    Args:
        step: The task's step.
        links: Its links.
        secrets: The run parameters that are secrets.
        values: The values of the run's parameters.
    """

    def secret_of(bind: Bind) -> SecretRef | None:
        if bind.kind != PARAM or not isinstance(bind.source, str):  # a Constant: a default of an added workflow
            default = bind.source.value if isinstance(bind.source, Constant) else None
            return default if type(default) is SecretRef else None
        return secrets.get(bind.source)

    def known(condition: Condition) -> Condition:
        source = condition.source
        value = values.get(source) if isinstance(source, str) else getattr(source, "value", None)
        if source not in secrets and type(value) is not SecretRef:
            return condition
        holds = bool(value) if condition.expected is TRUE else value == condition.expected
        return condition._replace(source=Constant(holds), expected=TRUE)

    for link in links.innermost:
        if isinstance(link.source, str) and link.source in secrets:
            raise InvalidLink(
                f"each can't go through '{link.source}': a step takes it as a secret. Use another parameter."
            )
    for part, bind in _binds_of(step, links):
        if secret_of(bind) is not None and bind.parameter not in part.secrets:
            getattr(part.function, "refuse_secret", len)(bind.parameter)  # of a command
    uses = [
        SecretUse(part.name, bind.parameter, secret, param=bind.source if isinstance(bind.source, str) else "")
        for part, bind in _binds_of(step, links)
        if (secret := secret_of(bind)) is not None
    ]

    def without_secrets(binds: Iterable[Bind]) -> tuple[Bind, ...]:
        return tuple(bind for bind in binds if secret_of(bind) is None)

    return links._replace(
        binds=without_secrets(links.binds),
        fallbacks=tuple(handler._replace(binds=without_secrets(handler.binds)) for handler in links.fallbacks),
        conditions=tuple(map(known, links.conditions)),
        secrets=(*links.secrets, *uses),
    )


def mask_names(tasks: Sequence[Task], masks: Masks) -> None:
    """Puts a digest in place of each secret in the names and groups of new records, which name files and lines."""
    if not masks:
        return
    names = {task.group_name for task in tasks}
    names.update(task.links.name for task in tasks if isinstance(task, LinkedTask) and task.links.name)
    masked = {name: shown for name in names if (shown := masks.mask_id(name)) != name}
    for task in tasks if masked else ():
        task.group_name = masked.get(task.group_name, task.group_name)
        if isinstance(task, LinkedTask) and task.links.name in masked:
            task.links = task.links._replace(name=masked[task.links.name])


NO_GIVEN: Final[Values] = {}


def find_secrets(
    tasks: Iterable[Task],
    source: SecretSource,
    mask: Sequence[str],
    given: Values = NO_GIVEN,
    *,
    are_required: bool = True,
) -> RunSecrets:
    """Returns the secrets of the tasks, and the masks of these, of *mask* and of the environment.

    Args:
        tasks: The tasks of the run; those without links take no secrets, and may be left out.
        source: `Config(secrets=...)`.
        mask: The names of other secrets.
        given: The run parameters that are secrets and have a value.
        are_required: Whether missing ones are an error.

    Raises:
        SecretMissing: Required ones are missing; it names all.
        InvalidProvider: The source returned something other than a text or None.
    """
    values = _Values(source)
    by_task: dict[int, Values] = {}
    missing: dict[tuple[str, str, str], None] = {}
    for task in tasks:
        if task.links is None or not task.links.secrets:
            continue
        own = TaskSecrets()
        for use in task.links.secrets:
            value = given.get(use.param or "") or values[use.secret.name] or use.secret.default
            if value is not None:
                own.setdefault(use.key, value)
            elif use.required:
                missing[use.step, use.parameter, use.secret.name] = None
        by_task[task.task_id] = own
    if missing and are_required:
        raise SecretMissing(tuple(missing))
    known = {**values, **given}
    notes = [
        f"The secret {name} has fewer than {MIN_LENGTH} characters, so it is not masked in logs and messages: it would "
        f"mask ordinary text."
        for name, value in known.items()
        if value and len(value) < MIN_LENGTH
    ]
    notes += [  # not the name itself: a caller may have passed the secret in its place
        f"Config(mask=...): entry {index} is the name of no environment variable, and {NAME} has no value for it. "
        f"Nothing is masked for it."
        for index, name in enumerate(mask, 1)
        if not values[name]
    ]
    masked = [value for own in by_task.values() for value in own.values()]
    masked += [value for value in values.values() if value]
    masked += [*given.values(), *source.values(), *secret_variables(), *hidden]
    return RunSecrets(by_task, Masks(masked), notes, given)


class _Values(dict[str, str | None]):
    """Looks up each secret once."""

    def __init__(self, source: SecretSource) -> None:
        self._source = source

    def __missing__(self, name: str) -> str | None:
        value = self[name] = self._source.get(name) or os.environ.get(name)
        return value
