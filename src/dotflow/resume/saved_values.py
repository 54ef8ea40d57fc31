"""SavedValues: what earlier runs have left of each task and item. It only reads."""

import contextlib
import errno
from collections.abc import Collection, Iterator, Sequence
from typing import Final

from dotflow.abc.storage import Storage
from dotflow.core.context import NO_ORIGIN, Context
from dotflow.core.task import Task
from dotflow.errors import CheckpointUnreadable, DotflowError, StorageError
from dotflow.graph.linked_task import LinkedTask
from dotflow.resume.checkpoint_keys import CheckpointKeys
from dotflow.resume.files import ChangedFiles, SavedFiles
from dotflow.resume.journal import Journal, is_noted
from dotflow.resume.tokens import Tokens


class SavedValues:
    """What earlier runs have left of one workflow in its storage.

    Args:
        storage: Where it is.
        journal: What it has beside the values.
        tokens: What the values of the tasks depend on.
        digest_limit: The size up to which files are read for a digest; None to decide without the files of these runs.

    Attributes:
        journal: What the storage has beside the values.
        files: The files of these runs; None without them.
        gone: The keys of checkpoints that count no more, though they may be there: what is decided is final.
        has_values: Whether any checkpoint that was read has a record of its inputs.
        lacks_inputs: Whether any of them has none.
        task_count: The number of tasks of the last run.
    """

    def __init__(self, storage: Storage, journal: Journal, tokens: Tokens, digest_limit: int | None) -> None:
        self.journal = journal
        self.files: ChangedFiles | None = None
        if digest_limit is not None:
            self.files = ChangedFiles(SavedFiles(journal), tokens, digest_limit)
        self.gone: Collection[str] = ()
        self.has_values = self.lacks_inputs = False
        self.task_count = 0
        self._storage = storage
        self._keys = CheckpointKeys(storage, tokens.tasks)
        self._tokens = tokens
        self._last_origin = NO_ORIGIN

    def of(self, task: Task) -> Context | None:
        """Returns the checkpoint of a task or an item; None if it has none."""
        storage = self._storage
        key = "?"
        try:
            key = self._keys.of(task)
            if self.gone and key in self.gone:
                return None
            context = storage.get(key)
            if not isinstance(context, Context):
                raise TypeError(f"get({key!r}) returned a {type(context).__name__}, not a Context")
            if context.task_id is None:
                if context.storage is None and not storage.contains(key):
                    return None
                context = Context(context, task.task_id, task.workflow_id)  # the value alone was saved
            elif context.task_id != task.task_id and self._tokens.tasks[task.task_id].key_name != str(task.task_id):
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
        if self.files is not None:
            self.files.note(task, context)
        origin = context._origin
        if origin.initial is None:
            self.lacks_inputs = True
            return context
        self.has_values = True
        if origin is not self._last_origin:  # most values share one
            self._last_origin = origin
            self.task_count = max(self.task_count, origin.tasks)
        return context

    def records_of(self, task: Task) -> Sequence[Task]:
        """Returns the task if it has a checkpoint; of a map, records that stand for the items that have one."""
        if not leaves_checkpoint(task):
            return ()
        with usable(self._storage):
            if isinstance(task, LinkedTask) and task.is_mapped:
                return self._keys.items_of(task)
            return [task] if self._storage.contains(self._keys.of(task)) else ()

    def left_open(self, left_out: Collection[int]) -> dict[int, str]:
        """Returns the cleanups that did not complete, with the id of the run that they belong to."""
        with usable(self._storage):
            cleanups = self.journal.fact("cleanups")
        return {
            task.task_id: cleanups[task.key_name]
            for task in self._tokens.tasks
            if task.key_name in cleanups and is_noted(task) and task.task_id not in left_out
        }


def leaves_checkpoint(task: Task) -> bool:
    """Returns whether the value of the task is saved when it completes."""
    return task.step.checkpoint and not task.is_cleanup


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
