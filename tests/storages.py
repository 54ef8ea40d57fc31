"""Storages of the least kind, for tests."""

from dotflow import Context, Task
from dotflow.abc.storage import Storage


class StorageThree(Storage):
    """The three methods that a storage needs; contexts are kept as they come."""

    def __init__(self) -> None:
        self.kept: dict[str, Context] = {}

    def post(self, key: str, context: Context) -> None:
        self.kept[key] = context

    def get(self, key: str) -> Context:
        return self.kept.get(key, Context())

    def key(self, task: Task) -> str:
        return f"{task.workflow_id}-{task.task_id}"


class StorageThreeMethods(StorageThree):
    """Only post, get and key; the keys are those of the other storages."""

    def key(self, task: Task) -> str:
        return f"{task.workflow_id}/{task.task_id}"
