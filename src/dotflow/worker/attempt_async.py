"""Attempts of coroutine steps whose caller is a coroutine, too."""

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from typing import Any

from dotflow import clock
from dotflow.core.action import AnyAction, actions_of
from dotflow.core.attempt_id import current_attempt
from dotflow.core.call import Call, Watch
from dotflow.core.failure import Failure
from dotflow.core.outcome import Interrupted, Outcome, Returned
from dotflow.worker.attempt import (
    NEVER,
    NEVER_REPEATED,
    NO_FILES,
    NO_LIMIT,
    PLAIN,
    arguments_of,
    delay_after,
    finish,
    nothing_of,
    outcome_of,
)
from dotflow.worker.attempt_context import enter, with_usage
from dotflow.worker.coroutines import Droppable, run_with_deadline, value_of
from dotflow.worker.deadline import Limit
from dotflow.worker.files import (
    MAKER,
    SCALARS,
    WRITTEN,
    Maker,
    ReadingEnded,
    find_paths,
    reading_until,
    record,
    states_before,
    take_written,
)
from dotflow.worker.loops import Loop
from dotflow.worker.usage import CoroutineMeter, metered


async def attempt_async(call: Call, to_loop: Loop, returned: Callable[[], object] = int) -> Outcome:
    """Makes one attempt of a coroutine step in the running loop.

    Args:
        call: The step and its contexts.
        to_loop: Where coroutines of an instance's actions run, if the step returns one.
        returned: Called when the step has returned, before files are read for its record, which may take long.
    """
    files, watch, seconds = call.files if call.step.files else None, call.watch, call.step.policy.timeout
    due = clock.ticks() + seconds if seconds else NEVER
    before = NO_FILES
    if files is not None:
        MAKER.set(Maker())  # this asyncio task has context variables of its own
        if files.given:
            before = states_before(files)
    attempt = _attempt(call, to_loop)
    outcome = await (attempt if watch is None else _watched(attempt, watch))
    if files is None:
        return outcome
    written = take_written() if WRITTEN else ()
    if not isinstance(outcome, Returned):
        return outcome
    found = () if type(outcome.value) in SCALARS else find_paths(outcome.value)
    if not (found or before or written):
        return outcome
    returned()
    try:
        with reading_until(lambda: clock.ticks() >= due):  # in the thread, too
            return outcome._replace(files=await asyncio.to_thread(record, files, found, before, written))
    except (asyncio.CancelledError, ReadingEnded):  # what a step has returned counts
        due = 0.0  # the thread ends
        return outcome._replace(files=record(files._replace(limit=-1), found, before, written))


async def _watched(attempt: Coroutine[Any, Any, Outcome], watch: Watch) -> Outcome:
    current_attempt.set(watch.attempt)  # without a reset: its asyncio task has context variables of its own
    meter = CoroutineMeter()
    return with_usage(await metered(attempt, meter), meter)


async def _attempt(call: Call, to_loop: Loop) -> Outcome:
    _, _, step, _, _, _, carrier, _, arguments, _, _, secrets, _, port, _, _ = call  # each by its name takes longer
    if carrier is not None:
        enter(carrier)  # without leaving: this asyncio task has context variables of its own
    policy = step.policy
    limit = Limit(policy.timeout) if policy.timeout else NO_LIMIT
    try:
        coroutine: Any
        if step.context_params or arguments is not None or secrets is not None:
            coroutine = (step.function if port is None else port.body_of(call))(**arguments_of(call))
        else:
            coroutine = step.function()
        value = await coroutine if limit is NO_LIMIT else value_of(await run_with_deadline(Droppable(coroutine), limit))
    except KeyboardInterrupt:
        return Interrupted()
    except BaseException as error:  # users' code may raise anything
        if isinstance(error, asyncio.CancelledError) and (task := asyncio.current_task()) and task.cancelling():
            raise
        return outcome_of(error, step, limit, [])
    if value is None:
        return nothing_of(policy)
    if value.__class__ in PLAIN or not actions_of(value):
        return Returned(value)
    return await asyncio.to_thread(finish, call, to_loop, value, Limit(limit.seconds))


async def make_once(function: Callable[[], Any], limit: Limit) -> Any:
    """Returns what a coroutine function returns; raises DeadlinePassed of *limit* if that takes too long."""
    if not limit.seconds:
        return await function()
    return value_of(await run_with_deadline(Droppable(function()), limit))


async def run_by_policy_async(
    action: AnyAction, make: Callable[[Limit], Coroutine[Any, Any, Any]], repeated: list[Failure], first: int = 1
) -> Any:
    """Runs a coroutine function within an attempt of another step, by its own policy, as `run_by_policy` does."""
    for number in itertools.count(first):
        limit = Limit(action.policy.timeout)
        try:
            return await make(limit)
        except (*NEVER_REPEATED, GeneratorExit):
            raise
        except BaseException as error:  # users' code may raise anything
            if isinstance(error, asyncio.CancelledError):
                raise
            delay = delay_after(action, error, limit, number, repeated)
        # A virtual clock counts the sleeps of threads.
        await (asyncio.sleep(delay) if clock.source is None else asyncio.to_thread(clock.sleep, delay))
    raise AssertionError("itertools.count ended")
