"""Runner: the one loop. It grants what the tasks' flows ask for, and stops."""

import heapq
import itertools
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from dotflow import clock
from dotflow.abc.executor import CompletedCall, ExecutorSession
from dotflow.core.call import Call
from dotflow.core.context import Context
from dotflow.core.events import TaskFailed, TaskRestored
from dotflow.core.failure import Failure
from dotflow.core.outcome import Interrupted, Outcome
from dotflow.core.task import Task
from dotflow.core.types.status import TypeStatus
from dotflow.engine.lifecycle import NOT_SAVED, TaskFlow, Wait, new, task_flow
from dotflow.engine.plan import Plan
from dotflow.engine.publisher import Publisher
from dotflow.engine.ready import Ready, ReadyTasks
from dotflow.errors import LeaseLost, RunStopped
from dotflow.worker.deadline_thread import waking

UNFINISHED = (TypeStatus.IN_PROGRESS, TypeStatus.RETRY)


class Stop(NamedTuple):
    """Why a run is stopped in the middle: what the tasks that were running say of it."""

    exception: str
    reason: str


CANCELLED: Final = Stop("RunCancelled", "the run was cancelled")
INTERRUPTED: Final = Stop("KeyboardInterrupt", "the run was interrupted")


class Runner:
    """Runs a plan.

    Args:
        tasks: The run's records, in order.
        plan: What waits for what.
        session: Who makes the attempts.
        publisher: Who hears of what happens.
        keep_going: Whether the others go on after a failure.
        restored: The contexts of tasks that need not run, by task id.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        plan: Plan,
        session: ExecutorSession,
        publisher: Publisher,
        *,
        keep_going: bool,
        restored: Mapping[int, Context],
    ) -> None:
        self._tasks = tasks
        self._lanes, self._needs = plan.lanes, plan.needs
        self._session = session
        self._publisher = publisher
        self._submit = self._submit_with_carrier if publisher.has_carriers else session.submit
        self._keep_going = keep_going
        self._restored = restored
        self._followers = plan.followers()
        self._missing = [len(needs) for needs in plan.needs]
        self._last = plan.last_of_lanes()
        self._flows: dict[int, TaskFlow] = {}  # of tasks that wait for an answer or for their time
        self._previous: dict[int, Context] = {}  # for tasks that wait for others still
        self._arrivals: deque[tuple[Ready, bool]] = deque()  # what has become ready; whether it continues a lane
        self._ready = ReadyTasks()
        self._timers: list[tuple[float, int, int]] = []
        self._ties = itertools.count()
        self._stopping = False
        self._cancelled = threading.Event()
        self._stop = CANCELLED

    def cancel(self, stop: Stop = CANCELLED) -> None:
        """Stops the run in the middle of what it is doing. May be called from any thread."""
        self._stop = stop
        self._cancelled.set()
        clock.about_to_wake(self._session.wake)
        self._session.wake()

    def run(self) -> None:
        """Runs until all is done, or nothing more may start. Raises KeyboardInterrupt after an interrupted run."""
        try:
            try:
                with waking(self._session.wake):
                    self._loop()
            finally:
                try:
                    self._session.close()
                except BaseException:  # an interrupt on its way in or in its middle: it may be called again
                    self._session.close()
                    raise
        except KeyboardInterrupt:
            self._fail_unfinished(INTERRUPTED)
            raise
        except BaseException as error:  # a run that ends by an error of ours says so in its tasks too
            reason = f"the run was ended by {type(error).__name__}: {error}".rstrip(".")
            self._fail_unfinished(Stop(type(error).__name__, reason))
            raise
        self._fail_unfinished(self._stop)

    def _loop(self) -> None:
        for place, missing in enumerate(self._missing):
            if not missing:
                self._arrivals.append((Ready(place, self._lanes[place], Context(), None), False))
        self._begin_all()
        while (self._flows or self._ready) and not self._cancelled.is_set():
            answers = clock.wait(
                self._session.wait,
                self._until_timer(),
                self._session.wake,
                in_flight=len(self._flows) - len(self._timers),
            )
            # What has ended is recorded before an interrupt that came along with it ends the run.
            for call, outcome in sorted(answers, key=_is_interrupt):
                self._advance(call.task_id, self._flows.pop(call.task_id), outcome)
            self._ring_timers()
            self._begin_all()

    def _begin_all(self) -> None:
        """Begins what there is room for, until there is nothing but answers and timers to wait for."""
        make_room, arrivals, is_cancelled = self._session.make_room, self._arrivals, self._cancelled.is_set
        while not is_cancelled():
            if arrivals:
                self._take_in(*arrivals.popleft())
            elif (task := self._ready.take(make_room)) is not None:
                self._begin(task)
            else:
                return

    def _take_in(self, ready: Ready, continues: bool) -> None:
        """Begins a task that has just become ready, or lets it wait; what was restored need not run."""
        place, lane, previous, flow = ready
        if flow is None:
            if self._stopping:
                return
            context = self._restored.get(place)
            if context is not None:
                self._publisher.publish(TaskRestored(place, context, previous))
                self._end(place, context)
                return
        session, waiting = self._session, self._ready
        pool = session.pool_of(self._tasks[place].step)
        if (waiting and waiting.must_wait(pool, continues=continues)) or not session.make_room(pool, lane, 1):
            waiting.add(pool, ready, continues=continues)
        else:  # as _begin, without the call
            self._advance(place, flow or task_flow(self._tasks[place], lane, previous), None)

    def _begin(self, ready: Ready) -> None:
        place, lane, previous, flow = ready
        self._advance(place, flow or task_flow(self._tasks[place], lane, previous), None)

    def _stop_beginning(self) -> None:
        """Lets only those go on that have begun."""
        self._stopping = True
        self._ready.drop_new()

    def _advance(self, place: int, flow: TaskFlow, answer: Outcome | None) -> None:
        """Grants what the task's flow asks for, until it waits for an answer or for its time."""
        publish, submit = self._publisher.publish, self._submit
        try:
            request: Any = flow.send(answer)  # Any, since this is the hot path, and comparing classes is fastest
            while True:
                answer = None
                kind = request.__class__
                if kind is Call:
                    answer = submit(request)
                    if answer is None:
                        self._flows[place] = flow
                        return
                elif kind is Wait:
                    self._let_wait(place, flow, request.seconds)
                    return
                else:
                    try:
                        publish(request)
                    except NOT_SAVED as error:
                        if isinstance(error, LeaseLost):  # whatever keep_going says: another process is at this work
                            self._stop_beginning()
                        request = flow.throw(error)
                        continue
                request = flow.send(answer)
        except StopIteration as end:
            self._end(place, end.value)

    def _submit_with_carrier(self, call: Call) -> Outcome | None:
        return self._session.submit(call._replace(carrier=self._publisher.carrier(call.task_id)))

    def _end(self, place: int, context: Context | None) -> None:
        """A task has ended; those that waited for it may start."""
        lane = self._lanes[place]
        if self._last[lane] == place:
            self._session.leave(lane)
        if context is None and not self._keep_going:
            self._stop_beginning()
        for follower in self._followers[place]:
            previous = Context() if context is None else context
            needs = self._needs[follower]
            if len(needs) > 1:
                if needs[-1] == place:
                    self._previous[follower] = previous
                self._missing[follower] -= 1
                if self._missing[follower]:
                    continue
                previous = self._previous.pop(follower)
            its_lane = self._lanes[follower]
            self._arrivals.append((new(Ready, (follower, its_lane, previous, None)), its_lane == lane))

    def _let_wait(self, place: int, flow: TaskFlow, seconds: float) -> None:
        if not seconds:
            self._go_on(place, flow)
            return
        heapq.heappush(self._timers, (clock.monotonic() + seconds, next(self._ties), place))
        self._flows[place] = flow

    def _go_on(self, place: int, flow: TaskFlow) -> None:
        """The task's time has come: it makes its next attempt as soon as there is room."""
        ready = new(Ready, (place, self._lanes[place], self._tasks[place].previous_context, flow))
        self._arrivals.append((ready, True))

    def _until_timer(self) -> float | None:
        return max(0.0, self._timers[0][0] - clock.monotonic()) if self._timers else None

    def _ring_timers(self) -> None:
        if not self._timers:
            return
        now = clock.monotonic()
        while self._timers and self._timers[0][0] <= now:
            _, _, place = heapq.heappop(self._timers)
            self._go_on(place, self._flows.pop(place))

    def _fail_unfinished(self, stop: Stop) -> None:
        for task in self._tasks:
            if task.status in UNFINISHED:
                failure = Failure(stop.exception, str(RunStopped(task.name, stop.reason)))
                self._publisher.publish(TaskFailed(task.task_id, task.attempt, failure, clock.now(), clock.monotonic()))


def _is_interrupt(answer: CompletedCall) -> bool:
    return isinstance(answer[1], Interrupted)
