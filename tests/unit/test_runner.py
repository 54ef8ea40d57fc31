"""The one loop: what it starts, when, and when it stops."""

from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import pytest

from dotflow import Context, Task, action
from dotflow.abc.executor import CompletedCall, ExecutorSession
from dotflow.abc.tracer import Tracer
from dotflow.core.call import Call, Carrier
from dotflow.core.events import AttemptStarted, Event
from dotflow.core.failure import Failure
from dotflow.core.outcome import Interrupted, Outcome, Raised, Returned
from dotflow.core.types.execution import TypeExecution
from dotflow.core.types.status import TypeStatus
from dotflow.engine.checkpoint import Checkpoints
from dotflow.engine.plan import make_plan
from dotflow.engine.publisher import Publisher
from dotflow.engine.runner import CANCELLED, Runner
from dotflow.errors import LeaseLost
from dotflow.providers import StorageDefault

from .conftest import FakeTime

COMPLETED, FAILED, NOT_STARTED = TypeStatus.COMPLETED, TypeStatus.FAILED, TypeStatus.NOT_STARTED


class SlowSession(ExecutorSession):
    """Takes calls on and makes the oldest each time it is asked to wait, as one worker would.

    With *at_once*, an attempt is over as soon as it is submitted. Waiting for a timer moves the clock.
    There is room for *most* calls.
    """

    most = 1_000_000

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
        return len(self.queue) < self.most

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


class House:
    """A run's parts, put together as the workflow does it."""

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
def house(fake_time: FakeTime) -> House:
    return House(fake_time)


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
    def test_nothing_to_do(self, house: House, at_once: bool) -> None:
        """A run without tasks is over at once, and its session is closed."""
        house.run(at_once=at_once)

        assert house.session.waited == []
        assert house.session.closed == 1

    def test_sequential_hands_on(self, house: House, at_once: bool) -> None:
        """Each task starts when the one before has ended, and is given its context."""
        for _ in range(4):
            house.add(plus_one)

        house.run(at_once=at_once)

        assert house.values == [1, 2, 3, 4]
        assert house.statuses == [COMPLETED] * 4
        assert house.session.most_at_once <= 1

    def test_the_first_one_gets_an_empty_context(self, house: House, at_once: bool) -> None:
        """previous_context of the first task of each lane has the storage None."""
        seen = []
        for group in ("a", "b"):
            house.add(lambda previous_context: seen.append(previous_context.storage), group)

        house.run(at_once=at_once)

        assert seen == [None, None]

    def test_values_are_handed_on_as_the_same_object(self, house: House, at_once: bool) -> None:
        """Nothing is copied on the way, and nothing goes through the storage."""
        value = object()
        house.add(lambda: value)
        house.add(lambda previous_context: previous_context.storage)

        house.run(at_once=at_once)

        assert house.values[1] is value

    def test_parallel_starts_all(self, house: House, at_once: bool) -> None:
        """Every call is submitted before the first answer is waited for."""
        for _ in range(5):
            house.add(plus_one)

        house.run(TypeExecution.PARALLEL, at_once=at_once)

        assert house.values == [1] * 5
        assert at_once or house.session.most_at_once == 5
        assert len({call.lane for call in house.session.calls}) == 5

    def test_groups_side_by_side(self, house: House, at_once: bool) -> None:
        """Each group is a chain of its own, one task of each at a time."""
        for group in "abab":
            house.add(plus_one, group)

        house.run(at_once=at_once)

        assert house.values == [1, 1, 2, 2]
        assert at_once or house.session.most_at_once == 2

    def test_a_lane_that_is_over_is_left(self, house: House, at_once: bool) -> None:
        """The session learns when no more calls come for a lane, so that its worker is free for others."""
        for group in "aab":
            house.add(one, group)

        house.run(at_once=at_once)

        assert sorted(house.session.left) == [0, 1]

    def test_ten_thousand_in_a_chain(self, house: House, at_once: bool) -> None:
        """A long workflow needs no deep stack."""
        for _ in range(10_000):
            house.add(plus_one)

        house.run(at_once=at_once)

        assert house.values[-1] == 10_000


@pytest.mark.parametrize("at_once", [False, True])
class TestFailure:
    def test_nothing_new_starts(self, house: House, at_once: bool) -> None:
        """After the first failure what never started stays NOT_STARTED."""
        for function in (one, fails, one, one):
            house.add(function)

        house.run(at_once=at_once)

        assert house.statuses == [COMPLETED, FAILED, NOT_STARTED, NOT_STARTED]
        assert house.order == [0, 1]

    def test_nothing_new_starts_in_other_groups_either(self, house: House, at_once: bool) -> None:
        """What runs ends by itself; the next task of its group does not begin."""
        for function, group in ((fails, "a"), (one, "b"), (one, "b")):
            house.add(function, group)

        house.run(at_once=at_once)

        assert house.statuses[0] is FAILED
        assert house.statuses[1] is (NOT_STARTED if at_once else COMPLETED)
        assert house.statuses[2] is NOT_STARTED

    def test_what_runs_ends_by_itself(self, house: House, at_once: bool) -> None:
        """Parallel tasks that have begun are waited for and keep their values."""
        for function in (fails, one, one):
            house.add(function)

        house.run(TypeExecution.PARALLEL, at_once=at_once)

        assert house.statuses == [FAILED, *([NOT_STARTED] * 2 if at_once else [COMPLETED] * 2)]

    def test_keep_going_goes_on_with_an_empty_context(self, house: House, at_once: bool) -> None:
        """The task after a failed one gets an empty previous_context; the chain goes on from there."""
        for function in (one, fails, plus_one, plus_one):
            house.add(function)

        house.run(keep_going=True, at_once=at_once)

        assert house.statuses == [COMPLETED, FAILED, COMPLETED, COMPLETED]
        assert house.values == [1, None, 1, 2]
        assert house.tasks[2].previous_context.storage is None

    def test_keep_going_in_every_lane(self, house: House, at_once: bool) -> None:
        """A failure in one group stops nothing in any."""
        for function, group in ((fails, "a"), (fails, "b"), (one, "a"), (one, "b")):
            house.add(function, group)

        house.run(keep_going=True, at_once=at_once)

        assert house.statuses == [FAILED, FAILED, COMPLETED, COMPLETED]

    def test_a_value_that_cannot_be_kept_fails_its_task(self, house: House, at_once: bool) -> None:
        """A storage that raises is a failure like any other: it stops the run, or doesn't with keep_going."""

        class Full(StorageDefault):
            def post(self, key: str, context: Context) -> None:
                raise OSError("disk full")

        house.storage = Full()
        house.add(one)
        house.add(one)

        house.run(at_once=at_once)

        assert house.statuses == [FAILED, NOT_STARTED]
        assert house.values == [None, None]
        assert house.tasks[0].errors[0].exception == "StorageError"

    def test_a_lost_lease_stops_the_run_whatever_it_was_told(self, house: House, at_once: bool) -> None:
        """Another process has the workflow: with keep_going too, no other step begins."""

        class Lost(StorageDefault):
            def post(self, key: str, context: Context) -> None:
                if context.task_id == 1:
                    raise LeaseLost("Workflow 'w' lost its lease", "another process took it over")
                super().post(key, context)

        house.storage = Lost()
        for _ in range(3):
            house.add(one)

        house.run(keep_going=True, at_once=at_once)

        assert house.statuses == [COMPLETED, FAILED, NOT_STARTED]
        assert house.tasks[1].errors[0].exception == "LeaseLost"

    def test_an_interrupt_stops_the_run(self, house: House, at_once: bool) -> None:
        """KeyboardInterrupt in a step fails that task, says so, closes the session and goes on to the caller."""
        for function in (one, interrupts, one):
            house.add(function, retry=5)

        with pytest.raises(KeyboardInterrupt):
            house.run(keep_going=True, at_once=at_once)

        assert house.statuses == [COMPLETED, FAILED, NOT_STARTED]
        error = house.tasks[1].errors[0]
        assert error.exception == "KeyboardInterrupt"
        assert "interrupted" in error.message
        assert house.session.closed == 1

    def test_what_came_along_with_an_interrupt_is_kept(self, house: House, at_once: bool) -> None:
        """A task that had finished when Ctrl-C arrived stays finished, and keeps its checkpoint."""

        class Batching(SlowSession):
            def wait(self, timeout: float | None) -> Sequence[CompletedCall]:
                return [answer for _ in range(len(self.queue)) for answer in super(Batching, self).wait(timeout)]

        house.session = Batching(house.fake_time)
        for function in (one, interrupts, one):
            house.add(function)

        with pytest.raises(KeyboardInterrupt):
            house.run(TypeExecution.PARALLEL)

        assert house.statuses == [COMPLETED, FAILED, COMPLETED]
        assert house.storage.contains(house.storage.key(house.tasks[2]))


class TestTimers:
    def test_a_retry_waits_its_delay(self, house: House) -> None:
        """The delay is waited for on the clock, and then the attempt is made again."""
        house.add(fails, retry=3, retry_delay=10)

        house.run(at_once=True)

        assert house.session.waited == [10, 10]
        assert len(house.session.calls) == 3
        assert house.tasks[0].duration == 20

    def test_backoff_doubles_it(self, house: House) -> None:
        """Each delay is twice the one before."""
        house.add(fails, retry=4, retry_delay=1, backoff=True)

        house.run(at_once=True)

        assert house.session.waited == [1, 2, 4]

    def test_no_delay_is_not_waited_for(self, house: House) -> None:
        """With a delay of 0 the next attempt is made at once."""
        house.add(fails, retry=50, retry_delay=0)

        house.run(at_once=True)

        assert house.session.waited == []
        assert house.tasks[0].retry_count == 49

    def test_a_delay_keeps_nobody_waiting(self, house: House) -> None:
        """While one task waits out its delay the others run."""
        house.add(fails, retry=2, retry_delay=60)
        house.add(one)

        house.run(TypeExecution.PARALLEL, keep_going=True)

        assert house.order == [0, 1, 0]
        assert house.tasks[1].finished_at is not None
        assert house.tasks[0].finished_at is not None
        assert house.tasks[1].finished_at < house.tasks[0].finished_at

    def test_the_soonest_comes_first(self, house: House) -> None:
        """Timers ring in the order of their time, not of their tasks."""
        for delay in (30, 10, 20):
            house.add(fails, retry=2, retry_delay=delay)

        house.run(TypeExecution.PARALLEL, keep_going=True)

        assert house.order == [0, 1, 2, 1, 2, 0]

    def test_equal_times_ring_in_their_order(self, house: House) -> None:
        """Two tasks with the same delay are tried again in the order in which they failed."""
        for _ in range(5):
            house.add(fails, retry=2, retry_delay=5)

        house.run(TypeExecution.PARALLEL, keep_going=True)

        assert house.order == [0, 1, 2, 3, 4] * 2

    def test_a_retry_that_succeeds_hands_on(self, house: House) -> None:
        """The value of the attempt that worked goes to the next task."""
        left = [1, 1]

        def third_time() -> int:
            if left:
                left.pop()
                raise ValueError("not yet")
            return 41

        house.add(third_time, retry=3, retry_delay=1)
        house.add(plus_one)

        house.run()

        assert house.values == [41, 42]
        assert len(house.tasks[0].errors) == 2

    def test_after_a_failure_what_is_being_retried_still_ends(self, house: House) -> None:
        """A task in its retry delay was started, so it runs to its end."""
        house.add(fails)
        house.add(fails, retry=2, retry_delay=5)

        house.run(TypeExecution.PARALLEL)

        assert house.statuses == [FAILED, FAILED]
        assert len(house.tasks[1].errors) == 2


class TestRoom:
    """What happens where not all that is ready has a worker."""

    @pytest.fixture(params=[1, 2, 3])
    def house(self, fake_time: FakeTime, request: pytest.FixtureRequest) -> House:
        house = House(fake_time)
        house.session.most = request.param
        return house

    def test_no_more_than_there_is_room_for(self, house: House) -> None:
        """In the order in which they became ready."""
        for _ in range(10):
            house.add(one)

        house.run(TypeExecution.PARALLEL)

        assert house.order == list(range(10))
        assert house.session.most_at_once == house.session.most
        assert house.statuses == [COMPLETED] * 10

    def test_what_waits_after_a_failure_never_begins(self, house: House) -> None:
        """Of 101 tasks, the first of which fails, those run that had begun."""
        house.add(fails)
        for _ in range(100):
            house.add(one)

        house.run(TypeExecution.PARALLEL)

        begun = house.session.most
        assert house.statuses == [FAILED, *[COMPLETED] * (begun - 1), *[NOT_STARTED] * (101 - begun)]
        assert all(task.started_at is task.duration is None for task in house.tasks[begun:])

    def test_a_repeated_attempt_of_a_task_that_began_is_made_even_then(self, house: House) -> None:
        """It was started, so it runs to its end; with one worker it has not begun."""
        house.add(fails, retry=2, retry_delay=0)
        house.add(fails, retry=3, retry_delay=0)
        for _ in range(5):
            house.add(one)

        house.run(TypeExecution.PARALLEL)

        assert len(house.tasks[0].errors) == 2
        assert len(house.tasks[1].errors) == (0 if house.session.most == 1 else 3)
        assert NOT_STARTED in house.statuses

    def test_a_lane_goes_on_before_another_begins(self, house: House) -> None:
        """Its worker has its value."""
        for group in "abcdabcd":
            house.add(plus_one, group)

        house.run()

        expected = {1: [0, 4, 1, 5, 2, 6, 3, 7], 2: [0, 1, 4, 5, 2, 3, 6, 7], 3: [0, 1, 2, 4, 5, 6, 3, 7]}
        assert house.order == expected[house.session.most]

    def test_a_task_that_waits_starts_when_its_attempt_begins(self, house: House) -> None:
        """Time that passes before that is no part of its duration."""
        for _ in range(4):
            house.add(lambda: house.fake_time.move(10))

        house.run(TypeExecution.PARALLEL)

        starts = [task.started_at for task in house.tasks]
        ends = [task.finished_at for task in house.tasks]
        assert all(start == ends[place] for place, start in enumerate(starts[house.session.most :]))

    def test_cancelled_ones_that_wait_stay_as_they_are(self, house: House) -> None:
        """Those that had begun are FAILED."""

        def cancels() -> None:
            assert house.runner is not None
            house.runner.cancel()

        house.add(cancels)
        for _ in range(5):
            house.add(one)

        house.run(TypeExecution.PARALLEL)

        begun = house.session.most
        assert house.statuses == [COMPLETED, *[FAILED] * (begun - 1), *[NOT_STARTED] * (6 - begun)]


class TestRestored:
    def test_is_skipped_and_handed_on(self, house: House) -> None:
        """A task whose value was found does not run; the next one gets that value."""
        house.add(fails)
        house.add(plus_one)

        house.run(restored={0: Context(41, task_id=0)})

        assert house.statuses == [COMPLETED, COMPLETED]
        assert house.values == [41, 42]
        assert house.order == [1]

    @pytest.mark.parametrize("value", [None, 0, "", []])
    def test_empty_values_too(self, house: House, value: object) -> None:
        """None, 0, "" and [] are values like any other."""
        house.add(fails)
        house.add(lambda previous_context: [previous_context.storage])

        house.run(restored={0: Context(value, task_id=0)})

        assert house.values[1] == [value]

    def test_all_of_them(self, house: House) -> None:
        """A finished run that is resumed asks nobody to do anything, however long it is."""
        for _ in range(10_000):
            house.add(fails)

        house.run(restored={place: Context(place, task_id=place) for place in range(10_000)})

        assert house.values == list(range(10_000))
        assert house.order == []

    def test_no_callback_is_repeated(self, house: House) -> None:
        """Callbacks told of it in the run that made it."""
        told: list[Task] = []
        house.add(one)
        house.add(one)
        for task in house.tasks:
            task.callback = lambda task: told.append(task.task_id)

        house.run(restored={0: Context(1, task_id=0)})

        assert told == [1]


class TestCancel:
    def test_from_inside(self, house: House) -> None:
        """A run that is cancelled in the middle ends: what ran is FAILED and says so, the rest NOT_STARTED."""

        def cancels() -> int:
            assert house.runner is not None
            house.runner.cancel(CANCELLED)
            return 1

        house.add(cancels)
        house.add(one)
        house.add(one)

        house.run(TypeExecution.PARALLEL)

        assert house.statuses == [COMPLETED, FAILED, FAILED]
        assert house.tasks[1].errors[0].exception == "RunCancelled"
        assert "cancelled" in house.tasks[1].errors[0].message
        assert house.session.woken
        assert house.session.closed == 1

    def test_in_a_retry_delay(self, house: House) -> None:
        """A task that waits for its next attempt is stopped too."""

        def cancels() -> None:
            assert house.runner is not None
            house.runner.cancel(CANCELLED)
            raise ValueError("no")

        house.add(cancels, retry=2, retry_delay=60)
        house.add(one)

        house.run(at_once=True)

        assert house.statuses == [FAILED, NOT_STARTED]
        assert [error.exception for error in house.tasks[0].errors] == ["ValueError", "RunCancelled"]

    def test_a_crew_that_breaks_fails_what_runs(self, house: House) -> None:
        """An executor's own error ends the run, is told in the tasks that ran, and goes on to the caller."""

        class Broken(SlowSession):
            def wait(self, timeout: float | None) -> Sequence[CompletedCall]:
                raise RuntimeError("the cluster is gone")

        house.session = Broken(house.fake_time)
        house.add(one)
        house.add(one)

        with pytest.raises(RuntimeError, match="the cluster is gone"):
            house.run()

        assert house.statuses == [FAILED, NOT_STARTED]
        assert "the cluster is gone" in house.tasks[0].errors[0].message
        assert house.session.closed == 1


class Guide(Tracer):
    """Gives each attempt its own number to take along."""

    def __init__(self) -> None:
        self.begun: list[str] = []

    def trace(self, run_id: str, event: Event) -> None:
        if isinstance(event, AttemptStarted):
            self.begun.append(f"{event.task_id}.{event.attempt}")

    def carrier(self, run_id: str, task_id: int) -> Carrier:
        return Carrier("module:function", {"attempt": self.begun[-1]})


@pytest.mark.parametrize("at_once", [False, True])
def test_each_attempt_takes_along_what_its_tracer_gave(house: House, at_once: bool) -> None:
    """It is asked after the beginning of every attempt, repeated ones too; the record is that of the same task."""
    house.tracer = Guide()
    house.add(lambda: 1)
    house.add(raising(1), retry=2)

    house.run(at_once=at_once)

    assert [call.carrier and call.carrier.headers["attempt"] for call in house.session.calls] == ["0.1", "1.1", "1.2"]
    assert house.statuses == [COMPLETED, COMPLETED]


def test_without_a_tracer_nothing_is_taken_along(house: House) -> None:
    """The way of most runs."""
    house.add(lambda: 1)

    house.run()

    assert [call.carrier for call in house.session.calls] == [None]


def raising(times: int) -> Callable[[], int]:
    """A step that fails so many times."""
    left = iter(range(times))

    def step() -> int:
        if next(left, None) is not None:
            raise ValueError("not yet")
        return 1

    return step
