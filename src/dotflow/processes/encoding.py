"""Calls on the wire: what a worker has already is left out."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from dotflow.core.action import Action
from dotflow.core.call import Call
from dotflow.core.context import Context
from dotflow.core.task import Task
from dotflow.processes.channel import CALL, SHARED, Dump, dump_whole
from dotflow.processes.forkserver import KeptForkServer
from dotflow.processes.plain_pickles import SCALARS, dump_plain
from dotflow.processes.shared import keep_shared
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
        shared: The numbers of the shared arguments that it has received and keeps.
    """

    def __init__(self) -> None:
        self.value: Any = NO_VALUE
        self.steps: set[int] = set()
        self.shared: dict[int, None] = {}

    def is_value(self, value: object) -> bool:
        """Returns whether the worker has the value, so that the call can refer to it.

        The same object here is what the worker's last value was received as. The worker itself has changed it only if
        it has made another call since, whose outcome has replaced it here.
        """
        return value is self.value and value is not None

    def has_value_of(self, call: Call) -> bool:
        """Returns whether `CallEncoder.encode` makes the call refer to the worker's last value."""
        return self.is_value(call.previous_context.storage) or any(map(self.is_value, (call.arguments or {}).values()))


class SharedArguments(NamedTuple):
    """Arguments that several calls share, pickled.

    Attributes:
        number: Their number, in this run.
        parts: The pickle and its buffers.
    """

    number: int
    parts: list[bytes]


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
        self._shared: dict[int, tuple[Mapping[str, Any], SharedArguments]] = {}
        self._numbers = itertools.count(1)

    def messages(self, cache: WorkerCache, call: Call) -> Iterator[tuple[int, int, Sequence[Any]]]:
        """Yields the kind, number and parts of each message that a worker needs for the call.

        Raises what pickling raises, before the first one.
        """
        shared = self.shared_of(call)
        parts = self.encode(cache, call)
        if shared is not None and shared.number not in cache.shared:
            keep_shared(cache.shared, shared.number, None)
            yield SHARED, shared.number, shared.parts
        yield CALL, call.number, parts

    def encode(self, cache: WorkerCache, call: Call) -> list[Any]:
        """Returns the parts of a message, without what `shared_of` returns; raises what pickling raises."""
        context = call.previous_context
        previous: Context | ValueRef | None = _not_empty(context)
        if cache.is_value(context.storage):
            previous = ValueRef(Context(None, context.task_id, context.workflow_id, context.time, context.step))
        key, step, initial = (0, None, None) if self._inherited else self._task_fields(call, cache)
        shared = self.shared_of(call)
        message = CallMessage(
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
            None if shared is None else shared.number,
            None if call.watch is None else tuple(call.watch.attempt),  # pickled sooner than with its class
            call.secrets,
        )
        dump = dump_plain if initial is None and _is_plain(call, cache) else self._dump
        parts = dump(tuple(message))  # pickled sooner than with its class
        cache.steps.add(key)
        return parts

    def shared_of(self, call: Call) -> SharedArguments | None:
        """Returns the call's shared arguments, which are pickled once; raises what pickling raises."""
        if call.shared is None:
            return None
        entry = self._shared.get(id(call.shared))
        if entry is None:
            parts = [bytes(part) for part in self._dump(call.shared)]
            entry = call.shared, SharedArguments(next(self._numbers), parts)
            keep_shared(self._shared, id(call.shared), entry)
        return entry[1]

    def _task_fields(self, call: Call, cache: WorkerCache) -> tuple[int, bytes | None, Context | None]:
        entry = self._steps.get(id(call.step))
        if entry is None:
            pickled = dump_whole(call.step, is_code=True)
            entry = self._steps[id(call.step)] = (call.step, len(self._steps), pickled)
        _, key, pickled = entry
        return key, None if key in cache.steps else pickled, _not_empty(call.initial_context)


def _not_empty(context: Context) -> Context | None:
    return None if context.storage is None and context.task_id is None and context.step is None else context


def _is_plain(call: Call, cache: WorkerCache) -> bool:
    """Returns whether all values that are sent with the call are scalars."""
    values = (call.previous_context.storage, *(call.arguments or {}).values())
    return all(value.__class__ in SCALARS or cache.is_value(value) for value in values)


def _without_last_value(arguments: Mapping[str, Any] | None, cache: WorkerCache) -> Mapping[str, Any] | None:
    """Returns the arguments, with LAST_VALUE for the value that the worker has."""
    if arguments is None or cache.value is NO_VALUE:
        return arguments
    return {name: LAST_VALUE if cache.is_value(value) else value for name, value in arguments.items()}


class WorkerFactory:
    """Chooses how the next worker of a run starts.

    Args:
        tasks: The run's tasks, by id.
        start_method: The user's choice; None for the default.

    Attributes:
        captured: Whether the workers' output is captured.
    """

    def __init__(self, tasks: Mapping[int, Task], start_method: str | None) -> None:
        self.captured = False
        self._tasks = tasks
        self._start_method = start_method
        self._starts: dict[str, tuple[StartMethod, CallEncoder]] = {}

    def next(self) -> tuple[StartMethod, CallEncoder]:
        """Returns how to start the next worker, and its encoder.

        The default may change between two workers: once a thread has begun, forking is unsafe.
        """
        method = self._start_method or default_start_method()
        if method not in self._starts:
            start = STARTS[method](self._tasks, captured=self.captured)
            self._starts[method] = start, CallEncoder(start.dump, start.inherits_tasks)
        return self._starts[method]

    def close(self) -> None:
        """Ends what the start methods have started."""
        for start, _ in self._starts.values():
            start.close()
