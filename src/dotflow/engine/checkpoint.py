"""Checkpoints: saving and restoring through a Storage, which step made what, and whose run it is that counts."""

import contextlib
import itertools
import threading
import uuid
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Literal

from dotflow.abc.shared_lock import SharedLock
from dotflow.abc.storage import Storage
from dotflow.core.context import Context
from dotflow.core.task import Task
from dotflow.engine.restoring import NO_INITIAL, digest_of, restore
from dotflow.errors import (
    CheckpointUnreadable,
    DotflowError,
    LeaseLost,
    StorageError,
    ValueNotStorable,
)

#: What start() takes as `resume`, and what it means: no; yes; yes, unless the last run has finished all tasks.
Resume = bool | Literal["unfinished"]


class _RunLock(SharedLock[threading.RLock]):
    """A run among those of this process that work on one workflow now. The resource is held by the one that writes.

    So no value of an older run is saved after a newer run has begun.

    Attributes:
        is_void: Whether a newer run has voided the values of this one.
    """

    is_void = False

    def make(self) -> threading.RLock:
        return threading.RLock()


class Checkpoints:
    """The finished tasks of one workflow, as its storage knows them, for one run.

    Args:
        storage: Where they are kept.
        workflow_id: Whose they are.
        alone: Whether other processes are kept off the workflow meanwhile.
        report: Writes a line into the log.
    """

    def __init__(self, storage: Storage, workflow_id: str, *, exclusive: bool, report: Callable[..., None]) -> None:
        self._storage = storage
        self._workflow_id = workflow_id
        self._exclusive = exclusive
        self._report = report
        self._run_lock = _RunLock((id(storage), workflow_id))
        self._turn = threading.RLock()
        self._workflow_lock: contextlib.AbstractContextManager[Hashable] | None = None
        self._has_reported_void = False
        self._digests: Sequence[str] = ()
        self._run = ""

    def open(self, tasks: Sequence[Task], *, resume: Resume, sources: Sequence[int | None] = ()) -> dict[int, Context]:
        """What counts of earlier runs, by task id; nothing unless *resume*. What does not count is deleted.

        Args:
            tasks: The run's tasks.
            resume: Whether earlier runs count.
            sources: For each task, the one whose value it is given as `previous_context`.

        Raises WorkflowBusy when another process works on the workflow, CheckpointMismatch when a checkpoint was made by
        another step than the one that stands there now, CheckpointUnreadable and StorageError. Then nothing is held.
        """
        try:
            if self._exclusive:
                self._lock_workflow()
            self._run_lock.__enter__()
            self._turn = self._run_lock.resource
            self._digests = _digests_of(tasks)
            self._run = f"{uuid.uuid4().hex[:12]}/{len(tasks)}"
            # With "unfinished", a run of this process that goes on finishes by itself, and this one begins anew.
            if resume is True or (resume and len(self._run_lock.sharing) == 1):
                checkpoints = [self._read(task) for task in tasks]
                if resume is True or self._is_unfinished(checkpoints):
                    return self._restore(tasks, sources or (None,) * len(tasks), checkpoints)
            self._void_all(tasks)
        except BaseException:  # Ctrl-C too: another process may try
            self.close()
            raise
        return {}

    def close(self) -> None:
        """Lets other processes work on the workflow. May be called again."""
        try:
            self._leave()
        except KeyboardInterrupt:  # in the middle of it: it is finished all the same
            self._leave()
            raise

    def _lock_workflow(self) -> None:
        with _usable(self._storage):
            lock = self._storage.lock(self._workflow_id)
            key = lock.__enter__()
            self._workflow_lock = lock
        if key is not None:
            self._run_lock = _RunLock((key, self._workflow_id))

    def _leave(self) -> None:
        self._run_lock.__exit__()
        if self._workflow_lock is not None:
            self._workflow_lock.__exit__(None, None, None)
            self._workflow_lock = None

    def save(self, task: Task, context: Context) -> None:
        """Keep a value, and what it was made from. Raises ValueNotStorable or StorageError where it can not."""
        context.made_from(self._digests[task.task_id], task.previous_context, self._run)
        with self._turn:
            if self._run_lock.is_void:
                self._report_void()
            else:
                self._save(task, context)

    def _save(self, task: Task, context: Context) -> None:
        key = "?"
        try:
            key = self._storage.key(task)
            self._storage.post(key, context)
        except ValueNotStorable as error:
            raise error.by(task.name) from error.__cause__
        except LeaseLost:  # more than this value: the run ends by it
            raise
        except Exception as error:  # somebody else's code, and a border: what it raises fails the task
            reason = f"{type(error).__name__}: {error}"
            raise StorageError(
                f"Step '{task.name}' finished, but its value could not be saved as '{key}'", reason
            ) from error

    def _void_all(self, tasks: Sequence[Task]) -> None:
        """Those of earlier runs no longer count, nor those that runs which go on still would make."""
        with _usable(self._storage), self._turn:
            for other in self._run_lock.sharing:
                other.is_void = other is not self._run_lock
            if self._storage.clear(self._workflow_id):
                return
            # From the end: cut off in the middle of it, what is left is the beginning of one run.
            for key in reversed(self._keys(tasks)):
                self._storage.delete(key)

    def _keys(self, tasks: Sequence[Task]) -> list[str]:
        """The keys of what is there, each once, also of tasks that the workflow had once and no longer has."""
        storage, keys = self._storage, dict[str, None]()
        for task in tasks:
            if storage.contains(key := storage.key(task)):
                keys[key] = None
        for task_id in itertools.count(len(tasks)) if tasks else ():
            # No task of an earlier run is known any more, but its place makes its key, in most storages.
            key = storage.key(Task(task_id, tasks[-1].step, workflow_id=self._workflow_id))
            if key in keys or not storage.contains(key):  # found already: the place makes no key here
                break
            keys[key] = None
        return list(keys)

    def _is_unfinished(self, checkpoints: Sequence[Context | None]) -> bool:
        """Whether the last run left one of today's tasks, which it had, without a checkpoint."""
        inputs = [context.inputs for context in checkpoints if context is not None]
        if None in inputs:
            self._report(
                f"{type(self._storage).__name__} keeps values only, so it can't say whether the last run is finished: "
                "all tasks run."
            )
            return False
        count = max((each.tasks for each in inputs if each is not None), default=0)
        return None in checkpoints[:count]

    def _restore(
        self, tasks: Sequence[Task], sources: Sequence[int | None], checkpoints: Sequence[Context | None]
    ) -> dict[int, Context]:
        by_id = {task_id: context for task_id, context in enumerate(checkpoints) if context is not None}
        restoration = restore(tasks, sources, self._digests, by_id)
        self._void([tasks[task_id] for task_id in restoration.void])
        for task_id, reason in restoration.void.items():
            self._report(f"Task {task_id} {tasks[task_id].name} runs again: {reason}.")
        for note in restoration.notes:
            self._report(note)
        return restoration.restored

    def _void(self, void: Sequence[Task]) -> None:
        """From the end: cut off in the middle of it, nothing is left without what it was made from."""
        with _usable(self._storage), self._turn:
            for task in reversed(void):
                self._storage.delete(self._storage.key(task))

    def _read(self, task: Task) -> Context | None:
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
            elif context.task_id != task.task_id:
                raise ValueError(f"get({key!r}) gave task {context.task_id}'s value to task {task.task_id}")
        except CheckpointUnreadable as error:
            where = f"{type(storage).__name__} under {key!r}"
            raise error.at(where, f"{task.task_id} {task.name}") from error.__cause__
        except DotflowError:  # said in our own words
            raise
        except Exception as error:  # somebody else's code, and a border: nothing has run yet, and nothing will
            raise _storage_error(storage, error) from error
        return context

    def _report_void(self) -> None:
        if not self._has_reported_void:
            self._has_reported_void = True
            self._report(
                f"Workflow {self._workflow_id!r} was started anew while this run of it went on: only the newer run's "
                f"values are saved, this one's are kept in memory."
            )


@contextlib.contextmanager
def _usable(storage: Storage) -> Iterator[None]:
    """Turns what the storage raises into the StorageError of a run that has not begun."""
    try:
        yield
    except DotflowError:  # already in our words
        raise
    except Exception as error:  # the storage may be the user's
        raise _storage_error(storage, error) from error


def _storage_error(storage: Storage, error: Exception) -> StorageError:
    """What start() raises when the storage does."""
    what = str(error)
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        # Without the other name of a rename, which is nobody's business.
        what = f"{error.strerror}: {str(error.filename)!r}. Mend that, or give Config(storage=...) another place"
    reason = f"{type(error).__name__}: {what}"
    return StorageError(f"{type(storage).__name__} can't be used, so nothing was run", reason)


def _digests_of(tasks: Sequence[Task]) -> list[str]:
    """What the tasks' initial contexts are compared by: taken before a step can change them."""
    digest_of_value: dict[int, str] = {}  # by the value's id, since all tasks of one add() share it
    digests = []
    for task in tasks:
        value = task.initial_context.storage if task.has_initial else None
        if value is None:
            digests.append(NO_INITIAL)
            continue
        if id(value) not in digest_of_value:
            digest_of_value[id(value)] = digest_of(value)
        digests.append(digest_of_value[id(value)])
    return digests
