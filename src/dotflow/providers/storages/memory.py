"""StorageDefault: values in memory."""

import threading
from collections.abc import Iterable
from typing import Final

from dotflow.abc.storage import Storage
from dotflow.core.context import Context
from dotflow.core.task import Task
from dotflow.worker.interrupts import in_forked_child

MAX_DIGITS: Final = 19  # of a task's id
MAX_ID: Final = 10**MAX_DIGITS

_lock = threading.RLock()  # so that no value gets into a workflow's dict that is being dropped


@in_forked_child
def _after_fork_in_child() -> None:
    global _lock  # a thread of the parent may have held it
    _lock = threading.RLock()


class StorageDefault(Storage):
    """Keeps values in memory, as the same objects, until the process ends."""

    outlives_process = False

    def __init__(self) -> None:
        #: By workflow id, then by task id or name: a whole key for each value would take more memory.
        self._contexts: dict[str | None, dict[int | str, Context]] = {}
        #: The key that was made last, and its parts: the task's own objects, not others for each value.
        self._made: tuple[str, str | None, int | str] = "", None, ""

    def post(self, key: str, context: Context) -> None:
        made, workflow, name = self._made
        if key is not made:
            workflow, name = _split(key)
        with _lock:
            contexts = self._contexts.get(workflow)
            if contexts is None:
                contexts = self._contexts[workflow] = {}
            contexts[name] = context

    def get(self, key: str) -> Context:
        workflow, name = _split(key)
        context = self._contexts.get(workflow, {}).get(name)
        return Context() if context is None else context

    def key(self, task: Task) -> str:
        workflow, links = task.workflow_id, task.links
        name: int | str = task.task_id
        is_known = 0 <= task.task_id < MAX_ID
        if links is not None and links.name:
            name = links.name
            is_known = name.isidentifier()  # neither a number, nor with a slash
        key = f"{workflow}/{name}"  # as key_of, without the call
        if is_known:  # otherwise `post` splits it
            self._made = key, workflow, name
        return key

    def contains(self, key: str) -> bool:
        workflow, name = _split(key)
        return name in self._contexts.get(workflow, ())

    def delete(self, key: str) -> None:
        workflow, name = _split(key)
        with _lock:
            contexts = self._contexts.get(workflow, {})
            contexts.pop(name, None)
            if not contexts:
                self._contexts.pop(workflow, None)

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
    is_id = name.isdecimal() and len(name) <= MAX_DIGITS and name == str(int(name))
    return workflow if slash else None, int(name) if is_id else name
