"""Cache: values by the step, its code and its arguments, for all runs and workflows that share a storage."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from dotflow import clock
from dotflow.abc.storage import Storage
from dotflow.core.call import Call
from dotflow.core.context import Context
from dotflow.core.events import TaskRestored
from dotflow.core.fingerprint import fingerprint
from dotflow.core.linked_task import Item
from dotflow.core.task import Task
from dotflow.engine.lifecycle import NOT_SAVED, Fallback, TaskFlow, task_flow
from dotflow.errors import CheckpointUnreadable, LeaseLost, ValueNotStorable
from dotflow.worker.attempt import arguments_of

#: The beginning of the keys; no workflow can have it as its id and be cleared with it, since a key has two slashes.
PREFIX: Final = "@cache/"

Arguments = Mapping[str, Any]
Save = Callable[[Task, Context, Context], None]


def prefix_of(identity: str) -> str:
    """Returns the beginning of the keys of a step's values."""
    return f"{PREFIX}{identity}/"


class Cache:
    """The cached values of a run.

    Args:
        storage: Where they are saved.
        save: Saves the checkpoint of a task from its context and previous context.
        report: Writes a line into the log.
        reads: Whether cached values are used. Otherwise they are made anew, and replaced.
    """

    def __init__(self, storage: Storage, save: Save, report: Callable[..., None], *, reads: bool) -> None:
        self._storage = storage
        self._save = save
        self._report = report
        self._reads = reads
        self._reported: set[tuple[int, str]] = set()

    @property
    def reads(self) -> bool:
        """Whether cached values are used."""
        return self._reads

    def flow(
        self,
        task: Task,
        lane: int,
        previous: Context,
        number: int,
        arguments: Arguments | None,
        shared: Arguments | None,
        fallback: Callable[[], Fallback | None] | None,
        secrets: Mapping[str, str] | None = None,
    ) -> TaskFlow:
        """Yields the requests of a task, as `task_flow` does: none but its end, if its value is in the cache."""
        key = self.key(task, previous, arguments, shared)
        context = self.find(task, key)
        if context is not None:
            try:
                self._save(task, context, previous)
            except NOT_SAVED as error:
                if isinstance(error, LeaseLost):
                    raise
                self._report_once(task, f"its checkpoint can't be saved. {error}")
            else:
                yield TaskRestored(task.task_id, context, previous, task.item, "cache")
                return context
        own, common = None if arguments is None else dict(arguments), None if shared is None else dict(shared)
        context = yield from task_flow(task, lane, previous, number, own, common, fallback, secrets)
        if context is not None and key is not None and context.step == task.step.identity:
            self._post(task, key, context)
        return context

    def key(self, task: Task, previous: Context, arguments: Arguments | None, shared: Arguments | None) -> str | None:
        """Returns the key of a task's value; None if an argument has no digest, which is logged once.

        The values of secrets are no part of it, so a new token does not make values anew.
        """
        from dotflow.codec.canonical import digest  # here, since most workflows never need it

        step, name = task.step, "initial_context"
        if not fingerprint(step):
            self._report_once(task, "its code can't be read. Write version=... to stand for it.")
            return None
        call = Call(task.task_id, 0, step, task.initial_context, previous, "", None, 0, arguments, shared)
        values = dict(arguments_of(call))
        if isinstance(step.function, type):  # its actions may take them
            values = {"initial_context": task.initial_context, "previous_context": previous, **values}
        digests = []
        try:
            for name, value in sorted(values.items()):
                digests.append([name, digest(value.storage if isinstance(value, Context) else value)])
        except ValueNotStorable:
            self._report_once(task, f"its argument '{name}', of type {type(value).__qualname__}, can't be compared.")
            return None
        return f"{prefix_of(step.identity)}{digest([fingerprint(step), digests])}"

    def find(self, task: Task, key: str | None) -> Context | None:
        """Returns the cached value as a context of the task; None if there is none that is young enough."""
        if key is None or not self._reads:
            return None
        try:
            found = self._storage.get(key)
            if found.storage is None and found.task_id is None:
                return None
        except CheckpointUnreadable as error:  # the run replaces it
            self._report_once(task, f"its value can't be read. {error}")
            return None
        except Exception as error:  # the storage may be the user's
            self._report_once(task, f"the storage of the cache raised {type(error).__name__}: {error}")
            return None
        seconds = task.step.cache
        if seconds is not True and (clock.now() - found.time).total_seconds() > float(seconds or 0):
            return None
        return Context(found.storage, task.task_id, task.workflow_id, found.time, task.step.identity)

    def _post(self, task: Task, key: str, context: Context) -> None:
        try:
            self._storage.post(
                key, Context(context.storage, task.task_id, task.workflow_id, context.time, context.step)
            )
        except LeaseLost:  # the run ends at its next value
            return
        except Exception as error:  # a value that it refuses, or the user's own storage
            self._report_once(task, f"its value can't be saved there. {type(error).__name__}: {error}")

    def _report_once(self, task: Task, reason: str) -> None:
        kind = reason.partition(".")[0]  # once for all items of a map
        if (task.task_id, kind) not in self._reported:
            self._reported.add((task.task_id, kind))
            name = task.task_name if isinstance(task, Item) else task.name
            self._report(f"Task {task.task_id} {name} is not cached: {reason}")
