"""SavedOrigin: whose values a storage has of a workflow, and the idempotency keys that follow from it."""

import json
import uuid
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Final

from dotflow.abc.storage import Storage
from dotflow.core.action import Action
from dotflow.core.context import Context
from dotflow.core.links import Links
from dotflow.core.policy import Policy
from dotflow.graph.linked_task import LinkedTask

ORIGIN: Final = "@origin"  # in place of a task's name; no task is called so
NO_TASK: Final = -1  # in place of a task's id, for keys that are made from that
NAMESPACE: Final = uuid.UUID("6f0f1a86-6c0f-4d0c-9a51-2f6f3a7d9e14")  # of our idempotency keys


def workflow_key(storage: Storage, workflow_id: str, name: str, number: int = NO_TASK) -> str:
    """Returns the key of what belongs to a whole workflow.

    Args:
        storage: Where it is.
        workflow_id: The workflow.
        name: Its name, which begins with an @.
        number: Another negative number for each name, in place of a task's id, for keys that are made from that.
    """

    def step() -> None:
        """In place of a task's step, for keys that are made from that."""

    step.__qualname__ = name
    return storage.key(LinkedTask(number, Action(step, Policy()), workflow_id=workflow_id, links=Links(name=name)))


class SavedOrigin:
    """Which chain of runs the values of a workflow are of, as its storage has it beside them.

    Who begins anew deletes it first and writes its own last. So no kill leaves the values of one chain under the name
    of another.

    Args:
        storage: Where the values are.
        workflow_id: The workflow.

    Attributes:
        origin: The first run of the chain, as far as it was read or written; "" for none.
        keeps_inputs: Whether the storage keeps contexts as a whole, so that a resume knows what a value was made from.
    """

    def __init__(self, storage: Storage, workflow_id: str) -> None:
        self._storage = storage
        self._workflow_id = workflow_id
        self._voided: dict[str, int] = {}  # how often tasks and items were voided after they had finished
        self.origin = ""
        self.keeps_inputs = True

    @cached_property
    def _key(self) -> str:
        return workflow_key(self._storage, self._workflow_id, ORIGIN)

    def is_saved(self) -> bool:
        """Returns whether the storage has one."""
        return self._storage.contains(self._key)

    def read(self) -> str:
        """Reads it from the storage, and returns the first run of the chain; "" for none."""
        context = self._storage.get(self._key)
        self.keeps_inputs = context.task_id == NO_TASK
        match context.storage:
            case [str(origin), dict(voided)]:
                self.origin, self._voided = origin, dict(voided)
            case _:
                self.origin, self._voided = "", {}
        return self.origin

    def delete(self) -> None:
        """Deletes it: the values belong to no chain."""
        self._storage.delete(self._key)
        self.origin, self._voided = "", {}

    def write(self, origin: str) -> None:
        """Saves that the values are those of a chain, of which no task has finished."""
        self.origin, self._voided = origin, {}
        self._save()

    def voided(self, name: str) -> int:
        """Returns how often a task or an item was voided."""
        return self._voided.get(name, 0)

    def void(self, names: Iterable[str]) -> None:
        """Saves that tasks and items run again, though they had finished: they get new keys."""
        self.read()  # another run of this process may have voided some, too
        for name in names:
            self._voided[name] = self._voided.get(name, 0) + 1
        self._save()

    def _save(self) -> None:
        self._storage.post(self._key, Context([self.origin, dict(self._voided)], NO_TASK, self._workflow_id))

    def key_base(self, names: Sequence[str], inputs: str) -> str:
        """Returns what the idempotency keys of a task or an item are made from.

        Args:
            names: That of the task and, for an item, its own.
            inputs: A digest of what it takes: other arguments never go out under the key of earlier ones.
        """
        voided = [self._voided.get(name, 0) for name in names]
        return str(uuid.uuid5(NAMESPACE, json.dumps([self.origin, names, voided, inputs if self.keeps_inputs else ""])))
