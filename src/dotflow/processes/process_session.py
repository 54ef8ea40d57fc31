"""ProcessSession: the worker processes of one run."""

import contextlib
import math
import selectors
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Final

from dotflow import clock
from dotflow.abc.executor import CompletedCall, ExecutorSession
from dotflow.capture.capturing_session import CapturingSession
from dotflow.capture.pipes import redirected_streams
from dotflow.capture.worker_output import OutputPipe, WorkerOutput, WorkerOutputs
from dotflow.core.action import AnyAction
from dotflow.core.call import Call
from dotflow.core.capture import Capture
from dotflow.core.outcome import Outcome, Returned, Usage
from dotflow.core.task import Task
from dotflow.core.types.capture import TypeCapture
from dotflow.processes import failures
from dotflow.processes.channel import ANSWER, Channel, Message
from dotflow.processes.dispatcher import CORES, Dispatcher
from dotflow.processes.encoding import NO_VALUE, CallEncoder, WorkerCache, load_outcome
from dotflow.processes.forkserver import KeptForkServer
from dotflow.processes.requests import answer_request
from dotflow.processes.start import Fork, StartMethod, default_start_method
from dotflow.processes.worker import WorkerProcess
from dotflow.worker.deadline import GRACE
from dotflow.worker.interrupts import interrupts_held, interrupts_let_through
from dotflow.worker.waiting import WakeupPipe, longest_sleep

STARTUP_DELAY: Final = 0.001  # seconds without a free worker before more are started; a fork takes about as long
STARTS: Final[Mapping[str, type[StartMethod]]] = {"fork": Fork, "forkserver": KeptForkServer}


class Worker:
    """A worker process and its current call."""

    def __init__(self, process: WorkerProcess, encoder: CallEncoder) -> None:
        self.process = process
        self.encoder = encoder
        self.output: WorkerOutput | None = None
        self.call: Call | None = None
        self.cache = WorkerCache()
        self.events = selectors.EVENT_READ


class ProcessSession(ExecutorSession, CapturingSession):
    """The worker processes of one run. One wait covers their outcomes, ends and deadlines.

    Isolated steps are one pool, all others another one.
    """

    pools_share_room = True

    def __init__(self, tasks: Mapping[int, Task], max_workers: int, start_method: str | None) -> None:
        self._tasks = tasks
        # The thread that watches the memory of an attempt makes forking unsafe for the next one, and CUDA does.
        steps = (step for task in tasks.values() for step in task._steps)
        is_unsafe = any(step.policy.memory is not None or step.resources for step in steps)
        self._start_method = start_method or ("forkserver" if is_unsafe else None)
        self._starts: dict[str, tuple[StartMethod, CallEncoder]] = {}
        self._dispatcher = Dispatcher[Worker](self._start_worker, max_workers, self._growth, self._remove)
        self._woken = False
        self._waiting = 1  # calls, when room was made for one
        self._refused: tuple[int, bool] | None = None  # lane and isolation of the call without room
        self._workers: set[Worker] = set()
        self._last_end = clock.ticks()  # of a call
        self._completed: list[CompletedCall] = []
        self._settle: Callable[[], object] | None = None
        self._unsent: list[Worker] = []  # with calls that are sent together
        self._selector = selectors.DefaultSelector()
        self._outputs = WorkerOutputs(None, self._selector)
        self._wakeup = WakeupPipe()
        self._selector.register(self._wakeup, selectors.EVENT_READ)

    def capture_output(self, capture: Capture) -> bool:
        if capture.mode in (TypeCapture.AUTO, TypeCapture.FD):
            self._outputs = WorkerOutputs(capture, self._selector)
        self._settle = capture.settle
        return True

    def pool_of(self, step: AnyAction) -> Hashable:
        return step.is_apart

    def make_room(self, pool: Hashable, lane: int, waiting: int) -> bool:
        isolated, self._waiting = bool(pool), waiting
        if not self._dispatcher.has_worker(lane, isolated):
            self._send_all()  # their attempts run meanwhile
            self._poll(0)  # a worker that has become free saves the start of another
        # Outcomes are handled first: a failure decides what still begins.
        room = not self._completed and self._dispatcher.make_room(lane, isolated)
        self._refused = None if room else (lane, isolated)
        return room

    def room_left(self, pool: Hashable) -> float:
        return self._dispatcher.room_left()

    def submit(self, call: Call) -> None:
        worker = self._dispatcher.take(call.lane, call.step.is_apart)
        assert worker is not None, "make_room was asked before"
        if isinstance(worker, OSError):
            self._completed.append((call, failures.not_started(call, str(worker))))
        elif self._queue(worker, call):
            if self._settle is None:
                self._flush(worker)
            else:
                self._unsent.append(worker)

    def _send_all(self) -> None:
        """Sends the calls that were submitted since the last time."""
        unsent, self._unsent = self._unsent, []
        if unsent and self._settle is not None:
            self._settle()
        for worker in unsent:
            if worker.call is not None:  # the worker has not ended meanwhile
                self._flush(worker)

    def wait(self, timeout: float | None) -> Sequence[CompletedCall]:
        self._send_all()
        end = math.inf if timeout is None else clock.ticks() + timeout
        while not (self._completed or self._woken):  # `make_room` polls, too
            self._poll(min(longest_sleep(), max(0.0, self._next_due(end) - clock.ticks())))
            self._kill_late()
            has_room = self._refused is not None and self._dispatcher.has_room(*self._refused)
            if has_room or clock.ticks() >= end:
                break
        completed, self._completed = self._completed, []
        self._woken, self._refused = False, None
        return completed

    def wake(self) -> None:
        self._wakeup.set()

    def leave(self, lane: int) -> None:
        self._dispatcher.leave(lane)

    def close(self) -> None:
        """Idle workers run their exit handlers, busy ones are killed; but one whose step has returned ends first."""
        with interrupts_held():
            try:
                with interrupts_let_through():
                    self._wait_for_returned()
            finally:
                self._end_workers()

    def _end_workers(self) -> None:
        try:
            for worker in self._workers:
                if worker.call is None:
                    self._unregister(worker.process.channel)
                    worker.process.channel.close()
                else:
                    worker.process.kill()
            with interrupts_let_through():
                self._wait_for_ends(clock.ticks() + GRACE)
        finally:
            for worker in self._workers:
                worker.process.reap()
            self._workers.clear()
            for start, _ in self._starts.values():
                start.close()
            self._outputs.close()
            self._selector.close()
            self._wakeup.close()

    def last_outcomes(self) -> Sequence[CompletedCall]:
        return self._completed

    def _wait_for_returned(self) -> None:
        if any(worker.call is not None for worker in self._workers):
            self._poll(0)
        returned = [worker for worker in self._workers if worker.process.has_returned]
        for worker in returned:
            worker.process.interrupt()
        until = clock.ticks() + GRACE
        while any(worker.call is not None for worker in returned) and (seconds := until - clock.ticks()) > 0:
            self._poll(seconds)

    def _wait_for_ends(self, until: float) -> None:
        left = {worker for worker in self._workers if worker.process.sentinel is not None}
        while left and (seconds := until - clock.ticks()) > 0:
            for key, _ in self._selector.select(seconds):
                if isinstance(key.data, Worker):
                    self._selector.unregister(key.fileobj)
                    if key.fd == key.data.process.sentinel:
                        left.discard(key.data)

    def _start_worker(self) -> Worker:
        """Starts a worker for a call, and others beside it for those that wait."""
        count = max(1, min(self._waiting, self._growth(isolated=True), self._dispatcher.room_to_grow))
        self._send_all()  # starting one takes time
        with interrupts_held():
            # The default may change between two workers: once a thread has begun, forking is unsafe.
            method = self._start_method or default_start_method()
            if method not in self._starts:
                captured = self._outputs.capture is not None or any(redirected_streams())
                start = STARTS[method](self._tasks, captured=captured)
                self._starts[method] = start, CallEncoder(start.dump, start.inherits_tasks)
            start, encoder = self._starts[method]
            worker, *others = [self._connect(process, encoder) for process in start.workers(count)]
            for other in others:
                self._dispatcher.add(other)
            return worker

    def _connect(self, process: WorkerProcess, encoder: CallEncoder) -> Worker:
        worker = Worker(process, encoder)
        self._workers.add(worker)
        if process.outputs:
            worker.output = self._outputs.open(process.outputs)
        self._selector.register(process.channel, selectors.EVENT_READ, worker)
        if process.sentinel is not None:
            self._selector.register(process.sentinel, selectors.EVENT_READ, worker)
        return worker

    def _growth(self, isolated: bool) -> int:
        """Returns how many workers may start now; up to one for each core always start.

        Beyond, none starts while calls end faster than a process starts, or while as many start as there are cores.
        Otherwise as many start as there are.

        Args:
            isolated: Whether it is for a call that can't use a free worker.
        """
        count, starting = len(self._workers), self._count_starting()
        if count < CORES:
            return CORES - count
        if starting < CORES and (isolated or clock.ticks() - self._last_end >= STARTUP_DELAY):
            return count - starting
        return 0

    def _count_starting(self) -> int:
        return sum(worker.process.starting for worker in self._workers)

    def _queue(self, worker: Worker, call: Call) -> bool:
        """Returns whether the call is in the queue of its worker; it fails at once where it can't be pickled."""
        worker.call = call
        try:
            answer = None if call.port is None else partial(self._answer, worker)
            messages = worker.encoder.messages(worker.cache, call)
            worker.process.begin(call.number, messages, answer, call.step.policy.memory)
        except Exception as error:  # pickling runs the value's own methods
            self._complete(worker, failures.not_sent(call, error))
            return False
        if worker.output is not None:
            self._outputs.begin(worker.output, call)
        return True

    def _flush(self, worker: Worker) -> None:
        """Sends what the socket accepts now, and the rest when it is writable."""
        events = selectors.EVENT_READ if worker.process.flush() else selectors.EVENT_READ | selectors.EVENT_WRITE
        if events != worker.events:
            worker.events = events
            self._selector.modify(worker.process.channel, events, worker)

    def _next_due(self, end: float) -> float:
        """Returns when the next thing is due: the end of the wait, a kill, or the start of one more worker."""
        kills = (worker.process.kill_at for worker in self._workers)
        times = [end, *(kill_at for kill_at in kills if kill_at is not None)]
        if self._refused is not None and self._dispatcher.room_to_grow and self._count_starting() < CORES:
            times.append(self._last_end + STARTUP_DELAY)
        if self._outputs.pending:
            times.append(self._outputs.due())
        return min(times)

    def _poll(self, timeout: float | None) -> None:
        ended: list[Worker] = []
        for key, events in self._selector.select(timeout):
            worker: Worker | OutputPipe | None = key.data
            if worker is None:
                self._wakeup.clear()
                self._woken = True
            elif not isinstance(worker, Worker):
                self._outputs.read(worker)
            elif key.fd == worker.process.sentinel:
                ended.append(worker)
            else:
                if events & selectors.EVENT_WRITE:
                    self._flush(worker)
                if events & selectors.EVENT_READ:
                    self._read(worker)
        for worker in ended:
            # Read first: the worker may have sent an outcome just before its end.
            self._read(worker)
            self._handle_death(worker)
        if self._outputs.pending:
            self._outputs.record_due()

    def _read(self, worker: Worker) -> None:
        if worker not in self._workers:
            return
        try:
            for parts in worker.process.outcomes():
                if worker.call is not None:
                    self._complete(worker, load_outcome(worker.call, parts))
        except (EOFError, OSError):
            if worker.process.sentinel is None:
                self._handle_death(worker)
            else:
                self._unregister(worker.process.channel)

    def _answer(self, worker: Worker, message: Message) -> None:
        """Answers a request of an attempt about a call."""
        if worker.call is not None and worker.call.port is not None:
            parts = answer_request(worker.call.port, message, worker.encoder.dump)
            worker.process.channel.queue(ANSWER, message.number, parts)
            self._flush(worker)

    def _unregister(self, channel: Channel) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(channel)

    def _complete(self, worker: Worker, outcome: Outcome) -> None:
        call, worker.call = worker.call, None
        if call is None:
            return
        if worker.output is not None:
            worker.output.end()
        usage: Usage | None = getattr(outcome, "usage", None)
        worker.process.cpu += (usage and usage.cpu) or 0.0
        self._last_end = clock.ticks()
        worker.cache.value = outcome.value if isinstance(outcome, Returned) else NO_VALUE
        if failures.may_be_unread(outcome):
            worker.cache.steps.clear()
        self._completed.append((call, outcome))
        if call.step.is_apart:
            self._remove(worker)
        else:
            self._dispatcher.release(worker)

    def _remove(self, worker: Worker) -> int | None:
        """Ends and drops a worker; returns its exit code."""
        with interrupts_held():
            self._workers.discard(worker)
            self._dispatcher.remove(worker)
            self._unregister(worker.process.channel)
            if worker.process.sentinel is not None:
                self._selector.unregister(worker.process.sentinel)
            code = worker.process.reap()
        if worker.output is not None:
            self._outputs.end(worker.output)
        return code

    def _handle_death(self, worker: Worker) -> None:
        """Drops a worker that has ended, and fails its call."""
        if worker not in self._workers:
            return
        call, worker.call = worker.call, None
        code = self._remove(worker)
        if call is None:
            return
        if (excess := worker.process.excess) is not None:
            self._completed.append((call, failures.exceeded(call, excess, worker.process.usage)))
        else:
            last_lines = "" if worker.output is None else worker.output.last_lines()
            self._completed.append((call, failures.died(call, code, "", worker.process.usage, last_lines)))

    def _kill_late(self) -> None:
        for worker in [late for late in self._workers if late.process.is_late()]:
            call, worker.call = worker.call, None
            assert call is not None
            self._remove(worker)
            self._completed.append((call, failures.timed_out(call, failures.KILLED, worker.process.usage)))
