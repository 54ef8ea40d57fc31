"""ProcessSession: the worker processes of one run."""

import contextlib
import math
import selectors
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dotflow import clock
from dotflow.abc.executor import CompletedCall, ExecutorSession
from dotflow.capture.pipes import write_out
from dotflow.capture.session import CapturingSession
from dotflow.core.action import Action
from dotflow.core.call import Call
from dotflow.core.capture import Capture
from dotflow.core.outcome import Outcome, Returned, Usage
from dotflow.core.task import Task
from dotflow.core.types.capture import TypeCapture
from dotflow.processes import failures
from dotflow.processes.channel import OUTCOME, READY, RETURNED, STARTED, STDERR, STDOUT, Channel, Message
from dotflow.processes.dispatcher import Dispatcher
from dotflow.processes.encoding import NO_VALUE, WorkerFactory
from dotflow.processes.scaling import PoolGrowth
from dotflow.processes.wakeup import WakeupPipe
from dotflow.processes.worker import Worker, load_outcome
from dotflow.worker.deadline import GRACE
from dotflow.worker.interrupts import interrupts_held, interrupts_let_through
from dotflow.worker.waiting import longest_sleep

if TYPE_CHECKING:
    from dotflow.capture.worker_output import OutputPipe, WorkerOutputs


class ProcessSession(ExecutorSession, CapturingSession):
    """The worker processes of one run. One wait covers their outcomes, ends and deadlines.

    Isolated steps are one pool, all others another one.
    """

    pools_share_room = True

    def __init__(self, tasks: Mapping[int, Task], max_workers: int, start_method: str | None) -> None:
        self._growth = PoolGrowth()
        self._factory = WorkerFactory(tasks, start_method)
        self._dispatcher = Dispatcher[Worker](self._start_worker, max_workers, self._growth.should_grow, self._remove)
        self._woken = False
        self._refused: tuple[int, bool] | None = None  # lane and isolation of the call without room
        self._workers: set[Worker] = set()
        self._completed: list[CompletedCall] = []
        self._settle: Callable[[], object] | None = None
        self._unsent: list[Worker] = []  # with calls that are sent together
        self._selector = selectors.DefaultSelector()
        self._outputs: WorkerOutputs | None = None
        self._wakeup = WakeupPipe()
        self._selector.register(self._wakeup, selectors.EVENT_READ)

    def capture_output(self, capture: Capture) -> bool:
        if capture.mode in (TypeCapture.AUTO, TypeCapture.FD):
            from dotflow.capture.worker_output import WorkerOutputs  # slow to import, and only for a history

            self._factory.captured = True
            self._outputs = WorkerOutputs(capture, self._selector)
        self._settle = capture.settle
        return True

    def pool_of(self, step: Action[..., Any]) -> Hashable:
        return step.isolate

    def make_room(self, pool: Hashable, lane: int, waiting: int) -> bool:
        isolated = bool(pool)
        if not self._dispatcher.has_worker(lane, isolated):
            self._poll(0)  # a worker that has become free saves the start of another
        # Outcomes are handled first: a failure decides what still begins.
        room = not self._completed and self._dispatcher.make_room(lane, isolated)
        self._refused = None if room else (lane, isolated)
        return room

    def room_left(self, pool: Hashable) -> float:
        return self._dispatcher.room_left()

    def submit(self, call: Call) -> None:
        worker = self._dispatcher.take(call.lane, call.step.isolate)
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
        """Idle workers run their exit handlers, busy ones are killed."""
        with interrupts_held():
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
                self._factory.close()
                if self._outputs is not None:
                    self._outputs.close()
                self._selector.close()
                self._wakeup.close()

    def _wait_for_ends(self, until: float) -> None:
        left = {worker for worker in self._workers if worker.process.sentinel is not None}
        while left and (seconds := until - clock.ticks()) > 0:
            for key, _ in self._selector.select(seconds):
                if isinstance(key.data, Worker):
                    self._selector.unregister(key.fileobj)
                    if key.fd == key.data.process.sentinel:
                        left.discard(key.data)

    def _start_worker(self) -> Worker:
        self._send_all()  # starting one takes time
        with interrupts_held():
            start, encoder = self._factory.next()
            worker = Worker(start.worker(), encoder)
            self._workers.add(worker)
            if self._outputs is not None:
                worker.output = self._outputs.open(worker.process.outputs)
            self._growth.workers += 1
            self._growth.starting += 1
            self._selector.register(worker.process.channel, selectors.EVENT_READ, worker)
            if worker.process.sentinel is not None:
                self._selector.register(worker.process.sentinel, selectors.EVENT_READ, worker)
            return worker

    def _queue(self, worker: Worker, call: Call) -> bool:
        """Returns whether the call is in the queue of its worker; it fails at once where it can't be pickled."""
        worker.call = call
        worker.kill_at = None
        if worker.output is not None and self._outputs is not None:
            self._outputs.begin(worker.output, call)
        try:
            for message in worker.encoder.messages(worker.cache, call):
                worker.process.channel.queue(*message)
        except Exception as error:  # pickling runs the value's own methods
            self._complete(worker, failures.not_sent(call, error))
            return False
        return True

    def _flush(self, worker: Worker) -> None:
        """Sends what the socket accepts now, and the rest when it is writable."""
        try:
            done = worker.process.channel.flush()
        except OSError:  # it has ended, as its sentinel will show
            done = True
        events = selectors.EVENT_READ if done else selectors.EVENT_READ | selectors.EVENT_WRITE
        if events != worker.events:
            worker.events = events
            self._selector.modify(worker.process.channel, events, worker)

    def _next_due(self, end: float) -> float:
        """Returns when the next thing is due: the end of the wait, a kill, or the start of one more worker."""
        times = [end, *(worker.kill_at for worker in self._workers if worker.kill_at is not None)]
        if self._refused is not None and self._dispatcher.can_grow:
            times.append(self._growth.next_check())
        if self._outputs is not None:
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
                assert self._outputs is not None
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
        if self._outputs is not None:
            self._outputs.record_due()

    def _read(self, worker: Worker) -> None:
        if worker not in self._workers:
            return
        try:
            for message in worker.process.channel.receive():
                self._handle(worker, message)
        except (EOFError, OSError):
            if worker.process.sentinel is None:
                self._handle_death(worker)
            else:
                self._unregister(worker.process.channel)

    def _unregister(self, channel: Channel) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(channel)

    def _handle(self, worker: Worker, message: Message) -> None:
        if message.kind == OUTCOME and worker.call is not None and message.number == worker.call.number:
            self._complete(worker, load_outcome(worker.call, message))
        elif message.kind == RETURNED:
            worker.kill_at = None
        elif message.kind == READY:
            worker.starting = False
            self._growth.starting -= 1
        elif message.kind == STARTED and worker.call is not None:
            worker.kill_at = clock.ticks() + worker.call.step.policy.timeout + GRACE
        elif message.kind in (STDOUT, STDERR):
            write_out(message.kind, bytes(message.parts[0]))

    def _complete(self, worker: Worker, outcome: Outcome) -> None:
        call, worker.call = worker.call, None
        if call is None:
            return
        if worker.output is not None:
            worker.output.end()
        usage: Usage | None = getattr(outcome, "usage", None)
        worker.cpu += (usage and usage.cpu) or 0.0
        self._growth.call_ended()
        worker.kill_at = None
        worker.cache.value = outcome.value if isinstance(outcome, Returned) else NO_VALUE
        if failures.may_be_unread(outcome):
            worker.cache.steps.clear()
        self._completed.append((call, outcome))
        if call.step.isolate:
            self._remove(worker)
        else:
            self._dispatcher.release(worker)

    def _remove(self, worker: Worker) -> tuple[int | None, Usage]:
        """Ends and drops a worker; returns its exit code, and what its last attempt has used."""
        with interrupts_held():
            self._workers.discard(worker)
            self._growth.workers -= 1
            self._growth.starting -= worker.starting
            self._dispatcher.remove(worker)
            self._unregister(worker.process.channel)
            if worker.process.sentinel is not None:
                self._selector.unregister(worker.process.sentinel)
            code = worker.process.reap()
        if worker.output is not None and self._outputs is not None:
            self._outputs.end(worker.output)
        usage = worker.process.usage
        return code, usage if usage.cpu is None else usage._replace(cpu=max(0.0, usage.cpu - worker.cpu))

    def _handle_death(self, worker: Worker) -> None:
        """Drops a worker that has ended, and fails its call."""
        if worker not in self._workers:
            return
        call, worker.call = worker.call, None
        code, usage = self._remove(worker)
        if call is not None:
            last_lines = "" if worker.output is None else worker.output.last_lines()
            self._completed.append((call, failures.died(call, code, "", usage, last_lines)))

    def _kill_late(self) -> None:
        now = clock.ticks()
        for worker in [late for late in self._workers if late.kill_at is not None and late.kill_at <= now]:
            call = worker.call
            assert call is not None
            worker.call = None
            _, usage = self._remove(worker)
            self._completed.append((call, failures.timed_out(call, failures.KILLED, usage)))
