"""EarlierRuns: the checkpoints of earlier runs, and what a resume restores of them. It only reads."""

import contextlib
import errno
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from dotflow.abc.storage import Storage
from dotflow.core.context import Context
from dotflow.core.task import Task
from dotflow.core.types.status import TypeStatus
from dotflow.errors import CheckpointUnreadable, DotflowError, StorageError
from dotflow.graph.params import Params
from dotflow.records.record import ID_LENGTH
from dotflow.resume.changed_code import ChangedCode
from dotflow.resume.checkpoint_keys import CheckpointKeys
from dotflow.resume.choice import UNFINISHED_ONLY, Resume
from dotflow.resume.restoring import Restoration, digests_of, restore

if TYPE_CHECKING:
    from dotflow.resume.restoring_links import LinkedRestorer


class EarlierRuns:
    """The checkpoints of earlier runs of one workflow, for a new run or a plan of one.

    Args:
        storage: Where they are saved.
        workflow_id: The workflow.
        tasks: The tasks of the new run.
        sources: For each task, the task whose value is its `previous_context`.
        params: The run parameters, if tasks have links.
        report: Writes a line into the log.
        resume: Whether earlier runs count.
        rerun: The ids of the tasks that run again in any case.

    Attributes:
        keys: The keys of the checkpoints.
        digests: For each task, the digest of its initial context.
        links: Decides on the checkpoints, if tasks have links.
        changes: Compares the code of the steps with that which made the checkpoints.
        first: The first value of the last run among the checkpoints that were read; None without one.
        has_values: Whether any of them has a record of its inputs.
    """

    links: "LinkedRestorer | None"

    def __init__(
        self,
        storage: Storage,
        workflow_id: str,
        tasks: Sequence[Task],
        sources: Sequence[int | None],
        params: Params | None,
        report: Callable[..., None],
        *,
        resume: Resume = False,
        rerun: Collection[int] = (),
    ) -> None:
        self.keys = CheckpointKeys(storage, workflow_id, tasks)
        self.digests: Sequence[str] = digests_of(tasks)
        self.links = None
        self.first: Context | None = None
        self.has_values = False
        self._storage = storage
        self._tasks = tasks
        self._sources = sources or (None,) * len(tasks)
        self._report = report
        self._resume = resume
        self.changes = ChangedCode(
            tasks, self._sources, is_linked=params is not None, runs_again=resume == "changed", rerun=rerun
        )
        if params is not None:
            from dotflow.resume.restoring_links import LinkedRestorer  # here, since most workflows have no links

            self.links = LinkedRestorer(tasks, sources, params, self.digests, self.read, self.changes)

    def decide(self) -> Restoration | None:
        """Returns what a resume restores; None if all tasks run. Raises CheckpointMismatch or CheckpointUnreadable."""
        if not self._resume:
            return None
        unfinished_only = self._resume in UNFINISHED_ONLY
        if self.links is not None:
            left_open = self._left_open()
            restoration = self.links.restore(left_open=left_open, unfinished_only=unfinished_only)
            if unfinished_only and restoration.is_finished:
                return None
            restoration.left_open = left_open
            for task_id, run_id in left_open.items():
                task = restoration.tasks[task_id]
                if task.status is not TypeStatus.SKIPPED:
                    note = f"did not complete in run {run_id[:ID_LENGTH]}: it runs again."
                    restoration.notes.append(f"Task {task_id} {task.name} {note}")
        else:
            checkpoints = [self.read(task) for task in self._tasks]
            if unfinished_only and not self._is_unfinished(checkpoints):
                return None
            by_id = {task_id: context for task_id, context in enumerate(checkpoints) if context is not None}
            restoration = restore(self._tasks, self._sources, self.digests, by_id, self.changes)
        restored = restoration.restored_ids()
        if self._resume == "finish" and not restored and not restoration.left_open:  # it would be a new run
            return None
        restoration.notes += self.changes.notes(restored)
        return restoration

    def _left_open(self) -> dict[int, str]:
        """Returns the cleanups that did not complete, with the id of the run that they belong to."""
        with usable(self._storage):
            marks = {
                task.task_id: self._storage.get(self.keys.of_cleanup(task)).storage
                for task in self._tasks
                if task.is_cleanup
            }
        return {task_id: run_id for task_id, run_id in marks.items() if isinstance(run_id, str)}

    def last_run(self) -> str:
        """Returns id and moment of the last run, for the log; "" if no value of it was read."""
        if self.first is None or self.first.inputs is None:
            return ""
        run_id = self.first.inputs.run[:ID_LENGTH]
        return f"Run {run_id}, whose first value is of {self.first.time.astimezone():%Y-%m-%d %H:%M:%S}"

    def _is_unfinished(self, checkpoints: Sequence[Context | None]) -> bool:
        """Returns whether a task that the last run had is without a checkpoint."""
        inputs = [context.inputs for context in checkpoints if context is not None]
        if None in inputs:
            if self._resume == "finish":  # the new run that follows reports it
                return False
            self._report(
                f"{type(self._storage).__name__} keeps values only, which don't show whether the last run finished: "
                "all tasks run."
            )
            return False
        count = max((each.tasks for each in inputs if each is not None), default=0)
        return None in checkpoints[:count]

    def read(self, task: Task) -> Context | None:
        """Returns the checkpoint of a task or an item; None if it has none."""
        storage = self._storage
        key = "?"
        try:
            key = self.keys.of(task)
            context = storage.get(key)
            if context.__class__ is not Context and not isinstance(context, Context):
                raise TypeError(f"get({key!r}) returned a {type(context).__name__}, not a Context")
            if context.task_id is None:
                if context.storage is None and not storage.contains(key):
                    return None
                context = Context(context, task.task_id, task.workflow_id)  # the value alone was saved
            elif context.task_id != task.task_id and self.keys.is_named(task):
                context.task_id = task.task_id  # a named task may have moved
            elif context.task_id != task.task_id:
                raise ValueError(f"get({key!r}) returned task {context.task_id}'s value for task {task.task_id}")
        except CheckpointUnreadable as error:
            where = f"{type(storage).__name__} under {key!r}"
            raise error.at(where, f"{task.task_id} {task.name}") from error.__cause__
        except DotflowError:  # already in our words
            raise
        except Exception as error:  # the storage may be the user's
            raise storage_error(storage, error) from error
        self._note_value(task, context)
        return context

    def _note_value(self, task: Task, context: Context) -> None:
        if context.inputs is None:
            return
        self.has_values = True
        if task.step.cache is None and (self.first is None or context.time < self.first.time):
            self.first = context  # a cached value may be older than its run


@contextlib.contextmanager
def usable(storage: Storage) -> Iterator[None]:
    """Turns an exception of the storage into the StorageError of a run that has not begun."""
    try:
        yield
    except DotflowError:  # already in our words
        raise
    except Exception as error:  # the storage may be the user's
        raise storage_error(storage, error) from error


def storage_error(storage: Storage, error: Exception) -> StorageError:
    """Returns the error of start() for an exception of the storage."""
    return StorageError(f"{type(storage).__name__} can't be used, so nothing was run", reason_of(error))


#: What to do about an error of the system.
ADVICE: Final = {
    errno.ENOSPC: "Free some space",
    errno.EDQUOT: "Free some space, or raise the quota",
    errno.EFBIG: "Raise the limit of the size of a file",
    errno.EIO: "Check the disk",
    errno.ENOLCK: "Give the storage a path on a file system with locks, such as a local disk",
}


def reason_of(error: Exception) -> str:
    """Returns the cause of an exception of the storage, and what to do."""
    cause = str(error)
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        # Without the second path of a rename, which is internal.
        advice = ADVICE.get(error.errno or 0, "Correct that, or give the storage another path")
        cause = f"{error.strerror}: {str(error.filename)!r}. {advice}"
    return f"{type(error).__name__}: {cause}"
