"""The one loop: the races that no whole run can force. What runs show is in the tests of executors and of runs."""

from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import pytest

from dotflow import Context, Task, action
from dotflow.abc.executor import CompletedCall, ExecutorSession
from dotflow.core.action import Action
from dotflow.core.call import Call
from dotflow.core.failure import Failure
from dotflow.core.outcome import Interrupted, NotBegun, Outcome, Raised, Returned, Running
from dotflow.core.types.execution import TypeExecution
from dotflow.core.types.status import TypeStatus
from dotflow.engine.publisher import Publisher
from dotflow.engine.run_graph import RunGraph
from dotflow.engine.runner import Runner
from dotflow.errors import LeaseLost
from dotflow.graph.params import NO_PARAMS
from dotflow.graph.plan import make_plan
from dotflow.providers import StorageDefault
from dotflow.resume.checkpoint import Checkpoints

from .conftest import FakeTime

COMPLETED, FAILED, NOT_STARTED = TypeStatus.COMPLETED, TypeStatus.FAILED, TypeStatus.NOT_STARTED


class SlowSession(ExecutorSession):
    """Queues calls and makes the oldest at each wait, as one worker would.

    With *at_once*, an attempt ends as soon as it is submitted. Waiting for a timer moves the clock.
    There is room for *max_calls* calls.
    """

    max_calls = 1_000_000

    def __init__(self, fake_time: FakeTime, at_once: bool = False) -> None:
        self.fake_time = fake_time
        self.at_once = at_once
        self.calls: list[Call] = []
        self.queue: deque[Call] = deque()
        self.left: list[int] = []
        self.waited: list[float | None] = []
        self.woken = 0
        self.closed = 0

    def make_room(self, pool: Hashable, lane: int, waiting: int) -> bool:
        return len(self.queue) < self.max_calls

    def submit(self, call: Call) -> Outcome | None:
        self.calls.append(call)
        if self.at_once:
            return self.make(call)
        self.queue.append(call)
        return None

    def wait(self, timeout: float | None) -> Sequence[CompletedCall]:
        self.waited.append(timeout)
        if self.queue:
            call = self.queue.popleft()
            return [(call, self.make(call))]
        if self.woken:
            return []
        assert timeout is not None, "it would wait for ever"
        self.fake_time.move(timeout)
        return []

    def make(self, call: Call) -> Outcome:
        try:
            value = call.step.function(**{name: getattr(call, name) for name in call.step.context_params})
        except KeyboardInterrupt:
            return Interrupted()
        except Exception as error:
            return Raised(Failure.of(error))
        return Returned(value)

    def wake(self) -> None:
        self.woken += 1

    def leave(self, lane: int) -> None:
        self.left.append(lane)

    def close(self) -> None:
        self.closed += 1


class PackSession(SlowSession):
    """Gives a call back, and has it run when it is submitted again."""

    def __init__(self, fake_time: FakeTime, tasks: list[Task]) -> None:
        super().__init__(fake_time)
        self.tasks = tasks
        self.shown: list[str] = []

    def wait(self, timeout: float | None) -> Sequence[Any]:
        self.shown.append(self.tasks[0].reason)
        if len(self.shown) == 2:
            return [(self.queue[0], Running(self.fake_time.seconds))]
        call = self.queue.popleft()
        return [(call, NotBegun() if len(self.shown) == 1 else self.make(call))]


class RunParts:
    """A run's parts, assembled as by the workflow."""

    def __init__(self, fake_time: FakeTime) -> None:
        self.fake_time = fake_time
        self.storage = StorageDefault()
        self.tasks: list[Task] = []
        self.session = SlowSession(fake_time)
        self.reports: list[str] = []

    def add(self, function: Callable[..., Any], group: str = "default", **options: Any) -> None:
        step = action(**options)(function)
        self.tasks.append(Task(len(self.tasks), step, group_name=group)._new_record("w", "r"))

    def run(
        self,
        mode: TypeExecution = TypeExecution.SEQUENTIAL,
        *,
        keep_going: bool = False,
        restored: Mapping[int, Context] | None = None,
        at_once: bool = False,
    ) -> None:
        self.session.at_once = at_once
        plan = make_plan(self.tasks, mode)
        checkpoints = Checkpoints(self.storage, "w", exclusive=False, log_line=print)
        checkpoints.open(self.tasks, resume=False, sources=plan.previous)
        publisher = Publisher(
            "r",
            {task.task_id: task for task in self.tasks},
            checkpoints.save,
            log_line=lambda message, error=None: self.reports.append(message),
        )
        checkpoints.found.restored |= restored or {}
        graph = RunGraph(self.tasks, plan, NO_PARAMS, checkpoints, keep_going=keep_going)
        runner = Runner(graph, self.session, publisher)
        runner.run(lambda: self.session)

    @property
    def statuses(self) -> list[TypeStatus]:
        return [task.status for task in self.tasks]

    @property
    def values(self) -> list[object]:
        return [task.current_context.storage for task in self.tasks]

    @property
    def order(self) -> list[int]:
        return [call.task_id for call in self.session.calls]


@pytest.fixture
def parts(fake_time: FakeTime) -> RunParts:
    return RunParts(fake_time)


def one() -> int:
    return 1


def plus_one(previous_context: Context) -> int:
    return (previous_context.storage or 0) + 1


def fails() -> None:
    raise ValueError("no")


def interrupts() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("at_once", [False, True])
class TestOrder:
    def test_nothing_to_do(self, parts: RunParts, at_once: bool) -> None:
        """A run without tasks ends at once, and its session is closed."""
        parts.run(at_once=at_once)

        assert parts.session.waited == []
        assert parts.session.closed == 1

    def test_a_lane_that_is_over_is_left(self, parts: RunParts, at_once: bool) -> None:
        """leave() announces the end of a lane, so that its worker is free for others."""
        for group in "aab":
            parts.add(one, group)

        parts.run(at_once=at_once)

        assert sorted(parts.session.left) == [0, 1]

    def test_a_long_chain_needs_no_deep_stack(self, parts: RunParts, at_once: bool) -> None:
        """Python allows a thousand calls in one another."""
        for _ in range(2_000):
            parts.add(plus_one)

        parts.run(at_once=at_once)

        assert parts.values[-1] == 2_000


def test_a_task_that_was_given_back_waits_for_a_worker_until_it_runs(parts: RunParts) -> None:
    """It is in the same attempt."""
    parts.add(one)
    session = parts.session = PackSession(parts.fake_time, parts.tasks)

    parts.run()

    assert session.shown == ["", "waits for a worker", ""]
    assert (parts.statuses, parts.tasks[0].attempt) == ([COMPLETED], 1)


def test_after_a_failure_the_next_task_of_another_group_does_not_begin(parts: RunParts) -> None:
    """The task that was running ends by itself."""
    for function, group in ((fails, "a"), (one, "b"), (one, "b")):
        parts.add(function, group)

    parts.run()

    assert parts.statuses == [FAILED, COMPLETED, NOT_STARTED]


def test_outcomes_that_arrive_with_an_interrupt_are_kept(parts: RunParts) -> None:
    """A task that had finished when Ctrl-C arrived stays finished, and keeps its checkpoint."""

    class Batching(SlowSession):
        def wait(self, timeout: float | None) -> Sequence[CompletedCall]:
            return [pair for _ in range(len(self.queue)) for pair in super(Batching, self).wait(timeout)]

    parts.session = Batching(parts.fake_time)
    for function in (one, interrupts, one):
        parts.add(function)

    with pytest.raises(KeyboardInterrupt):
        parts.run(TypeExecution.PARALLEL)

    assert parts.statuses == [COMPLETED, FAILED, COMPLETED]
    assert parts.storage.contains(parts.storage.key(parts.tasks[2]))


def test_an_interrupt_before_the_first_task_closes_the_session(
    parts: RunParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The graph of a hundred thousand tasks takes a while to begin."""

    def interrupted(graph: RunGraph) -> list[Any]:
        raise KeyboardInterrupt

    monkeypatch.setattr(RunGraph, "start", interrupted)
    parts.add(one)

    with pytest.raises(KeyboardInterrupt):
        parts.run()

    assert parts.session.closed == 1


class LateSession(SlowSession):
    """Has room for *limit* calls, and only one worker before the first *late* calls have ended.

    Each wait returns *batch* outcomes. Isolated steps have a limit of their own.
    """

    def __init__(self, fake_time: FakeTime, limit: int, *, late: int = 1, batch: int = 1) -> None:
        super().__init__(fake_time)
        self.limit = limit
        self.late = late
        self.batch = batch

    def pool_of(self, step: Action[..., Any]) -> Hashable:
        return step.isolate

    def make_room(self, pool: Hashable, lane: int, waiting: int) -> bool:
        assert self.room_left(pool) >= 0
        return bool(self.room_left(pool)) and not (self.late and self.queue)

    def room_left(self, pool: Hashable) -> float:
        return self.limit - sum(call.step.isolate == pool for call in self.queue)

    def wait(self, timeout: float | None) -> Sequence[CompletedCall]:
        completed = [*super().wait(timeout)]
        while self.queue and len(completed) < self.batch:
            completed += super().wait(timeout)
        self.late = max(0, self.late - len(completed))
        return completed


class TestReadyBeforeAFailure:
    @pytest.mark.parametrize("batch", [1, 2, 3])
    def test_only_tasks_that_ended_before_the_failure_make_room(self, parts: RunParts, batch: int) -> None:
        """Also where the outcomes arrive together."""
        parts.session = LateSession(parts.fake_time, 3, late=0, batch=batch)
        for function in (one, fails, one, one, one, one):
            parts.add(function)

        parts.run(TypeExecution.PARALLEL)

        assert parts.statuses == [COMPLETED, FAILED, COMPLETED, COMPLETED, NOT_STARTED, NOT_STARTED]

    def test_every_pool_has_its_own_room(self, parts: RunParts) -> None:
        """The failed task leaves its place empty in its own pool."""
        parts.session = LateSession(parts.fake_time, 2)
        for isolate in (True, True, True, False, False, False):
            parts.add(one if len(parts.tasks) else fails, isolate=isolate)

        parts.run(TypeExecution.PARALLEL)

        assert parts.statuses == [FAILED, COMPLETED, NOT_STARTED, COMPLETED, COMPLETED, NOT_STARTED]

    def test_a_retry_takes_its_own_place(self, parts: RunParts) -> None:
        """A repeated attempt, which goes first, leaves no place to a task behind it."""
        parts.session = LateSession(parts.fake_time, 2, late=0, batch=2)
        parts.add(raising(1), retry=2, retry_delay=0)
        for function in (fails, one, one):
            parts.add(function)

        parts.run(TypeExecution.PARALLEL)

        assert parts.statuses == [COMPLETED, FAILED, NOT_STARTED, NOT_STARTED]

    def test_a_lost_lease_lets_nothing_begin(self, parts: RunParts) -> None:
        """Another process has the workflow, so what was ready doesn't begin either."""

        class Lost(StorageDefault):
            def post(self, key: str, context: Context) -> None:
                raise LeaseLost("Workflow 'w' lost its lease", "another process took it over")

        parts.storage = Lost()
        parts.session = LateSession(parts.fake_time, 3)
        for _ in range(3):
            parts.add(one)

        parts.run(TypeExecution.PARALLEL)

        assert parts.statuses == [FAILED, NOT_STARTED, NOT_STARTED]


class TestTimers:
    def test_no_delay_is_not_waited_for(self, parts: RunParts) -> None:
        """With a delay of 0 the next attempt is made at once."""
        parts.add(fails, retry=50, retry_delay=0)

        parts.run(at_once=True)

        assert parts.session.waited == []
        assert parts.tasks[0].retry_count == 49

    def test_the_soonest_comes_first(self, parts: RunParts) -> None:
        """Timers fire in the order of their time, not of their tasks."""
        for delay in (30, 10, 20):
            parts.add(fails, retry=2, retry_delay=delay)

        parts.run(TypeExecution.PARALLEL, keep_going=True)

        assert parts.order == [0, 1, 2, 1, 2, 0]

    def test_equal_times_ring_in_their_order(self, parts: RunParts) -> None:
        """Two tasks with the same delay are retried in the order in which they failed."""
        for _ in range(5):
            parts.add(fails, retry=2, retry_delay=5)

        parts.run(TypeExecution.PARALLEL, keep_going=True)

        assert parts.order == [0, 1, 2, 3, 4] * 2

    def test_after_a_failure_a_task_that_is_being_retried_still_ends(self, parts: RunParts) -> None:
        """A task in its retry delay has started, so it runs to its end."""
        parts.add(fails)
        parts.add(fails, retry=2, retry_delay=5)

        parts.run(TypeExecution.PARALLEL)

        assert parts.statuses == [FAILED, FAILED]
        assert len(parts.tasks[1].errors) == 2


class TestRoom:
    """More tasks are ready than there are workers."""

    @pytest.fixture(params=[1, 2, 3])
    def parts(self, fake_time: FakeTime, request: pytest.FixtureRequest) -> RunParts:
        parts = RunParts(fake_time)
        parts.session.max_calls = request.param
        return parts

    def test_a_repeated_attempt_of_a_task_that_began_is_made_even_then(self, parts: RunParts) -> None:
        """It has started, so it runs to its end; with one worker it has not begun."""
        parts.add(fails, retry=2, retry_delay=0)
        parts.add(fails, retry=3, retry_delay=0)
        for _ in range(5):
            parts.add(one)

        parts.run(TypeExecution.PARALLEL)

        assert len(parts.tasks[0].errors) == 2
        assert len(parts.tasks[1].errors) == (0 if parts.session.max_calls == 1 else 3)
        assert NOT_STARTED in parts.statuses

    def test_a_lane_goes_on_before_another_begins(self, parts: RunParts) -> None:
        """Its worker has its value."""
        for group in "abcdabcd":
            parts.add(plus_one, group)

        parts.run()

        expected = {1: [0, 4, 1, 5, 2, 6, 3, 7], 2: [0, 1, 4, 5, 2, 3, 6, 7], 3: [0, 1, 2, 4, 5, 6, 3, 7]}
        assert parts.order == expected[parts.session.max_calls]


def test_the_resume_of_a_finished_run_makes_no_calls(parts: RunParts) -> None:
    """At any length."""
    for _ in range(2_000):
        parts.add(fails)

    parts.run(restored={place: Context(place, task_id=place) for place in range(2_000)})

    assert parts.values == list(range(2_000))
    assert parts.order == []


def test_a_session_that_raises_fails_the_running_tasks(parts: RunParts) -> None:
    """An executor's own error ends the run, is the error of the running tasks, and reaches the caller."""

    class Broken(SlowSession):
        def wait(self, timeout: float | None) -> Sequence[CompletedCall]:
            raise RuntimeError("the cluster is gone")

    parts.session = Broken(parts.fake_time)
    parts.add(one)
    parts.add(one)

    with pytest.raises(RuntimeError, match="the cluster is gone"):
        parts.run()

    assert parts.statuses == [FAILED, NOT_STARTED]
    assert "the cluster is gone" in parts.tasks[0].errors[0].message
    assert parts.session.closed == 1


def raising(times: int) -> Callable[[], int]:
    """A step that fails so many times."""
    left = iter(range(times))

    def step() -> int:
        if next(left, None) is not None:
            raise ValueError("not yet")
        return 1

    return step
