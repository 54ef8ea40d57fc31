"""Runner: the one loop, which grants the requests of the tasks' flows, and stops."""

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from dotflow import clock
from dotflow.abc.executor import CompletedCall, ExecutorSession
from dotflow.abc.storage import NOT_SAVED
from dotflow.core.action import Action
from dotflow.core.call import Call
from dotflow.core.context import NOTHING, Context
from dotflow.core.events import TaskFailed, TaskRestored
from dotflow.core.failure import Failure
from dotflow.core.outcome import Interrupted, Outcome
from dotflow.core.task import Task
from dotflow.engine.graph import Graph
from dotflow.engine.lifecycle import TaskFlow, Wait, new, task_flow
from dotflow.engine.publisher import Publisher
from dotflow.engine.ready import Ready, ReadyTasks
from dotflow.engine.stop import CANCELLED, INTERRUPTED, Stop, stop_for
from dotflow.errors import LeaseLost, RunStopped
from dotflow.graph.plan import Plan
from dotflow.graph.verdict import UNFINISHED
from dotflow.worker.deadline_thread import waking


class Runner:
    """Runs a plan.

    Args:
        tasks: The run's records, in order.
        plan: The dependencies and lanes.
        session: Makes the attempts.
        publisher: Publishes the events.
        graph: Decides on tasks with links; None without such tasks.
        keep_going: Whether other tasks continue after a failure.
        restored: The contexts of restored tasks, which don't run, by task id.

    Attributes:
        session: The session that makes the attempts now.
        is_stopping: Whether no further task begins.
        is_cancelled: Whether the run is stopped, with its running tasks.
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
        graph: Graph | None = None,
    ) -> None:
        self._tasks = tasks
        self._lanes = plan.lanes
        self._publisher = publisher
        self._keep_going = keep_going
        self._restored = restored
        self._followers = plan.followers() if graph is None else ()
        self._needs = plan.needs
        self._last = plan.last_of_lanes()
        self._graph = graph
        if graph is not None:
            graph.loop = self
        self._tie_breaker = itertools.count()
        self.is_stopping = False
        self._stop = CANCELLED
        self.is_cancelled = False
        self._use(session)

    def _use(self, session: ExecutorSession) -> None:
        """Sets the session that makes the attempts, with no task in it."""
        self.session = session
        self._submit = self._submit_prepared if self._publisher.follow_session(session) else session.submit
        self._flows: dict[int, TaskFlow] = {}  # by number, of tasks and items that wait for an outcome or a timer
        self._arrivals: deque[tuple[Ready, bool]] = deque()  # newly ready; whether it continues a lane
        self._ready = ReadyTasks()
        self._completed: deque[CompletedCall] = deque()  # that `wait` has returned and that are not handled yet
        self._places: dict[Hashable, float] | None = None  # by pool: how many tasks still begin after a failure
        self._were_ready: set[int] = set()  # those of them that were not in the queue yet
        self._timers: list[tuple[float, int, Ready]] = []

    def cancel(self, stop: Stop = CANCELLED) -> None:
        """Stops the run and its running tasks. May be called from any thread."""
        self._stop = stop
        self.is_cancelled = True
        clock.about_to_wake(self.session.wake)
        self.session.wake()

    def run(self, open_session: Callable[[], ExecutorSession] | None = None) -> None:
        """Runs until all tasks have ended, or no more may start. Raises KeyboardInterrupt after an interrupt.

        Args:
            open_session: Opens another session, for the cleanup after a run that was stopped.
        """
        try:
            self._run_session(self._start_all)
        except KeyboardInterrupt:
            self._clean_up_after(INTERRUPTED, open_session)
            raise
        except BaseException as error:  # an error of dotflow itself: it is the error of the running tasks, too
            self._clean_up_after(stop_for(error), open_session)
            raise
        self._clean_up_after(self._stop, open_session)

    def _run_session(self, begin: Callable[[], None]) -> None:
        """Runs the tasks that *begin* makes ready, and the cleanup after a failure; then closes the session."""
        try:
            with waking(self.session.wake):
                begin()
                self._loop()
                self._places = None  # what cleans up needs none
                while self._graph is not None and not self.is_cancelled and self._graph.begin_cleanup():
                    self._loop()
        finally:
            try:
                self.session.close()
            except BaseException:  # an interrupt before or during close, which may be called again
                self.session.close()
                raise

    def _start_all(self) -> None:
        for task_id, needs in enumerate(self._needs):
            if not needs:
                self.make_ready(task_id, Context())

    def _clean_up_after(self, stop: Stop, open_session: Callable[[], ExecutorSession] | None) -> None:
        """Fails what a stopped run leaves unfinished, and runs the cleanup. A second interrupt or cancel() ends it."""
        self._fail_unfinished(stop)
        if self._graph is None or open_session is None or not self._graph.has_cleanup():
            return
        self.is_cancelled = False
        self.is_stopping = True  # for tasks that come after a cleanup
        self._use(open_session())
        try:
            self._run_session(lambda: None)
        finally:
            self._fail_unfinished(self._stop)

    def _loop(self) -> None:
        self._begin_all()
        while (self._flows or self._ready) and not self.is_cancelled:
            completed = clock.wait(
                self.session.wait,
                self._until_due(),
                self.session.wake,
                in_flight=len(self._flows) - len(self._timers),
            )
            # Outcomes that arrive together with an interrupt are recorded before it ends the run.
            self._completed.extend(sorted(completed, key=_is_interrupt))
            while self._completed:
                call, outcome = self._completed[0]
                self.advance(call.number, self._flows.pop(call.number), outcome)
                self._completed.popleft()
            self._fire_timers()
            self._begin_all()

    def _begin_all(self) -> None:
        """Begins tasks while there is room, until only outcomes and timers are left to wait for."""
        make_room, arrivals = self.session.make_room, self._arrivals
        while not self.is_cancelled:
            if arrivals:
                ready, continues = arrivals.popleft()
                self._begin_or_queue(ready, continues)
            elif (waiting := self._ready.take(make_room)) is not None:
                self._begin(waiting)
            else:
                return

    def _begin_or_queue(self, ready: Ready, continues: bool) -> None:
        """Begins a task that has just become ready, or queues it. A restored task does not run."""
        number, lane, previous, flow, step, begin, _ = ready
        stopping = self.is_stopping
        if flow is None and begin is None:
            if stopping and number not in self._were_ready:
                return
            context = self._restored.get(number)
            if context is not None:
                self._publisher.publish(TaskRestored(number, context, previous))
                self.end(number, context)
                return
            if self._graph is not None and self._tasks[number].links is not None:
                linked = self._graph.enter(number, lane, previous)
                if linked is None:
                    return
                ready, flow = linked, linked.flow
        session, waiting = self.session, self._ready
        pool = session.pool_of(step)
        if stopping:
            if ready.has_begun or self._has_place(pool):
                waiting.add(pool, ready, continues=continues)
        elif (waiting and waiting.must_wait(pool, continues=continues)) or not session.make_room(pool, lane, 1):
            waiting.add(pool, ready, continues=continues)
        elif begin is None:  # as _begin, without the call
            self.advance(number, flow or task_flow(self._tasks[number], lane, previous, number))
        else:
            begin(ready)

    def _begin(self, ready: Ready) -> None:
        number, lane, previous, flow, step, begin, _ = ready
        if self._places is not None and not ready.has_begun:
            self._take_place(step)
        if begin is None:
            self.advance(number, flow or task_flow(self._tasks[number], lane, previous, number))
        else:
            begin(ready)

    def make_ready(self, task_id: int, previous: Context, *, continues: bool = False) -> None:
        """Makes a task ready, whose needs have ended."""
        ready = new(Ready, (task_id, self._lanes[task_id], previous, None, self._tasks[task_id].step, None, 1))
        self._arrivals.append((ready, continues))

    def add_ready(self, ready: Ready) -> None:
        """Adds a task or an item that begins by itself, as soon as there is room."""
        self._arrivals.append((ready, False))

    def stop_new_tasks(self, *, at_once: bool = False) -> None:
        """Begins no further task, but those that are ready and within the limits of the session.

        So it does not depend on the speed of the machine, whose workers may be coming up, which tasks begin.

        Args:
            at_once: Whether these don't begin either.
        """
        if not self.is_stopping:
            self.is_stopping = True
            self._were_ready = {ready.number for ready, _ in self._arrivals}
            self._places = self._count_places()
            if self._graph is not None:
                self._graph.maps.stop()
        if at_once and self._places:
            self._places = {}
        self._ready.drop_new(self._has_place)

    def _count_places(self) -> dict[Hashable, float]:
        """Returns how many tasks of each pool may begin beside those that run or wait for their next attempt."""
        pool_of = self.session.pool_of
        ready = [*self._ready.by_pool(), *((pool_of(ready.step), ready) for ready, _ in self._arrivals)]
        places = {self._limit_of(pool): self.session.room_left(pool) for pool, _ in ready}
        taken = [pool for pool, task in ready if task.has_begun]
        taken += [pool_of(call.step) for call, _ in self._completed]  # the failed one, and those that ended after it
        for limit in map(self._limit_of, taken):
            if limit in places:
                places[limit] -= 1
        return places

    def _limit_of(self, pool: Hashable) -> Hashable:
        return None if self.session.pools_share_room else pool

    def _has_place(self, pool: Hashable) -> bool:
        return self._places is None or self._places.get(self._limit_of(pool), 0) > 0

    def _take_place(self, step: Action[..., Any]) -> None:
        """Gives one of the places that are left to a task that begins. Without a place no other one begins."""
        assert self._places is not None
        self._places[self._limit_of(self.session.pool_of(step))] -= 1
        self._ready.drop_new(self._has_place)

    def advance(self, number: int, flow: TaskFlow, outcome: Outcome | None = None) -> None:
        """Grants the requests of a flow, until it waits for an outcome or a timer."""
        publish, submit = self._publisher.publish, self._submit
        try:
            request: Any = flow.send(outcome)  # Any: on the hot path, comparing classes is fastest
            while True:
                outcome = None
                kind = request.__class__
                if kind is Call:
                    outcome = submit(request)
                    if outcome is None:
                        self._flows[number] = flow
                        return
                elif kind is Wait:
                    self._set_timer(number, flow, request)
                    return
                else:
                    try:
                        publish(request)
                    except NOT_SAVED as error:
                        if isinstance(error, LeaseLost):  # even with keep_going: another process runs the workflow
                            self.stop_new_tasks(at_once=True)
                        request = flow.throw(error)
                        continue
                request = flow.send(outcome)
        except StopIteration as end:
            self.end(number, end.value)

    def _submit_prepared(self, call: Call) -> Outcome | None:
        number = call.number
        task = self._tasks[number] if number < len(self._tasks) else self._graph.maps.in_flight(number)[0]  # type: ignore[union-attr]
        call = self._publisher.prepare(call, task)
        return None if self.is_cancelled else self.session.submit(call)  # a listener may have cancelled the run

    def end(self, number: int, context: Context | None) -> None:
        """Makes the tasks ready that waited for an ended task or item."""
        if self._graph is not None:
            self._graph.end(number, context)
            return
        lane = self._lanes[number]
        if self._last[lane] == number:
            self.session.leave(lane)
        if context is None and not self._keep_going:
            self.stop_new_tasks()
        for follower in self._followers[number]:  # of a chain: it needs no other task
            previous = Context() if context is None else context
            ready = new(Ready, (follower, lane, previous, None, self._tasks[follower].step, None, 1))
            self._arrivals.append((ready, True))

    def _set_timer(self, number: int, flow: TaskFlow, wait: Wait) -> None:
        lane = self._lanes[number] if number < len(self._lanes) else self._graph.maps.in_flight(number)[1]  # type: ignore[union-attr]
        ready = Ready(number, lane, NOTHING, flow, wait.step)
        if not wait.seconds:
            self._arrivals.append((ready, True))
            return
        heapq.heappush(self._timers, (clock.monotonic() + wait.seconds, next(self._tie_breaker), ready))
        self._flows[number] = flow

    def _until_due(self) -> float | None:
        """Returns the seconds until the next timer, or until the history has to be asked again."""
        settled = self._publisher.settle(begins=False)
        timer = max(0.0, self._timers[0][0] - clock.monotonic()) if self._timers else None
        return timer if settled is None else settled if timer is None else min(timer, settled)

    def _fire_timers(self) -> None:
        if not self._timers:
            return
        now = clock.monotonic()
        while self._timers and self._timers[0][0] <= now:
            _, _, ready = heapq.heappop(self._timers)
            del self._flows[ready.number]
            self._arrivals.append((ready, True))

    def _fail_unfinished(self, stop: Stop) -> None:
        if self._graph is not None:
            self._graph.maps.fail_unfinished(stop.exception, stop.reason)
        for task in self._tasks:
            if task.status in UNFINISHED:
                failure = Failure(stop.exception, str(RunStopped(task.name, stop.reason)))
                self._publisher.publish(TaskFailed(task.task_id, task.attempt, failure, clock.now(), clock.monotonic()))


def _is_interrupt(completed: CompletedCall) -> bool:
    return isinstance(completed[1], Interrupted)
