"""Calls on the wire: what a worker has already is left out."""

from collections.abc import Mapping
from typing import Any, Final

from dotflow.core.action import Action
from dotflow.core.call import Call
from dotflow.core.context import Context
from dotflow.core.task import Task
from dotflow.processes.channel import Dump, dump_whole
from dotflow.processes.forkserver import KeptForkServer
from dotflow.processes.start import Fork, FreshInterpreter, StartMethod, default_start_method
from dotflow.processes.worker_main import LAST_VALUE, CallMessage, ValueRef

NO_VALUE: Final = object()
FRESH: Final = "fresh"  # no choice of the user's
STARTS: Final[Mapping[str, type[StartMethod]]] = {"fork": Fork, "forkserver": KeptForkServer, FRESH: FreshInterpreter}


class WorkerCache:
    """What one worker has.

    Attributes:
        value: The last value that it returned; NO_VALUE if there is none.
        steps: The keys of the steps that it has received.
        shared: The keys of the shared arguments that it has received.
    """

    def __init__(self) -> None:
        self.value: Any = NO_VALUE
        self.steps: set[int] = set()
        self.shared: set[int] = set()


class CallEncoder:
    """Encodes calls, without what the worker has.

    Args:
        dump: Pickles values.
        inherited: Whether the workers have the run's tasks by fork.
    """

    def __init__(self, dump: Dump, inherited: bool) -> None:
        self._dump = dump
        self._inherited = inherited
        # By id of the step or the arguments, which are kept here, so that no other object gets their id.
        self._steps: dict[int, tuple[Action[..., Any], int, bytes]] = {}
        self._shared: dict[int, tuple[Mapping[str, Any], int, bytes]] = {}

    def encode(self, cache: WorkerCache, call: Call) -> list[Any]:
        """Returns the parts of a message; raises what pickling raises."""
        previous: Context | ValueRef = call.previous_context
        value = call.previous_context.storage
        if value is cache.value and value is not None:
            context = call.previous_context
            previous = ValueRef(Context(None, context.task_id, context.workflow_id, context.time, context.step))
        key, step, initial = (0, None, None) if self._inherited else self._task_fields(call, cache)
        shared_key, shared = self._shared_fields(call, cache)
        parts = self._dump(
            CallMessage(
                call.task_id,
                call.lane,
                call.workflow_id,
                key,
                step,
                initial,
                previous,
                call.carrier,
                call.is_fallback,
                _without_last_value(call.arguments, cache),
                shared_key,
                shared,
            )
        )
        cache.steps.add(key)
        if shared_key is not None:
            cache.shared.add(shared_key)
        return parts

    def _task_fields(self, call: Call, cache: WorkerCache) -> tuple[int, bytes | None, Context]:
        entry = self._steps.get(id(call.step))
        if entry is None:
            pickled = dump_whole(call.step, is_code=True)
            entry = self._steps[id(call.step)] = (call.step, len(self._steps), pickled)
        _, key, pickled = entry
        return key, None if key in cache.steps else pickled, call.initial_context

    def _shared_fields(self, call: Call, cache: WorkerCache) -> tuple[int | None, bytes | None]:
        if call.shared is None:
            return None, None
        entry = self._shared.get(id(call.shared))
        if entry is None:
            pickled = dump_whole(call.shared, is_code=False)
            entry = self._shared[id(call.shared)] = (call.shared, len(self._shared), pickled)
        _, key, pickled = entry
        return key, None if key in cache.shared else pickled


def _without_last_value(arguments: Mapping[str, Any] | None, cache: WorkerCache) -> Mapping[str, Any] | None:
    """Returns the arguments, with LAST_VALUE for the value that the worker has."""
    if arguments is None or cache.value is NO_VALUE or cache.value is None:
        return arguments
    return {name: LAST_VALUE if value is cache.value else value for name, value in arguments.items()}


class WorkerFactory:
    """Chooses how the next worker of a run starts.

    Args:
        tasks: The run's tasks, by id.
        start_method: The user's choice; None for the default.
    """

    def __init__(self, tasks: Mapping[int, Task], start_method: str | None) -> None:
        self._tasks = tasks
        self._start_method = start_method
        self._starts: dict[str, tuple[StartMethod, CallEncoder]] = {}

    def next(self) -> tuple[StartMethod, CallEncoder]:
        """Returns how to start the next worker, and its encoder.

        The default may change between two workers: once a thread has begun, forking is unsafe.
        """
        method = self._start_method or default_start_method()
        if method not in self._starts:
            start = STARTS[method](self._tasks)
            self._starts[method] = start, CallEncoder(start.dump, start.inherits_tasks)
        return self._starts[method]

    def close(self) -> None:
        """Ends what the start methods have started."""
        for start, _ in self._starts.values():
            start.close()
