"""Storage: where the values of finished tasks are kept."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable

from dotflow.core.context import Context
from dotflow.core.task import Task


class Storage(ABC):
    """Keeps contexts by key. A storage with `post`, `get` and `key` works; the rest has defaults made of these.

    Attributes:
        is_local: Whether only this machine can read what was saved. A run on a cluster then logs a warning.
        outlives_process: Whether a later process can read what was saved. Otherwise it can't resume.
    """

    is_local: bool = False
    outlives_process: bool = True

    @abstractmethod
    def post(self, key: str, context: Context) -> None:
        """Saves *context* under *key*, in place of what was there. What raises here fails the task."""

    @abstractmethod
    def get(self, key: str) -> Context:
        """What was saved under *key*; an empty Context if there is nothing.

        Raises CheckpointUnreadable where something is there that can't be read.
        """

    @abstractmethod
    def key(self, task: Task) -> str:
        """The key for the task's value: the same in every run, another one for every task and workflow."""

    def contains(self, key: str) -> bool:
        """Whether something is saved under *key*. By default: whether `get` finds more than an empty Context."""
        found = self.get(key)
        return not (found.storage is None and found.task_id is None)

    def delete(self, key: str) -> None:
        """Forgets *key*. By default: saves an empty Context in its place."""
        self.post(key, Context())

    def list_keys(self, prefix: str = "") -> Iterable[str]:
        """The keys that begin with *prefix*. By default none: a plain `get` can't tell."""
        return ()

    def clear(self, workflow_id: str) -> bool:
        """Forgets all of one workflow at once. False, the default, where it can't: then each key is deleted."""
        return False

    def lock(self, workflow_id: str) -> contextlib.AbstractContextManager[Hashable]:
        """Keeps other processes off one workflow until it is left. By default nobody is kept off.

        Entering raises WorkflowBusy when another process holds it. Runs of one process don't keep each other off: each
        is given the name of the place, the same for all storage objects that keep this workflow there; None, the
        default, where this object is the place. What is held is free again when the process is gone, however it ended.
        """
        return contextlib.nullcontext()


def key_of(task: Task) -> str:
    """The key that our own storages give a task: `workflow_id/task_id`."""
    return f"{task.workflow_id}/{task.task_id}"


def workflow_of(key: str) -> str:
    """The workflow that such a key belongs to, whatever slashes its id has; empty for a key that is none of ours."""
    return key.rpartition("/")[0]
