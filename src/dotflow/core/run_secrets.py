"""RunSecrets: the secrets of one run, found before anything runs, and what must not be written."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from dotflow.core.failure import name_of
from dotflow.core.masks import MIN_LENGTH, NO_MASKS, Masks, secret_variables
from dotflow.core.task import Task
from dotflow.errors import InvalidProvider, SecretMissing

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
    """The secrets of one run, their masks, and lines for the log on what is not masked."""

    __slots__ = ("_by_task", "masks", "notes")

    def __init__(self, by_task: Mapping[int, Values], masks: Masks, notes: Sequence[str] = ()) -> None:
        self._by_task = by_task
        self.masks = masks
        self.notes = notes

    def of_task(self, task_id: int) -> Values | None:
        """Returns the values of a task's secrets, by name; None if it takes none."""
        return self._by_task.get(task_id)


NO_RUN_SECRETS: Final = RunSecrets({}, NO_MASKS)


def find_secrets(tasks: Iterable[Task], source: SecretSource, mask: Sequence[str]) -> RunSecrets:
    """Returns the secrets of the tasks, and the masks of these, of *mask* and of the environment.

    Args:
        tasks: The tasks of the run; those without links take no secrets, and may be left out.
        source: `Config(secrets=...)`.
        mask: The names of other secrets.

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
        for step, parameter, secret, required in task.links.secrets:
            value = values[secret.name] or secret.default
            if value is not None:
                own.setdefault(secret.name, value)
            elif required:
                missing[step, parameter, secret.name] = None
        by_task[task.task_id] = own
    if missing:
        raise SecretMissing(tuple(missing))
    notes = [_too_short(name) for name, value in values.items() if value and len(value) < MIN_LENGTH]
    notes += [_unknown(index) for index, name in enumerate(mask, 1) if not values[name]]
    masked = [value for own in by_task.values() for value in own.values()]
    masked += [value for value in values.values() if value]
    return RunSecrets(by_task, Masks([*masked, *source.values(), *secret_variables(os.environ)]), notes)


class _Values(dict[str, str | None]):
    """Looks up each secret once."""

    def __init__(self, source: SecretSource) -> None:
        self._source = source

    def __missing__(self, name: str) -> str | None:
        value = self[name] = self._source.get(name) or os.environ.get(name)
        return value


def _too_short(name: str) -> str:
    return (
        f"The secret {name} has fewer than {MIN_LENGTH} characters, so it is not masked in logs and messages: it would "
        f"mask ordinary text."
    )


def _unknown(index: int) -> str:
    # Not the name itself: somebody may have passed the secret in its place.
    return (
        f"Config(mask=...): entry {index} is the name of no environment variable, and {NAME} has no value for it. "
        f"Nothing is masked for it."
    )
