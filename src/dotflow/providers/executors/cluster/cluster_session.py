"""ClusterSession: packs calls, and turns replies into outcomes, on every cluster."""

import math
import queue
import uuid
from abc import abstractmethod
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final, NamedTuple

from dotflow import clock
from dotflow.abc.executor import CompletedCall, ExecutorSession, Report
from dotflow.capture.capturing_session import CapturingSession
from dotflow.capture.chunks import Chunks
from dotflow.capture.output import flush_streams
from dotflow.capture.pipes import write_out
from dotflow.capture.worker_output import PassOn, passing_on
from dotflow.core.action import AnyAction
from dotflow.core.call import Call
from dotflow.core.capture import Capture
from dotflow.core.outcome import Outcome, Raised, Returned, Usage
from dotflow.core.types.capture import TypeCapture
from dotflow.errors import ModuleNotOnWorker
from dotflow.processes import failures
from dotflow.processes.channel import dump_by_value
from dotflow.processes.encoding import NO_VALUE, CallEncoder, SharedArguments, WorkerCache, load_outcome
from dotflow.providers.executors.cluster import protocol
from dotflow.providers.executors.cluster.protocol import Placement, Reply
from dotflow.worker.waiting import longest_sleep

MIN_KEPT_SIZE: Final = 1 << 16  # bytes; sending less again costs less than asking for it
WAIT_REPORT_DELAY: Final = 10.0  # seconds that steps wait for a worker before the log says so

#: The advice when the cluster is lost during a run.
RESUME_HINT: Final = "Finished tasks keep their checkpoints. Start again with resume=True."


class Lane(NamedTuple):
    """A lane's last attempt.

    Attributes:
        worker: The name of the cluster's worker that made the attempt.
        process: The process that still has the value; "" if the value is too small to keep.
        value: The value, as it arrived here.
    """

    worker: str = ""
    process: str = ""
    value: Any = NO_VALUE


class ClusterSession(ExecutorSession, CapturingSession):
    """The base of the sessions on clusters.

    A value is sent here once, for the record and the storage. The worker keeps it for the next task of the lane.
    Steps that need the same resources share a pool.

    The cluster's threads put functions into `events`. `wait` calls them, so all else happens in the thread of the run.

    Args:
        cluster: The name of the cluster, for messages.
        report: As in Executor.open.
    """

    def __init__(self, cluster: str, report: Report) -> None:
        self.cluster = cluster
        self.run = uuid.uuid4().hex[:12]
        self.report = report
        self.lanes: dict[int, Lane] = {}
        self._capture: Capture | None = None
        self._pass_on: PassOn = write_out
        self._encoder = CallEncoder(dump_by_value, inherited=False)
        self._reported: set[str] = set()
        self.ready: dict[Hashable, int] = {}  # by pool: calls waiting for room, until `wait` returns
        self.events: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self.answers: list[CompletedCall] = []
        self._pools: dict[int, Hashable] = {}  # by number: the pools of the submitted calls
        self._running: set[int] = set()  # those of them whose attempts have begun
        self._idle_since = clock.ticks()
        self._has_reported_wait = False

    def capture_output(self, capture: Capture) -> bool:
        if capture.mode in (TypeCapture.AUTO, TypeCapture.FD):
            self._capture = capture
            self._pass_on = passing_on()
        return False

    def pool_of(self, step: AnyAction) -> Hashable:
        return frozenset(step.resources.items())

    def make_room(self, pool: Hashable, lane: int, waiting: int) -> bool:
        room = self.has_room(pool)
        self.ready[pool] = waiting - room
        return room

    def has_room(self, pool: Hashable) -> bool:
        """Returns whether a call that is submitted now would begin at once."""
        # Events are handled first: a failure decides what still begins.
        return not self.answers and self.events.empty() and self.has_free_worker(pool)

    @abstractmethod
    def has_free_worker(self, pool: Hashable) -> bool:
        """Returns whether a worker of the pool is free."""

    @abstractmethod
    def prepare(self) -> float:
        """Does what is due before the next wait; returns the seconds until it has to be called again."""

    @abstractmethod
    def describe(self) -> str:
        """Returns what the cluster has, for the log."""

    def handle(self, events: Sequence[Callable[[], object] | None]) -> None:
        """Handles the new events."""
        for event in events:
            if event is not None:
                event()

    def wait(self, timeout: float | None) -> Sequence[CompletedCall]:
        end = math.inf if timeout is None else clock.ticks() + timeout
        while not self.answers:
            events = self._next(end)
            self.handle(events)
            is_over = None in events or clock.ticks() >= end
            if is_over or any(waiting and self.has_room(pool) for pool, waiting in self.ready.items()):
                break
        answers, self.answers = self.answers, []
        self.ready.clear()
        return answers

    def _next(self, end: float) -> list[Callable[[], object] | None]:
        """Returns the new events; none when something else is due."""
        left = max(0.0, end - clock.ticks())
        limit = min(left, self.prepare(), self.until_wait_report(), longest_sleep())
        events: list[Callable[[], object] | None] = []
        try:
            events.append(self.events.get(timeout=limit))
            while True:
                events.append(self.events.get_nowait())
        except queue.Empty:
            if not events and self.until_wait_report() == 0.0:
                self.report_waiting()
        return events

    def wake(self) -> None:
        self.events.put(None)

    def answer(self, call: Call, outcome: Outcome) -> None:
        """Ends a call; `wait` returns its outcome."""
        self._pools.pop(call.number, None)
        self._running.discard(call.number)
        self._idle_since = clock.ticks()
        self.answers.append((call, outcome))

    def report_once(self, message: str) -> None:
        """Writes a message into the run's log, once in each run."""
        if message not in self._reported:
            self._reported.add(message)
            self.report(message)

    def leave(self, lane: int) -> None:
        self.lanes.pop(lane, None)

    def pack(self, call: Call, *, whole: bool = False) -> list[Any] | Outcome:
        """Returns the packed call; an outcome, where the call can't be pickled.

        Args:
            call: The call.
            whole: Whether to send all values even if a worker has one.
        """
        lane = self.lanes.get(call.lane, Lane())
        cache = WorkerCache()
        if not whole and not call.step.isolate:
            cache.value = lane.value
        try:
            shared = self.shared_of(call)
            parts = self._encoder.encode(cache, call)
        except Exception as error:  # pickling runs the value's own methods
            return failures.not_sent(call, error)
        process = lane.process if cache.has_value_of(call) else ""
        number = None if shared is None else shared.number
        return protocol.pack_call(Placement(call.lane, call.step.isolate, process, number), parts)

    def shared_of(self, call: Call) -> SharedArguments | None:
        """Returns the call's shared arguments, pickled; they are sent beside the packed call."""
        return self._encoder.shared_of(call)

    def outcome(self, call: Call, reply: Reply) -> Outcome:
        """Returns the outcome for the reply to a call, and prints the output of the step."""
        chunks = None
        if self._capture is not None and call.watch is not None:
            chunks = Chunks(call.watch.attempt, self._capture)
            flush_streams()  # what this process has printed comes before
        for stream, data in reply.output:
            self._pass_on(stream, data)
            if chunks is not None:
                chunks.add(stream, data)
        if chunks is not None:
            chunks.end()
        outcome = self._outcome_of(call, reply)
        self.lanes[call.lane] = Lane(reply.worker)
        if isinstance(outcome, Returned) and not call.step.isolate and protocol.size_of(reply.parts) >= MIN_KEPT_SIZE:
            self.lanes[call.lane] = Lane(reply.worker, reply.process, outcome.value)
        if isinstance(outcome, Raised) and outcome.failure.exception == ModuleNotOnWorker.__name__:
            self.report_once(outcome.failure.message)
        return outcome

    def _outcome_of(self, call: Call, reply: Reply) -> Outcome:
        if reply.kind == protocol.ANSWERED:
            return load_outcome(call, protocol.writable(reply.parts))
        if reply.kind == protocol.LATE:
            return failures.timed_out(call, failures.KILLED, Usage(*reply.usage))
        if reply.kind == protocol.DIED:
            last_lines = "" if self._capture is None else self._capture.masks.mask_end(reply.last_lines)
            return failures.died(call, reply.detail, "", Usage(*reply.usage), last_lines)
        assert reply.kind == protocol.NOT_STARTED
        return failures.not_started(call, f"{reply.detail} (on {reply.worker})")

    def lost(self, call: Call, place: str) -> Outcome:
        """Returns the outcome of a call whose worker the cluster has lost."""
        self.lanes.pop(call.lane, None)
        return failures.died(call, None, place)

    def add_waiting(self, call: Call) -> None:
        """Records that a call waits for a worker."""
        self._pools[call.number] = self.pool_of(call.step)
        self._running.discard(call.number)

    def mark_running(self, number: int) -> None:
        """Records that the attempt of a call has begun."""
        if number in self._pools:
            self._running.add(number)

    def until_wait_report(self) -> float:
        """Returns the seconds until the log says that steps wait and none runs; infinity for never."""
        if self._running or not self._count_waiting() or self._has_reported_wait:
            return math.inf
        return max(0.0, self._idle_since + WAIT_REPORT_DELAY - clock.ticks())

    def _count_waiting(self) -> int:
        return len(self._pools) - len(self._running) + sum(self.ready.values())

    def count_busy(self, pool: Hashable) -> int:
        """Returns how many calls take room of a pool: its own and, where it needs no resources, all that run."""
        return sum(other == pool or (not pool and number in self._running) for number, other in self._pools.items())

    def report_waiting(self) -> None:
        """Logs once that steps wait: the cluster may have no worker yet, or none with the resources that they need."""
        self._has_reported_wait = True
        self.report(
            f"{self._count_waiting()} step(s) have waited {WAIT_REPORT_DELAY:g} s for a worker of {self.cluster}, "
            f"which has {self.describe()}. They keep waiting: add workers, or the resources that the steps need."
        )


def describe_error(error: BaseException) -> str:
    """Returns the type and message of an error, on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(".")
