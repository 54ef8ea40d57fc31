"""What a worker process must be told of a call, and what it knows already."""

from collections.abc import Mapping
from typing import Any, Final

from dotflow.core.action import Action
from dotflow.core.call import Call
from dotflow.core.context import Context
from dotflow.core.task import Task
from dotflow.processes.channel import Dump, dump_whole
from dotflow.processes.forkserver import KeptForkServer
from dotflow.processes.start import Fork, FreshInterpreter, StartMethod, default_start_method
from dotflow.processes.worker_main import CallMessage, ValueRef

NO_VALUE: Final = object()
FRESH: Final = "fresh"  # no choice of the user's
STARTS: Final[Mapping[str, type[StartMethod]]] = {"fork": Fork, "forkserver": KeptForkServer, FRESH: FreshInterpreter}


class WorkerCache:
    """What one worker has.

    Attributes:
        kept: The value that it returned last; NO_VALUE where it returned none.
        steps: The keys of the steps that it was sent.
    """

    def __init__(self) -> None:
        self.value: Any = NO_VALUE
        self.steps: set[int] = set()


class CallEncoder:
    """Puts calls into orders, as short as the worker's memory allows.

    Args:
        dump: How values are pickled.
        inherited: Whether the workers were born with the steps and initial contexts.
    """

    def __init__(self, dump: Dump, inherited: bool) -> None:
        self._dump = dump
        self._inherited = inherited
        self._steps: dict[int, tuple[Action[..., Any], int, bytes]] = {}  # by id, and so held on to

    def encode(self, cache: WorkerCache, call: Call) -> list[Any]:
        """The parts of a message; raises what pickling raises."""
        previous: Context | ValueRef = call.previous_context
        value = call.previous_context.storage
        if value is cache.value and value is not None:
            context = call.previous_context
            previous = ValueRef(Context(None, context.task_id, context.workflow_id, context.time, context.step))
        if self._inherited:
            return self._dump(
                CallMessage(call.task_id, call.lane, call.workflow_id, 0, None, None, previous, call.carrier)
            )
        key, step = self._pickle_step(call.step)
        parts = self._dump(
            CallMessage(
                call.task_id,
                call.lane,
                call.workflow_id,
                key,
                None if key in cache.steps else step,
                call.initial_context,
                previous,
                call.carrier,
            )
        )
        cache.steps.add(key)
        return parts

    def _pickle_step(self, step: Action[..., Any]) -> tuple[int, bytes]:
        entry = self._steps.get(id(step))
        if entry is None:
            entry = self._steps[id(step)] = (step, len(self._steps), dump_whole(step, is_code=True))
        return entry[1:]


class WorkerFactory:
    """How the next worker of a run starts, and how it is told what to do.

    Args:
        tasks: The run's tasks, by id.
        start_method: The user's choice; None for whatever is safe at the time.
    """

    def __init__(self, tasks: Mapping[int, Task], start_method: str | None) -> None:
        self._tasks = tasks
        self._start_method = start_method
        self._starts: dict[str, tuple[StartMethod, CallEncoder]] = {}

    def next(self) -> tuple[StartMethod, CallEncoder]:
        """Decided for each worker anew: a thread may have begun since the last one was forked."""
        method = self._start_method or default_start_method()
        if method not in self._starts:
            start = STARTS[method](self._tasks)
            self._starts[method] = start, CallEncoder(start.dump, start.inherits_tasks)
        return self._starts[method]

    def close(self) -> None:
        """Ends what was needed to start workers."""
        for start, _ in self._starts.values():
            start.close()
