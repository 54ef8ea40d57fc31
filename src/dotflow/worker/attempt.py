"""The one place where users' code runs: it binds, calls, awaits, and turns the result into an Outcome."""

import contextlib
import itertools
import math
import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from gc import get_referents
from types import CoroutineType
from typing import Any, Final, NoReturn, TypeVar

from dotflow import clock
from dotflow.core.action import IDEMPOTENCY_KEY, AnyAction, actions_of
from dotflow.core.call import KEY_BASE, Call
from dotflow.core.calls import BodyStopped
from dotflow.core.context import NOTHING, Context
from dotflow.core.failure import Failure, message_of
from dotflow.core.files import FileState
from dotflow.core.outcome import Interrupted, Outcome, Parked, Raised, Returned, TimedOut, TypePark
from dotflow.core.policy import POLL_IS, Policy
from dotflow.core.secret import fill, own_secrets
from dotflow.errors import (
    BudgetExceeded,
    InvalidPolicy,
    LimitTooSmall,
    NotYet,
    StepTimeout,
    Throttled,
    UnknownParameter,
)
from dotflow.worker.attempt_context import attempt_within
from dotflow.worker.deadline import LEFT_BEHIND, SHORTEST_TIMER, DeadlinePassed, Limit, LoopBlocked
from dotflow.worker.deadline_thread import Stopped, run_limited
from dotflow.worker.files import (
    SCALARS,
    WRITTEN,
    ReadingEnded,
    are_scalars,
    find_paths,
    reading_until,
    record,
    states_before,
    take_written,
)
from dotflow.worker.loops import Loop

T = TypeVar("T")

NO_LIMIT: Final = Limit(0)
NO_FILES: Final[Mapping[str, FileState | None]] = {}
STOPS: Final = (KeyboardInterrupt, Stopped)
#: What ends an action within a step whatever its policy says.
NEVER_REPEATED: Final = (KeyboardInterrupt, BodyStopped, BudgetExceeded, LimitTooSmall)
NEVER: Final = math.inf
RETURNED: Final = "a step has returned its instance"

new: Final = tuple.__new__  # makes a named tuple, one for each attempt, in half the time

NO_PATHS: Final = SCALARS - {type(None)}  # of values; None may mean that a step with `poll` is not ready
#: Types whose instances have no actions, so that none are looked up.
PLAIN: Final = frozenset({type(None), bool, int, float, str, bytes, list, tuple, dict, set})


def attempt(call: Call, loop: Loop, returned: Callable[[], object] = int, is_entered: bool = False) -> Outcome:
    """Makes one attempt of a step.

    Raises nothing but KeyboardInterrupt, and the deadline of an attempt around this one: a step may run a workflow.

    Args:
        call: The step and its contexts.
        loop: Where coroutines run.
        returned: Called when the step has returned, before files are read for its record, which may take long.
        is_entered: Whether this is within what the call's carrier, watch and files ask for.
    """
    _, _, step, _, _, _, carrier, _, arguments, _, _, secrets, files, port, _, watch = (
        call  # each by its name takes longer
    )
    outcome: Outcome
    if not is_entered and (carrier is not None or watch is not None or (files is not None and files[1])):
        before = states_before(files) if files is not None and files[1] and step.files else NO_FILES
        due = clock.ticks() + step.policy.timeout if step.policy.timeout else NEVER
        outcome = attempt_within(call, loop, attempt)
        if outcome.__class__ is Returned and outcome[0].__class__ in NO_PATHS and not before and not WRITTEN:
            return outcome
        return _with_files(call, outcome, returned, before, due)
    policy = step.policy
    seconds = policy.timeout
    value: Any = None
    if not seconds:  # most steps have no limit
        try:
            if step.context_params or arguments is not None or secrets is not None:
                value = (step.function if port is None else port.body_of(call))(**arguments_of(call))
            else:
                value = step.function()
            kind = type(value)
            if kind in SCALARS and not WRITTEN:
                return new(Returned, (value, (), None, None)) if value is not None else nothing_of(policy)
        except (KeyboardInterrupt, DeadlinePassed):
            raise
        except BaseException as error:  # users' code may raise anything
            outcome = outcome_of(error, step, NO_LIMIT, [])
        else:
            if kind in PLAIN:
                outcome = new(Returned, (value, (), None, None))
            else:
                outcome = finish(call, loop, value, NO_LIMIT)
            if (kind is dict or kind is list) and not WRITTEN:
                try:
                    if are_scalars(map(type, value if kind is list else get_referents(value))):
                        return outcome  # without a path, and without the calls that look for one
                except TypeError:  # a class without a hash
                    pass
        return outcome if is_entered else _with_files(call, outcome, returned)
    limit, due = Limit(seconds), clock.ticks() + seconds
    repeated: list[Failure] = []
    try:
        if step.is_coroutine:
            coroutine = (step.function if port is None else port.body_of(call))(**arguments_of(call))
        else:
            value = run_limited(limit, lambda: perform(call, loop, repeated))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # users' code may raise anything
        outcome = outcome_of(error, step, limit, repeated)
    else:
        outcome = finish(call, loop, coroutine, limit) if step.is_coroutine else Returned(value, tuple(repeated))
    return outcome if is_entered else _with_files(call, outcome, returned, due=due)


def _with_files(
    call: Call,
    outcome: Outcome,
    returned: Callable[[], object],
    before: Mapping[str, FileState | None] = NO_FILES,
    due: float = NEVER,
) -> Outcome:
    """Returns the outcome of an attempt with the record of its files.

    Args:
        call: The step and its contexts.
        outcome: What the step has returned, or raised.
        returned: As in `attempt`.
        before: The states of the files that it was given.
        due: When its time is up. What it has returned in time counts: its files are read no further.
    """
    written = take_written() if WRITTEN else ()  # by an attempt that failed, too
    if outcome.__class__ is not Returned:
        return outcome
    if outcome.value is None and call.step.policy.poll is not None:
        return NOT_READY._replace(usage=outcome.usage)
    if call.files is None or not call.step.files:
        return outcome
    found = find_paths(outcome.value)
    if not (found or before or written):
        return outcome
    returned()
    unread = call.files._replace(limit=-1)
    try:
        with reading_until(lambda: clock.ticks() >= due):
            return outcome._replace(files=record(call.files, found, before, written))
    except ReadingEnded:
        return outcome._replace(files=record(unread, found, before, written))
    except STOPS:  # what a step has returned counts, and the run ends with it
        return Interrupted(outcome._replace(files=record(unread, found, before, written)))


#: The outcome of all steps that have returned None, without anything else to say.
NOTHING_RETURNED: Final = Returned(None)
#: Where they have `poll`.
NOT_READY: Final = Parked(TypePark.POLL)


def nothing_of(policy: Policy) -> Returned | Parked:
    """Returns the outcome of a step that has returned None."""
    return NOTHING_RETURNED if policy.poll is None else NOT_READY


_process = os.getpid()


def remember_process() -> None:
    """Notes that attempts are made in this process, and not in a child that a step forks."""
    global _process
    _process = os.getpid()


def _exit_child(error: SystemExit) -> NoReturn:
    """Ends a child that the step has forked, after `sys.exit()`: the run goes on in its parent only."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
    os._exit(error.code if isinstance(error.code, int) else int(error.code is not None))


def arguments_of(call: Call) -> Mapping[str, Any]:
    """Returns the arguments that the call gives to its step, by parameter."""
    if call.shared is None and not call.step.context_params and call.secrets is None:
        return call.arguments or {}
    arguments = contexts_for(call.step, call.initial_context, call.previous_context)
    if call.arguments is not None:
        arguments.update(call.shared or {})
        arguments.update(call.arguments)
    if call.secrets is not None:
        arguments.update(own_secrets(call.secrets, call.step.named_params))
        fill(arguments, call.step.secrets, call.secrets, call.step.name)
        if call.step.takes_key:
            arguments[IDEMPOTENCY_KEY] = _idempotency_key(call, call.step)
    return arguments


def _idempotency_key(call: Call, action: AnyAction) -> str:
    """Returns the key of the call's step, or of an action of its class: each has effects of its own.

    Raises UnknownParameter for an action of an instance that a step has returned.
    """
    import uuid  # here: most steps need none

    base = (call.secrets or {}).get(KEY_BASE)
    if base is None:
        raise UnknownParameter(action.name, IDEMPOTENCY_KEY, "Make its class the step.", RETURNED)
    return str(uuid.uuid5(uuid.UUID(base), action.identity))


def contexts_for(step: AnyAction, initial: Context, previous: Context) -> dict[str, Any]:
    """Returns the contexts that the step has parameters for, by name."""
    names = step.context_params
    if not names:
        return {}
    offered = {"initial_context": initial, "previous_context": previous}
    # All calls share NOTHING, and the fallback of a step may take what that did not.
    return {name: Context() if offered[name] is NOTHING else offered[name] for name in names}


def finish(call: Call, loop: Loop, value: Any, limit: Limit) -> Outcome:
    """Awaits a coroutine that the step has returned, and runs the actions of an instance."""
    repeated: list[Failure] = []
    began = clock.ticks()
    try:
        if isinstance(value, CoroutineType):
            value = loop.run(value, limit)
        if limit.seconds and actions_of(value):
            limit.seconds = max(limit.seconds - (clock.ticks() - began), SHORTEST_TIMER)
            value = run_limited(limit, lambda: _run_actions(call, loop, value, repeated))
        else:
            value = _run_actions(call, loop, value, repeated)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # users' code may raise anything
        return outcome_of(error, call.step, limit, repeated)
    return Returned(value, tuple(repeated))


def perform(call: Call, loop: Loop, repeated: list[Failure] | None) -> Any:
    """Returns what the step returns, and raises what it raises; without its timeout.

    Args:
        call: The step and its contexts.
        loop: Where coroutines run.
        repeated: Collects the failures of a class's own actions that are repeated. With None, none is repeated, and
            they have no timeouts either.
    """
    value = (call.step.function if call.port is None else call.port.body_of(call))(**arguments_of(call))
    if isinstance(value, CoroutineType):
        value = loop.run(value, NO_LIMIT)
    return _run_actions(call, loop, value, repeated)


def outcome_of(
    error: BaseException, step: AnyAction, limit: Limit, repeated: list[Failure]
) -> Raised | TimedOut | Parked:
    """Returns the outcome of an attempt that has raised *error*, under *limit*."""
    if isinstance(error, BodyStopped) and isinstance(error.why, Parked) and not limit.raised:
        return error.why
    if isinstance(error, NotYet) and step.policy.poll is not None and not limit.raised:
        return Parked(TypePark.POLL, message_of(error), tuple(repeated))
    if isinstance(error, Throttled) and not error.refused and not limit.raised:
        from dotflow.core.limits import MAX_AFTER, seconds_after  # here: few services refuse

        after = seconds_after(error.after)
        if after is None or after <= MAX_AFTER:
            return Parked(TypePark.THROTTLED, error.limit or "", tuple(repeated), due=after)
    if isinstance(error, SystemExit) and os.getpid() != _process:
        _exit_child(error)
    if isinstance(error, DeadlinePassed) and error.limit is not limit and not limit.raised:
        raise error  # it belongs to an attempt around this one
    if isinstance(error, DeadlinePassed) or limit.raised:
        timed_out = StepTimeout(step.name, step.policy.timeout, LEFT_BEHIND if isinstance(error, LoopBlocked) else "")
        retry = _ask_policy(step, timed_out, error)
        return TimedOut(Failure.of(error, name="TimeoutError", message=str(timed_out)), tuple(repeated), retry)
    retry = _ask_policy(step, error, error)
    name = "TimeoutError" if isinstance(error, StepTimeout) else None  # of an action of a class step
    return Raised(Failure.of(error, name=name), tuple(repeated), retry)


def _ask_policy(step: AnyAction, error: BaseException, raised: BaseException) -> bool | float | None:
    """Returns what the step's retry_on returns for *error*; if it fails, adds a note to *raised* that says why."""
    if step.policy.retry_on is None:
        return None
    retry, note = step.policy.should_retry(error)
    if note:
        with contextlib.suppress(TypeError):  # its class has replaced `__notes__`
            raised.add_note(note)
    return retry


def _run_actions(call: Call, loop: Loop, value: Any, repeated: list[Failure] | None) -> Any:
    """Returns *value* itself or, for an instance with actions, the contexts that these return."""
    if value.__class__ in PLAIN:
        return value
    actions = actions_of(value)
    if not actions:
        return value
    contexts: list[Context] = []
    previous = call.previous_context
    initial = Context() if call.initial_context is NOTHING else call.initial_context  # one for all of them
    values: dict[str, Any] = {}  # by action, for the parameters of later actions
    for action in actions:
        action.check_parameters(values)
        of_steps = {
            "memory": action.policy.memory,
            "isolate": action.isolate is not None,
            "resources": action.resources,
            "checkpoint": not action.checkpoint,
        }
        of_steps |= {"files": not action.files, "approve": action.approve is not None}
        if action.policy.poll is not None:
            raise InvalidPolicy("poll", action.policy.poll, POLL_IS)
        for option in filter(of_steps.get, of_steps):
            accepted = f"for whole steps: put it on the class, not on its '{action.name}'"
            raise InvalidPolicy(option, getattr(action, option, of_steps[option]), accepted)
        arguments = contexts_for(action, initial, previous)
        arguments.update((name, values[name]) for name in action.named_params if name in values)
        fill(arguments, action.secrets, call.secrets or {}, action.name)
        if action.takes_key:
            arguments[IDEMPOTENCY_KEY] = _idempotency_key(call, action)
        result = run_by_policy(action, partial(_run_member, action, arguments, loop), repeated)
        values[action.short_name] = result
        previous = Context(result, call.task_id, call.workflow_id, step=action.identity)
        contexts.append(previous)
    return contexts


def _run_member(action: AnyAction, arguments: Mapping[str, Any], loop: Loop, limit: Limit) -> Any:
    """Runs one action of an instance once."""
    if limit.seconds and not action.is_coroutine:
        return run_limited(limit, lambda: action.function(**arguments))
    value = action.function(**arguments)
    return loop.run(value, limit) if isinstance(value, CoroutineType) else value


def run_by_policy(action: AnyAction, make: Callable[[Limit], T], repeated: list[Failure] | None, first: int = 1) -> T:
    """Runs an action within an attempt of another step, by its own policy.

    Args:
        action: The action.
        make: Runs it once. With a limit that has seconds it raises DeadlinePassed after them.
        repeated: As in `perform`.
        first: The number of the attempt with which it goes on.
    """
    for number in itertools.count(first):
        limit = Limit(0 if repeated is None else action.policy.timeout)
        try:
            return make(limit)
        except NEVER_REPEATED:
            raise
        except BaseException as error:  # users' code may raise anything
            if repeated is None:
                raise
            delay = delay_after(action, error, limit, number, repeated)
        clock.sleep(delay)
    raise AssertionError("itertools.count ended")


def delay_after(action: AnyAction, error: BaseException, limit: Limit, number: int, repeated: list[Failure]) -> float:
    """Returns the seconds until the next attempt of an action within another step, and notes the failure.

    Raises the error where there is none; for a timeout StepTimeout.
    """
    outcome = outcome_of(error, action, limit, [])
    if isinstance(outcome, Parked):  # a service has refused it: its step waits, and calls it again
        raise error
    delay = action.policy.delay_after(number, outcome.retry)
    if delay is None:
        if isinstance(error, DeadlinePassed):
            raise StepTimeout(action.name, limit.seconds) from None
        raise error
    repeated.append(outcome.failure)
    return delay
