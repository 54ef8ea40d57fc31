"""CheckpointKeys: the keys of a workflow's checkpoints in its storage."""

import itertools
import re
from collections.abc import Sequence
from typing import Final

from dotflow.abc.storage import Storage
from dotflow.core.context import Context
from dotflow.core.task import Task
from dotflow.graph.linked_task import Item, LinkedTask, item_of_key
from dotflow.resume.journal import OLD_ENDS

CALL: Final = "-call-"  # in the key of a call in a durable step, between that of its task and its own
OF_CALL: Final = re.compile(rf"{CALL}[0-9a-f]{{24}}$")
INDEX_SUFFIX: Final = "-items"  # of the key under which a map's items are listed


class CheckpointKeys:
    """The keys of one workflow's checkpoints, those of earlier runs included.

    Args:
        storage: Where the checkpoints are saved.
        tasks: The run's tasks.
    """

    def __init__(self, storage: Storage, tasks: Sequence[Task]) -> None:
        self._storage = storage
        self._tasks = tasks

    def of(self, task: Task) -> str:
        """Returns the key of a task; of an item, that of its task and the item's suffix."""
        if isinstance(task, Item):
            return f"{self._storage.key(self._tasks[task.task_id])}-{task.key_suffix}"
        return self._storage.key(task)

    def items_of(self, task: LinkedTask) -> list[Item]:
        """Returns records that stand for the items of a map that have a checkpoint, as far as the storage lists them.

        Their list need not be known.
        """
        key = self._storage.key(task)
        found = [suffix[1:] for suffix in self._index(key)[1:]]
        if not found:
            others = {suffix[1:] for suffix in (*OLD_ENDS.values(), INDEX_SUFFIX)}
            listed = [one.removeprefix(f"{key}-") for one in self._storage.list_keys(f"{key}-")]
            found = [suffix for suffix in listed if suffix not in others and not OF_CALL.search(suffix)]
        items = [item_of_key(task, index, suffix) for index, suffix in enumerate(found)]
        return [item for item in items if self._storage.contains(self.of(item))]

    def all(self) -> list[str]:
        """Returns the keys of all checkpoints, those of tasks that the workflow no longer has included.

        What is saved beside them for the workflow, under names with an @, is none.
        """
        storage, tasks, keys = self._storage, self._tasks, dict[str, None]()
        asked: set[str] = set()

        def add(key: str) -> bool:
            if key in asked:
                return False
            asked.add(key)
            items = [f"{key}{suffix}" for suffix in self._index(key)]
            keys.update(dict.fromkeys([key] * storage.contains(key) + items))
            return key in keys or bool(items)

        for task in tasks:
            add(storage.key(task))
        for task_id in itertools.count() if tasks else ():
            # The tasks of an earlier run are unknown, but in most storages the index alone determines the key.
            key = storage.key(Task(task_id, tasks[-1].step, workflow_id=tasks[-1].workflow_id))
            if not add(key) and task_id >= len(tasks):  # asked before: the index doesn't determine it here
                break
        return list(keys)

    def add_items(self, task: LinkedTask) -> None:
        """Saves the keys of the items, for a storage that can't clear a workflow."""
        if type(self._storage).clear is Storage.clear:
            key = self._storage.key(self._tasks[task.task_id])
            suffixes = dict.fromkeys((*self._index(key)[1:], *(f"-{item.key_suffix}" for item in task.items)))
            index = Context(list(suffixes), task.task_id, task.workflow_id)
            self._storage.post(f"{key}{INDEX_SUFFIX}", index)

    def _index(self, key: str) -> list[str]:
        """Returns what the keys of a map's items have after its own key, and the index itself has; the last first."""
        suffixes = self._storage.get(f"{key}{INDEX_SUFFIX}").storage
        return [INDEX_SUFFIX, *suffixes] if isinstance(suffixes, list) else []
