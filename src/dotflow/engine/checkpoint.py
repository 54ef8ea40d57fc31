"""Checkpoints: saving and restoring through a Storage, and which step made what."""

import contextlib
from collections.abc import Iterator, Sequence

from dotflow.abc.storage import Storage
from dotflow.core.context import Context
from dotflow.core.task import Task
from dotflow.errors import CheckpointMismatch, StorageError


class Checkpoints:
    """The finished tasks of one workflow, as its storage knows them.

    Args:
        storage: Where they are kept.
        workflow_id: Whose they are.
    """

    def __init__(self, storage: Storage, workflow_id: str) -> None:
        self._storage = storage
        self._workflow_id = workflow_id

    def forget(self, tasks: Sequence[Task]) -> None:
        """Those of earlier runs no longer count."""
        with _reading(self._storage):
            if self._storage.clear(self._workflow_id):
                return
            for key in map(self._storage.key, tasks):
                if self._storage.contains(key):
                    self._storage.delete(key)

    def save(self, task: Task, context: Context) -> None:
        """Keeps a value. Raises StorageError when it could not be kept."""
        key = "?"
        try:
            key = self._storage.key(task)
            self._storage.post(key, context)
        except Exception as error:  # somebody else's code, and a border: what it raises fails the task
            reason = f"{type(error).__name__}: {error}"
            raise StorageError(
                f"Step '{task.name}' finished, but its value could not be saved as '{key}'", reason
            ) from error

    def restore(self, tasks: Sequence[Task]) -> dict[int, Context]:
        """The contexts of the tasks that finished in an earlier run, by task id.

        Raises CheckpointMismatch when one was made by another step than the one that stands there now.
        """
        found: dict[int, Context] = {}
        mismatches: list[tuple[int, str, str]] = []
        for task in tasks:
            with _reading(self._storage):
                key = self._storage.key(task)
                if not self._storage.contains(key):
                    continue
                context = self._storage.get(key)
                if not isinstance(context, Context):
                    raise TypeError(f"get({key!r}) gave a {type(context).__name__}, not a Context")
            if context.step is not None and context.step != task.step.identity:
                mismatches.append((task.task_id, context.step, task.step.identity))
            found[task.task_id] = context
        if mismatches:
            raise CheckpointMismatch(mismatches)
        return found


@contextlib.contextmanager
def _reading(storage: Storage) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # somebody else's code, and a border: nothing has run yet, and nothing will
        reason = f"{type(error).__name__}: {error}"
        raise StorageError(f"{type(storage).__name__} could not be read, so nothing was run", reason) from error
