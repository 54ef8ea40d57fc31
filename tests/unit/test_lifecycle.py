"""One task's life, driven by hand."""

from typing import Any

import pytest

from dotflow import Context, Task, action
from dotflow.core.call import Call
from dotflow.core.events import AttemptFailed, AttemptRepeated, AttemptStarted, TaskCompleted, TaskFailed
from dotflow.core.failure import Failure
from dotflow.core.outcome import Died, Interrupted, Outcome, Raised, Returned, TimedOut
from dotflow.engine.lifecycle import Wait, task_flow
from dotflow.errors import StorageError

from .conftest import FakeTime

PREVIOUS = Context("before")
NO = Failure("ValueError", "no")
LATE = Failure("TimeoutError", "too late")
GONE = Failure("WorkerDied", "gone")

#: Stands in a script for a storage that can't keep the value of the event just asked for.
LOST = StorageError("step", "disk full")


def task_with(**options: Any) -> Task:
    @action(**options)
    def step() -> None: ...

    return Task(7, step, initial_context=Context("initial"))._new_record("w", "r")


def requests_of(task: Task, answers: list[Outcome | StorageError]) -> tuple[list[Any], Context | None]:
    """Everything that the task asks for when its calls are answered so, and what it ends with."""
    flow = task_flow(task, 2, PREVIOUS)
    left = list(answers)
    asked: list[Any] = []
    try:
        request = next(flow)
        while True:
            asked.append(request)
            if isinstance(request, Call):
                request = flow.send(left.pop(0))
            elif isinstance(request, TaskCompleted) and left and isinstance(left[0], StorageError):
                request = flow.throw(left.pop(0))
            else:
                request = flow.send(None)
    except StopIteration as end:
        assert not left
        return asked, end.value


def kinds(asked: list[Any]) -> list[Any]:
    return [request.seconds if isinstance(request, Wait) else type(request) for request in asked]


S, C, F, R, D, X = AttemptStarted, Call, AttemptFailed, AttemptRepeated, TaskCompleted, TaskFailed


@pytest.mark.parametrize(
    ("options", "answers", "asked"),
    [
        ({}, [Returned(1)], [S, C, D]),
        ({}, [Raised(NO)], [S, C, X]),
        ({}, [TimedOut(LATE)], [S, C, X]),
        ({}, [Died(GONE)], [S, C, X]),
        ({"retry": 3}, [Returned(1)], [S, C, D]),
        ({"retry": 2}, [Raised(NO), Returned(1)], [S, C, F, 1, S, C, D]),
        ({"retry": 2}, [TimedOut(LATE), Returned(1)], [S, C, F, 1, S, C, D]),
        ({"retry": 2}, [Died(GONE), Returned(1)], [S, C, F, 1, S, C, D]),
        ({"retry": 2, "retry_delay": 0}, [Raised(NO), Raised(NO)], [S, C, F, 0, S, C, X]),
        ({"retry": 2, "retry_on": ValueError}, [Raised(NO, (), True), Returned(1)], [S, C, F, 1, S, C, D]),
        ({"retry": 2, "retry_on": ValueError}, [Raised(NO, (), False)], [S, C, X]),
        ({"retry": 2, "retry_on": ValueError}, [Died(GONE)], [S, C, X]),
        ({"retry": 2, "retry_on": ValueError}, [TimedOut(LATE, (), 7.5), Returned(1)], [S, C, F, 7.5, S, C, D]),
        (
            {"retry": 4, "retry_delay": 0.5, "backoff": True},
            [Raised(NO)] * 4,
            [S, C, F, 0.5, S, C, F, 1, S, C, F, 2, S, C, X],
        ),
        ({}, [Returned(1, (NO, LATE))], [S, C, R, R, D]),
        ({}, [Raised(NO, (LATE,))], [S, C, R, X]),
        ({"retry": 2}, [Raised(NO, (NO,)), Returned(1, (NO,))], [S, C, R, F, 1, S, C, R, D]),
        ({}, [Returned(1), LOST], [S, C, D, X]),
        ({"retry": 3}, [Returned(1), LOST], [S, C, D, X]),
    ],
)
def test_what_a_task_asks_for(options: dict[str, Any], answers: list[Any], asked: list[Any]) -> None:
    """Attempt, retry after its delay, end: what comes next follows from the policy and the outcome alone."""
    found, _ = requests_of(task_with(**options), answers)

    assert kinds(found) == asked


@pytest.mark.parametrize("value", [None, 0, "", [], {"a": 1}])
def test_a_value_becomes_the_tasks_context(value: object) -> None:
    """The flow returns the context that it published: value, task, workflow and step, the empty values too."""
    task = task_with()

    asked, context = requests_of(task, [Returned(value)])

    assert context is asked[-1].context
    assert context.storage is value
    assert (context.task_id, context.workflow_id, context.step) == (7, "w", task.step.identity)


def test_a_returned_context_keeps_one_layer() -> None:
    """A step may return a Context: the next one gets its value, not a Context in a Context."""
    _, context = requests_of(task_with(), [Returned(Context([1]))])

    assert context is not None
    assert context.storage == [1]


def test_a_returned_context_belongs_to_the_task() -> None:
    """Handing on the context it was given doesn't make it another task's: the checkpoint says who made it."""
    _, context = requests_of(task_with(), [Returned(Context([1], task_id=3, workflow_id="other", step="m:other"))])

    assert context is not None
    assert (context.task_id, context.workflow_id) == (7, "w")
    assert context.step == task_with().step.identity


@pytest.mark.parametrize("answers", [[Raised(NO)], [TimedOut(LATE)], [Died(GONE)], [Returned(1), LOST]])
def test_a_failed_task_has_no_context(answers: list[Any]) -> None:
    """There is nothing to hand on."""
    assert requests_of(task_with(), answers)[1] is None


def test_the_call_says_what_to_run_with_what() -> None:
    """Every attempt is the same call: step, contexts and lane."""
    task = task_with(retry=2, retry_delay=0)

    asked, _ = requests_of(task, [Raised(NO), Returned(1)])

    first, second = [request for request in asked if isinstance(request, Call)]
    assert first == second
    assert (first.task_id, first.lane, first.step, first.workflow_id) == (7, 2, task.step, "w")
    assert first.initial_context is task.initial_context
    assert first.previous_context is PREVIOUS


def test_attempts_are_numbered_from_one() -> None:
    """Each event says which attempt it is about."""
    asked, _ = requests_of(task_with(retry=3, retry_delay=0), [Raised(NO), Raised(NO, (LATE,)), Raised(NO)])

    assert [(type(request), request.attempt) for request in asked if hasattr(request, "attempt")] == [
        (S, 1),
        (F, 1),
        (S, 2),
        (R, 2),
        (F, 2),
        (S, 3),
        (X, 3),
    ]


def test_events_carry_failure_delay_and_task() -> None:
    """What failed and how soon it goes on is in the event."""
    asked, _ = requests_of(task_with(retry=2, retry_delay=4), [Raised(NO), TimedOut(LATE)])

    failed = next(request for request in asked if isinstance(request, F))
    assert (failed.failure, failed.retry_in) == (NO, 4)
    assert asked[-1].failure is LATE
    assert {request.task_id for request in asked if not isinstance(request, Wait)} == {7}


def test_events_carry_their_time(fake_time: FakeTime) -> None:
    """Start and end are moments of both clocks: when the attempt began, and when its outcome was there."""
    flow = task_flow(task_with(), 0, PREVIOUS)
    begun = next(flow)
    assert isinstance(begun, AttemptStarted)
    assert (begun.at, begun.tick) == (fake_time.now(), fake_time.monotonic())
    flow.send(None)

    fake_time.move(2.5)
    done = flow.send(Returned(1))

    assert isinstance(done, TaskCompleted)
    assert (done.context.time, done.tick) == (fake_time.now(), fake_time.monotonic())


def test_a_value_that_cannot_be_kept_fails_the_task() -> None:
    """The StorageError becomes the task's error; the step, which finished, is not repeated."""
    asked, _ = requests_of(task_with(retry=5), [Returned(1), LOST])

    assert asked[-1].failure.exception == "StorageError"
    assert "disk full" in asked[-1].failure.message


@pytest.mark.parametrize("options", [{}, {"retry": 5}])
def test_an_interrupt_is_no_failed_attempt(options: dict[str, Any]) -> None:
    """KeyboardInterrupt stops the run: it is not retried and makes no event."""
    with pytest.raises(KeyboardInterrupt):
        requests_of(task_with(**options), [Interrupted()])
