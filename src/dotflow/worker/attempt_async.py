"""Attempts of coroutine steps whose caller is a coroutine, too."""

import asyncio
from collections.abc import Callable
from typing import Any

from dotflow.core.action import actions_of
from dotflow.core.attempt_id import current_attempt
from dotflow.core.call import Call
from dotflow.core.outcome import Interrupted, Outcome, Returned
from dotflow.worker.attempt import PLAIN, arguments_of, finish, nothing_of, outcome_of
from dotflow.worker.attempt_context import enter, with_usage
from dotflow.worker.coroutines import Droppable, run_with_deadline, value_of
from dotflow.worker.deadline import Limit
from dotflow.worker.files import MAKER, WRITTEN, Maker, find_paths, record, states_before, take_written
from dotflow.worker.loops import Loop
from dotflow.worker.usage import CoroutineMeter, metered


async def attempt_async(call: Call, to_loop: Loop, returned: Callable[[], object] = int) -> Outcome:
    """Makes one attempt of a coroutine step in the running loop.

    Args:
        call: The step and its contexts.
        to_loop: Where coroutines of an instance's actions run, if the step returns one.
        returned: Called when the step has returned, before files are read for its record, which may take long.
    """
    files = call.files
    if files is None or not call.step.files:
        return await _attempt_within(call, to_loop)
    MAKER.set(Maker())  # this asyncio task has context variables of its own
    before = states_before(files) if files.given else {}
    outcome = await _attempt_within(call, to_loop)
    written = take_written() if WRITTEN else ()
    if not isinstance(outcome, Returned):
        return outcome
    found = find_paths(outcome.value)
    if not (found or before or written):
        return outcome
    returned()
    try:
        return outcome._replace(files=await asyncio.to_thread(record, files, found, before, written))
    except asyncio.CancelledError:  # the run is stopping, and what a step has returned counts
        return outcome._replace(files=record(files._replace(limit=-1), found, before, written))


async def _attempt_within(call: Call, to_loop: Loop) -> Outcome:
    if call.watch is None:
        return await _attempt(call, to_loop)
    current_attempt.set(call.watch.attempt)  # without a reset: its asyncio task has context variables of its own
    meter = CoroutineMeter()
    return with_usage(await metered(_attempt(call, to_loop), meter), meter)


async def _attempt(call: Call, to_loop: Loop) -> Outcome:
    if call.carrier is not None:
        enter(call.carrier)  # without leaving: this asyncio task has context variables of its own
    step = call.step
    limit = Limit(step.policy.timeout)
    try:
        coroutine: Any = step.function(**arguments_of(call))
        value = value_of(await run_with_deadline(Droppable(coroutine), limit)) if limit.seconds else await coroutine
    except KeyboardInterrupt:
        return Interrupted()
    except BaseException as error:  # users' code may raise anything
        if isinstance(error, asyncio.CancelledError) and (task := asyncio.current_task()) and task.cancelling():
            raise
        return outcome_of(error, step, limit, [])
    if value is None:
        return nothing_of(step.policy)
    if value.__class__ in PLAIN or not actions_of(value):
        return Returned(value)
    return await asyncio.to_thread(finish, call, to_loop, value, Limit(limit.seconds))
