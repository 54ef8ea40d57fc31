"""The one place where users' code runs: binds, calls, awaits, and turns whatever happens into an Outcome."""

import contextlib
import itertools
import os
import sys
from collections.abc import Mapping
from types import CoroutineType
from typing import Any, Final, NoReturn

from dotflow import clock
from dotflow.core.action import Action, actions_of
from dotflow.core.call import Call, Carrier
from dotflow.core.context import NOTHING, Context
from dotflow.core.failure import Failure
from dotflow.core.outcome import Outcome, Raised, Returned, TimedOut
from dotflow.errors import InvalidPolicy, StepTimeout
from dotflow.worker.deadline import LEFT_BEHIND, SOONEST, DeadlinePassed, Limit, LoopBlocked
from dotflow.worker.limits import run_limited
from dotflow.worker.loops import Loop
from dotflow.worker.trace_context import CarryingLoop, enter

NO_LIMIT: Final = Limit(0)

new: Final = tuple.__new__  # makes a named tuple in half the time, and one is made for every attempt

#: Values of these types are never instances with actions; the look-up is skipped.
PLAIN: Final = frozenset({type(None), bool, int, float, str, bytes, list, tuple, dict, set})


def attempt(call: Call, loop: Loop) -> Outcome:
    """Makes one attempt of a step.

    Nothing is raised but KeyboardInterrupt, and the deadline of an attempt around this one (a step may run a
    workflow).

    Args:
        call: What to run, and with which contexts.
        loop: Where coroutines run.
    """
    if call.carrier is not None:
        return _attempt_with(call.carrier, call, loop)
    step = call.step
    seconds = step.policy.timeout
    value: Any = None
    if not seconds:  # the short way: no limit to set, and most steps take it
        try:
            if step.context_params or call.arguments is not None or call.shared is not None:
                value = step.function(**arguments_of(call))
            else:
                value = step.function()
            if value.__class__ in PLAIN:
                return new(Returned, (value, ()))
        except (KeyboardInterrupt, DeadlinePassed):
            raise
        except BaseException as error:  # whatever the user's code raises is the attempt's outcome
            return outcome_of(error, step, NO_LIMIT, [])
        return finish(call, loop, value, NO_LIMIT)
    limit = Limit(seconds)
    repeated: list[Failure] = []
    try:
        if step.is_coroutine:
            coroutine = step.function(**arguments_of(call))
        else:
            value = run_limited(limit, lambda: _perform(call, loop, repeated))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever the user's code raises is the attempt's outcome
        return outcome_of(error, step, limit, repeated)
    return finish(call, loop, coroutine, limit) if step.is_coroutine else Returned(value, tuple(repeated))


def _attempt_with(carrier: Carrier, call: Call, loop: Loop) -> Outcome:
    """As `attempt`, inside of what the tracer gave it to take along."""
    leave = enter(carrier)
    try:
        return attempt(call._replace(carrier=None), CarryingLoop(loop, carrier))
    finally:
        leave()


_process = os.getpid()


def remember_process() -> None:
    """This process is where attempts are made; a child that a step forks is not."""
    global _process
    _process = os.getpid()


def _leave(error: SystemExit) -> NoReturn:
    """A child that the step forked wants to end, as `sys.exit()` in it says; the run is its parent's to go on with."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
    os._exit(error.code if isinstance(error.code, int) else int(error.code is not None))


def arguments_of(call: Call) -> dict[str, Any]:
    """Returns what the call's step is given, by name."""
    arguments = contexts_for(call.step, call.initial_context, call.previous_context)
    if call.shared is not None:
        arguments.update(call.shared)
    if call.arguments is not None:
        arguments.update(call.arguments)
    return arguments


def contexts_for(step: Action[..., Any], initial: Context, previous: Context) -> dict[str, Any]:
    """Returns the contexts that the step asks for, by name."""
    wanted = step.context_params
    if not wanted:
        return {}
    offered = {"initial_context": initial, "previous_context": previous}
    return {name: offered[name] for name in wanted}


def finish(call: Call, loop: Loop, value: Any, limit: Limit) -> Outcome:
    """Awaits what the step returned, and runs the actions of an instance."""
    repeated: list[Failure] = []
    began = clock.ticks()
    try:
        if isinstance(value, CoroutineType):
            value = loop.run(value, limit)
        if limit.seconds and actions_of(value):
            limit.seconds = max(limit.seconds - (clock.ticks() - began), SOONEST)
            value = run_limited(limit, lambda: _unfold(call, loop, value, repeated))
        else:
            value = _unfold(call, loop, value, repeated)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever the user's code raises is the attempt's outcome
        return outcome_of(error, call.step, limit, repeated)
    return Returned(value, tuple(repeated))


def _perform(call: Call, loop: Loop, repeated: list[Failure]) -> Any:
    value = call.step.function(**arguments_of(call))
    if isinstance(value, CoroutineType):
        value = loop.run(value, NO_LIMIT)
    return _unfold(call, loop, value, repeated)


def outcome_of(
    error: BaseException, step: Action[..., Any], limit: Limit, repeated: list[Failure]
) -> Raised | TimedOut:
    """What *error* means for the attempt that *limit* was set for."""
    if isinstance(error, SystemExit) and os.getpid() != _process:
        _leave(error)
    if isinstance(error, DeadlinePassed) and error.limit is not limit and not limit.raised:
        raise error  # it is the time of an attempt around this one that is up
    if isinstance(error, DeadlinePassed) or limit.raised:
        late = StepTimeout(step.name, step.policy.timeout, LEFT_BEHIND if isinstance(error, LoopBlocked) else "")
        retry = _asked(step, late, error)
        return TimedOut(Failure.of(error, name="TimeoutError", message=str(late)), tuple(repeated), retry)
    retry = _asked(step, error, error)
    name = "TimeoutError" if isinstance(error, StepTimeout) else None  # of one of a class's own actions
    return Raised(Failure.of(error, name=name), tuple(repeated), retry)


def _asked(step: Action[..., Any], error: BaseException, raised: BaseException) -> bool | float | None:
    """What the step's retry_on says of *error*; where it can't be used, a note of *raised* says why."""
    if step.policy.retry_on is None:
        return None
    retry, note = step.policy.ask(error)
    if note:
        with contextlib.suppress(TypeError):  # its class has made something else of its notes
            raised.add_note(note)
    return retry


def _unfold(call: Call, loop: Loop, value: Any, repeated: list[Failure]) -> Any:
    """*value* itself or, of an instance with actions, the list of what these return."""
    if value.__class__ in PLAIN:
        return value
    actions = actions_of(value)
    if not actions:
        return value
    contexts: list[Context] = []
    previous = call.previous_context
    initial = Context() if call.initial_context is NOTHING else call.initial_context  # all calls share that one
    values: dict[str, Any] = {}  # by action: what the later ones may ask for
    for action in actions:
        action.check_parameters(values)
        if action.isolate:
            raise InvalidPolicy("isolate", True, f"for whole steps: put it on the class, not on its '{action.name}'")
        arguments = contexts_for(action, initial, previous)
        arguments.update((name, values[name]) for name in action.named_params if name in values)
        result = _run_member(action, arguments, loop, repeated)
        values[action.name.rpartition(".")[2]] = result
        previous = Context(result, call.task_id, call.workflow_id, step=action.identity)
        contexts.append(previous)
    return contexts


def _run_member(action: Action[..., Any], arguments: Mapping[str, Any], loop: Loop, repeated: list[Failure]) -> Any:
    """One action of an instance, by its own policy."""
    for number in itertools.count(1):
        limit = Limit(action.policy.timeout)
        try:
            if limit.seconds and not action.is_coroutine:
                return run_limited(limit, lambda: action.function(**arguments))
            value = action.function(**arguments)
            return loop.run(value, limit) if isinstance(value, CoroutineType) else value
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # whatever the user's code raises is the attempt's outcome
            outcome = outcome_of(error, action, limit, [])
            delay = action.policy.delay_after(number, outcome.retry)
            if delay is None:
                if isinstance(error, DeadlinePassed):
                    raise StepTimeout(action.name, limit.seconds) from None
                raise
            repeated.append(outcome.failure)
        clock.sleep(delay)
    raise AssertionError("itertools.count ended")
