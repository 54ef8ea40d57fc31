"""StorageDefault: values in memory."""

from collections.abc import Iterable
from typing import Final

from dotflow.abc.storage import Storage
from dotflow.core.context import Context
from dotflow.core.task import Task

MAX_DIGITS: Final = 20  # of a task's id


class StorageDefault(Storage):
    """Keeps values in memory, as the same objects, until the process ends."""

    outlives_process = False

    def __init__(self) -> None:
        #: By workflow id, then by task id or name: a whole key for each value would take more memory.
        self._contexts: dict[str | None, dict[int | str, Context]] = {}

    def post(self, key: str, context: Context) -> None:
        workflow: str | None
        place: int | str | None
        workflow, slash, name = key.rpartition("/")
        place = context.task_id
        if place is None or not slash or name != str(place):  # a key of another kind
            workflow, place = _split(key)
        self._contexts.setdefault(workflow, {})[place] = context

    def get(self, key: str) -> Context:
        workflow, name = _split(key)
        context = self._contexts.get(workflow, {}).get(name)
        return Context() if context is None else context

    def key(self, task: Task) -> str:
        name = task.task_id if task.links is None else task.key_name
        return f"{task.workflow_id}/{name}"  # as key_of, without the call

    def contains(self, key: str) -> bool:
        workflow, name = _split(key)
        return name in self._contexts.get(workflow, ())

    def delete(self, key: str) -> None:
        workflow, name = _split(key)
        self._contexts.get(workflow, {}).pop(name, None)

    def list_keys(self, prefix: str = "") -> Iterable[str]:
        keys = [
            str(name) if workflow is None else f"{workflow}/{name}"
            for workflow, contexts in list(self._contexts.items())
            for name in list(contexts)
        ]
        return [key for key in keys if key.startswith(prefix)]

    def clear(self, workflow_id: str) -> bool:
        self._contexts.pop(workflow_id, None)
        return True


def _split(key: str) -> tuple[str | None, int | str]:
    """Returns the workflow's id, None in a key without one, and the task's id or name."""
    workflow, slash, name = key.rpartition("/")
    if name.isdecimal() and len(name) < MAX_DIGITS and name == str(int(name)):
        return workflow if slash else None, int(name)
    return workflow if slash else None, name
