"""Storages for tests: of the least kind, and one of each kind."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from dotflow import Context, Task
from dotflow.abc.storage import Storage
from dotflow.providers import StorageDefault, StorageFile, StorageSQLite


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


#: Storages whose keys are alike, by name; each is made in a folder.
STORAGES: Final[dict[str, Callable[[Path], Storage]]] = {
    "memory": lambda folder: StorageDefault(),
    "three methods": lambda folder: StorageThreeMethods(),
    "file": lambda folder: StorageFile(path=folder / "out"),
    "sqlite": lambda folder: StorageSQLite(path=folder / "flow.db"),
}
