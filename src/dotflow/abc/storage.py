"""Storage: where the values of finished tasks are kept."""

from abc import ABC, abstractmethod
from collections.abc import Iterable

from dotflow.core.context import Context
from dotflow.core.task import Task


class Storage(ABC):
    """Keeps contexts by key. A storage with `post`, `get` and `key` works; the rest has defaults made of these."""

    @abstractmethod
    def post(self, key: str, context: Context) -> None:
        """Saves *context* under *key*, in place of what was there. What raises here fails the task."""

    @abstractmethod
    def get(self, key: str) -> Context:
        """What was saved under *key*; an empty Context if there is nothing."""

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
