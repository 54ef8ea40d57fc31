"""A workflow's storage and history, instrumented: they work as before and pass the kill points of a run."""

from collections.abc import Mapping
from typing import Any, Final

from dotflow.abc.history import History
from dotflow.abc.storage import Storage
from dotflow.core import events
from dotflow.core.context import Context
from dotflow.core.task import Task
from dotflow.testing.crash.kill_points import KillSwitch

#: Names of the kill points at events.
BOUNDARIES: Final[Mapping[type, str]] = {
    events.RunStarted: "the start of the run",
    events.AttemptStarted: "the start of attempt {event.attempt} of {task}",
    events.AttemptRepeated: "a failure inside of attempt {event.attempt} of {task}",
    events.AttemptFailed: "the failure of attempt {event.attempt} of {task}",
    events.TaskCompleted: "the completion of {task}",
    events.TaskFailed: "the end of {task}",
    events.TaskRestored: "the restoration of {task}",
    events.RunEnded: "the end of the run",
}


def instrument_storage(storage: Storage, switch: KillSwitch) -> None:
    """Has every write of *storage* pass its kill points.

    Replaces methods of the object: it keeps its type and its attributes, frozen or not.
    """
    tasks: dict[str, Task] = {}
    key_of, post_value, delete_value, clear_values = storage.key, storage.post, storage.delete, storage.clear

    def label(key: str) -> str:
        return f"task {tasks[key].task_id} ({tasks[key].name})" if key in tasks else f"the key {key!r}"

    def key(task: Task) -> str:
        key = key_of(task)
        tasks[key] = task
        return key

    def post(key: str, context: Context) -> None:
        with switch.write(f"the post of {label(key)}", tasks[key].task_id if key in tasks else None):
            post_value(key, context)

    def delete(key: str) -> None:
        with switch.write(f"the delete of {label(key)}"):
            delete_value(key)

    def clear(workflow_id: str) -> bool:
        with switch.write("clear() at the start"):
            return clear_values(workflow_id)

    vars(storage).update(key=key, post=post, delete=delete, clear=clear)


class InstrumentedHistory(History):
    """Passes a kill point at each event, after the workflow's own history, if any, has recorded it."""

    def __init__(self, history: History | None, switch: KillSwitch) -> None:
        self._history = history
        self._switch = switch
        self._names: list[str] = []

    def record(self, run_id: str, event: events.Event) -> None:
        try:
            if self._history is not None:
                self._history.record(run_id, event)
        finally:
            if isinstance(event, events.RunStarted):
                self._names = [step.name for step in event.steps]
                self._switch.record("started")
            elif isinstance(event, events.AttemptStarted):
                self._switch.record("began", event.task_id)
            self._switch.boundary(BOUNDARIES[type(event)].format(event=event, task=self._label(event)))

    def _label(self, event: Any) -> str:
        return f"task {event.task_id} ({self._names[event.task_id]})" if hasattr(event, "task_id") else ""
