"""Runner: the one loop, which carries out the graph's decisions, makes the attempts of the tasks, and stops."""

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final

from dotflow import clock
from dotflow.abc.executor import ArrivedCall, ExecutorSession
from dotflow.abc.storage import NOT_SAVED
from dotflow.core.action import AnyAction
from dotflow.core.call import Call
from dotflow.core.context import Context, Origin
from dotflow.core.durations import format_duration
from dotflow.core.events import AttemptFailed, AttemptRepeated, AttemptWaits, TaskFailed, TaskPaused, TaskSkipped
from dotflow.core.failure import Failure
from dotflow.core.faults import ACTIVE, next_failure, node_of
from dotflow.core.limit_rules import MAX_THROTTLES, delay_of
from dotflow.core.outcome import (
    Interrupted,
    NotBegun,
    Parked,
    Raised,
    Returned,
    Running,
    Timed,
    TimedOut,
    TypePark,
    Usage,
)
from dotflow.core.task import Task
from dotflow.engine.lifecycle import Poll, by_fallback, checked, first_call, new, next_attempt
from dotflow.engine.node_inputs import WAITS, Ended, Refused, StopNew
from dotflow.engine.publisher import Publisher
from dotflow.engine.ready import Ready, ReadyTasks
from dotflow.engine.run_graph import Decision, Leave, RunGraph
from dotflow.engine.stop import CANCELLED, FAILED, Stop, stop_for
from dotflow.errors import HistoryError, LeaseLost, RunStopped, Throttled
from dotflow.worker.attempt import NO_LIMIT, outcome_of
from dotflow.worker.deadline_thread import waking
from dotflow.worker.files import ReadingEnded, reading_until

if TYPE_CHECKING:
    from dotflow.core.approval import Question
    from dotflow.engine.call_events import CallEvents
    from dotflow.engine.call_limits import CallLimits
    from dotflow.engine.limiting import Limiting

WAITS_FOR_WORKER: Final = "waits for a worker"  # of a call that was given back
ASK_INTERVAL: Final = 1.0  # seconds between two looks for answers, while other tasks run


class Runner:
    """Runs the tasks of a graph.

    Args:
        graph: Decides which tasks begin.
        session: Makes the attempts.
        publisher: Publishes the events.
        deadline: The moment of `clock.monotonic` at which the run's time is up. A cleanup after a stop has no limit.
        out_of_time: Cancels the run, called once at the deadline, in the run's thread.
        limiting: Lets attempts wait for the limits of their steps; None where no step has one.
        call_limits: Asks for what calls of durable steps need of theirs; None without durable steps.

    Attributes:
        session: The session that makes the attempts now.
        is_halted: Whether the loop has to end: the run is stopped, with its running tasks, or pauses.
        is_stopped: Whether the run was stopped, and only cleanups are left.
    """

    _calls: "CallEvents | None"

    def __init__(
        self,
        graph: RunGraph,
        session: ExecutorSession,
        publisher: Publisher,
        deadline: float = math.inf,
        out_of_time: Callable[[], object] = int,
        limiting: "Limiting | None" = None,
        call_limits: "CallLimits | None" = None,
    ) -> None:
        self._graph = graph
        self._outputs = graph.inputs.outputs
        self._deadline = deadline
        self._out_of_time = out_of_time
        self._publisher = publisher
        self._publish = publisher.publish
        self._tie_breaker = itertools.count()
        self._stop = CANCELLED
        self._is_pausing = False
        self._has_failed = False  # so that a task has stopped the run
        self._refused: dict[int, int] = {}  # by task without a limit: how often a service has refused it
        self._ask_at = 0.0  # when answers are looked for next
        self.is_halted = False
        self.is_stopped = False
        self._has_durable = graph.inputs.checkpoints.has_durable  # else no look at each call
        self._calls = None
        if self._has_durable:
            from dotflow.engine.call_events import CallEvents  # here: few runs have durable steps

            assert call_limits is not None, "there are durable steps"
            asks, wake = (graph.inputs.approvals, call_limits, self._looks_pausing), lambda: self.session.wake()
            self._calls = CallEvents(publisher, graph.inputs.masks, *asks, wake)
            graph.inputs.checkpoints.follower = self._calls
        self._limiting = limiting
        self._thread = get_ident()
        self._use(session)

    def _use(self, session: ExecutorSession) -> None:
        """Sets the session that makes the attempts, with no task in it."""
        self.session = session
        self._prepare = self._publisher.prepare if self._publisher.follow_session(session) else None
        self._arrivals: deque[Ready] = deque()  # newly ready
        self._waiting = ReadyTasks()  # for room
        self._in_flight: dict[int, tuple[Ready, Call]] = {}  # by number, those that wait for an outcome
        self._completed: deque[ArrivedCall] = deque()  # that `wait` has returned and that are not handled yet
        self._places: dict[Hashable, float] | None = None  # by pool: how many tasks still begin after a failure
        self._timers: list[tuple[float, int, Ready]] = []
        self._polls: dict[int, Poll] = {}  # by number, the attempts that wait, or may have to
        self._given_back: set[int] = set()  # the numbers of calls that were submitted and have not begun

    def cancel(self, stop: Stop = CANCELLED) -> None:
        """Stops the run and its running tasks. May be called from any thread."""
        self._stop = stop
        self._is_pausing = False
        self._halt()

    def _looks_pausing(self) -> bool:
        """Returns whether the run pauses. In its thread, whose loop waits for the step, it looks for orders before."""
        if self._publisher.look is not None and get_ident() == self._thread:
            self._publisher.look()
        return self._is_pausing

    def pause(self, stop: Stop) -> None:
        """Lets the running tasks end, and begins no other one but cleanups. May be called from any thread."""
        if self.is_stopped:  # only cleanups run
            return
        self._stop = stop
        self._is_pausing = True
        self._halt()

    def _halt(self) -> None:
        self.is_halted = True
        clock.about_to_wake(self.session.wake)
        self.session.wake()

    def run(self, open_session: Callable[[], ExecutorSession]) -> bool:
        """Runs until all tasks have ended, or no more may start. Raises KeyboardInterrupt after an interrupt.

        Args:
            open_session: Opens another session, for the cleanup after a run that was stopped.

        Returns:
            Whether tasks are left because of a pause, or wait for an approval. A failure that stops the run outweighs
            it.
        """
        try:
            with reading_until(self._must_end):
                self._run_session(self._graph.start)
        except BaseException as error:  # an error of dotflow itself is the error of the running tasks, too
            if not (isinstance(error, ReadingEnded) and self.is_halted):
                self._clean_up_after(stop_for(error), open_session)
                raise
        if self.is_halted and not self._is_pausing:
            self._clean_up_after(self._stop, open_session)
        is_paused = self._is_pausing or (self._graph.asked and not self.is_halted and self._graph.only_waits)
        return bool(is_paused) and not self._has_failed and self._graph.has_left

    def _run_session(self, begin: Callable[[], list[Decision]]) -> None:
        """Carries out decisions, and what follows from them, and the cleanup after a failure; closes the session."""
        try:
            with waking(self.session.wake):
                self._carry_out(begin())
                self._loop()
                while self._graph.asked and not self.is_halted and self._take_answers():
                    self._loop()
                if self._graph.asked and not self.is_halted:
                    for event in self._graph.waiting():
                        self._publish(event)
                self._places = None  # what cleans up needs none
                while not self.is_halted or self._is_pausing:
                    for decision in self._graph.clean_up():
                        self._carry_out([decision])
                    if not self._arrivals:
                        break
                    self._loop()
        finally:
            try:
                self._publisher.leave_session()
                self.session.close()
            except BaseException:  # an interrupt before or during close, which may be called again
                self.session.close()
                raise
            finally:
                if self._in_flight:
                    self._keep_returned()
                if self._limiting is not None:
                    self._limiting.close()
                if self._calls is not None:
                    self._calls.close()

    def _keep_returned(self) -> None:
        """Saves what steps had returned when the run was stopped, though their files were still being read."""
        for call, arrived in (*self._completed, *self.session.last_outcomes()):
            outcome = arrived.outcome if isinstance(arrived, Timed) else arrived
            returned = outcome.returned if isinstance(outcome, Interrupted) else outcome
            if isinstance(returned, Returned) and call.number in self._in_flight:
                self._go_on(*self._in_flight.pop(call.number), returned)

    def _clean_up_after(self, stop: Stop, open_session: Callable[[], ExecutorSession]) -> None:
        """Fails what a stopped run leaves unfinished, and runs the cleanup. A second interrupt or cancel() ends it."""
        self.is_stopped = True
        self._deadline = math.inf
        self._stop, self._is_pausing = stop, False  # an interrupt comes without cancel(), and may follow a pause
        self._fail_unfinished(stop)
        if not self._graph.has_cleanups:
            return
        self.is_halted = False
        self._graph.stop()  # for tasks that come after a cleanup
        self._use(open_session())
        try:
            self._run_session(list)
        finally:
            self._fail_unfinished(self._stop, is_over=True)

    def _fail_unfinished(self, stop: Stop, *, is_over: bool = False) -> None:
        if self._calls is not None:
            for ready, call in self._in_flight.values():
                if call.port is not None:
                    self._graph.inputs.checkpoints.end_calls(ready.task)
            self._calls.collect(is_due=True)
        for event in self._graph.unfinished(stop, is_over=is_over):
            self._publish(event)
        self._publisher.flush()

    def _hold(self) -> None:
        """Pauses: lets the running attempts end, and keeps nothing else but cleanups that have begun."""
        self.is_halted = False
        if not self._is_pausing:  # cancel() was quicker
            self.is_halted = True
        self._graph.hold()
        while self._in_flight and not self.is_halted and not self._is_late():
            self._wait()
        if self.is_halted:
            return
        ready = [*self._arrivals, *(task for _, task in self._waiting.by_pool()), *self._take_limited()]
        self._arrivals = deque(task for task in ready if task.call is not None and self._graph.is_cleanup(task.task))
        self._waiting = ReadyTasks()
        self._timers = sorted(timer for timer in self._timers if self._graph.is_cleanup(timer[2].task))
        for event in self._graph.paused(self._stop, has_failed=self._has_failed):
            self._publish(event)

    def _carry_out(self, decisions: list[Decision]) -> None:
        """Carries out decisions, and what follows from them."""
        decision: Any  # on the hot path, comparing classes is fastest
        for decision in decisions:  # the list grows meanwhile
            kind = decision.__class__
            if kind is Ready:
                self._arrivals.append(decision)
            elif kind is Ended:
                if decision.event is not None:
                    self._publish(decision.event)
                if self._graph.inputs.checkpoints.outdated and decision.event.__class__ is TaskSkipped:
                    self._graph.inputs.checkpoints.drop_skipped(decision.task)
                decisions += self._graph.end(decision.task, decision.context)
            elif kind is Leave:
                self.session.leave(decision.lane)
            elif kind is StopNew:
                self._stop_new(at_once=decision.at_once)
            elif kind is Refused:
                self._refuse(*decision)
            else:
                self._publish(decision)

    def _loop(self) -> None:
        """Makes attempts while there is room, and waits for outcomes and timers, until there is nothing to wait for."""
        graph, arrivals, waiting = self._graph, self._arrivals, self._waiting
        pool_of, make_room, submit = self.session.pool_of, self.session.make_room, self.session.submit
        has_pools = type(self.session).pool_of is not ExecutorSession.pool_of  # else no call for each task
        begin, prepare, flush, polls = self._publisher.begin, self._prepare, self._publisher.flush, self._polls
        checkpoints, watch = graph.inputs.checkpoints, graph.inputs.checkpoints.watch
        given_back = self._given_back
        outdated = checkpoints.outdated
        is_limited, look = self._deadline < math.inf, self._publisher.look
        has_durable, limiting = self._has_durable, self._limiting
        while True:
            if look is not None:
                look()
            if self.is_halted or (is_limited and self._is_late()):
                if not (self.is_halted and self._is_pausing):
                    return
                self._hold()
                arrivals, waiting = self._arrivals, self._waiting
                continue
            ready: Any  # as in _carry_out
            if arrivals:
                ready = arrivals.popleft()
                if ready.inputs is None:
                    ready = graph.enter(ready)
                    if ready.__class__ is list:
                        self._carry_out(ready)
                        continue
                pool = pool_of(ready.step) if has_pools else None
                if graph.is_stopping:
                    if ready.call is not None or self._has_place(pool):
                        waiting.add(pool, ready)
                    continue
                if (
                    (arrivals and arrivals[0].inputs is not None)  # together, so that the session knows how many wait
                    or (waiting.queues and waiting.must_wait(pool, continues=ready.continues))
                    or not make_room(pool, ready.lane, 1)
                ):
                    waiting.add(pool, ready)
                    continue
            elif (ready := waiting.take(make_room)) is not None:
                if self._places is not None and ready.call is None:
                    self._take_place(ready.step)
            elif waiting.queues or self._in_flight or self._timers or (limiting is not None and limiting.is_waiting):
                self._wait()
                continue
            else:
                return
            number, lane, task, previous, step, _, inputs, call, _ = ready  # at once: by name takes longer
            if limiting is not None and step.is_limited and self._must_wait(ready):
                continue
            if outdated and call is None and not self._drop(task):
                continue
            if call is None:
                call = first_call(number, lane, task, previous, step, inputs, watch)
            files = checkpoints.files
            if files is not None and files.has_paths:
                call = files.given_to(call, task)
            is_begun = number in polls or number in given_back
            if is_begun:
                given_back.discard(number)
                flush()  # others may have begun or ended since
            else:
                begin(task, call.previous_context, call, 0.0 if limiting is None else limiting.waited(number))
                if step.policy.poll is not None:
                    polls[number] = Poll(clock.monotonic())
            if has_durable and step.durable:
                call = checkpoints.with_calls(call, task)
            request = call if prepare is None else prepare(call, task, is_begun)
            if limiting is not None and step.is_limited:
                request = limiting.prepared(request, task)
            if self.is_halted and not self._is_pausing:  # a listener has cancelled the run
                outcome: Any = None
            elif ACTIVE and not is_begun and (error := next_failure(step.identity, node_of(task))) is not None:
                outcome = outcome_of(error, step, NO_LIMIT, [])
            else:
                outcome = submit(request)
            if outcome is None:
                self._in_flight[number] = ready, call
            else:
                self._go_on(ready, call, outcome)

    def _drop(self, task: Task) -> bool:
        """Deletes what an earlier run has left of a task that begins. Returns False if it fails by that."""
        try:
            self._graph.inputs.checkpoints.drop(task)
        except NOT_SAVED as error:
            if isinstance(error, LeaseLost):  # even with keep_going: another process runs the workflow
                self._stop_new(at_once=True)
            self._fail(task, Failure.of(error), None)
            return False
        return True

    def _go_on(self, ready: Ready, call: Call, outcome: Any, ended: float | None = None) -> None:
        """Ends a task after an attempt, or makes it ready for its next one.

        Args:
            ready: The task, as it was ready for the attempt.
            call: The call of the attempt.
            outcome: Its outcome.
            ended: The time of its end on the monotonic clock; None for now.
        """
        task = ready.task
        is_durable = self._has_durable and call.port is not None
        if is_durable:
            self._graph.inputs.checkpoints.end_calls(task, is_over=outcome.__class__ is not Parked)
            if self._calls is not None:
                self._calls.collect(is_due=True)
        if self._limiting is not None:
            usage = None if isinstance(outcome, Interrupted) else outcome.usage
            self._limiting.end(ready, usage and usage.used, has_passed=outcome.__class__ is Returned)
        poll = self._polls.pop(ready.number, None) if self._polls else None
        if poll is not None and not isinstance(outcome, Interrupted):
            outcome = poll.with_usage(outcome)
        if outcome.__class__ is Parked:
            outcome = self._park(ready, call, outcome, poll)
            if outcome is None:
                return
        if self._outputs and outcome.__class__ is Returned and task.task_id in self._outputs:
            outcome = checked(outcome, task, call.step, self._outputs[task.task_id])
        if outcome.__class__ is Returned:
            value, repeated, usage, files = outcome
            if self._refused:
                self._refused.pop(task.task_id, None)
            if repeated:
                self._publish_repeated(task, repeated)
            moment = clock.moment() if ended is None else clock.moment_at(ended)
            context = Context._of(value, task.task_id, task.workflow_id, moment, call.step.identity)
            if files is not None:
                context._origin = Origin(None, files=files)
            try:
                self._publisher.complete(task, context, usage, ended)
            except NOT_SAVED as error:
                if isinstance(error, LeaseLost):  # even with keep_going: another process runs the workflow
                    self._stop_new(at_once=True)
                self._fail(task, Failure.of(error), usage, ended)
            else:
                if is_durable:
                    self._graph.inputs.checkpoints.complete_calls(task)
                    self._withdraw(task, ())
                self._carry_out(self._graph.end(task, context))
            return
        if isinstance(outcome, Interrupted):
            if outcome.returned is not None:
                self._go_on(ready, call, outcome.returned)
            raise KeyboardInterrupt
        if outcome.repeated:
            self._publish_repeated(task, outcome.repeated)
        if is_durable and self._graph.inputs.checkpoints.calls.is_lost:  # another process runs the workflow
            self._stop_new(at_once=True)
            self._fail(task, outcome.failure, outcome.usage)
            return
        following = next_attempt(ready, call, outcome)
        if following is None:
            self._fail(task, outcome.failure, outcome.usage, ended)
            return
        delay, again = following
        fields = (task.task_id, task.attempt, outcome.failure, delay, task.item, outcome.usage, ended)
        self._publish(new(AttemptFailed, fields))
        if delay:
            heapq.heappush(self._timers, (clock.monotonic() + delay, next(self._tie_breaker), again))
        else:
            self._arrivals.append(again)

    def _refuse(self, ready: Ready, failure: Failure) -> None:
        """Ends a task whose attempt never begins; a fallback that names the reason follows, as after an attempt."""
        number, lane, task, previous, step, _, inputs, call, _ = ready
        poll = self._polls.pop(number, None)
        usage = None if poll is None else poll.usage
        if not inputs or inputs[2] is None or (call and call.fallback) or inputs[2](failure) is None:
            self._fail(task, failure, usage)
            return
        if call is None:
            if self._graph.inputs.checkpoints.outdated and not self._drop(task):
                return
            call = first_call(number, lane, task, previous, step, inputs)
        if poll is None and number not in self._given_back:
            self._publisher.begin(task, call.previous_context, call, 0.0)
        self._given_back.discard(number)
        follows = by_fallback(ready, call, failure)
        assert follows is not None, "there was one"
        self._publish(new(AttemptFailed, (task.task_id, task.attempt, failure, 0.0, task.item, usage, None)))
        self._arrivals.append(follows)

    def _must_wait(self, ready: Ready) -> bool:
        """Returns whether an attempt waits for its limits, or never begins by one, and has failed."""
        from dotflow.engine.limiting import NeverBegins  # here: few runs have limits

        assert self._limiting is not None
        try:
            must = self._graph.is_stopping and self._graph.is_cleanup(ready.task)
            waits = self._limiting.must_wait(ready, must=must)
        except NeverBegins as refusal:
            self._refuse(ready, refusal.failure)
            return True
        if waits and self._has_failed:  # it was ready before the failure
            for left, usage in self._drop_limited():
                self._give_up(left, usage)
        return waits

    def _drop_limited(self) -> list[tuple[Ready, Usage | None]]:
        """Removes what waits for limits after a failure, but cleanups. Returns what has begun, with its usage."""
        dropped: list[tuple[Ready, Usage | None]] = []
        for ready in self._take_limited():
            if self._graph.is_cleanup(ready.task):
                self._arrivals.append(ready)
            elif ready.call is not None:
                poll = self._polls.pop(ready.number, None)
                dropped.append((ready, None if poll is None else poll.usage))
        return dropped

    def _take_limited(self) -> list[Ready]:
        """Removes what waits for limits, and returns it."""
        return [] if self._limiting is None else self._limiting.take_all()

    def _throttle(self, ready: Ready, outcome: Parked) -> Parked | Raised:
        """Closes the limits of an attempt that a service has refused. Returns when it goes on, or its failure."""
        after, name, task_id = outcome.due, outcome.note, ready.task.task_id
        closed = None if self._limiting is None else self._limiting.throttle(ready, after, name)
        if closed is None:
            refused = self._refused[task_id] = self._refused.get(task_id, 0) + 1
            seconds, note = delay_of(after, refused - 1), ""
        else:
            seconds, refused, note = closed
        if refused >= MAX_THROTTLES:
            error = Throttled(after, name or None, refused)
            retry, refusal = ready.step.policy.should_retry(error)
            failure = Failure(Throttled.__name__, f"{error}. {refusal}".rstrip())
            return Raised(failure, outcome.repeated, retry, outcome.usage)
        note = note or f"refused, and called again after {format_duration(seconds)}"
        return outcome._replace(due=seconds, note=note)

    def _park(self, ready: Ready, call: Call, outcome: Parked, poll: Poll | None) -> TimedOut | Raised | None:
        """Lets an attempt wait until it goes on. Returns its outcome if its time is up; else None."""
        is_throttled = outcome.reason is TypePark.THROTTLED
        if is_throttled:
            throttled = self._throttle(ready, outcome)
            if isinstance(throttled, Raised):
                return throttled
            outcome = throttled
        task, now = ready.task, clock.monotonic()
        due = now
        asked = self._graph.inputs.checkpoints.questions_of(task, outcome.asked) if outcome.asked else ()
        if outcome.reason is TypePark.WAIT:
            self._withdraw(task, outcome.asked)
        if asked:
            self._ask(ready, call, asked, outcome.due)
            return None
        if outcome.reason is not TypePark.PAUSE:
            poll, note = poll or Poll(now), outcome.note
            poll.has_waited = True
            if outcome.due is None or is_throttled:
                poll.asked += 1
            else:
                end = clock.as_datetime(clock.moment_at(now + outcome.due))
                note = f"{note or 'sleeps'} until {end:%Y-%m-%d %H:%M:%S} UTC"
            fields = (task.task_id, task.attempt, poll.asked, note, clock.now(), now, task.item)
            self._publish(new(AttemptWaits, fields))
            if self._has_failed and not self._graph.is_cleanup(task):
                self._give_up(ready, outcome.usage)
                return None
            following = poll.go_on(call, outcome, now)
            if isinstance(following, TimedOut):
                return following
            due, self._polls[ready.number] = following, poll
        again = ready if ready.call is call else ready._replace(continues=True, call=call)
        if is_throttled and ready.step.policy.is_limited and self._limiting is not None:
            self._limiting.put_back(again, due - now)
            return None
        heapq.heappush(self._timers, (due, next(self._tie_breaker), again))
        return None

    def _ask(self, ready: Ready, call: Call, questions: "Sequence[Question]", due: float | None) -> None:
        """Lets a durable step wait for the answers to its questions, at most until the end of its first sleep.

        What goes on then is another attempt, which its policy does not count.
        """
        task, now = ready.task, clock.monotonic()
        for index, question in enumerate(questions):
            fields = (f"{WAITS}: {question.text}", clock.now(), now, task.item, question, tuple(questions[:index]))
            self._publish(TaskPaused(task.task_id, *fields))
        again = ready._replace(continues=False, call=call, before=ready.before + 1)
        self._graph.asked[task.task_id, task.item] = again, tuple(questions)
        if due is not None:
            heapq.heappush(self._timers, (now + due, next(self._tie_breaker), again))
        self._carry_out(self._graph.set_aside(task))

    def _withdraw(self, task: Task, calls: Collection[str]) -> None:
        """Takes back the questions of a durable step, but those of these calls: nothing waits for them any more."""
        approvals = self._graph.inputs.approvals
        try:
            if approvals is not None:
                approvals.withdraw(task, calls)
        except HistoryError as error:
            self._graph.inputs.log_line(f"Old questions of {task.name} can't be taken back: {error}", None)

    def _take_back(self, ready: Ready, call: Call) -> None:
        """Makes a call that has not begun ready again; after a failure it begins no more."""
        if self._has_failed and not self._graph.is_cleanup(ready.task):
            self._give_up(ready, None)
            return
        self._given_back.add(ready.number)
        poll = self._polls.get(ready.number)
        if not (poll and poll.has_waited):  # else that is what it shows
            task = ready.task
            fields = (task.task_id, task.attempt, 0, WAITS_FOR_WORKER, clock.now(), clock.monotonic(), task.item)
            self._publish(new(AttemptWaits, fields))
        self._waiting.add(self.session.pool_of(ready.step), ready._replace(continues=True, call=call))

    def _give_up(self, ready: Ready, usage: Usage | None) -> None:
        """Fails a task that waits, since a failure stops the run. An item ends with its map, once that is over."""
        if ready.task.item is None:
            failure = Failure(FAILED.exception, str(RunStopped(ready.task.name, FAILED.reason)))
            self._fail(ready.task, failure, usage)

    def _publish_repeated(self, task: Task, repeated: Iterable[Failure]) -> None:
        for failure in repeated:
            self._publish(AttemptRepeated(task.task_id, task.attempt, failure, task.item))

    def _fail(self, task: Task, failure: Failure, usage: Usage | None, ended: float | None = None) -> None:
        """Ends a task whose last attempt has failed, or whose value can't be saved."""
        tick = clock.monotonic() if ended is None else ended
        at = clock.as_datetime(clock.moment_at(tick))
        self._publish(TaskFailed(task.task_id, task.attempt, failure, at, tick, task.item, usage))
        self._carry_out(self._graph.end(task, None))

    def _wait(self) -> None:
        """Waits for outcomes and the next timer, and goes on with their tasks."""
        completed = clock.wait(self.session.wait, self._until_due(), self.session.wake, in_flight=len(self._in_flight))
        # Outcomes that arrive together with an interrupt are recorded before it ends the run.
        self._completed.extend(sorted(completed, key=lambda pair: isinstance(pair[1], Interrupted)))
        while self._completed:
            outcome: Any  # as in _carry_out
            call, outcome = self._completed[0]
            kind = outcome.__class__
            if kind is Timed:
                self._run(call, outcome.began)
                self._go_on(*self._in_flight.pop(call.number), outcome.outcome, outcome.ended)
            elif kind is Running:
                self._run(call, outcome.began)
            elif kind is NotBegun:
                self._take_back(*self._in_flight.pop(call.number))
            else:
                self._go_on(*self._in_flight.pop(call.number), outcome)
            self._completed.popleft()
        if self._timers:
            now = clock.monotonic()
            while self._timers and self._timers[0][0] <= now:
                ready = heapq.heappop(self._timers)[2]
                key, asked = (ready.task.task_id, ready.task.item), self._graph.asked
                if key in asked:
                    del asked[key]
                    self._carry_out(self._graph.go_on(ready))  # a sleep of it is over before it has its answer
                else:
                    self._arrivals.append(ready)
        if self._limiting is not None:
            self._arrivals.extend(self._limiting.take_due(clock.monotonic()))
        if self._graph.asked and (ticks := clock.ticks()) >= self._ask_at and not self.is_halted:
            self._ask_at = ticks + ASK_INTERVAL
            self._take_answers()

    def _take_answers(self) -> bool:
        """Goes on with what has its answer by now. Returns whether there was any."""
        before = {*self._graph.asked}
        answered = self._graph.answered()
        gone = before - self._graph.asked.keys()
        if gone and self._timers:  # of sleeps beside the questions
            self._timers = sorted(one for one in self._timers if (one[2].task.task_id, one[2].task.item) not in gone)
        self._carry_out(answered)
        return bool(gone)

    def _run(self, call: Call, began: float | None) -> None:
        """Publishes since when an attempt runs that began later than it was submitted."""
        poll = self._polls.get(call.number)
        if began is not None and not (poll and poll.has_waited):
            self._publisher.run(self._in_flight[call.number][0].task, began)

    def _until_due(self) -> float | None:
        """Returns the seconds until the next timer or the deadline, or until the history has to be asked again.

        A virtual clock never asks for answers meanwhile: in its time, a second may last a microsecond.
        """
        collected = None if self._calls is None else self._calls.collect()
        settled = self._publisher.settle(begins=False)
        due = min(self._timers[0][0], self._deadline) if self._timers else self._deadline
        if self._limiting is not None:
            self._limiting.flush()
            due = min(due, self._limiting.next_due())
        waits = [seconds for seconds in (settled, collected) if seconds is not None]
        if due < math.inf:
            waits.append(max(0.0, due - clock.monotonic()))
        if self._graph.asked and clock.source is None:
            waits.append(ASK_INTERVAL)
        return min(waits, default=None)

    def _must_end(self) -> bool:
        """Returns whether nothing but cleanups may go on, and also no reading of a file."""
        if self._publisher.look is not None:
            self._publisher.look()
        return self._is_late() or (self.is_halted and not self._is_pausing)

    def _is_late(self) -> bool:
        """Returns whether the run's time is up; then it has cancelled the run."""
        if clock.monotonic() < self._deadline:
            return False
        self._deadline = math.inf
        self._out_of_time()
        return True

    # After a failure

    def _stop_new(self, *, at_once: bool) -> None:
        """Begins no further task, but those that are ready and within the limits of the session.

        So it does not depend on the speed of the machine, whose workers may be coming up, which tasks begin.
        The graph makes no further task ready. Those that are ready by now have places, by the pools' room, and a map
        keeps as many items as it has room for: its limit is its own, and no pool knows it.

        Args:
            at_once: Whether these don't begin either.
        """
        self._has_failed = True
        given_up = [*self._take_polls(), *self._drop_limited()] if self._polls else self._drop_limited()
        if self._graph.stop():
            self._places = self._count_places()
        if at_once and self._places:
            self._places = {}
        self._waiting.drop_new(self._has_place)
        for ready, usage in given_up:
            self._give_up(ready, usage)

    def _take_polls(self) -> list[tuple[Ready, Usage | None]]:
        """Removes what waits for its next call, but cleanups. Returns it with what it has used."""
        taken: list[tuple[Ready, Usage | None]] = []

        def take(ready: Ready) -> bool:
            if ready.call is None or ready.number not in self._polls or self._graph.is_cleanup(ready.task):
                return False
            taken.append((ready, self._polls.pop(ready.number).usage))
            return True

        self._timers = sorted(timer for timer in self._timers if not take(timer[2]))
        kept = [ready for ready in self._arrivals if not take(ready)]
        self._arrivals.clear()
        self._arrivals.extend(kept)
        self._waiting.remove(take)
        return taken

    def _count_places(self) -> dict[Hashable, float]:
        """Returns how many tasks of each pool may begin beside those that run or wait for their next attempt."""
        pool_of = self.session.pool_of
        ready = [*self._waiting.by_pool(), *((pool_of(ready.step), ready) for ready in self._arrivals)]
        places = {self._limit_of(pool): self.session.room_left(pool) for pool, _ in ready}
        taken = [pool for pool, task in ready if task.call is not None]
        ended = [call for call, outcome in self._completed if not isinstance(outcome, Running)]
        taken += [pool_of(call.step) for call in ended]  # the failed one, and those that ended after it
        for limit in map(self._limit_of, taken):
            if limit in places:
                places[limit] -= 1
        return places

    def _limit_of(self, pool: Hashable) -> Hashable:
        return None if self.session.pools_share_room else pool

    def _has_place(self, pool: Hashable) -> bool:
        return self._places is None or self._places.get(self._limit_of(pool), 0) > 0

    def _take_place(self, step: AnyAction) -> None:
        """Gives one of the places that are left to a task that begins. Without a place no other one begins."""
        assert self._places is not None
        self._places[self._limit_of(self.session.pool_of(step))] -= 1
        self._waiting.drop_new(self._has_place)
