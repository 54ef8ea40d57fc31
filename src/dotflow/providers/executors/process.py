"""ExecutorProcess: attempts in worker processes, which can always be ended."""

import contextlib
import os
import selectors
import sys
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Final

from dotflow import clock
from dotflow.abc.executor import CompletedCall, Executor, ExecutorSession, Report
from dotflow.core.action import Action
from dotflow.core.call import Call
from dotflow.core.outcome import Outcome, Returned
from dotflow.core.task import Task
from dotflow.errors import InvalidArgument, ProcessesUnsupported
from dotflow.processes import failures
from dotflow.processes.channel import ANSWER, CALL, READY, RETURNED, STARTED, STDERR, STDOUT, Channel, Message
from dotflow.processes.dispatcher import Dispatcher
from dotflow.processes.encoding import NO_VALUE, CallEncoder, WorkerCache, WorkerFactory
from dotflow.processes.scaling import PoolGrowth, check_workers
from dotflow.processes.start import START_METHODS, WorkerProcess, signals_held
from dotflow.processes.wakeup import WakeupPipe
from dotflow.worker.deadline import GRACE

LONGEST_WAIT: Final = 86_400.0  # seconds; epoll takes no more than 24 days, and waking once a day costs nothing


class ExecutorProcess(Executor):
    """Makes attempts in worker processes: what gets stuck there is killed, what dies there is reported.

    Args:
        max_workers: How many processes there may be at once; max(32, 4 x cores) unless given.
        start_method: "fork" or "forkserver". Unless given: fork where it is safe (Linux, and the process has one
            thread), forkserver elsewhere.

    Raises:
        InvalidArgument: One of them is not accepted.

    `open` raises ProcessesUnsupported where the system is not POSIX.
    """

    def __init__(self, max_workers: int | None = None, start_method: str | None = None) -> None:
        self.max_workers: int = check_workers(max_workers)
        if start_method is not None and start_method not in START_METHODS:
            raise InvalidArgument("start_method", start_method, f"one of {', '.join(START_METHODS)}")
        self.start_method = start_method

    def open(self, tasks: Mapping[int, Task], report: Report) -> ExecutorSession:
        if os.name != "posix":
            raise ProcessesUnsupported(sys.platform)
        return ProcessSession(tasks, self.max_workers, self.start_method)


class _Worker:
    """A worker process and what it is doing."""

    def __init__(self, process: WorkerProcess, orders: CallEncoder) -> None:
        self.process = process
        self.orders = orders
        self.call: Call | None = None
        self.starting = True
        self.kill_at: float | None = None
        self.memory = WorkerCache()
        self.events = selectors.EVENT_READ


class ProcessSession(ExecutorSession):
    """The worker processes of one run. One wait covers their answers, their deaths and their deadlines.

    Its pools are those of steps that must have a process to themselves, and of all others.
    """

    def __init__(self, tasks: Mapping[int, Task], max_workers: int, start_method: str | None) -> None:
        self._growth = PoolGrowth()
        self._factory = WorkerFactory(tasks, start_method)
        self._dispatcher = Dispatcher[_Worker](self._hire, max_workers, self._growth.should_grow, self._remove)
        self._woken = False
        self._refused: tuple[int, bool] | None = None  # whom there was no room for: a lane, and whether apart
        self._workers: set[_Worker] = set()
        self._answers: list[CompletedCall] = []
        self._selector = selectors.DefaultSelector()
        self._wakeup = WakeupPipe()
        self._selector.register(self._wakeup, selectors.EVENT_READ)

    def pool_of(self, step: Action[..., Any]) -> Hashable:
        return step.isolate

    def make_room(self, pool: Hashable, lane: int, waiting: int) -> bool:
        apart = bool(pool)
        if not self._dispatcher.has_free(lane, apart):
            self._listen(0)  # a worker that answers meanwhile spares the start of another
        # What has come is heard first: after a failure nothing begins.
        room = not self._answers and self._dispatcher.make_room(lane, apart)
        self._refused = None if room else (lane, apart)
        return room

    def submit(self, call: Call) -> None:
        worker = self._dispatcher.take(call.lane, call.step.isolate)
        assert worker is not None, "make_room was asked before"
        if isinstance(worker, OSError):
            self._answers.append((call, failures.not_started(call, str(worker))))
        else:
            self._send(worker, call)

    def wait(self, timeout: float | None) -> Sequence[CompletedCall]:
        end = clock.ticks() + (LONGEST_WAIT if timeout is None else min(timeout, LONGEST_WAIT))
        while not (self._answers or self._woken):  # `make_room` listens, too
            self._listen(max(0.0, self._next_deed(end) - clock.ticks()))
            self._kill_late()
            has_room = self._refused is not None and self._dispatcher.has_room(*self._refused)
            if has_room or clock.ticks() >= end:
                break
        answers, self._answers = self._answers, []
        self._woken, self._refused = False, None
        return answers

    def wake(self) -> None:
        self._wakeup.set()

    def leave(self, lane: int) -> None:
        self._dispatcher.leave(lane)

    def close(self) -> None:
        """As ExecutorSession says. Idle workers may run their exit handlers, busy ones are killed."""
        try:
            for worker in self._workers:
                if worker.call is None:
                    self._unregister(worker.process.channel)
                    worker.process.channel.close()
                else:
                    worker.process.kill()
            self._wait_for_ends(clock.ticks() + GRACE)
        finally:
            with signals_held():
                for worker in self._workers:
                    worker.process.reap()
                self._workers.clear()
                self._factory.close()
                self._selector.close()
                self._wakeup.close()

    def _wait_for_ends(self, until: float) -> None:
        left = {worker for worker in self._workers if worker.process.ended is not None}
        while left and (seconds := until - clock.ticks()) > 0:
            for key, _ in self._selector.select(seconds):
                if isinstance(key.data, _Worker):
                    self._selector.unregister(key.fileobj)
                    if key.fd == key.data.process.ended:
                        left.discard(key.data)

    def _hire(self) -> _Worker:
        with signals_held():
            return self._start_one()

    def _start_one(self) -> _Worker:
        start, orders = self._factory.next()
        worker = _Worker(start.worker(), orders)
        self._workers.add(worker)
        self._growth.workers += 1
        self._growth.starting += 1
        self._selector.register(worker.process.channel, selectors.EVENT_READ, worker)
        if worker.process.ended is not None:
            self._selector.register(worker.process.ended, selectors.EVENT_READ, worker)
        return worker

    def _send(self, worker: _Worker, call: Call) -> None:
        worker.call = call
        worker.kill_at = None
        try:
            parts = worker.orders.parts(worker.memory, call)
        except Exception as error:  # pickling runs the value's own methods
            self._answer(worker, failures.not_sent(call, error))
            return
        worker.process.channel.queue(CALL, call.number, parts)
        self._flush(worker)

    def _flush(self, worker: _Worker) -> None:
        """Sends what the socket takes; the rest when it is ready for more."""
        try:
            done = worker.process.channel.flush()
        except OSError:  # it died; its end will be told by its descriptor
            done = True
        events = selectors.EVENT_READ if done else selectors.EVENT_READ | selectors.EVENT_WRITE
        if events != worker.events:
            worker.events = events
            self._selector.modify(worker.process.channel, events, worker)

    def _next_deed(self, end: float) -> float:
        """When something has to be done: the end of the wait, a kill, the start of one more worker."""
        deeds = [end, *(worker.kill_at for worker in self._workers if worker.kill_at is not None)]
        if self._refused is not None and self._dispatcher.can_grow:
            deeds.append(self._growth.next_look())
        return min(deeds)

    def _listen(self, timeout: float | None) -> None:
        ended: list[_Worker] = []
        for key, events in self._selector.select(timeout):
            worker: _Worker | None = key.data
            if worker is None:
                self._wakeup.silence()
                self._woken = True
            elif key.fd == worker.process.ended:
                ended.append(worker)
            else:
                if events & selectors.EVENT_WRITE:
                    self._flush(worker)
                if events & selectors.EVENT_READ:
                    self._read(worker)
        for worker in ended:
            # Read first: an answer that was sent just before the end must not be taken for a death.
            self._read(worker)
            self._bury(worker)

    def _read(self, worker: _Worker) -> None:
        if worker not in self._workers:
            return
        try:
            for message in worker.process.channel.receive():
                self._take(worker, message)
        except (EOFError, OSError):
            if worker.process.ended is None:
                self._bury(worker)
            else:
                self._unregister(worker.process.channel)

    def _unregister(self, channel: Channel) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(channel)

    def _take(self, worker: _Worker, message: Message) -> None:
        if message.kind == ANSWER and worker.call is not None and message.number == worker.call.number:
            self._answer(worker, self._outcome(worker, message))
        elif message.kind == RETURNED:
            worker.kill_at = None
        elif message.kind == READY:
            worker.starting = False
            self._growth.starting -= 1
        elif message.kind == STARTED and worker.call is not None:
            worker.kill_at = clock.ticks() + worker.call.step.policy.timeout + GRACE
        elif message.kind in (STDOUT, STDERR):
            failures.write_out(message.kind, bytes(message.parts[0]))

    def _outcome(self, worker: _Worker, message: Message) -> Outcome:
        try:
            outcome: Outcome = message.load()
        except Exception as error:  # unpickling runs the value's own methods
            assert worker.call is not None
            return failures.not_read(worker.call, error)
        return outcome

    def _answer(self, worker: _Worker, outcome: Outcome) -> None:
        call, worker.call = worker.call, None
        if call is None:
            return
        self._growth.worker_is_free()
        worker.kill_at = None
        worker.memory.kept = outcome.value if isinstance(outcome, Returned) else NO_VALUE
        self._answers.append((call, outcome))
        if call.step.isolate:
            self._remove(worker)
        else:
            self._dispatcher.release(worker)

    def _remove(self, worker: _Worker) -> int | None:
        """Ends a worker, takes it out of the book, and tells how it ended."""
        with signals_held():
            self._workers.discard(worker)
            self._growth.workers -= 1
            self._growth.starting -= worker.starting
            self._dispatcher.remove(worker)
            self._unregister(worker.process.channel)
            if worker.process.ended is not None:
                self._selector.unregister(worker.process.ended)
            return worker.process.reap()

    def _bury(self, worker: _Worker) -> None:
        """The worker has ended: so has its attempt, if it was making one."""
        if worker not in self._workers:
            return
        call, worker.call = worker.call, None
        code = self._remove(worker)
        if call is not None:
            self._answers.append((call, failures.died(call, code)))

    def _kill_late(self) -> None:
        now = clock.ticks()
        for worker in [late for late in self._workers if late.kill_at is not None and late.kill_at <= now]:
            call = worker.call
            assert call is not None
            worker.call = None
            self._remove(worker)
            self._answers.append((call, failures.late(call, failures.KILLED)))
