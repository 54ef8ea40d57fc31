"""StorageDefault: values in memory."""

from collections.abc import Iterable

from dotflow.abc.storage import Storage, workflow_of
from dotflow.core.context import Context
from dotflow.core.task import Task


class StorageDefault(Storage):
    """Keeps values in memory, as the same objects, until the process ends."""

    outlives_process = False

    def __init__(self) -> None:
        self._contexts: dict[str, Context] = {}

    def post(self, key: str, context: Context) -> None:
        self._contexts[key] = context

    def get(self, key: str) -> Context:
        context = self._contexts.get(key)
        return Context() if context is None else context

    def key(self, task: Task) -> str:
        name = task.task_id if task.links is None else task.key_name
        return f"{task.workflow_id}/{name}"  # as key_of, without the call

    def contains(self, key: str) -> bool:
        return key in self._contexts

    def delete(self, key: str) -> None:
        self._contexts.pop(key, None)

    def list_keys(self, prefix: str = "") -> Iterable[str]:
        return [key for key in list(self._contexts) if key.startswith(prefix)]

    def clear(self, workflow_id: str) -> bool:
        for key in self.list_keys():
            if workflow_of(key) == workflow_id:
                self.delete(key)
        return True
