"""One task's life, driven by hand."""

from collections.abc import Callable
from typing import Any

import pytest

from dotflow import Context, Task, action
from dotflow.core.call import Call
from dotflow.core.events import AttemptFailed, AttemptRepeated, AttemptStarted, TaskCompleted, TaskFailed
from dotflow.core.failure import Failure
from dotflow.core.outcome import Died, Interrupted, Outcome, Raised, Returned, TimedOut
from dotflow.engine.lifecycle import Fallback, Wait, task_flow
from dotflow.errors import StorageError

from .conftest import FakeTime

PREVIOUS = Context("before")
NO = Failure("ValueError", "no")
LATE = Failure("TimeoutError", "too late")
GONE = Failure("WorkerDied", "gone")

#: In a list of outcomes: the storage can't keep the value of the event before.
LOST = StorageError("step", "disk full")


def task_with(**options: Any) -> Task:
    @action(**options)
    def step() -> None: ...

    return Task(7, step, initial_context=Context("initial"))._new_record("w", "r")


def requests_of(
    task: Task, outcomes: list[Outcome | StorageError], fallback: Callable[[], Fallback | None] | None = None
) -> tuple[list[Any], Context | None]:
    """Returns the task's requests for these outcomes of its calls, and its context."""
    flow = task_flow(task, 2, PREVIOUS, 7, fallback=fallback)
    left = list(outcomes)
    requests: list[Any] = []
    try:
        request = next(flow)
        while True:
            if type(request) is tuple:  # an Attempt
                requests += request
                request = flow.send(left.pop(0))
                continue
            requests.append(request)
            if isinstance(request, TaskCompleted) and left and isinstance(left[0], StorageError):
                request = flow.send(left.pop(0))
            else:
                request = flow.send(None)
    except StopIteration as end:
        assert not left
        return requests, end.value


def kinds(requests: list[Any]) -> list[Any]:
    return [request.seconds if isinstance(request, Wait) else type(request) for request in requests]


S, C, F, R, D, X = AttemptStarted, Call, AttemptFailed, AttemptRepeated, TaskCompleted, TaskFailed


@pytest.mark.parametrize(
    ("options", "outcomes", "requests"),
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
def test_the_requests_of_a_task(options: dict[str, Any], outcomes: list[Any], requests: list[Any]) -> None:
    """Attempt, retry after its delay, end: the next request depends only on the policy and the outcome."""
    sent, _ = requests_of(task_with(**options), outcomes)

    assert kinds(sent) == requests


@pytest.mark.parametrize("value", [None, 0, "", [], {"a": 1}])
def test_a_value_becomes_the_tasks_context(value: object) -> None:
    """The flow returns the context that it published: value, task, workflow and step, the empty values too."""
    task = task_with()

    requests, context = requests_of(task, [Returned(value)])

    assert context is requests[-1].context
    assert context.storage is value
    assert (context.task_id, context.workflow_id, context.step) == (7, "w", task.step.identity)


def test_a_returned_context_keeps_one_layer() -> None:
    """A step may return a Context: the next one gets its value, not a Context in a Context."""
    _, context = requests_of(task_with(), [Returned(Context([1]))])

    assert context is not None
    assert context.storage == [1]


def test_a_returned_context_belongs_to_the_task() -> None:
    """A step that returns its previous_context makes a new one: the checkpoint has its own task."""
    _, context = requests_of(task_with(), [Returned(Context([1], task_id=3, workflow_id="other", step="m:other"))])

    assert context is not None
    assert (context.task_id, context.workflow_id) == (7, "w")
    assert context.step == task_with().step.identity


@pytest.mark.parametrize("outcomes", [[Raised(NO)], [TimedOut(LATE)], [Died(GONE)], [Returned(1), LOST]])
def test_a_failed_task_has_no_context(outcomes: list[Any]) -> None:
    """There is no value."""
    assert requests_of(task_with(), outcomes)[1] is None


def test_the_call_has_step_and_contexts() -> None:
    """Every attempt is the same call: step, contexts and lane."""
    task = task_with(retry=2, retry_delay=0)

    requests, _ = requests_of(task, [Raised(NO), Returned(1)])

    first, second = [request for request in requests if isinstance(request, Call)]
    assert first == second
    assert (first.task_id, first.lane, first.step, first.workflow_id) == (7, 2, task.step, "w")
    assert first.initial_context is task.initial_context
    assert first.previous_context is PREVIOUS


def test_attempts_are_numbered_from_one() -> None:
    """Each event has the number of its attempt."""
    requests, _ = requests_of(task_with(retry=3, retry_delay=0), [Raised(NO), Raised(NO, (LATE,)), Raised(NO)])

    assert [(type(request), request.attempt) for request in requests if hasattr(request, "attempt")] == [
        (S, 1),
        (F, 1),
        (S, 2),
        (R, 2),
        (F, 2),
        (S, 3),
        (X, 3),
    ]


def test_events_carry_failure_delay_and_task() -> None:
    """The event has the failure and the delay."""
    requests, _ = requests_of(task_with(retry=2, retry_delay=4), [Raised(NO), TimedOut(LATE)])

    failed = next(request for request in requests if isinstance(request, F))
    assert (failed.failure, failed.retry_in) == (NO, 4)
    assert requests[-1].failure is LATE
    assert {request.task_id for request in requests if not isinstance(request, Wait)} == {7}


def test_events_carry_their_time(fake_time: FakeTime) -> None:
    """Beginning and end are times of both clocks."""
    flow = task_flow(task_with(), 0, PREVIOUS, 7)
    request: Any = next(flow)
    begun, _ = request
    assert isinstance(begun, AttemptStarted)
    assert (begun.at, begun.tick) == (fake_time.now(), fake_time.monotonic())

    fake_time.move(2.5)
    done = flow.send(Returned(1))

    assert isinstance(done, TaskCompleted)
    assert (done.context.time, done.tick) == (fake_time.now(), fake_time.monotonic())


def test_a_value_that_cannot_be_kept_fails_the_task() -> None:
    """The StorageError becomes the task's error; the step, which finished, is not repeated."""
    requests, _ = requests_of(task_with(retry=5), [Returned(1), LOST])

    assert requests[-1].failure.exception == "StorageError"
    assert "disk full" in requests[-1].failure.message


@pytest.mark.parametrize("options", [{}, {"retry": 5}])
def test_an_interrupt_is_no_failed_attempt(options: dict[str, Any]) -> None:
    """KeyboardInterrupt stops the run: it is not retried and makes no event."""
    with pytest.raises(KeyboardInterrupt):
        requests_of(task_with(**options), [Interrupted()])


# Fallbacks


def with_fallback(outcomes: list[Outcome | StorageError], *, is_possible: bool = True, **options: Any) -> list[Any]:
    """Returns the requests of a task with retry=2 and a fallback with these options."""
    fallback = Fallback(action(**options)(lambda: 0), {"a": 1}) if is_possible else None
    task = task_with(retry=2, retry_delay=3)
    return requests_of(task, outcomes, lambda: fallback)[0]


def test_a_fallback_follows_the_last_attempt_at_once() -> None:
    """Its attempt has the next number, its arguments replace those of the step, and its call is marked."""
    requests = with_fallback([Raised(NO), Raised(NO), Returned(1)])

    assert kinds(requests) == [S, C, F, 3, S, C, F, 0, S, C, D]
    calls = [request for request in requests if isinstance(request, Call)]
    assert [call.is_fallback for call in calls] == [False, False, True]
    assert (calls[2].arguments, calls[2].shared) == ({"a": 1}, None)
    assert [request.attempt for request in requests if isinstance(request, AttemptStarted)] == [1, 2, 3]


def test_a_fallback_has_its_own_policy() -> None:
    """Its attempts are counted from its first one, with its own delay."""
    outcomes: list[Outcome | StorageError] = [Raised(NO)] * 5

    requests = with_fallback(outcomes, retry=3, retry_delay=7)

    assert kinds(requests) == [S, C, F, 3, S, C, F, 0, S, C, F, 7, S, C, F, 7, S, C, X]
    assert requests[-1].attempt == 5


def test_no_fallback_where_a_value_for_it_is_missing() -> None:
    """The task fails as it would without one."""
    assert kinds(with_fallback([Raised(NO), Raised(NO)], is_possible=False)) == [S, C, F, 3, S, C, X]


def test_no_fallback_after_success_or_an_error_of_the_storage() -> None:
    """A value that can't be saved is no failed attempt of the step."""
    assert kinds(with_fallback([Returned(1)])) == [S, C, D]
    assert kinds(with_fallback([Returned(1), LOST])) == [S, C, D, X]
