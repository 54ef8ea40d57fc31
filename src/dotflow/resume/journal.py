"""Journal: what a storage has of a workflow beside its values, and the idempotency keys that follow from it."""

import contextlib
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
NAME: Final = "@journal"  # in place of a task's name; no task is called so

#: The facts of the document. One of another type was not written by dotflow, and says nothing.
FACTS: Final[Mapping[str, type]] = {
    "origin": str,  # the first run of the chain that the values are of
    "voided": dict,  # how often tasks and items were voided after they had finished
    "left_out": list,  # the tasks that lack a value since the last run was not asked for them
    "cleanups": dict,  # those that did not complete, each with the id of its run
    "begun": list,  # the run that has begun and has no value yet, whether it repeats such a run, and when it began
    "files": dict,  # the states of files, see SavedFiles
}

#: Where dotflow kept the facts before it had a journal, each as the value of a task that no workflow has.
OLD_NAMES: Final = {"origin": ("@origin", -1), "files": ("@files", -2), "left_out": ("@left_out", -3)}
BEGUN_SUFFIX: Final = "-begun"  # after the key of the first task
CLEANUP_SUFFIX: Final = "-cleanup"  # after the key of a cleanup


class Journal:
    """What a storage has of one workflow beside its values, as one document. It is there only if it says something.

    Each write is whole or not at all. It reads before it writes, since other runs of this process write it, too.
    What an earlier dotflow has kept elsewhere is read as long as there is no journal, and folded in by the first write.

    Args:
        storage: Where the values are.
        workflow_id: The workflow.
        tasks: The tasks of the workflow, as far as what an earlier dotflow kept beside them counts.
        lock: Held while the document is read and written.

    Attributes:
        keeps_inputs: Whether the storage keeps contexts as a whole, so that a resume knows what a value was made from.
        is_given_up: Whether nothing more is saved: the values are those of a newer run, or of another process.
    """

    def __init__(
        self,
        storage: Storage,
        workflow_id: str,
        tasks: Sequence[Task] = (),
        lock: contextlib.AbstractContextManager[Any] | None = None,
    ) -> None:
        self.storage = storage
        self._workflow_id = workflow_id
        self._tasks = tasks
        self._lock = contextlib.nullcontext() if lock is None else lock
        self._facts: dict[str, Any] | None = None  # as last read or written
        self._is_there = False
        self._may_be_old = True  # whether the storage may have facts of an earlier dotflow
        self.keeps_inputs = True
        self.is_given_up = False

    def _key_of(self, name: str, number: int) -> str:
        task = LinkedTask(number, Action(Journal, Policy()), workflow_id=self._workflow_id, links=Links(name=name))
        return self.storage.key(task)

    @cached_property
    def _key(self) -> str:
        return self._key_of(NAME, NO_TASK)

    def read(self) -> str:
        """Reads it from the storage, and returns the origin. Raises CheckpointUnreadable."""
        context = self._get(self._key)
        value = context.storage  # a list is the origin of an earlier dotflow, where the id makes the key
        self._is_there = isinstance(value, dict) and context.task_id in (None, NO_TASK)
        facts = value.items() if self._is_there else ()
        self.keeps_inputs = context.task_id == NO_TASK
        self._facts = {
            name: fact
            for name, fact in facts
            if isinstance(fact, FACTS.get(name, object)) and (name != "files" or self.keeps_inputs)
        }
        return self.origin

    def _get(self, key: str) -> Context:
        try:
            return self.storage.get(key)
        except CheckpointUnreadable as error:
            raise self.unreadable(error.reason, error.where, key) from error.__cause__

    def unreadable(self, reason: str, where: str = "", key: str = "") -> CheckpointUnreadable:
        """Returns the error of a document that can't be read."""
        where = where or f"{type(self.storage).__name__} under {key or self._key!r}"
        return CheckpointUnreadable(reason, where, is_of_journal=True)

    def fact(self, name: str) -> Any:
        """Returns a fact as it was last read or written, empty without one. Raises CheckpointUnreadable."""
        if self._facts is None:
            self.read()
        assert self._facts is not None
        if not self._is_there and self._may_be_old:
            self._read_old(name)
        return self._facts.get(name) or FACTS[name]()

    @property
    def origin(self) -> str:
        """The first run of the chain that the values are of; "" for none."""
        origin: str = self.fact("origin")
        return origin

    def put(self, **facts: Any) -> None:
        """Saves facts; empty ones are deleted. Raises CheckpointUnreadable."""
        with self._lock:
            self.read()
            self._save(facts)

    def _save(self, facts: Mapping[str, Any]) -> None:
        if not self.is_given_up:
            assert self._facts is not None
            old = self._old_keys() if self._may_be_old else []
            for name in FACTS:
                self.fact(name)
            self._may_be_old = False
            self._facts = {name: fact for name, fact in {**self._facts, **facts}.items() if fact}
            if self._facts:
                self.storage.post(self._key, Context(self._facts, NO_TASK, self._workflow_id))
                self._is_there = True
            for key in old:
                self.storage.delete(key)
            if self._is_there and not self._facts:
                self.storage.delete(self._key)  # last: what is old must not count again
                self._is_there = False

    def delete(self) -> None:
        """Deletes it with what an earlier dotflow has kept, whether it can be read or not."""
        with self._lock:
            for key in [*self._old_keys(), self._key]:
                if key != self._key or self._has(key):
                    self.storage.delete(key)
            self.begin()

    def begin(self) -> None:
        """Begins without facts: the storage has deleted all of the workflow."""
        self._facts, self._is_there, self._may_be_old = {}, False, False

    def is_of_chain(self) -> bool:
        """Returns whether the values are of a chain, or may be."""
        try:
            return bool(self.read())
        except CheckpointUnreadable:  # which a run that begins anew replaces
            return True

    def leave_chain(self) -> None:
        """Saves that the values are of no chain."""
        try:
            self.put(origin="", voided={})
        except CheckpointUnreadable:
            self.delete()

    # Of an earlier dotflow

    def _places(self, name: str) -> Iterator[tuple[str, Task | None]]:
        """Yields the keys under which an earlier dotflow kept a fact, with the task that it is about."""
        if name in OLD_NAMES:
            yield self._key_of(*OLD_NAMES[name]), None
        elif name == "begun" and self._tasks:
            yield f"{self.storage.key(self._tasks[0])}{BEGUN_SUFFIX}", None
        elif name == "cleanups":
            for task in self._tasks:
                if task.is_cleanup:
                    yield f"{self.storage.key(task)}{CLEANUP_SUFFIX}", task

    def _has(self, key: str) -> bool:
        try:
            return self.storage.contains(key)
        except CheckpointUnreadable:
            return True

    def _old_keys(self) -> list[str]:
        """Returns the keys of the facts of an earlier dotflow that are there."""
        keys = [key for name in FACTS for key, _ in self._places(name)]
        return [key for key in keys if key != self._key and self._has(key)]

    def _read_old(self, name: str) -> None:
        """Adds a fact that an earlier dotflow has kept."""
        assert self._facts is not None
        if name == "voided":
            name = "origin"
        if name in self._facts:
            return
        fact: Any = {} if name == "cleanups" else None
        for key, task in self._places(name):
            context = self._get(key)
            match name, context.storage:
                case "origin", [str(origin), dict(voided)]:
                    fact, self._facts["voided"] = origin, dict(voided)
                    self.keeps_inputs = context.task_id == NO_TASK
                case "files", value if context.task_id == NO_TASK:  # a storage of values only has no states of files
                    try:
                        is_open, inputs, worked, *more = value
                    except (TypeError, ValueError) as error:
                        raise self.unreadable("it has no states of files", key=key) from error
                    fact = {"open": is_open, "inputs": inputs, "worked": worked} | (
                        {"cleaned": more[0]} if more else {}
                    )
                case "left_out", list(names):
                    fact = names
                case "begun", str(run_id):
                    fact = [run_id, context.task_id or 0, context.time.timestamp()]
                case "cleanups", str(run_id) if task is not None:
                    fact[task.key_name] = run_id
        self._facts[name] = fact

    def note_cleanups(self, runs: Mapping[str, str]) -> None:
        """Saves the runs whose cleanups did not complete, by the name of the task; "" for one that has."""
        with self._lock:
            self.read()
            cleanups = {**self.fact("cleanups"), **runs}
            self._save({"cleanups": {name: run_id for name, run_id in cleanups.items() if run_id}})

    # Idempotency keys

    def voided(self, name: str) -> int:
        """Returns how often a task or an item was voided."""
        count: int = self.fact("voided").get(name, 0)
        return count

    def void(self, names: Iterable[str]) -> None:
        """Saves that tasks and items run again, though they had finished: they get new keys."""
        with self._lock:
            self.read()  # another run of this process may have voided some, too
            voided = dict(self.fact("voided"))
            for name in names:
                voided[name] = voided.get(name, 0) + 1
            self._save({"voided": voided})

    def key_base(self, names: Sequence[str], inputs: str) -> str:
        """Returns what the idempotency keys of a task or an item are made from.

        Args:
            names: That of the task and, for an item, its own.
            inputs: A digest of what it takes: other arguments never go out under the key of earlier ones.
        """
        voided = [self.voided(name) for name in names]
        return str(uuid.uuid5(NAMESPACE, json.dumps([self.origin, names, voided, inputs if self.keeps_inputs else ""])))
