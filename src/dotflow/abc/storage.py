"""Storage: saves the values of finished tasks."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable
from typing import Final

from dotflow.core.context import Context
from dotflow.core.task import Task
from dotflow.errors import StorageError, ValueNotStorable

#: The errors of a value that could not be saved.
NOT_SAVED: Final = (StorageError, ValueNotStorable)


class Storage(ABC):
    """Saves contexts under keys. `post`, `get` and `key` are enough; the other methods have defaults.

    Attributes:
        is_local: Whether only this machine can read what was saved. A run on a cluster then logs a warning.
        outlives_process: Whether a later process can read what was saved. Otherwise it can't resume.
    """

    is_local: bool = False
    outlives_process: bool = True

    @abstractmethod
    def post(self, key: str, context: Context) -> None:
        """Saves *context* under *key* and replaces an earlier one. An exception fails the task."""

    @abstractmethod
    def get(self, key: str) -> Context:
        """Returns what was saved under *key*; an empty Context if nothing was.

        Raises:
            CheckpointUnreadable: Something is saved there but can't be read.
        """

    @abstractmethod
    def key(self, task: Task) -> str:
        """Returns the key for the task's value: the same in every run, and unique to the task and its workflow.

        What belongs to the whole workflow has a key as the task -1, with a name that begins with `@`.
        """

    def contains(self, key: str) -> bool:
        """Returns whether something is saved under *key*. The default looks for more than an empty Context."""
        context = self.get(key)
        return not (context.storage is None and context.task_id is None)

    def delete(self, key: str) -> None:
        """Deletes what is saved under *key*. The default saves an empty Context instead."""
        self.post(key, Context())

    def list_keys(self, prefix: str = "") -> Iterable[str]:
        """Returns the keys that begin with *prefix*. The default returns none."""
        return ()

    def clear(self, workflow_id: str) -> bool:
        """Deletes all of one workflow at once and returns True. The default returns False: each key is deleted then."""
        return False

    def check_writable(self, workflow_id: str) -> None:  # noqa: B027 (optional)
        """Raises an exception if no value of the workflow can be saved. The default checks nothing.

        Called before the first step of a run that saves values, which is then refused.
        """

    def lock(self, workflow_id: str) -> contextlib.AbstractContextManager[Hashable]:
        """Returns a context manager that locks one workflow against other processes. The default locks nothing.

        The lock must end with its process, however that ends. Runs of one process share it, see SharedLock.

        Returns:
            A context manager. Entered, it returns a key that is equal for all objects of the same storage.
            None, the default, means that each object is a storage of its own.

        Raises:
            WorkflowBusy: Entered while another process holds the lock.
        """
        return contextlib.nullcontext()


def key_of(task: Task) -> str:
    """Returns the key that our own storages give a task: `workflow_id/task_id`, or `workflow_id/name` with a name."""
    return f"{task.workflow_id}/{task.key_name}"
