"""The one loop: the tasks that it starts, their order, and its end."""

from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import pytest

from dotflow import Context, Task, action
from dotflow.abc.executor import CompletedCall, ExecutorSession
from dotflow.abc.tracer import Tracer
from dotflow.core.action import Action
from dotflow.core.call import Call, Carrier
from dotflow.core.events import AttemptStarted, Event
from dotflow.core.failure import Failure
from dotflow.core.outcome import Interrupted, Outcome, Raised, Returned
from dotflow.core.types.execution import TypeExecution
from dotflow.core.types.status import TypeStatus
from dotflow.engine.publisher import Publisher
from dotflow.engine.runner import CANCELLED, Runner
from dotflow.errors import LeaseLost
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
        self.most_at_once = 0
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
        self.most_at_once = max(self.most_at_once, len(self.queue))
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


class RunParts:
    """A run's parts, assembled as by the workflow."""

    def __init__(self, fake_time: FakeTime) -> None:
        self.fake_time = fake_time
        self.storage = StorageDefault()
        self.tasks: list[Task] = []
        self.session = SlowSession(fake_time)
        self.reports: list[str] = []
        self.tracer: Tracer | None = None
        self.runner: Runner | None = None

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
        checkpoints = Checkpoints(self.storage, "w", exclusive=False, report=print)
        checkpoints.open(self.tasks, resume=False, sources=plan.previous)
        publisher = Publisher(
            "r",
            {task.task_id: task for task in self.tasks},
            checkpoints,
            log=None,
            notifier=None,
            history=None,
            tracer=self.tracer,
            report=lambda message, error=None: self.reports.append(message),
        )
        self.runner = Runner(
            self.tasks,
            plan,
            self.session,
            publisher,
            keep_going=keep_going,
            restored=restored or {},
        )
        self.runner.run()

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

    def test_sequential_hands_on(self, parts: RunParts, at_once: bool) -> None:
        """Each task starts after the end of the one before, and gets its context."""
        for _ in range(4):
            parts.add(plus_one)

        parts.run(at_once=at_once)

        assert parts.values == [1, 2, 3, 4]
        assert parts.statuses == [COMPLETED] * 4
        assert parts.session.most_at_once <= 1

    def test_the_first_one_gets_an_empty_context(self, parts: RunParts, at_once: bool) -> None:
        """previous_context of the first task of each lane has the storage None."""
        seen = []
        for group in ("a", "b"):
            parts.add(lambda previous_context: seen.append(previous_context.storage), group)

        parts.run(at_once=at_once)

        assert seen == [None, None]

    def test_values_are_handed_on_as_the_same_object(self, parts: RunParts, at_once: bool) -> None:
        """The value is not copied, and does not pass through the storage."""
        value = object()
        parts.add(lambda: value)
        parts.add(lambda previous_context: previous_context.storage)

        parts.run(at_once=at_once)

        assert parts.values[1] is value

    def test_parallel_starts_all(self, parts: RunParts, at_once: bool) -> None:
        """Every call is submitted before the first wait for an outcome."""
        for _ in range(5):
            parts.add(plus_one)

        parts.run(TypeExecution.PARALLEL, at_once=at_once)

        assert parts.values == [1] * 5
        assert at_once or parts.session.most_at_once == 5
        assert len({call.lane for call in parts.session.calls}) == 5

    def test_groups_side_by_side(self, parts: RunParts, at_once: bool) -> None:
        """Each group is a chain of its own, one task of each at a time."""
        for group in "abab":
            parts.add(plus_one, group)

        parts.run(at_once=at_once)

        assert parts.values == [1, 1, 2, 2]
        assert at_once or parts.session.most_at_once == 2

    def test_a_lane_that_is_over_is_left(self, parts: RunParts, at_once: bool) -> None:
        """leave() announces the end of a lane, so that its worker is free for others."""
        for group in "aab":
            parts.add(one, group)

        parts.run(at_once=at_once)

        assert sorted(parts.session.left) == [0, 1]

    def test_ten_thousand_in_a_chain(self, parts: RunParts, at_once: bool) -> None:
        """A long workflow needs no deep stack."""
        for _ in range(10_000):
            parts.add(plus_one)

        parts.run(at_once=at_once)

        assert parts.values[-1] == 10_000


@pytest.mark.parametrize("at_once", [False, True])
class TestFailure:
    def test_nothing_new_starts(self, parts: RunParts, at_once: bool) -> None:
        """After the first failure, tasks that never started stay NOT_STARTED."""
        for function in (one, fails, one, one):
            parts.add(function)

        parts.run(at_once=at_once)

        assert parts.statuses == [COMPLETED, FAILED, NOT_STARTED, NOT_STARTED]
        assert parts.order == [0, 1]

    def test_nothing_new_starts_in_other_groups_either(self, parts: RunParts, at_once: bool) -> None:
        """A running task ends by itself; the next task of its group does not begin."""
        for function, group in ((fails, "a"), (one, "b"), (one, "b")):
            parts.add(function, group)

        parts.run(at_once=at_once)

        assert parts.statuses[0] is FAILED
        assert parts.statuses[1] is (NOT_STARTED if at_once else COMPLETED)
        assert parts.statuses[2] is NOT_STARTED

    def test_what_runs_ends_by_itself(self, parts: RunParts, at_once: bool) -> None:
        """Parallel tasks that have begun run to their end and keep their values."""
        for function in (fails, one, one):
            parts.add(function)

        parts.run(TypeExecution.PARALLEL, at_once=at_once)

        assert parts.statuses == [FAILED, *([NOT_STARTED] * 2 if at_once else [COMPLETED] * 2)]

    def test_keep_going_goes_on_with_an_empty_context(self, parts: RunParts, at_once: bool) -> None:
        """The task after a failed one gets an empty previous_context; the chain continues from there."""
        for function in (one, fails, plus_one, plus_one):
            parts.add(function)

        parts.run(keep_going=True, at_once=at_once)

        assert parts.statuses == [COMPLETED, FAILED, COMPLETED, COMPLETED]
        assert parts.values == [1, None, 1, 2]
        assert parts.tasks[2].previous_context.storage is None

    def test_keep_going_in_every_lane(self, parts: RunParts, at_once: bool) -> None:
        """A failure in one group stops nothing in any."""
        for function, group in ((fails, "a"), (fails, "b"), (one, "a"), (one, "b")):
            parts.add(function, group)

        parts.run(keep_going=True, at_once=at_once)

        assert parts.statuses == [FAILED, FAILED, COMPLETED, COMPLETED]

    def test_a_value_that_cannot_be_kept_fails_its_task(self, parts: RunParts, at_once: bool) -> None:
        """A storage that raises is a failure like any other: it stops the run, or doesn't with keep_going."""

        class Full(StorageDefault):
            def post(self, key: str, context: Context) -> None:
                raise OSError("disk full")

        parts.storage = Full()
        parts.add(one)
        parts.add(one)

        parts.run(at_once=at_once)

        assert parts.statuses == [FAILED, NOT_STARTED]
        assert parts.values == [None, None]
        assert parts.tasks[0].errors[0].exception == "StorageError"

    def test_a_lost_lease_stops_the_run_even_with_keep_going(self, parts: RunParts, at_once: bool) -> None:
        """Another process has the workflow: with keep_going too, no other step begins."""

        class Lost(StorageDefault):
            def post(self, key: str, context: Context) -> None:
                if context.task_id == 1:
                    raise LeaseLost("Workflow 'w' lost its lease", "another process took it over")
                super().post(key, context)

        parts.storage = Lost()
        for _ in range(3):
            parts.add(one)

        parts.run(keep_going=True, at_once=at_once)

        assert parts.statuses == [COMPLETED, FAILED, NOT_STARTED]
        assert parts.tasks[1].errors[0].exception == "LeaseLost"

    def test_an_interrupt_stops_the_run(self, parts: RunParts, at_once: bool) -> None:
        """KeyboardInterrupt in a step fails that task with its reason, closes the session and reaches the caller."""
        for function in (one, interrupts, one):
            parts.add(function, retry=5)

        with pytest.raises(KeyboardInterrupt):
            parts.run(keep_going=True, at_once=at_once)

        assert parts.statuses == [COMPLETED, FAILED, NOT_STARTED]
        error = parts.tasks[1].errors[0]
        assert error.exception == "KeyboardInterrupt"
        assert "interrupted" in error.message
        assert parts.session.closed == 1

    def test_outcomes_that_arrive_with_an_interrupt_are_kept(self, parts: RunParts, at_once: bool) -> None:
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
    @pytest.mark.parametrize("late", [0, 1])
    def test_what_has_room_begins(self, parts: RunParts, late: int) -> None:
        """Whether or not its worker was up when the first one failed; what is behind it does not begin."""
        parts.session = LateSession(parts.fake_time, 3, late=late)
        for function in (fails, one, one, one, one):
            parts.add(function)

        parts.run(TypeExecution.PARALLEL)

        assert parts.statuses == [FAILED, COMPLETED, COMPLETED, NOT_STARTED, NOT_STARTED]

    @pytest.mark.parametrize("late", [0, 1])
    def test_the_first_of_each_group_begins(self, parts: RunParts, late: int) -> None:
        """Their next tasks do not."""
        parts.session = LateSession(parts.fake_time, 3, late=late)
        for function, group in ((fails, "a"), (one, "b"), (one, "b"), (one, "c"), (one, "c")):
            parts.add(function, group)

        parts.run()

        assert parts.statuses == [FAILED, COMPLETED, NOT_STARTED, COMPLETED, NOT_STARTED]

    @pytest.mark.parametrize("batch", [1, 2, 3])
    def test_only_what_ended_before_the_failure_makes_room(self, parts: RunParts, batch: int) -> None:
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

    def test_pools_may_share_their_room(self, parts: RunParts, monkeypatch: pytest.MonkeyPatch) -> None:
        """As isolated steps and others share the workers of a pool of processes."""
        monkeypatch.setattr(LateSession, "pools_share_room", True)
        monkeypatch.setattr(LateSession, "room_left", lambda self, pool: self.limit - len(self.queue))
        parts.session = LateSession(parts.fake_time, 3)
        for isolate in (True, True, False, False, False):
            parts.add(one if len(parts.tasks) else fails, isolate=isolate)

        parts.run(TypeExecution.PARALLEL)

        assert parts.statuses == [FAILED, COMPLETED, COMPLETED, NOT_STARTED, NOT_STARTED]

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
    def test_a_retry_waits_its_delay(self, parts: RunParts) -> None:
        """The next attempt is made after the delay."""
        parts.add(fails, retry=3, retry_delay=10)

        parts.run(at_once=True)

        assert parts.session.waited == [10, 10]
        assert len(parts.session.calls) == 3
        assert parts.tasks[0].duration == 20

    def test_backoff_doubles_it(self, parts: RunParts) -> None:
        """Each delay is twice the one before."""
        parts.add(fails, retry=4, retry_delay=1, backoff=True)

        parts.run(at_once=True)

        assert parts.session.waited == [1, 2, 4]

    def test_no_delay_is_not_waited_for(self, parts: RunParts) -> None:
        """With a delay of 0 the next attempt is made at once."""
        parts.add(fails, retry=50, retry_delay=0)

        parts.run(at_once=True)

        assert parts.session.waited == []
        assert parts.tasks[0].retry_count == 49

    def test_a_delay_blocks_no_other_task(self, parts: RunParts) -> None:
        """While one task waits out its delay the others run."""
        parts.add(fails, retry=2, retry_delay=60)
        parts.add(one)

        parts.run(TypeExecution.PARALLEL, keep_going=True)

        assert parts.order == [0, 1, 0]
        assert parts.tasks[1].finished_at is not None
        assert parts.tasks[0].finished_at is not None
        assert parts.tasks[1].finished_at < parts.tasks[0].finished_at

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

    def test_a_retry_that_succeeds_hands_on(self, parts: RunParts) -> None:
        """The next task gets the value of the successful attempt."""
        left = [1, 1]

        def third_time() -> int:
            if left:
                left.pop()
                raise ValueError("not yet")
            return 41

        parts.add(third_time, retry=3, retry_delay=1)
        parts.add(plus_one)

        parts.run()

        assert parts.values == [41, 42]
        assert len(parts.tasks[0].errors) == 2

    def test_after_a_failure_what_is_being_retried_still_ends(self, parts: RunParts) -> None:
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

    def test_no_more_than_there_is_room_for(self, parts: RunParts) -> None:
        """In the order in which they became ready."""
        for _ in range(10):
            parts.add(one)

        parts.run(TypeExecution.PARALLEL)

        assert parts.order == list(range(10))
        assert parts.session.most_at_once == parts.session.max_calls
        assert parts.statuses == [COMPLETED] * 10

    def test_what_waits_after_a_failure_never_begins(self, parts: RunParts) -> None:
        """Of 101 tasks, the first of which fails, only those run that had begun."""
        parts.add(fails)
        for _ in range(100):
            parts.add(one)

        parts.run(TypeExecution.PARALLEL)

        begun = parts.session.max_calls
        assert parts.statuses == [FAILED, *[COMPLETED] * (begun - 1), *[NOT_STARTED] * (101 - begun)]
        assert all(task.started_at is task.duration is None for task in parts.tasks[begun:])

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

    def test_a_task_that_waits_starts_when_its_attempt_begins(self, parts: RunParts) -> None:
        """The time before is no part of its duration."""
        for _ in range(4):
            parts.add(lambda: parts.fake_time.move(10))

        parts.run(TypeExecution.PARALLEL)

        starts = [task.started_at for task in parts.tasks]
        ends = [task.finished_at for task in parts.tasks]
        assert all(start == ends[place] for place, start in enumerate(starts[parts.session.max_calls :]))

    def test_cancelled_ones_that_wait_stay_as_they_are(self, parts: RunParts) -> None:
        """Those that had begun are FAILED."""

        def cancels() -> None:
            assert parts.runner is not None
            parts.runner.cancel()

        parts.add(cancels)
        for _ in range(5):
            parts.add(one)

        parts.run(TypeExecution.PARALLEL)

        begun = parts.session.max_calls
        assert parts.statuses == [COMPLETED, *[FAILED] * (begun - 1), *[NOT_STARTED] * (6 - begun)]


class TestRestored:
    def test_is_skipped_and_handed_on(self, parts: RunParts) -> None:
        """A task with a restored value does not run; the next one gets that value."""
        parts.add(fails)
        parts.add(plus_one)

        parts.run(restored={0: Context(41, task_id=0)})

        assert parts.statuses == [COMPLETED, COMPLETED]
        assert parts.values == [41, 42]
        assert parts.order == [1]

    @pytest.mark.parametrize("value", [None, 0, "", []])
    def test_empty_values_too(self, parts: RunParts, value: object) -> None:
        """None, 0, "" and [] are values like any other."""
        parts.add(fails)
        parts.add(lambda previous_context: [previous_context.storage])

        parts.run(restored={0: Context(value, task_id=0)})

        assert parts.values[1] == [value]

    def test_all_of_them(self, parts: RunParts) -> None:
        """The resume of a finished run makes no calls, at any length."""
        for _ in range(10_000):
            parts.add(fails)

        parts.run(restored={place: Context(place, task_id=place) for place in range(10_000)})

        assert parts.values == list(range(10_000))
        assert parts.order == []

    def test_no_callback_is_repeated(self, parts: RunParts) -> None:
        """It was called in the run that made the value."""
        called: list[int] = []
        parts.add(one)
        parts.add(one)
        for task in parts.tasks:
            task.callback = lambda task: called.append(task.task_id)

        parts.run(restored={0: Context(1, task_id=0)})

        assert called == [1]


class TestCancel:
    def test_from_inside(self, parts: RunParts) -> None:
        """A cancelled run ends: running tasks are FAILED with the reason, the others NOT_STARTED."""

        def cancels() -> int:
            assert parts.runner is not None
            parts.runner.cancel(CANCELLED)
            return 1

        parts.add(cancels)
        parts.add(one)
        parts.add(one)

        parts.run(TypeExecution.PARALLEL)

        assert parts.statuses == [COMPLETED, FAILED, FAILED]
        assert parts.tasks[1].errors[0].exception == "RunCancelled"
        assert "cancelled" in parts.tasks[1].errors[0].message
        assert parts.session.woken
        assert parts.session.closed == 1

    def test_in_a_retry_delay(self, parts: RunParts) -> None:
        """A task that waits for its next attempt is stopped too."""

        def cancels() -> None:
            assert parts.runner is not None
            parts.runner.cancel(CANCELLED)
            raise ValueError("no")

        parts.add(cancels, retry=2, retry_delay=60)
        parts.add(one)

        parts.run(at_once=True)

        assert parts.statuses == [FAILED, NOT_STARTED]
        assert [error.exception for error in parts.tasks[0].errors] == ["ValueError", "RunCancelled"]

    def test_a_session_that_raises_fails_the_running_tasks(self, parts: RunParts) -> None:
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


class Guide(Tracer):
    """Gives each attempt a carrier with its own number."""

    def __init__(self) -> None:
        self.begun: list[str] = []

    def trace(self, run_id: str, event: Event) -> None:
        if isinstance(event, AttemptStarted):
            self.begun.append(f"{event.task_id}.{event.attempt}")

    def carrier(self, run_id: str, task_id: int) -> Carrier:
        return Carrier("module:function", {"attempt": self.begun[-1]})


@pytest.mark.parametrize("at_once", [False, True])
def test_each_attempt_has_its_tracers_carrier(parts: RunParts, at_once: bool) -> None:
    """It is called after the beginning of every attempt, repeated ones too, and the task is the same."""
    parts.tracer = Guide()
    parts.add(lambda: 1)
    parts.add(raising(1), retry=2)

    parts.run(at_once=at_once)

    assert [call.carrier and call.carrier.headers["attempt"] for call in parts.session.calls] == ["0.1", "1.1", "1.2"]
    assert parts.statuses == [COMPLETED, COMPLETED]


def test_without_a_tracer_nothing_is_taken_along(parts: RunParts) -> None:
    """The way of most runs."""
    parts.add(lambda: 1)

    parts.run()

    assert [call.carrier for call in parts.session.calls] == [None]


def raising(times: int) -> Callable[[], int]:
    """A step that fails so many times."""
    left = iter(range(times))

    def step() -> int:
        if next(left, None) is not None:
            raise ValueError("not yet")
        return 1

    return step
