"""One task's life, in every mode: its first call, and what follows a failed attempt. No thread and no storage here."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from dotflow.core.action import AnyAction
from dotflow.core.call import Call
from dotflow.core.context import NOTHING, Context
from dotflow.core.failure import Failure
from dotflow.core.files import FileWatch
from dotflow.core.outcome import Died, Parked, Raised, Returned, TimedOut, Usage
from dotflow.core.outputs import Part, why_unfit
from dotflow.core.task import Task
from dotflow.core.text import times
from dotflow.engine.ready import Ready
from dotflow.errors import PollTimeout, WrongOutputs
from dotflow.graph.gather import Arguments

new: Final = tuple.__new__  # makes a named tuple in half the time: there are three for every task

NO_INPUTS: Final = (None, None, None, None)


class Fallback(NamedTuple):
    """The step of further attempts, its number among the fallbacks of the task, from 1, and its arguments."""

    step: AnyAction
    number: int
    arguments: Arguments | None
    shared: Arguments | None = None


@dataclass(slots=True)
class Poll:
    """An attempt of a step that waits.

    Attributes:
        began: The beginning of the attempt, on the monotonic clock.
        has_waited: Whether it has left its worker.
        asked: The number of its calls that were not ready.
        usage: What these have used; None where it is not measured.
    """

    began: float
    has_waited: bool = False
    asked: int = 0
    usage: Usage | None = None

    def with_usage(self, outcome: Returned | Raised | TimedOut | Died | Parked) -> Any:
        """Returns the outcome of a call with the usage of the whole attempt so far."""
        before, last = self.usage, outcome.usage
        if before is None or last is None:
            return outcome if before is None else outcome._replace(usage=before)
        cpu = last.cpu if before.cpu is None else before.cpu + (last.cpu or 0.0)
        peak = last.peak if before.peak is None else max(before.peak, last.peak or 0)
        notes = {**(before.notes or {}), **(last.notes or {})} or None
        return outcome._replace(usage=last._replace(cpu=cpu, peak=peak, notes=notes))

    def go_on(self, call: Call, outcome: Parked, now: float) -> float | TimedOut:
        """Returns the time of the next call, the last of which is at the poll_timeout. If that is over, it fails."""
        policy = call.step.policy
        self.usage = outcome.usage
        if outcome.due is not None:
            return now + outcome.due
        due = now + policy.poll_delay()
        if policy.poll_timeout is not None:
            end = self.began + policy.poll_timeout
            if now >= end:
                error = PollTimeout(call.step.name, policy.poll_timeout, times(self.asked), outcome.note)
                retry, refusal = policy.should_retry(error)  # here, since it is over here
                return TimedOut(Failure(PollTimeout.__name__, f"{error} {refusal}".rstrip()), (), retry, outcome.usage)
            return min(due, end)
        return due


def first_call(
    number: int,
    lane: int,
    task: Task,
    previous: Context,
    step: AnyAction,
    inputs: tuple[Any, ...] | None,
    files: FileWatch | None = None,
) -> Call:
    """Returns the call of a task's first attempt, and of all that follow it, until a fallback.

    The arguments are fields of Ready.
    """
    initial = task._initial
    names = step.context_params  # a step may change what it gets, so it shares NOTHING with no other
    if initial is None:
        initial = task.initial_context if "initial_context" in names else NOTHING
    if previous is NOTHING and "previous_context" in names:
        previous = Context()
    own, shared, _, secrets = inputs or NO_INPUTS
    call = (
        task.task_id, lane, step, initial, previous, task.workflow_id, None, number, own, shared, 0, secrets, files,
        None, None, None,
    )  # fmt: skip
    return new(Call, call)


def checked(outcome: Returned, task: Task, step: AnyAction, outputs: Sequence[Part]) -> Returned | Raised:
    """Returns the outcome of an attempt; a failure, which only `retry_on` keeps from being repeated, for another value.

    Args:
        outcome: The outcome.
        task: The task or the item.
        step: The step that made the attempt.
        outputs: The outputs that its value must have.
    """
    reason = why_unfit(outcome.value, outputs)
    if not reason:
        return outcome
    names = tuple(part.name for part in outputs)
    failure = Failure.of(WrongOutputs(task.name, names, type(outcome.value).__name__, reason))
    return Raised(failure, outcome.repeated, None, outcome.usage)


def next_attempt(ready: Ready, call: Call, outcome: Raised | TimedOut | Died) -> tuple[float, Ready] | None:
    """Returns what follows a failed attempt: the seconds until the next one, and the task as it is ready for that.

    Args:
        ready: The task, as it was ready for the attempt.
        call: The call that failed.
        outcome: Its outcome.

    Returns:
        None if there is no further attempt; then the failure says whether `retry_on` has refused it.
    """
    number, lane, task, previous, step, _, inputs, _, before = ready
    attempts = task.attempt - before
    delay = step.policy.delay_after(attempts, outcome.retry)
    if delay is None:
        follows = by_fallback(ready, call, outcome.failure)
        if follows is None:
            outcome.failure.refusal = step.policy.refusal(attempts, outcome.failure.exception)
            return None
        return 0.0, follows
    if ready.call is call:  # it is ready as it was
        return delay, ready
    return delay, new(Ready, (number, lane, task, previous, step, True, inputs, call, before))


def by_fallback(ready: Ready, call: Call, failure: Failure) -> Ready | None:
    """Returns a task as it is ready for its fallback, after the last attempt; None if none is for the failure."""
    number, lane, task, previous, _, _, inputs, _, _ = ready
    fallback = inputs[2] if inputs and not call.fallback else None
    other = None if fallback is None else fallback(failure)
    if other is None:
        return None
    taken = {"arguments": other.arguments, "shared": other.shared}
    call = call._replace(step=other.step, fallback=other.number, port=None, **taken)
    return new(Ready, (number, lane, task, previous, other.step, True, inputs, call, task.attempt))
