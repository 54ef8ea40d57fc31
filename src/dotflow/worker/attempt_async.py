"""The same as `attempt`, for a coroutine step whose caller is a coroutine too."""

import asyncio
from typing import Any

from dotflow.core.action import actions_of
from dotflow.core.call import Call
from dotflow.core.outcome import Interrupted, Outcome, Returned
from dotflow.worker.attempt import PLAIN, arguments_of, finish, outcome_of
from dotflow.worker.coroutines import Driven, drive, value_of
from dotflow.worker.deadline import Limit
from dotflow.worker.loops import Loop
from dotflow.worker.trace_context import enter


async def attempt_async(call: Call, to_loop: Loop) -> Outcome:
    """Makes one attempt of a coroutine step in the loop that this coroutine runs in.

    Args:
        call: What to run, and with which contexts.
        to_loop: Where the coroutines of an instance with actions run, should the step return one.
    """
    if call.carrier is not None:
        enter(call.carrier)  # and never left: the asyncio task that this runs in has context variables of its own
    step = call.step
    limit = Limit(step.policy.timeout)
    try:
        coroutine: Any = step.function(**arguments_of(call))
        value = value_of(await drive(Driven(coroutine), limit)) if limit.seconds else await coroutine
    except KeyboardInterrupt:
        return Interrupted()
    except BaseException as error:  # whatever the user's code raises is the attempt's outcome
        if isinstance(error, asyncio.CancelledError) and (task := asyncio.current_task()) and task.cancelling():
            raise
        return outcome_of(error, step, limit, [])
    if value.__class__ in PLAIN or not actions_of(value):
        return Returned(value)
    return await asyncio.to_thread(finish, call, to_loop, value, Limit(limit.seconds))
