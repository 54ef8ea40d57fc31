"""Journal: what a storage has of a workflow beside its values, and the idempotency keys that follow from it."""

import json
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

from dotflow.abc.storage import Storage
from dotflow.core.action import Action
from dotflow.core.context import Context
from dotflow.core.links import Links
from dotflow.core.policy import Policy
from dotflow.core.task import Task
from dotflow.errors import CheckpointUnreadable
from dotflow.graph.linked_task import LinkedTask

NO_TASK: Final = -1  # in place of a task's id, for keys that are made from that
NAMESPACE: Final = uuid.UUID("6f0f1a86-6c0f-4d0c-9a51-2f6f3a7d9e14")  # of our idempotency keys

#: In place of a task's name; no task is called so. An earlier dotflow had origin and voided there: one request finds
#: both.
NAME: Final = "@origin"

#: The facts of the document. One of another type was not written by dotflow, and says nothing.
FACTS: Final[Mapping[str, type]] = {
    "origin": str,  # the first run of the chain that the values are of
    "voided": dict,  # how often tasks and items were voided after they had finished
    "left_out": list,  # the tasks that lack a value since the last run was not asked for them
    "cleanups": dict,  # those that did not complete, each with the id of its run
    "void": list,  # the keys of checkpoints that count no more, and are not deleted yet: only its options said so
    "calls": list,  # the tasks of which calls are kept: what a run of the chain has left of them is progress
    "begun": list,  # of an earlier dotflow: the run that has begun and has no value yet
    "files": dict,  # the states of files, see SavedFiles
}

#: Where an earlier dotflow kept facts: as the value of a task that no workflow has, with its id, ...
OLD_NAMES: Final = {"files": ("@files", -2), "left_out": ("@left_out", -3)}
#: ... or under the key of the first task, and of cleanups, with such an end.
OLD_ENDS: Final = {"begun": "-begun", "cleanups": "-cleanup"}


class Journal:
    """What a storage has of one workflow beside its values, as one document. It is there only if it says something.

    Each write is whole or not at all. The runs of a process that work on a workflow share it, and write it in turns.
    What an earlier dotflow has kept elsewhere is read as long as there is no such document, and folded in by the first
    write.

    Args:
        storage: Where the values are.
        workflow_id: The workflow.
        tasks: Its tasks, as far as an earlier dotflow has kept facts under their keys.
        is_shared: Whether others may write it meanwhile, so that it is read before each write.

    Attributes:
        keeps_inputs: Whether the storage keeps contexts as a whole, so that a resume knows what a value was made from.
    """

    def __init__(
        self, storage: Storage, workflow_id: str, tasks: Sequence[Task] = (), *, is_shared: bool = False
    ) -> None:
        self._storage = storage
        self._workflow_id = workflow_id
        self._tasks = tasks
        self._is_shared = is_shared
        self._facts: dict[str, Any] | None = None  # as last read or written
        self._is_there = False
        self._unread = {*FACTS}  # the facts that an earlier dotflow may have kept elsewhere
        self._old: list[str] = []  # the keys where it has
        self.keeps_inputs = True

    @cached_property
    def _key(self) -> str:
        return self._storage.key(self._task(NAME, NO_TASK))

    def _task(self, name: str, number: int) -> Task:
        return LinkedTask(number, Action(Journal, Policy()), workflow_id=self._workflow_id, links=Links(name=name))

    def read(self) -> str:
        """Reads it from the storage, and returns the origin. Raises CheckpointUnreadable."""
        context = self._get(self._key)
        self.keeps_inputs = context.task_id == NO_TASK
        facts: dict[str, Any] = {}
        match context.storage:
            case dict(found):
                facts = found
            case [str(origin), dict(voided)]:  # of an earlier dotflow
                facts = {"origin": origin, "voided": voided}
        self._is_there, self._unread, self._old = isinstance(context.storage, dict), {*FACTS}, []
        self._facts = facts
        return self.origin

    def _get(self, key: str) -> Context:
        try:
            return self._storage.get(key)
        except CheckpointUnreadable as error:
            raise self.unreadable(error.reason, error.where, key) from error.__cause__

    def unreadable(self, reason: str, where: str = "", key: str = "") -> CheckpointUnreadable:
        """Returns the error of a document that can't be read."""
        where = where or f"{type(self._storage).__name__} under {key or self._key!r}"
        return CheckpointUnreadable(reason, where, is_of_journal=True)

    def fact(self, name: str) -> Any:
        """Returns a fact as it was last read or written, empty without one. Raises CheckpointUnreadable."""
        if self._facts is None:
            self.read()
        assert self._facts is not None
        if name in self._unread and not self._is_there:
            self._facts = {**self._facts, **self._read_old(name)}
            self._unread.discard(name)
        fact = self._facts.get(name)
        return fact if isinstance(fact, FACTS[name]) else FACTS[name]()

    @property
    def origin(self) -> str:
        """The first run of the chain that the values are of; "" for none."""
        return str(self.fact("origin"))

    def put(self, **facts: Any) -> None:
        """Saves facts, if they are new; empty ones are deleted. Raises CheckpointUnreadable."""
        if self._is_shared:
            self.read()
        if all(fact == self.fact(name) for name, fact in facts.items()):
            return
        for name in FACTS:
            self.fact(name)
        facts = {name: fact for name, fact in {**(self._facts or {}), **facts}.items() if fact}
        try:
            if not facts:
                self.delete()
                return
            self._storage.post(self._key, Context(facts, NO_TASK, self._workflow_id))
            for key in self._old:
                self._storage.delete(key)
        except BaseException:  # Ctrl-C, too: what is there is unknown
            self._facts = None
            raise
        self._facts, self._is_there, self._old = facts, True, []

    def leave_chain(self) -> None:
        """Deletes the document before values are deleted, so that none is left of its chain."""
        self._facts, self._is_there = None, False
        self._storage.delete(self._key)

    def delete(self) -> None:
        """Deletes it, and before it what an earlier dotflow has kept: that must not count again."""
        places = [key for name in FACTS if name in self._unread for key, _ in self._places(name)]
        for key in (*self._old, *filter(self._storage.contains, places)):
            self._storage.delete(key)
        if self._is_there or (self._facts is None and self._storage.contains(self._key)):
            self._storage.delete(self._key)
        self.begin()

    def begin(self) -> None:
        """Begins without facts: the storage has deleted all of the workflow."""
        self._facts, self._is_there, self._unread, self._old = {}, False, set(), []

    def is_of_chain(self) -> bool:
        """Returns whether the values are of a chain, or may be."""
        try:
            return bool(self.origin)
        except CheckpointUnreadable:  # which a run that begins anew replaces
            return True

    # Of an earlier dotflow

    def _places(self, name: str) -> list[tuple[str, Task]]:
        """Returns the keys under which an earlier dotflow kept a fact, with the tasks that it is about."""
        if name in OLD_NAMES:
            task = self._task(*OLD_NAMES[name])
            return [(self._storage.key(task), task)]
        tasks = {"begun": self._tasks[:1], "cleanups": filter(is_noted, self._tasks)}.get(name, ())
        return [(f"{self._storage.key(task)}{OLD_ENDS[name]}", task) for task in tasks]

    def _read_old(self, name: str) -> dict[str, Any]:
        """Returns a fact that an earlier dotflow has kept, by its name; {} without it."""
        facts: dict[str, Any] = {}
        for key, task in self._places(name):
            context = self._get(key)
            match name, context.storage:
                case "files", list(states):
                    facts[name] = dict(zip(("open", "inputs", "worked", "cleaned"), states, strict=False))
                    self.keeps_inputs = context.task_id == NO_TASK
                case "left_out", list(names):
                    facts[name] = names
                case "begun", str(run_id):
                    facts[name] = [run_id, context.task_id or 0, context.time.timestamp()]
                case "cleanups", str(run_id):
                    facts.setdefault(name, {})[task.key_name] = run_id
                case _:
                    continue
            self._old.append(key)
        return facts

    # Idempotency keys

    def voided(self, name: str) -> int:
        """Returns how often a task or an item was voided."""
        return int(self.fact("voided").get(name, 0))

    def void(self, names: Iterable[str], keys: Collection[str] = ()) -> None:
        """Saves that tasks and items run again, though they had finished: they get new keys.

        The checkpoints of *keys* count no more from then on. `put` notes that they are deleted.
        """
        if self._is_shared:
            self.read()
        voided = {**self.fact("voided"), **{name: self.voided(name) + 1 for name in names}}
        self.put(voided=voided, void=sorted({*self.fact("void"), *keys}))

    def key_base(self, names: Sequence[str], inputs: str) -> str:
        """Returns what the idempotency keys of a task or an item are made from.

        Args:
            names: That of the task and, for an item, its own.
            inputs: A digest of what it takes: other arguments never go out under the key of earlier ones.
        """
        voided = [self.voided(name) for name in names]
        return str(uuid.uuid5(NAMESPACE, json.dumps([self.origin, names, voided, inputs if self.keeps_inputs else ""])))


def is_noted(task: Task) -> bool:
    """Returns whether it is noted that a task does not complete: a cleanup, and none for each item."""
    return task.is_cleanup and task.links is not None and task.links.nest is None
