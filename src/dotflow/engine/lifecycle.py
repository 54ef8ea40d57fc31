"""One task's life, in every mode, as a generator of requests. It has no thread and no storage."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from dotflow import clock
from dotflow.core.action import Action
from dotflow.core.call import Call
from dotflow.core.context import NOTHING, Context
from dotflow.core.events import AttemptFailed, AttemptRepeated, AttemptStarted, TaskCompleted, TaskEvent, TaskFailed
from dotflow.core.failure import Failure
from dotflow.core.outcome import Interrupted, Outcome, Returned, Usage
from dotflow.core.task import Task
from dotflow.graph.decisions import Arguments

new: Final = tuple.__new__  # makes a named tuple in half the time: there are three for every task


class Fallback(NamedTuple):
    """The step of further attempts, and its arguments."""

    step: Action[..., Any]
    arguments: Arguments | None
    shared: Arguments | None = None


class Wait(NamedTuple):
    """A request to continue after so many seconds, as soon as there is room for the next attempt, with *step*."""

    seconds: float
    step: Action[..., Any]


Attempt = tuple[AttemptStarted, Call]
Request = Attempt | TaskEvent | Wait
TaskFlow = Generator[Request, Outcome | Exception | None, Context | None]


def task_flow(
    task: Task,
    lane: int,
    previous: Context,
    number: int,
    arguments: Arguments | None = None,
    shared: Arguments | None = None,
    fallback: Callable[[], Fallback | None] | None = None,
    secrets: Mapping[str, str] | None = None,
) -> TaskFlow:
    """Yields the requests of a task, from its first attempt to its end.

    A request is an event to publish, a Wait, or an Attempt, whose event is published before its call, and whose
    Outcome is sent in. The flow ends with TaskCompleted or TaskFailed; where a value can't be saved, the error is sent
    in at the TaskCompleted.

    Args:
        task: The task or the item.
        lane: The lane.
        previous: The previous context.
        number: The number of the calls.
        arguments: The arguments beside the contexts.
        shared: The arguments that all items of a map share.
        fallback: Returns the fallback after the last attempt; None for no further attempt.
        secrets: The values of the secrets that the task takes; None if it takes none.

    Returns:
        The task's context; None if it failed.
    """
    task_id, step, item, workflow_id = task.task_id, task.step, task.item, task.workflow_id
    initial = task.initial_context if task._initial is not None or "initial_context" in step.context_params else NOTHING
    call = new(
        Call,
        (task_id, lane, step, initial, previous, workflow_id, None, number, arguments, shared, False, secrets, None),
    )
    attempt = before = 0  # the attempts, and how many of them came before the fallback
    fallback_name: str | None = None
    while True:
        attempt += 1
        shown = call if secrets is None else call._replace(secrets=None)  # a history or a tracer may write the event
        began = (task_id, attempt, previous, clock.now(), clock.monotonic(), item, fallback_name, shown)
        outcome: Any = yield new(AttemptStarted, began), call
        if outcome.__class__ is Returned:
            if outcome.repeated:
                yield from _repeats(task, attempt, outcome.repeated)
            context = Context._of(outcome.value, task_id, task.workflow_id, clock.now(), step.identity)
            error: Any = yield new(TaskCompleted, (task_id, context, clock.monotonic(), item, outcome.usage))
            if error is None:
                return context
            yield _failed(task, attempt, Failure.of(error), outcome.usage)
            return None
        if isinstance(outcome, Interrupted):
            raise KeyboardInterrupt
        yield from _repeats(task, attempt, outcome.repeated)
        delay = step.policy.delay_after(attempt - before, outcome.retry)
        if delay is None and fallback is not None and (other := fallback()) is not None:
            delay, before, fallback = 0.0, attempt, None
            step, fallback_name = other.step, other.step.name
            call = call._replace(step=step, arguments=other.arguments, shared=other.shared, is_fallback=True)
        if delay is None:
            outcome.failure.refusal = step.policy.refusal(attempt - before, outcome.failure.exception)
            yield _failed(task, attempt, outcome.failure, outcome.usage)
            return None
        yield AttemptFailed(task_id, attempt, outcome.failure, delay, item, outcome.usage)
        yield Wait(delay, step)


def _repeats(task: Task, attempt: int, repeated: Iterable[Failure]) -> Iterator[AttemptRepeated]:
    return (AttemptRepeated(task.task_id, attempt, failure, task.item) for failure in repeated)


def _failed(task: Task, attempt: int, failure: Failure, usage: Usage | None) -> TaskFailed:
    return TaskFailed(task.task_id, attempt, failure, clock.now(), clock.monotonic(), task.item, usage)
