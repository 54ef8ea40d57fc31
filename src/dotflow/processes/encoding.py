"""Calls on the wire, without what the worker has already, and outcomes from it.

A call is sent as the values of a `Call`, in which these stand for others:

- `step`: a number and the pickle of the action, which is None if the worker has it. By fork it has the whole task: then
  `step` and `initial_context` are None.
- `LAST_VALUE`: the value that the worker has returned last, as an argument or in the `previous_context`.
- `shared`: the number of the shared arguments, which a message of their own has brought.
- A context without a value: None. `files`: its values. `watch`: the values of its AttemptId.
- `port`: whether its calls are followed; the worker makes its own one.
"""

import itertools
import pickle
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from dotflow.core.action import AnyAction
from dotflow.core.call import Call
from dotflow.core.context import Context
from dotflow.core.outcome import Outcome, Returned, Usage
from dotflow.processes import failures
from dotflow.processes.channel import CALL, ENVIRON, SCALARS, SHARED, Dump, dump_plain, dump_whole, keep_shared
from dotflow.processes.worker_main import LAST_VALUE

NO_VALUE: Final = object()
new: Final = tuple.__new__  # makes a named tuple in half the time: there is one for every attempt


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

    Attributes:
        dump: Pickles values.

    Args:
        dump: As above.
        inherited: Whether the workers have the run's tasks by fork.
    """

    def __init__(self, dump: Dump, inherited: bool) -> None:
        self.dump = dump
        self._inherited = inherited
        # By id of the step or the arguments, which are kept here, so that no other object gets their id.
        self._steps: dict[int, tuple[AnyAction, int, bytes]] = {}
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
        if call.environ is not None:
            yield ENVIRON, 0, dump_plain(dict(call.environ))
        yield CALL, call.number, parts

    def encode(self, cache: WorkerCache, call: Call) -> list[Any]:
        """Returns the parts of a message, without what `shared_of` returns; raises what pickling raises."""
        task_id, lane, _, _, _, workflow_id, carrier, number, arguments, _, fallback = call[:11]
        secrets, files, port, _, watch = call[11:]
        previous = _not_empty(call.previous_context)
        if previous is not None and cache.is_value(previous.storage):
            previous = Context(LAST_VALUE, previous.task_id, previous.workflow_id, previous.time, previous.step)
        shared = self.shared_of(call)
        step = None if self._inherited else self._step_for(call.step, cache)
        initial = None if self._inherited else _not_empty(call.initial_context)
        dump = dump_plain if initial is None and _is_plain(call, cache) else self.dump
        arguments = _without_last_value(arguments, cache)
        shared_number = None if shared is None else shared.number
        attempt = None if watch is None else tuple(watch.attempt)
        # A plain tuple, which is pickled sooner than a Call, and made sooner than by `_replace`.
        sent = (task_id, lane, step, initial, previous, workflow_id, carrier, number, arguments)
        parts = dump(
            (*sent, shared_number, fallback, secrets, files and tuple(files), port and port.is_followed, attempt)
        )
        if step is not None:
            cache.steps.add(step[0])
        return parts

    def shared_of(self, call: Call) -> SharedArguments | None:
        """Returns the call's shared arguments, which are pickled once; raises what pickling raises."""
        if call.shared is None:
            return None
        entry = self._shared.get(id(call.shared))
        if entry is None:
            parts = [bytes(part) for part in self.dump(call.shared)]
            entry = call.shared, SharedArguments(next(self._numbers), parts)
            keep_shared(self._shared, id(call.shared), entry)
        return entry[1]

    def step_of(self, step: AnyAction) -> tuple[int, bytes]:
        """Returns the number and the pickle of a step, which is pickled once; raises what pickling raises."""
        entry = self._steps.get(id(step))
        if entry is None:
            entry = self._steps[id(step)] = (step, len(self._steps), dump_whole(step, is_code=True))
        return entry[1:]

    def _step_for(self, step: AnyAction, cache: WorkerCache) -> tuple[int, bytes | None]:
        key, pickled = self.step_of(step)
        return key, None if key in cache.steps else pickled


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


def load_outcome(call: Call, parts: Sequence[Any]) -> Outcome:
    """Returns the outcome that a worker has sent."""
    try:
        outcome: Any = pickle.loads(parts[0], buffers=parts[1:])
    except Exception as error:  # unpickling runs the value's own methods
        return failures.not_read(call, error)
    if outcome.__class__ is not tuple:
        return outcome  # type: ignore[no-any-return]
    value, repeated, usage, files = outcome  # of a Returned
    if value.__class__ is memoryview:  # as large bytes travel; a step can't return one
        value = bytes(value)
    return new(Returned, (value, repeated, usage and new(Usage, usage), files))
