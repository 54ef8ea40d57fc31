"""What a worker process must be told of a call, and what it knows already."""

from collections.abc import Mapping
from typing import Any, Final

from dotflow.core.action import Action
from dotflow.core.call import Call
from dotflow.core.context import Context
from dotflow.core.task import Task
from dotflow.processes.channel import Dump, dump_whole
from dotflow.processes.forkserver import KeptForkServer
from dotflow.processes.start import Fork, FreshInterpreter, Start, default_method
from dotflow.processes.worker_main import KEPT, CallMessage, ValueRef

NO_VALUE: Final = object()
FRESH: Final = "fresh"  # no choice of the user's
STARTS: Final[Mapping[str, type[Start]]] = {"fork": Fork, "forkserver": KeptForkServer, FRESH: FreshInterpreter}


class WorkerCache:
    """What one worker has.

    Attributes:
        kept: The value that it returned last; NO_VALUE where it returned none.
        steps: The keys of the steps that it was sent.
        shared: The keys of the shared arguments that it was sent.
    """

    def __init__(self) -> None:
        self.kept: Any = NO_VALUE
        self.steps: set[int] = set()
        self.shared: set[int] = set()


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
        self._shared: dict[int, tuple[Mapping[str, Any], int, bytes]] = {}  # by id, too

    def parts(self, memory: WorkerCache, call: Call) -> list[Any]:
        """The parts of a message; raises what pickling raises."""
        previous: Context | ValueRef = call.previous_context
        value = call.previous_context.storage
        if value is memory.kept and value is not None:
            told = call.previous_context
            previous = ValueRef(Context(None, told.task_id, told.workflow_id, told.time, told.step))
        key, step, initial = 0, None, None
        if not self._inherited:
            key, pickled = self._pickled(call.step)
            step, initial = None if key in memory.steps else pickled, call.initial_context
        shared_key, shared = self._pickled_shared(memory, call)
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
                _with_kept(call.arguments, memory),
                shared_key,
                shared,
            )
        )
        memory.steps.add(key)
        if shared_key is not None:
            memory.shared.add(shared_key)
        return parts

    def _pickled_shared(self, memory: WorkerCache, call: Call) -> tuple[int | None, bytes | None]:
        if call.shared is None:
            return None, None
        found = self._shared.get(id(call.shared))
        if found is None:
            found = call.shared, len(self._shared), dump_whole(call.shared, is_code=False)
            self._shared[id(call.shared)] = found
        return found[1], None if found[1] in memory.shared else found[2]

    def _pickled(self, step: Action[..., Any]) -> tuple[int, bytes]:
        found = self._steps.get(id(step))
        if found is None:
            found = self._steps[id(step)] = (step, len(self._steps), dump_whole(step, is_code=True))
        return found[1:]


def _with_kept(arguments: Mapping[str, Any] | None, memory: WorkerCache) -> Mapping[str, Any] | None:
    """The arguments, with KEPT for the value that the worker has."""
    if arguments is None or memory.kept is NO_VALUE or memory.kept is None:
        return arguments
    return {name: KEPT if value is memory.kept else value for name, value in arguments.items()}


class WorkerFactory:
    """How the next worker of a run starts, and how it is told what to do.

    Args:
        tasks: The run's tasks, by id.
        start_method: The user's choice; None for whatever is safe at the time.
    """

    def __init__(self, tasks: Mapping[int, Task], start_method: str | None) -> None:
        self._tasks = tasks
        self._start_method = start_method
        self._found: dict[str, tuple[Start, CallEncoder]] = {}

    def next(self) -> tuple[Start, CallEncoder]:
        """Decided for each worker anew: a thread may have begun since the last one was forked."""
        method = self._start_method or default_method()
        if method not in self._found:
            start = STARTS[method](self._tasks)
            self._found[method] = start, CallEncoder(start.dump, start.inherits)
        return self._found[method]

    def close(self) -> None:
        """Ends what was needed to start workers."""
        for start, _ in self._found.values():
            start.close()
