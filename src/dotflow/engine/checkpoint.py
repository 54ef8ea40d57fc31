"""Checkpoints: saving and restoring through a Storage, which step made what, and whose run it is that counts."""

import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Final

from dotflow.abc.storage import Storage
from dotflow.core.context import Context
from dotflow.core.task import Task
from dotflow.errors import CheckpointMismatch, CheckpointUnreadable, DotflowError, StorageError, ValueNotStorable

#: The runs that go on in this process, by storage and workflow: the last one that began anew makes the others void.
_open: Final[dict[tuple[int, str], list["Checkpoints"]]] = {}
_guard: Final = threading.Lock()


class Checkpoints:
    """The finished tasks of one workflow, as its storage knows them, for one run.

    Args:
        storage: Where they are kept.
        workflow_id: Whose they are.
        alone: Whether other processes are kept off the workflow meanwhile.
        report: Writes a line into the log.
    """

    def __init__(self, storage: Storage, workflow_id: str, *, alone: bool, report: Callable[..., None]) -> None:
        self._storage = storage
        self._workflow_id = workflow_id
        self._alone = alone
        self._report = report
        self._name = (id(storage), workflow_id)
        self._held = contextlib.ExitStack()
        self._is_void = False
        self._has_said_so = False

    def open(self, tasks: Sequence[Task], *, resume: bool) -> dict[int, Context]:
        """What is there of earlier runs, by task id; nothing, and it no longer counts, unless *resume*.

        Raises WorkflowBusy when another process works on the workflow, CheckpointMismatch when a checkpoint was made by
        another step than the one that stands there now, CheckpointUnreadable and StorageError. Then nothing is held.
        """
        with contextlib.ExitStack() as held:
            if self._alone:
                try:
                    held.enter_context(self._storage.hold(self._workflow_id))
                except Exception as error:  # somebody else's code, and a border: nothing has run yet, and nothing will
                    raise _unusable(self._storage, error) from error
            held.callback(self._leave)
            self._join()
            if resume:
                found = self._restore(tasks)
            else:
                self._forget(tasks)
                found = {}
            self._held = held.pop_all()
        return found

    def close(self) -> None:
        """Lets other processes work on the workflow."""
        self._held.close()

    def save(self, task: Task, context: Context) -> None:
        """Keeps a value. Raises ValueNotStorable or StorageError when it could not be kept."""
        if self._is_void:
            self._say_that_it_is_void()
            return
        key = "?"
        try:
            key = self._storage.key(task)
            self._storage.post(key, context)
        except ValueNotStorable as error:
            raise error.by(task.name) from error.__cause__
        except Exception as error:  # somebody else's code, and a border: what it raises fails the task
            if self._is_void:  # by now: the newer run swept the storage clean in the middle of it
                self._say_that_it_is_void()
                return
            reason = f"{type(error).__name__}: {error}"
            raise StorageError(
                f"Step '{task.name}' finished, but its value could not be saved as '{key}'", reason
            ) from error

    def _join(self) -> None:
        with _guard:
            _open.setdefault(self._name, []).append(self)

    def _leave(self) -> None:
        with _guard:
            runs = [run for run in _open.pop(self._name, []) if run is not self]
            if runs:
                _open[self._name] = runs

    def _forget(self, tasks: Sequence[Task]) -> None:
        """Those of earlier runs no longer count, nor those that runs which go on still would make."""
        with _guard:
            for other in _open[self._name]:
                other._is_void = other is not self
        try:
            if self._storage.clear(self._workflow_id):
                return
            for key in map(self._storage.key, tasks):
                if self._storage.contains(key):
                    self._storage.delete(key)
        except Exception as error:  # somebody else's code, and a border: nothing has run yet, and nothing will
            raise _unusable(self._storage, error) from error

    def _restore(self, tasks: Sequence[Task]) -> dict[int, Context]:
        found: dict[int, Context] = {}
        mismatches: list[tuple[int, str, str]] = []
        for task in tasks:
            context = self._find(task)
            if context is None:
                continue
            if context.step is not None and not _is_same_step(context.step, task.step.identity):
                mismatches.append((task.task_id, context.step, task.step.identity))
            found[task.task_id] = context
        if mismatches:
            raise CheckpointMismatch(mismatches)
        return found

    def _find(self, task: Task) -> Context | None:
        storage = self._storage
        key = "?"
        try:
            key = storage.key(task)
            context = storage.get(key)
            if context.__class__ is not Context and not isinstance(context, Context):
                raise TypeError(f"get({key!r}) gave a {type(context).__name__}, not a Context")
            if context.task_id is None:
                if context.storage is None and not storage.contains(key):
                    return None
                context = Context(context, task.task_id, task.workflow_id)  # it kept the value only, which is enough
        except CheckpointUnreadable as error:
            where = f"{type(storage).__name__} under {key!r}"
            raise error.at(where, f"{task.task_id} {task.name}") from error.__cause__
        except Exception as error:  # somebody else's code, and a border: nothing has run yet, and nothing will
            raise _unusable(storage, error) from error
        return context

    def _say_that_it_is_void(self) -> None:
        if not self._has_said_so:
            self._has_said_so = True
            self._report(
                f"Workflow {self._workflow_id!r} was started anew while this run of it went on: only the newer run's "
                f"values are saved, this one's are kept in memory."
            )


def _unusable(storage: Storage, error: Exception) -> DotflowError:
    """What start() raises when the storage does; what it says in our own words goes on as it is."""
    if isinstance(error, DotflowError):
        return error
    reason = f"{type(error).__name__}: {error}"
    return StorageError(f"{type(storage).__name__} can't be used, so nothing was run", reason)


def _is_same_step(was: str, now: str) -> bool:
    """Whether two identities mean one step. A script that is run is called `__main__`, the same one imported is not."""
    if was == now:
        return True
    (module, _, name), (module_now, _, name_now) = was.partition(":"), now.partition(":")
    return name == name_now and "__main__" in (module, module_now)
