"""Runner: the one loop, which grants the requests of the tasks' flows, and stops."""

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
    """The reason of a stop, for the errors of the tasks that were running."""

    exception: str
    reason: str


CANCELLED: Final = Stop("RunCancelled", "the run was cancelled")
INTERRUPTED: Final = Stop("KeyboardInterrupt", "the run was interrupted")


class Runner:
    """Runs a plan.

    Args:
        tasks: The run's records, in order.
        plan: The dependencies and lanes.
        session: Makes the attempts.
        publisher: Publishes the events.
        keep_going: Whether other tasks continue after a failure.
        restored: The contexts of restored tasks, which don't run, by task id.
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
        self._unmet = [len(needs) for needs in plan.needs]
        self._last = plan.last_of_lanes()
        self._flows: dict[int, TaskFlow] = {}  # of tasks that wait for an outcome or a timer
        self._previous: dict[int, Context] = {}  # of tasks that still wait for others
        self._arrivals: deque[tuple[Ready, bool]] = deque()  # newly ready; whether it continues a lane
        self._ready = ReadyTasks()
        self._timers: list[tuple[float, int, int]] = []
        self._tie_breaker = itertools.count()
        self._stopping = False
        self._cancelled = threading.Event()
        self._stop = CANCELLED

    def cancel(self, stop: Stop = CANCELLED) -> None:
        """Stops the run and its running tasks. May be called from any thread."""
        self._stop = stop
        self._cancelled.set()
        clock.about_to_wake(self._session.wake)
        self._session.wake()

    def run(self) -> None:
        """Runs until all tasks have ended, or no more may start. Raises KeyboardInterrupt after an interrupt."""
        try:
            try:
                with waking(self._session.wake):
                    self._loop()
            finally:
                try:
                    self._session.close()
                except BaseException:  # an interrupt before or during close, which may be called again
                    self._session.close()
                    raise
        except KeyboardInterrupt:
            self._fail_unfinished(INTERRUPTED)
            raise
        except BaseException as error:  # an error of dotflow itself: it is the error of the running tasks, too
            reason = f"the run was ended by {type(error).__name__}: {error}".rstrip(".")
            self._fail_unfinished(Stop(type(error).__name__, reason))
            raise
        self._fail_unfinished(self._stop)

    def _loop(self) -> None:
        for task_id, count in enumerate(self._unmet):
            if not count:
                self._arrivals.append((Ready(task_id, self._lanes[task_id], Context(), None), False))
        self._begin_all()
        while (self._flows or self._ready) and not self._cancelled.is_set():
            completed = clock.wait(
                self._session.wait,
                self._until_timer(),
                self._session.wake,
                in_flight=len(self._flows) - len(self._timers),
            )
            # Outcomes that arrive together with an interrupt are recorded before it ends the run.
            for call, outcome in sorted(completed, key=_is_interrupt):
                self._advance(call.task_id, self._flows.pop(call.task_id), outcome)
            self._fire_timers()
            self._begin_all()

    def _begin_all(self) -> None:
        """Begins tasks while there is room, until only outcomes and timers are left to wait for."""
        make_room, arrivals, is_cancelled = self._session.make_room, self._arrivals, self._cancelled.is_set
        while not is_cancelled():
            if arrivals:
                self._begin_or_queue(*arrivals.popleft())
            elif (ready := self._ready.take(make_room)) is not None:
                self._begin(ready)
            else:
                return

    def _begin_or_queue(self, ready: Ready, continues: bool) -> None:
        """Begins a task that has just become ready, or queues it. A restored task does not run."""
        task_id, lane, previous, flow = ready
        if flow is None:
            if self._stopping:
                return
            context = self._restored.get(task_id)
            if context is not None:
                self._publisher.publish(TaskRestored(task_id, context, previous))
                self._end(task_id, context)
                return
        session, waiting = self._session, self._ready
        pool = session.pool_of(self._tasks[task_id].step)
        if (waiting and waiting.must_wait(pool, continues=continues)) or not session.make_room(pool, lane, 1):
            waiting.add(pool, ready, continues=continues)
        else:
            self._begin(ready)

    def _begin(self, ready: Ready) -> None:
        task_id, lane, previous, flow = ready
        self._advance(task_id, flow or task_flow(self._tasks[task_id], lane, previous), None)

    def _stop_new_tasks(self) -> None:
        """Begins no further task. Those that have begun continue."""
        self._stopping = True
        self._ready.drop_new()

    def _advance(self, task_id: int, flow: TaskFlow, outcome: Outcome | None) -> None:
        """Grants the requests of the task's flow, until it waits for an outcome or a timer."""
        publish, submit = self._publisher.publish, self._submit
        try:
            request: Any = flow.send(outcome)  # Any: on the hot path, comparing classes is fastest
            while True:
                outcome = None
                kind = request.__class__
                if kind is Call:
                    outcome = submit(request)
                    if outcome is None:
                        self._flows[task_id] = flow
                        return
                elif kind is Wait:
                    self._set_timer(task_id, flow, request.seconds)
                    return
                else:
                    try:
                        publish(request)
                    except NOT_SAVED as error:
                        if isinstance(error, LeaseLost):  # even with keep_going: another process runs the workflow
                            self._stop_new_tasks()
                        request = flow.throw(error)
                        continue
                request = flow.send(outcome)
        except StopIteration as end:
            self._end(task_id, end.value)

    def _submit_with_carrier(self, call: Call) -> Outcome | None:
        return self._session.submit(call._replace(carrier=self._publisher.carrier(call.task_id)))

    def _end(self, task_id: int, context: Context | None) -> None:
        """Makes the tasks ready that waited for an ended task."""
        lane = self._lanes[task_id]
        if self._last[lane] == task_id:
            self._session.leave(lane)
        if context is None and not self._keep_going:
            self._stop_new_tasks()
        for follower in self._followers[task_id]:
            previous = Context() if context is None else context
            needs = self._needs[follower]
            if len(needs) > 1:
                if needs[-1] == task_id:
                    self._previous[follower] = previous
                self._unmet[follower] -= 1
                if self._unmet[follower]:
                    continue
                previous = self._previous.pop(follower)
            follower_lane = self._lanes[follower]
            self._arrivals.append((new(Ready, (follower, follower_lane, previous, None)), follower_lane == lane))

    def _set_timer(self, task_id: int, flow: TaskFlow, seconds: float) -> None:
        if not seconds:
            self._resume(task_id, flow)
            return
        heapq.heappush(self._timers, (clock.monotonic() + seconds, next(self._tie_breaker), task_id))
        self._flows[task_id] = flow

    def _resume(self, task_id: int, flow: TaskFlow) -> None:
        """Makes the task ready for its next attempt."""
        ready = new(Ready, (task_id, self._lanes[task_id], self._tasks[task_id].previous_context, flow))
        self._arrivals.append((ready, True))

    def _until_timer(self) -> float | None:
        return max(0.0, self._timers[0][0] - clock.monotonic()) if self._timers else None

    def _fire_timers(self) -> None:
        if not self._timers:
            return
        now = clock.monotonic()
        while self._timers and self._timers[0][0] <= now:
            _, _, task_id = heapq.heappop(self._timers)
            self._resume(task_id, self._flows.pop(task_id))

    def _fail_unfinished(self, stop: Stop) -> None:
        for task in self._tasks:
            if task.status in UNFINISHED:
                failure = Failure(stop.exception, str(RunStopped(task.name, stop.reason)))
                self._publisher.publish(TaskFailed(task.task_id, task.attempt, failure, clock.now(), clock.monotonic()))


def _is_interrupt(completed: CompletedCall) -> bool:
    return isinstance(completed[1], Interrupted)
