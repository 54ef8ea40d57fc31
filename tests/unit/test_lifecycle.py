"""One task's life: its attempts, and what the runner publishes and waits for between them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import pytest

from dotflow import Context, Task, action
from dotflow.abc.executor import CompletedCall, ExecutorSession
from dotflow.abc.history import Listener
from dotflow.core.call import Call
from dotflow.core.events import (
    AttemptFailed,
    AttemptRepeated,
    AttemptStarted,
    Event,
    TaskCompleted,
    TaskEvent,
    TaskFailed,
)
from dotflow.core.failure import Failure
from dotflow.core.outcome import Died, Interrupted, Outcome, Parked, Raised, Returned, TimedOut, TypePark, Usage
from dotflow.engine.lifecycle import Fallback, Poll
from dotflow.engine.node_inputs import NodeInputs
from dotflow.engine.publisher import Publisher
from dotflow.engine.ready import Ready
from dotflow.engine.run_graph import Decision, RunGraph
from dotflow.engine.runner import Runner
from dotflow.engine.stop import Stop
from dotflow.errors import StorageError
from dotflow.graph.linked_task import Scope
from dotflow.graph.params import NO_PARAMS
from dotflow.providers import StorageDefault
from dotflow.resume.checkpoint import Checkpoints

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


class OneTask(RunGraph):
    """The graph of one task, which begins at once, in lane 2 and as call 7."""

    is_stopping = False
    asked: ClassVar[Mapping[int, Any]] = {}
    checkpoints = Checkpoints(StorageDefault(), "w", exclusive=False, log_line=print)

    def __init__(self, task: Task, fallback: Callable[[Failure], Fallback | None] | None) -> None:
        self.inputs = NodeInputs(Scope([task]), NO_PARAMS, self.checkpoints)
        self.ready = Ready(7, 2, task, PREVIOUS, task.step, inputs=(None, None, fallback, None))
        self.ends: list[Context | None] = []
        self._cleaning = {}

    def start(self) -> list[Decision]:
        return [self.ready]

    def end(self, task: Task, context: Context | None) -> list[Decision]:
        self.ends.append(context)
        return []

    def answered(self) -> list[Ready]:
        return []

    def clean_up(self) -> Iterator[Decision]:
        return iter(())

    def next_cleanup(self) -> None: ...

    def unfinished(self, stop: Stop, *, is_over: bool = False) -> Iterator[TaskEvent]:
        return iter(())


class Recorder(ExecutorSession, Listener):
    """Makes attempts with the given outcomes, at once or as another thread would; records events, calls and waits."""

    def __init__(self, outcomes: list[Outcome | StorageError], fake_time: FakeTime, at_once: bool) -> None:
        self.outcomes = list(outcomes)
        self.fake_time = fake_time
        self.at_once = at_once
        self.requests: list[Any] = []
        self.call: Call | None = None  # that is in flight

    def record(self, run_id: str, event: Event) -> None:
        self.requests.append(event)

    def submit(self, call: Call) -> Outcome | None:
        self.requests.append(call)
        if self.at_once:
            return self.next_outcome()
        self.call = call
        return None

    def next_outcome(self) -> Outcome:
        outcome = self.outcomes.pop(0)
        assert not isinstance(outcome, StorageError)
        return outcome

    def save(self, task: Task, context: Context) -> None:
        if self.outcomes and isinstance(self.outcomes[0], StorageError):
            raise self.outcomes.pop(0)  # type: ignore[misc]

    def wait(self, timeout: float | None) -> Sequence[CompletedCall]:
        if self.call is not None:
            call, self.call = self.call, None
            return [(call, self.next_outcome())]
        assert timeout is not None
        self.requests.append(timeout)
        self.fake_time.move(timeout)
        return ()

    def wake(self) -> None: ...

    def close(self) -> None: ...


class Life:
    """Runs one task, and returns what it requests."""

    def __init__(self, fake_time: FakeTime, at_once: bool) -> None:
        self.fake_time = fake_time
        self.at_once = at_once

    def __call__(
        self,
        task: Task,
        outcomes: list[Outcome | StorageError],
        fallback: Callable[[Failure], Fallback | None] | None = None,
    ) -> tuple[list[Any], Context | None]:
        """Returns events, calls and waits for these outcomes of its calls, and its context."""
        recorder, graph = Recorder(outcomes, self.fake_time, self.at_once), OneTask(task, fallback)
        publisher = Publisher("r", {7: task}, recorder.save, listeners=[recorder], log_line=print)
        Runner(graph, recorder, publisher).run(lambda: recorder)
        assert not recorder.outcomes
        (context,) = graph.ends
        return recorder.requests, context


@pytest.fixture(params=[True, False], ids=["at once", "in flight"])
def requests_of(fake_time: FakeTime, request: pytest.FixtureRequest) -> Life:
    """Both ways of an outcome: `submit` returns it, or `wait` does."""
    return Life(fake_time, request.param)


def kinds(requests: list[Any]) -> list[Any]:
    return [request if isinstance(request, float | int) else type(request) for request in requests]


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
        ({"retry": 2, "retry_delay": 0}, [Raised(NO), Raised(NO)], [S, C, F, S, C, X]),
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
        ({}, [Returned(1), LOST], [S, C, X]),
        ({"retry": 3}, [Returned(1), LOST], [S, C, X]),
    ],
)
def test_the_requests_of_a_task(
    requests_of: Life, options: dict[str, Any], outcomes: list[Any], requests: list[Any]
) -> None:
    """Attempt, retry after its delay, end: the next request depends only on the policy and the outcome."""
    sent, _ = requests_of(task_with(**options), outcomes)

    assert kinds(sent) == requests


@pytest.mark.parametrize("value", [None, 0, "", [], {"a": 1}])
def test_a_value_becomes_the_tasks_context(requests_of: Life, value: object) -> None:
    """The task ends with the context that it published: value, task, workflow and step, the empty values too."""
    task = task_with()

    requests, context = requests_of(task, [Returned(value)])

    assert context is requests[-1].context
    assert context.storage is value
    assert (context.task_id, context.workflow_id, context.step) == (7, "w", task.step.identity)


def test_a_returned_context_keeps_one_layer(requests_of: Life) -> None:
    """A step may return a Context: the next one gets its value, not a Context in a Context."""
    _, context = requests_of(task_with(), [Returned(Context([1]))])

    assert context is not None
    assert context.storage == [1]


def test_a_returned_context_belongs_to_the_task(requests_of: Life) -> None:
    """A step that returns its previous_context makes a new one: the checkpoint has its own task."""
    _, context = requests_of(task_with(), [Returned(Context([1], task_id=3, workflow_id="other", step="m:other"))])

    assert context is not None
    assert (context.task_id, context.workflow_id) == (7, "w")
    assert context.step == task_with().step.identity


@pytest.mark.parametrize("outcomes", [[Raised(NO)], [TimedOut(LATE)], [Died(GONE)], [Returned(1), LOST]])
def test_a_failed_task_has_no_context(requests_of: Life, outcomes: list[Any]) -> None:
    """There is no value."""
    assert requests_of(task_with(), outcomes)[1] is None


def test_the_call_has_step_and_contexts(requests_of: Life) -> None:
    """Every attempt is the same call: step, contexts and lane."""
    task = task_with(retry=2, retry_delay=0)

    requests, _ = requests_of(task, [Raised(NO), Returned(1)])

    first, second = [request for request in requests if isinstance(request, Call)]
    assert first == second
    assert (first.task_id, first.lane, first.step, first.workflow_id) == (7, 2, task.step, "w")
    assert first.initial_context is task.initial_context
    assert first.previous_context is PREVIOUS


def test_attempts_are_numbered_from_one(requests_of: Life) -> None:
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


def test_events_carry_failure_delay_and_task(requests_of: Life) -> None:
    """The event has the failure and the delay."""
    requests, _ = requests_of(task_with(retry=2, retry_delay=4), [Raised(NO), TimedOut(LATE)])

    failed = next(request for request in requests if isinstance(request, F))
    assert (failed.failure, failed.retry_in) == (NO, 4)
    assert requests[-1].failure is LATE
    assert {request.task_id for request in requests if not isinstance(request, float | int)} == {7}


def test_events_carry_their_time(requests_of: Life, fake_time: FakeTime) -> None:
    """Beginning and end are times of both clocks."""
    task = task_with(retry=2, retry_delay=2.5)
    began, tick = fake_time.now(), fake_time.monotonic()

    requests, _ = requests_of(task, [Raised(NO), Returned(1)])

    starts = [request for request in requests if isinstance(request, AttemptStarted)]
    assert [(start.at, start.tick) for start in starts] == [(began, tick), (fake_time.now(), tick + 2.5)]
    assert (requests[-1].context.time, requests[-1].tick) == (fake_time.now(), tick + 2.5)
    assert (task.started_at, task.finished_at, task.duration) == (began, fake_time.now(), 2.5)


def test_a_value_that_cannot_be_kept_fails_the_task(requests_of: Life) -> None:
    """The StorageError becomes the task's error; the step, which finished, is not repeated."""
    requests, _ = requests_of(task_with(retry=5), [Returned(1), LOST])

    assert requests[-1].failure.exception == "StorageError"
    assert "disk full" in requests[-1].failure.message


@pytest.mark.parametrize("options", [{}, {"retry": 5}])
def test_an_interrupt_is_no_failed_attempt(requests_of: Life, options: dict[str, Any]) -> None:
    """KeyboardInterrupt stops the run: it is not retried and makes no event."""
    with pytest.raises(KeyboardInterrupt):
        requests_of(task_with(**options), [Interrupted()])


# Fallbacks


def with_fallback(
    requests_of: Life, outcomes: list[Outcome | StorageError], *, is_possible: bool = True, **options: Any
) -> list[Any]:
    """Returns the requests of a task with retry=2 and a fallback with these options."""
    fallback = Fallback(action(**options)(lambda: 0), 1, {"a": 1}) if is_possible else None
    task = task_with(retry=2, retry_delay=3)
    return requests_of(task, outcomes, lambda failure: fallback)[0]


def test_a_fallback_follows_the_last_attempt_at_once(requests_of: Life) -> None:
    """Its attempt has the next number, its arguments replace those of the step, and its call is marked."""
    requests = with_fallback(requests_of, [Raised(NO), Raised(NO), Returned(1)])

    assert kinds(requests) == [S, C, F, 3, S, C, F, S, C, D]
    calls = [request for request in requests if isinstance(request, Call)]
    assert [call.fallback for call in calls] == [0, 0, 1]
    assert (calls[2].arguments, calls[2].shared) == ({"a": 1}, None)
    assert [request.attempt for request in requests if isinstance(request, AttemptStarted)] == [1, 2, 3]


def test_a_fallback_has_its_own_policy(requests_of: Life) -> None:
    """Its attempts are counted from its first one, with its own delay."""
    outcomes: list[Outcome | StorageError] = [Raised(NO)] * 5

    requests = with_fallback(requests_of, outcomes, retry=3, retry_delay=7)

    assert kinds(requests) == [S, C, F, 3, S, C, F, S, C, F, 7, S, C, F, 7, S, C, X]
    assert requests[-1].attempt == 5


def test_no_fallback_where_a_value_for_it_is_missing(requests_of: Life) -> None:
    """The task fails as it would without one."""
    assert kinds(with_fallback(requests_of, [Raised(NO), Raised(NO)], is_possible=False)) == [S, C, F, 3, S, C, X]


def test_no_fallback_after_success_or_an_error_of_the_storage(requests_of: Life) -> None:
    """A value that can't be saved is no failed attempt of the step."""
    assert kinds(with_fallback(requests_of, [Returned(1)])) == [S, C, D]
    assert kinds(with_fallback(requests_of, [Returned(1), LOST])) == [S, C, X]


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ([None, None], None),
        ([Usage(1.0, 5, 1), Usage(2.0, 4, 2)], Usage(3.0, 5, 2)),
        ([Usage(1.0, 5, 1), Usage(None, None, 2)], Usage(1.0, 5, 2)),
        ([Usage(None, None, 1), Usage(2.0, 4, 2)], Usage(2.0, 4, 2)),
        ([Usage(1.0, 5, 1), None], Usage(1.0, 5, 1)),
        ([None, Usage(1.0, 5, 1)], Usage(1.0, 5, 1)),
    ],
)
def test_an_attempt_that_waits_has_used_what_its_calls_have(calls: Any, expected: Any) -> None:
    """The sum of their CPU time, and the largest peak."""
    poll = Poll(0.0)
    call = Call(0, 0, action(poll=1)(lambda: None), Context(), Context(), "w")
    poll.go_on(call, poll.with_usage(Parked(TypePark.POLL, usage=calls[0])), 1.0)

    assert poll.with_usage(Returned(1, (), calls[1])).usage == expected
