"""A workflow's providers under watch: they do what they did before, and say when."""

import contextlib
import sys
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

from dotflow.abc.history import History
from dotflow.abc.log import Log
from dotflow.abc.storage import Storage
from dotflow.core.context import Context
from dotflow.core.events import (
    AttemptFailed,
    AttemptRepeated,
    AttemptStarted,
    Event,
    RunEnded,
    RunStarted,
    TaskCompleted,
    TaskFailed,
    TaskRestored,
)
from dotflow.core.task import Task
from dotflow.testing.crash.journal import Journal
from dotflow.testing.crash.kill_points import KillSwitch


class InstrumentedStorage(Storage):
    """Another storage under watch, which does all the work."""

    _storage: Storage
    _switch: KillSwitch
    _journal: Journal
    _tasks: dict[str, Task]

    @classmethod
    def over(cls, storage: Storage, switch: KillSwitch, journal: Journal) -> "InstrumentedStorage":
        """Puts a storage under watch. It keeps its name: errors say what kind of storage they come from."""
        kind = type(type(storage).__name__, (cls,), {"__doc__": cls.__doc__})
        instrumented: InstrumentedStorage = kind()
        instrumented._storage, instrumented._switch, instrumented._journal, instrumented._tasks = (
            storage,
            switch,
            journal,
            {},
        )
        return instrumented

    def post(self, key: str, context: Context) -> None:
        task = self._tasks.get(key)
        posted = -1 if task is None else task.task_id
        self._journal.write("posting", posted)
        with self._switch.writing(f"the post of {self._label(key)}", lambda: self._journal.write("posted", posted)):
            self._storage.post(key, context)

    def delete(self, key: str) -> None:
        with self._switch.writing(f"the delete of {self._label(key)}", lambda: None):
            self._storage.delete(key)

    def clear(self, workflow_id: str) -> bool:
        with self._switch.writing("clear() at the start", lambda: None):
            return self._storage.clear(workflow_id)

    def get(self, key: str) -> Context:
        return self._storage.get(key)

    def key(self, task: Task) -> str:
        key = self._storage.key(task)
        self._tasks[key] = task
        return key

    def contains(self, key: str) -> bool:
        return self._storage.contains(key)

    def list_keys(self, prefix: str = "") -> Iterable[str]:
        return self._storage.list_keys(prefix)

    def lock(self, workflow_id: str) -> contextlib.AbstractContextManager[Hashable]:
        return self._storage.lock(workflow_id)

    def _label(self, key: str) -> str:
        task = self._tasks.get(key)
        return f"the key {key!r}" if task is None else f"task {task.task_id} ({task.name})"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "_storage" not in self.__dict__:  # whoever copies or pickles it, asks too early
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self._storage, name)


class InstrumentedHistory(History):
    """Another history, or none, under watch.

    Args:
        history: Hears of every event as before.
        switch: May end the process at one.
        journal: Is told of the executions.
        names: The steps' names, by task id.
    """

    def __init__(self, history: History | None, switch: KillSwitch, journal: Journal, names: Mapping[int, str]) -> None:
        self._history = history
        self._switch = switch
        self._journal = journal
        self._names = names

    def record(self, run_id: str, event: Event) -> None:
        try:
            if self._history is not None:
                self._history.record(run_id, event)
        finally:
            what = self._describe(event)
            if isinstance(event, AttemptStarted):
                self._journal.write("began", event.task_id, event.attempt)
            elif isinstance(event, RunStarted):
                self._journal.write("started")
            self._journal.write("at", what)
            self._switch.boundary(what)

    def _describe(self, event: Event) -> str:
        match event:
            case RunStarted() | RunEnded():
                return f"the {'start' if isinstance(event, RunStarted) else 'end'} of the run"
            case AttemptStarted() | AttemptFailed() | AttemptRepeated():
                word = LABELS[type(event)]
                return f"{word} of attempt {event.attempt} of {self._label(event.task_id)}"
            case _:
                return f"{LABELS[type(event)]} of {self._label(event.task_id)}"

    def _label(self, task_id: int) -> str:
        return f"task {task_id} ({self._names.get(task_id, '?')})"


LABELS: Mapping[type, str] = {
    AttemptStarted: "the start",
    AttemptFailed: "the failure",
    AttemptRepeated: "a failure inside",
    TaskCompleted: "the completion",
    TaskFailed: "the end",
    TaskRestored: "the restoration",
}


class QuietLog(Log):
    """Writes nothing about tasks; what is reported beside them goes to stderr."""

    @property
    def is_silent(self) -> bool:
        return True

    def info(self, task: Task) -> None:
        pass

    def error(self, task: Task) -> None:
        pass

    def report(self, message: str) -> None:
        print(message, file=sys.stderr)
