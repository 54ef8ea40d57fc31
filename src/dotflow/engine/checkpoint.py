"""Checkpoints: saves and restores the values of one run through a Storage, and voids those of earlier runs."""

import contextlib
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from dotflow.abc.storage import Storage
from dotflow.core.context import Context
from dotflow.core.linked_task import LinkedTask
from dotflow.core.params import Params
from dotflow.core.task import Task
from dotflow.engine.checkpoint_keys import CheckpointKeys
from dotflow.engine.restoring import Restoration, digests_of, restore
from dotflow.engine.run_lock import RunLock
from dotflow.errors import CheckpointUnreadable, DotflowError, LeaseLost, StorageError, ValueNotStorable

if TYPE_CHECKING:
    from dotflow.engine.restoring_links import LinkedRestorer

#: What start() takes as `resume`. "unfinished": only if the last run left a task unfinished.
Resume = bool | Literal["unfinished"]


class Checkpoints:
    """The checkpoints of one workflow, for one run.

    Args:
        storage: Where they are saved.
        workflow_id: The workflow.
        exclusive: Whether the workflow is locked against other processes during the run.
        report: Writes a line into the log.
    """

    def __init__(self, storage: Storage, workflow_id: str, *, exclusive: bool, report: Callable[..., None]) -> None:
        self._storage = storage
        self._workflow_id = workflow_id
        self._exclusive = exclusive
        self._report = report
        self._run_lock = RunLock((id(storage), workflow_id), storage)
        self._turn = threading.RLock()
        self._workflow_lock: contextlib.AbstractContextManager[Hashable] | None = None
        self._has_reported_void = False
        self.not_needed: Collection[int] = ()  # tasks without checkpoints that a resume does not run
        self.whole_maps: Collection[int] = ()  # mapped tasks of which all items are restored
        self._tasks: Sequence[Task] = ()
        self._keys = CheckpointKeys(storage, workflow_id, ())
        self._digests: Sequence[str] = ()
        self._links: LinkedRestorer | None = None
        self._restores_items = False
        self._run = ""

    def open(
        self,
        tasks: Sequence[Task],
        *,
        resume: Resume,
        sources: Sequence[int | None] = (),
        params: Params | None = None,
    ) -> dict[int, Context]:
        """Returns the valid checkpoints of earlier runs by task id, and deletes the others. Without *resume* all go.

        Args:
            tasks: The run's tasks.
            resume: Whether earlier runs count.
            sources: For each task, the task whose value is its `previous_context`.
            params: The run parameters, if tasks have links.

        Raises:
            WorkflowBusy: Another process is running the workflow.
            CheckpointMismatch: Another step made one of the checkpoints.
            CheckpointUnreadable: A checkpoint can't be read.
            StorageError: The storage can't be used. After any of these errors, the lock is released.
        """
        try:
            if self._exclusive:
                self._lock_workflow()
            self._run_lock.__enter__()
            self._turn = self._run_lock.resource
            self._tasks = tasks
            self._keys = CheckpointKeys(self._storage, self._workflow_id, tasks)
            self._digests = digests_of(tasks)
            self._run = f"{uuid.uuid4().hex[:12]}/{len(tasks)}"
            # With "unfinished", another run of this process finishes its own work, so this one starts anew.
            must_read = resume is True or (resume and len(self._run_lock.sharing) == 1)
            if params is not None:
                from dotflow.engine.restoring_links import LinkedRestorer  # here, since most workflows have no links

                self._links = LinkedRestorer(tasks, sources, params, self._digests, self._read)
                restoration = self._links.restore() if must_read else None
                if restoration is not None and (resume is True or not restoration.is_finished):
                    return self._restore(restoration)
            elif must_read:
                checkpoints = [self._read(task) for task in tasks]
                if resume is True or self._is_unfinished(checkpoints):
                    by_id = {task_id: context for task_id, context in enumerate(checkpoints) if context is not None}
                    return self._restore(restore(tasks, sources or (None,) * len(tasks), self._digests, by_id))
            self._void_all(tasks)
        except BaseException:  # Ctrl-C too
            self.close()
            raise
        return {}

    def close(self) -> None:
        """Releases the lock on the workflow. May be called again."""
        try:
            self._leave()
        except KeyboardInterrupt:  # finish first, then raise
            self._leave()
            raise

    def _lock_workflow(self) -> None:
        with _usable(self._storage):
            lock = self._storage.lock(self._workflow_id)
            key = lock.__enter__()
            self._workflow_lock = lock
        if key is not None:
            self._run_lock = RunLock((key, self._workflow_id), self._storage)

    def _leave(self) -> None:
        self._run_lock.__exit__()
        if self._workflow_lock is not None:
            self._workflow_lock.__exit__(None, None, None)
            self._workflow_lock = None

    def save(self, task: Task, context: Context) -> None:
        """Saves a task's value with a record of its inputs.

        Raises:
            ValueNotStorable: The storage can't keep such a value.
            StorageError: Saving failed.
        """
        tokens, run, is_saved = None, self._run, True
        if self._links is not None:
            tokens, run = self._links.tokens(task, context), self._links.stable_run(task) or run
            links = self._tasks[task.task_id].links  # an item has none
            is_saved = task.step.checkpoint and not (links is not None and links.always)
        context._set_inputs(self._digests[task.task_id], task.previous_context, run, tokens)
        if not is_saved:
            return
        with self._turn:
            if self._run_lock.is_void:
                self._report_void()
            else:
                self._save(task, context)

    def _save(self, task: Task, context: Context) -> None:
        key = "?"
        try:
            key = self._storage.key(task) if self._links is None else self._keys.of(task)
            self._storage.post(key, context)
        except ValueNotStorable as error:
            raise error.by(task.name) from error.__cause__
        except LeaseLost:  # ends the run, not only this task
            raise
        except Exception as error:  # the storage may be the user's
            reason = f"{type(error).__name__}: {error}"
            raise StorageError(
                f"Step '{task.name}' finished, but its value could not be saved as '{key}'", reason
            ) from error

    def _restore(self, restoration: Restoration) -> dict[int, Context]:
        self._restores_items = True
        self.not_needed, self.whole_maps = restoration.not_needed, restoration.whole_maps
        self._void([task for task, _ in restoration.void])
        self._report_again(restoration.void)
        for note in restoration.notes:
            self._report(note)
        return restoration.restored

    def _report_again(self, void: Sequence[tuple[Task, str]]) -> None:
        """Reports the tasks that run again and why, the items of a map together."""
        counts = Counter((task.task_id, task.item is not None, reason) for task, reason in void)
        for (task_id, is_item, reason), count in counts.items():
            items = f" for {count} item{'s' * (count > 1)}" if is_item else ""
            self._report(f"Task {task_id} {self._tasks[task_id].name} runs again{items}: {reason}.")

    def restore_items(self, task: LinkedTask) -> dict[int, Context]:
        """Returns the valid checkpoints of an open map's items by index, and deletes the others.

        Raises the errors of `open`.
        """
        try:
            with _usable(self._storage), self._turn:
                if self._run_lock.is_void:  # the items there are those of the newer run
                    return {}
                self._keys.add_items(task)
            if not self._restores_items:
                return {}
            assert self._links is not None
            valid, void = self._links.restore_items(task)
            self._void([item for item, _ in void])
        except LeaseLost:  # ends the run, not only this task
            raise
        except StorageError as error:
            raise StorageError(f"The checkpoints of the items of '{task.name}' can't be used", error.reason) from error
        self._report_again(void)
        return valid

    def _void_all(self, tasks: Sequence[Task]) -> None:
        """Voids all checkpoints: those of earlier runs, and those that other runs of this process would still save."""
        with _usable(self._storage), self._turn:
            for other in self._run_lock.sharing:
                other.is_void = other is not self._run_lock
            if self._storage.clear(self._workflow_id):
                return
            # From the last: after a crash in between, the rest is the beginning of one run.
            for key in reversed(self._keys.all()):
                self._storage.delete(key)

    def _is_unfinished(self, checkpoints: Sequence[Context | None]) -> bool:
        """Returns whether a task that the last run had is without a checkpoint."""
        inputs = [context.inputs for context in checkpoints if context is not None]
        if None in inputs:
            self._report(
                f"{type(self._storage).__name__} keeps values only, which don't show whether the last run finished: "
                "all tasks run."
            )
            return False
        count = max((each.tasks for each in inputs if each is not None), default=0)
        return None in checkpoints[:count]

    def _void(self, void: Sequence[Task]) -> None:
        """Deletes checkpoints, the last first: after a crash in between, none is left without its inputs."""
        with _usable(self._storage), self._turn:
            for task in reversed(void):
                self._storage.delete(self._keys.of(task))

    def _read(self, task: Task) -> Context | None:
        storage = self._storage
        key = "?"
        try:
            key = self._keys.of(task)
            context = storage.get(key)
            if context.__class__ is not Context and not isinstance(context, Context):
                raise TypeError(f"get({key!r}) returned a {type(context).__name__}, not a Context")
            if context.task_id is None:
                if context.storage is None and not storage.contains(key):
                    return None
                context = Context(context, task.task_id, task.workflow_id)  # the value alone was saved
            elif context.task_id != task.task_id and self._keys.is_named(task):
                context.task_id = task.task_id  # a named task may have moved
            elif context.task_id != task.task_id:
                raise ValueError(f"get({key!r}) returned task {context.task_id}'s value for task {task.task_id}")
        except CheckpointUnreadable as error:
            where = f"{type(storage).__name__} under {key!r}"
            raise error.at(where, f"{task.task_id} {task.name}") from error.__cause__
        except DotflowError:  # already in our words
            raise
        except Exception as error:  # the storage may be the user's
            raise _storage_error(storage, error) from error
        return context

    def _report_void(self) -> None:
        if not self._has_reported_void:
            self._has_reported_void = True
            self._report(
                f"Workflow {self._workflow_id!r} was started anew during this run: only the newer run's values are "
                f"saved, and this run's stay in memory."
            )


@contextlib.contextmanager
def _usable(storage: Storage) -> Iterator[None]:
    """Turns an exception of the storage into the StorageError of a run that has not begun."""
    try:
        yield
    except DotflowError:  # already in our words
        raise
    except Exception as error:  # the storage may be the user's
        raise _storage_error(storage, error) from error


def _storage_error(storage: Storage, error: Exception) -> StorageError:
    """Returns the error of start() for an exception of the storage."""
    cause = str(error)
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        # Without the second path of a rename, which is internal.
        cause = f"{error.strerror}: {str(error.filename)!r}. Correct that, or give the storage another path"
    reason = f"{type(error).__name__}: {cause}"
    return StorageError(f"{type(storage).__name__} can't be used, so nothing was run", reason)
