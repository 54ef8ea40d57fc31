"""A workflow's storage and `atomic_path`, which work as before, and a listener: they pass the kill points of a run."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from dotflow.abc.history import Listener
from dotflow.abc.storage import Storage
from dotflow.core import events
from dotflow.core.context import Context
from dotflow.core.task import Task
from dotflow.graph.linked_task import Item, LinkedTask
from dotflow.resume.checkpoint_keys import OF_CALL
from dotflow.testing.crash.kill_points import KillSwitch, is_chosen
from dotflow.testing.crash.ledger import ABSENT, UNREADABLE, Version, version_of
from dotflow.worker import atomic_path

#: Names of the kill points at events.
BOUNDARIES: Final[Mapping[type, str]] = {
    events.RunStarted: "the start of the run",
    events.AttemptStarted: "the start of attempt {event.attempt} of {task}",
    events.AttemptRuns: "the run of attempt {event.attempt} of {task}",
    events.AttemptRepeated: "a failure inside of attempt {event.attempt} of {task}",
    events.AttemptWaits: "the first wait of attempt {event.attempt} of {task}",
    events.AttemptFailed: "the failure of attempt {event.attempt} of {task}",
    events.TaskCompleted: "the completion of {task}",
    events.TaskFailed: "the end of {task}",
    events.TaskRestored: "the restoration of {task}",
    events.TaskSkipped: "the skip of {task}",
    events.TaskPaused: "the pause of {task}",
    events.MapOpened: "the opening of {task}",
    events.MapEnded: "the end of {task}",
    events.RunEnded: "the end of the run",
}

MAX_BLOCKS: Final = 3  # of `atomic_path` in an attempt that have kill points
MAX_UNKNOWN: Final = 2  # deletes of items of an earlier run that have kill points
MAX_CALLS: Final = 8  # the first calls of a durable step that have kill points; of the others the 16th, 32nd, 64th, ...


class InstrumentedStorage:
    """Has every write of a storage pass its kill points, and records what is done with it.

    Replaces methods of the object: it keeps its type and its attributes, frozen or not.

    Args:
        storage: The storage.
        switch: Kills the process.
    """

    def __init__(self, storage: Storage, switch: KillSwitch) -> None:
        self._switch = switch
        self._tasks: dict[str, Task] = {}
        self._items: dict[str, Item] = {}  # by key, of the maps that have opened
        self._calls: dict[str, dict[str, int]] = {}  # of each durable step the numbers of its calls, by key
        self._unknown = 0
        self._inside = threading.local()
        self._key, self._post, self._get = storage.key, storage.post, storage.get
        self._delete, self._clear, self._contains = storage.delete, storage.clear, storage.contains
        vars(storage).update(key=self.key, post=self.post, get=self.get, delete=self.delete, clear=self.clear)

    def key(self, task: Task) -> str:
        key = self._key(task)
        self._tasks[key] = task
        return key

    def post(self, key: str, context: Context) -> None:
        task, call = self._task(key), self._call(key)
        points = self._has_points(task, call)
        with self._switch.write(f"the post of {self._label(key)}", has_points=points), self._operation() as record:
            step = None if task is None or call else (task.task_id, task.item)
            record("post", key, version_of(context), step, context.workflow_id)
            if call:
                links = {} if context.inputs is None else context.inputs.links
                record(
                    "call", key, context.workflow_id, self._label(key), context.step or "?", links.get("arguments", "")
                )
            self._post(key, context)
            record("posted", key)

    def get(self, key: str) -> Context:
        with self._operation() as record:
            if record is _ignore:
                return self._get(key)
            found: Version = UNREADABLE
            try:
                context = self._get(key)
                is_empty = context.storage is None and context.task_id is None
                found = ABSENT if is_empty and not self._contains(key) else version_of(context)
            finally:
                record("get", key, found)
        return context

    def delete(self, key: str) -> None:
        task = self._task(key)
        self._unknown += task is None
        is_known = task is not None
        has_points = self._has_points(task, self._call(key)) if is_known else self._unknown <= MAX_UNKNOWN
        with (
            self._switch.write(f"the delete of {self._label(key)}", has_points=has_points),
            self._operation() as record,
        ):
            record("delete", key)
            self._delete(key)
            record("deleted", key)

    def clear(self, workflow_id: str) -> bool:
        with self._switch.write("clear() at the start"), self._operation() as record:
            record("clear", workflow_id)
            is_cleared = self._clear(workflow_id)
            if is_cleared:
                record("cleared", workflow_id)
            return is_cleared

    @contextlib.contextmanager
    def _operation(self) -> Iterator[Callable[..., None]]:
        """Yields a function that records an operation, unless it is a part of another one of this thread."""
        if getattr(self._inside, "operation", False):
            yield _ignore
            return
        self._inside.operation = True
        try:
            yield lambda *operation: self._switch.record("storage", operation)
        finally:
            self._inside.operation = False

    def _task(self, key: str) -> Task | None:
        """Returns the task or the item that a key, or that of its call, belongs to; None where that is not known."""
        key = OF_CALL.sub("", key)
        if key in self._tasks:
            return self._tasks[key]
        if key not in self._items:
            for of_task, task in self._tasks.items():
                if isinstance(task, LinkedTask):
                    self._items.update((f"{of_task}-{item.key_suffix}", item) for item in task.items)
        return self._items.get(key)

    def _call(self, key: str) -> int:
        """Returns the number of a call in its step, in the order in which they are saved; 0 for anything else."""
        task_key = OF_CALL.sub("", key)
        if task_key == key:
            return 0
        numbers = self._calls.setdefault(task_key, {})
        return numbers.setdefault(key, len(numbers) + 1)

    def _has_points(self, task: Task | None, call: int = 0) -> bool:
        if call > MAX_CALLS and call & (call - 1):
            return False
        if task is None or task.item is None:
            return True
        owner = next(one for one in self._tasks.values() if one.task_id == task.task_id)
        return is_chosen(task.item, len(owner.items))

    def _label(self, key: str) -> str:
        task, call = self._task(key), self._call(key)
        name = f"the key {OF_CALL.sub('', key)!r}" if task is None else label(task.task_id, task.name, task.item)
        return f"call {call} of {name}" if call else name


def _ignore(*operation: object) -> None:
    """Records nothing."""


def label(task_id: int, name: str, item: int | None) -> str:
    """Returns the name of a task or an item for readers."""
    return (
        f"task {task_id} ({name})"
        if item is None
        else f"item {item} of task {task_id} ({name.replace(f'[{item}]', '', 1)})"
    )


class KillPoints(Listener):
    """Passes a kill point at each event, after the workflow's own history, if any, has recorded it.

    Attributes:
        blocks: How many blocks of `atomic_path` have kill points until the next attempt begins.
    """

    def __init__(self, switch: KillSwitch) -> None:
        self.blocks = 0
        self._switch = switch
        self._names: list[str] = []
        self._counts: dict[int, int] = {}  # the number of a map's items, by task id

    def record(self, run_id: str, event: Any) -> None:
        if isinstance(event, events.CallEvent):  # the writes of calls have kill points of their own
            return
        item: int | None = getattr(event, "item", None)
        if isinstance(event, events.RunStarted):
            self._names = [step.name for step in event.steps]
        elif isinstance(event, events.MapOpened):
            self._counts[event.task_id] = event.items
        is_passed = item is None or is_chosen(item, self._counts[event.task_id])
        if isinstance(event, events.AttemptStarted):
            self._switch.record("began", (event.task_id, item))
            self.blocks = MAX_BLOCKS if is_passed else 0
        if is_passed and not (isinstance(event, events.AttemptWaits) and event.asked > 1):
            task = label(event.task_id, self._names[event.task_id], item) if hasattr(event, "task_id") else ""
            self._switch.boundary(BOUNDARIES[type(event)].format(event=event, task=task))


def instrument_blocks(switch: KillSwitch, points: KillPoints) -> None:
    """Has `atomic_path` pass kill points in this process: before its block, and from the end of that on."""
    begin, replace = atomic_path.hidden_folder, atomic_path.put_in_place
    chosen: set[Path] = set()

    @contextlib.contextmanager
    def hidden_folder(parent: str, name: str, given: Path) -> Iterator[str]:
        place = Path(parent, name)
        chosen.discard(place)
        if points.blocks > 0 and switch.is_of_this_process:
            points.blocks -= 1
            chosen.add(place)
        with contextlib.ExitStack() as stack:
            with switch.write(f"the beginning of atomic_path({name!r})", has_points=place in chosen):
                folder = stack.enter_context(begin(parent, name, given))
            yield folder
            with switch.write(f"the end of atomic_path({name!r})", has_points=place in chosen):
                stack.close()

    def replaces(path: str, place: str, made: os.stat_result) -> None:
        target = Path(place)
        with switch.write(f"the replacement of {target.name!r}", has_points=target in chosen):
            replace(path, place, made)

    vars(atomic_path).update(hidden_folder=hidden_folder, put_in_place=replaces)
