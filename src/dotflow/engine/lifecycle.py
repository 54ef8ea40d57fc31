"""One task's life, in every mode, as a generator of requests. It has no thread and no storage."""

from collections.abc import Generator, Iterable, Iterator
from typing import Final, NamedTuple

from dotflow import clock
from dotflow.core.call import Call
from dotflow.core.context import NOTHING, Context
from dotflow.core.events import AttemptFailed, AttemptRepeated, AttemptStarted, TaskCompleted, TaskEvent, TaskFailed
from dotflow.core.failure import Failure
from dotflow.core.outcome import Interrupted, Outcome, Returned
from dotflow.core.task import Task
from dotflow.errors import StorageError, ValueNotStorable

#: The errors of a value that could not be saved.
NOT_SAVED: Final = (StorageError, ValueNotStorable)

new: Final = tuple.__new__  # makes a named tuple in half the time: there are three for every task


class Wait(NamedTuple):
    """A request to continue after so many seconds, as soon as there is room for the next attempt."""

    seconds: float


Request = TaskEvent | Call | Wait
TaskFlow = Generator[Request, Outcome | None, Context | None]


def task_flow(task: Task, lane: int, previous: Context) -> TaskFlow:
    """Yields the requests of a task, from its first attempt to its end.

    A request is an event to publish, a Call, whose Outcome is sent in, or a Wait. Where a value can't be saved, one of
    NOT_SAVED is thrown in at the TaskCompleted.

    Returns:
        The task's context; None if it failed.
    """
    task_id, step = task.task_id, task.step
    initial = task.initial_context if task.has_initial or "initial_context" in step.context_params else NOTHING
    call = new(Call, (task_id, lane, step, initial, previous, task.workflow_id, None))
    number = 0
    while True:
        number += 1
        yield new(AttemptStarted, (task_id, number, previous, clock.now(), clock.monotonic()))
        outcome = yield call
        assert outcome is not None
        if isinstance(outcome, Returned):
            if outcome.repeated:
                yield from _repeats(task_id, number, outcome.repeated)
            context = Context._of(outcome.value, task_id, task.workflow_id, clock.now(), step.identity)
            try:
                yield new(TaskCompleted, (task_id, context, clock.monotonic()))
            except NOT_SAVED as error:
                yield _failed(task_id, number, Failure.of(error))
                return None
            return context
        if isinstance(outcome, Interrupted):
            raise KeyboardInterrupt
        yield from _repeats(task_id, number, outcome.repeated)
        delay = step.policy.delay_after(number, outcome.retry)
        if delay is None:
            yield _failed(task_id, number, outcome.failure)
            return None
        yield AttemptFailed(task_id, number, outcome.failure, delay)
        yield Wait(delay)


def _repeats(task_id: int, attempt: int, repeated: Iterable[Failure]) -> Iterator[AttemptRepeated]:
    return (AttemptRepeated(task_id, attempt, failure) for failure in repeated)


def _failed(task_id: int, attempt: int, failure: Failure) -> TaskFailed:
    return TaskFailed(task_id, attempt, failure, clock.now(), clock.monotonic())
