"""ClusterSession: sends ready calls in packs, and turns replies into outcomes, on every cluster.

A task of a cluster costs milliseconds, so calls that are ready together are one task: as many as take about
PACK_SECONDS by what was measured, and not more than give each free worker its share.
"""

import itertools
import math
import queue
import uuid
from abc import abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from dotflow import clock
from dotflow.abc.executor import ArrivedCall, ExecutorSession, Report
from dotflow.capture.capturing_session import CapturingSession
from dotflow.capture.chunks import Chunks
from dotflow.capture.output import flush_streams
from dotflow.capture.pipes import write_out
from dotflow.capture.worker_output import PassOn, passing_on
from dotflow.core.action import RESOURCES, AnyAction
from dotflow.core.call import Call
from dotflow.core.capture import Capture
from dotflow.core.outcome import Interrupted, NotBegun, Outcome, Raised, Returned, Running, Timed, Usage
from dotflow.core.resources import Resources
from dotflow.core.types.capture import TypeCapture
from dotflow.errors import ClusterError, ClusterLost, ModuleNotOnWorker
from dotflow.processes import failures
from dotflow.processes.channel import REQUEST, Message, dump_by_value
from dotflow.processes.encoding import NO_VALUE, CallEncoder, SharedArguments, WorkerCache, load_outcome
from dotflow.processes.requests import answer_request
from dotflow.providers.executors.cluster import protocol
from dotflow.providers.executors.cluster.conversation import Answer, Request
from dotflow.providers.executors.cluster.protocol import Pack, PackedCall, PackReply, Placement, Reply
from dotflow.worker.waiting import longest_sleep

PACK_SECONDS: Final = 0.05  # that the calls of a pack take together
PACK_SIZE: Final = 1 << 19  # bytes that they take, or return, together
MAX_PACK: Final = 500  # calls
TAKE_DELAY: Final = 0.2  # seconds after a pack has begun, when the run takes what has ended, and what has not begun
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


class ReadyCall(NamedTuple):
    """A call that is packed, but not sent.

    Attributes:
        call: The call.
        packed: What is sent of it.
        step: The pickle of its step.
        shared: Its shared arguments.
        share: How much of a pack it takes; from 1 on, no call follows it.
    """

    call: Call
    packed: PackedCall
    step: bytes
    shared: SharedArguments | None
    share: float


class ReadyPack:
    """Calls of one pool that are sent together.

    Args:
        name: The name of the pack.
        pool: The pool.
        most: The maximum number of calls.
    """

    def __init__(self, name: str, pool: Hashable, most: int) -> None:
        self.name = name
        self.pool = pool
        self.calls: list[ReadyCall] = []
        self._most = most
        self._share = 0.0

    def add(self, call: ReadyCall) -> None:
        """Adds a call."""
        self.calls.append(call)
        self._share += call.share

    @property
    def is_full(self) -> bool:
        """Whether no further call goes with it."""
        return self._share >= 1.0 or len(self.calls) >= self._most

    @property
    def shared(self) -> Mapping[int, SharedArguments]:
        """The shared arguments of its calls, by number."""
        return {call.shared.number: call.shared for call in self.calls if call.shared is not None}

    def pack(self) -> list[Any]:
        """Returns the list of bytes-like objects to send, without shared arguments."""
        steps = {call.packed.placement.step: call.step for call in self.calls}
        return Pack(self.name, [call.packed for call in self.calls], steps).pack()


class SentPack:
    """A pack that was sent, and the calls that have no outcome yet.

    Attributes:
        name: Its name.
        pool: The pool of workers that it needs.
        calls: The calls without an outcome, by their places in the pack.
        count: How many calls were sent.
        sent_at: When it was sent, in seconds since 1970.
        begun_at: When it has begun, in ticks; None before that.
        first_began: When its first call began, in ticks; None where its worker has not reported that.
        seen: The places of the calls that the run knows to run.
        is_taken: Whether the run has taken what had ended of it.
        answer: The last answer to a request of its attempts.
        is_talking: Whether the run waits for a request.
        has_asked: Whether it was announced that an attempt asks, since then.
    """

    def __init__(self, pack: ReadyPack) -> None:
        self.name = pack.name
        self.pool = pack.pool
        self.calls = {place: ready.call for place, ready in enumerate(pack.calls)}
        self.count = len(pack.calls)
        self.sent_at = clock.real_time()
        self.begun_at: float | None = None
        self.first_began: float | None = None
        self.seen: set[int] = set()
        self.is_taken = False
        self.answer: Answer | None = None
        self.is_talking = False
        self.has_asked = False

    def until_take(self) -> float:
        """Returns the seconds until the run takes what has ended, or notes that the only call runs."""
        if self.begun_at is None or self.is_taken or (self.count == 1 and self.first_began is None):
            return math.inf
        return max(0.0, self.begun_at + TAKE_DELAY - clock.ticks())


class WorkerTimes:
    """The times of a worker in those of this machine.

    They are right on one machine, and elsewhere as far as the clocks agree. Where they don't, the calls of the pack did
    not begin before it was sent, and its reply was not made later than it arrived.
    """

    def __init__(self, sent: SentPack, reply: PackReply) -> None:
        began = [of_call.began for of_call in reply.replies.values() if of_call.began]
        began += [] if reply.running is None else [reply.running[1]]
        now, self._tick = clock.real_time(), clock.ticks()
        shift = min(max(0.0, sent.sent_at - min(began, default=now)), now - reply.made if reply.made else math.inf)
        self._offset = self._tick - now + shift

    def tick(self, moment: float) -> float:
        """Returns a moment of the worker, in seconds since 1970, in ticks."""
        return min(moment + self._offset, self._tick)

    def timed(self, outcome: Outcome | NotBegun, reply: Reply, *, is_seen: bool) -> Outcome | Timed | NotBegun:
        """Returns an outcome with its times; as it is, if the attempt did not begin, or time is virtual."""
        if not reply.began or isinstance(outcome, NotBegun | Interrupted) or clock.source is not None:
            return outcome
        began = self.tick(reply.began)
        ended = self._tick if reply.kind == protocol.LOST else min(began + reply.seconds, self._tick)
        return Timed(outcome, None if is_seen else began, ended)


class ClusterSession(ExecutorSession, CapturingSession):
    """The base of the sessions on clusters.

    A value is sent here once, for the record and the storage. The worker keeps it for the next task of the lane.
    Steps that need the same resources share a pool.

    The cluster's threads put functions into `events`. `wait` calls them, so all else happens in the thread of the run.

    The attempt of a durable step asks the run, and waits for the answer. A message of the cluster takes an answer there
    and brings the next request back, so there is one for each.

    Args:
        cluster: The name of the cluster, for messages.
        report: As in Executor.open.
        announces: Whether a worker announces that an attempt asks. Otherwise the run waits for requests all the time.
    """

    def __init__(self, cluster: str, report: Report, *, announces: bool) -> None:
        self.cluster = cluster
        self.announces = announces
        self.run = uuid.uuid4().hex[:12]
        self.report = report
        self.lanes: dict[int, Lane] = {}
        self._capture: Capture | None = None
        self._pass_on: PassOn = write_out
        self._encoder = CallEncoder(dump_by_value, inherited=False)
        self._reported: set[str] = set()
        self.ready: dict[Hashable, int] = {}  # by pool: calls waiting for room, until `wait` returns
        self.events: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self.answers: list[ArrivedCall] = []
        self.packs: dict[str, SentPack] = {}  # by name: those that take room on the cluster
        self._open: dict[Hashable, ReadyPack] = {}  # by pool: those that take further calls
        self._waiting: dict[Hashable, int] = {}  # by pool: calls that were ready when `make_room` was called last
        self._shares: dict[int, float] = {}  # by the number of the step: the share of a pack that a call takes
        self._names = itertools.count()
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
        self._waiting[pool] = waiting
        return room

    def has_room(self, pool: Hashable) -> bool:
        """Returns whether a call that is submitted now goes into a pack that is being made, or would begin at once."""
        # Events are handled first: a failure decides what still begins.
        return pool in self._open or (not self.answers and self.events.empty() and self.has_free_worker(pool))

    def submit(self, call: Call) -> Outcome | None:
        ready = self.pack(call)
        if not isinstance(ready, ReadyCall):
            return ready
        pool = self.pool_of(call.step)
        pack = self._open.get(pool)
        if pack is None:
            share = math.ceil(self._waiting.get(pool, 1) / max(1.0, self.room_left(pool)))
            pack = self._open[pool] = self.new_pack(pool, min(MAX_PACK, share))
        pack.add(ready)
        if pack.is_full:
            self._send(pool)
        return None

    def new_pack(self, pool: Hashable, most: int = 1) -> ReadyPack:
        """Returns a pack without calls."""
        return ReadyPack(f"{self.run}-{next(self._names)}", pool, most)

    def _send(self, pool: Hashable) -> None:
        pack = self._open.pop(pool)
        sent = self.packs[pack.name] = SentPack(pack)
        try:
            self.send(pack, sent)
        except BaseException:  # it takes no room
            del self.packs[pack.name]
            raise

    @abstractmethod
    def send(self, pack: ReadyPack, sent: SentPack) -> None:
        """Sends a pack; `receive` handles its reply. Raises ClusterError if the cluster is lost."""

    @abstractmethod
    def take(self, sent: SentPack) -> None:
        """Has the worker of a pack end it after the call that runs, and send what has ended; `receive` handles it."""

    @abstractmethod
    def converse(self, sent: SentPack) -> None:
        """Sends the last answer to the worker of a pack, which returns the next request; `hear` handles it."""

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

    def wait(self, timeout: float | None) -> Sequence[ArrivedCall]:
        for pool in tuple(self._open):
            self._send(pool)
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
        limit = min(left, self.prepare(), self._take_late(), self.until_wait_report(), longest_sleep())
        events: list[Callable[[], object] | None] = []
        if self.answers:  # that a call goes on for long
            return events
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

    def _take_late(self) -> float:
        """Takes what has ended of packs in which a call takes long; returns the seconds until that is due again."""
        due = math.inf
        for sent in tuple(self.packs.values()):
            seconds = sent.until_take()
            if seconds == 0.0:
                sent.is_taken = True
                if sent.count == 1 and sent.first_began is not None:
                    self.note_running(sent, 0, sent.first_began)
                else:
                    self.take(sent)
            else:
                due = min(due, seconds)
        return due

    def answer(self, call: Call, outcome: Outcome | Timed | NotBegun) -> None:
        """Ends a call; `wait` returns its outcome."""
        self._idle_since = clock.ticks()
        self.answers.append((call, outcome))

    def report_once(self, message: str) -> None:
        """Writes a message into the run's log, once in each run."""
        if message not in self._reported:
            self._reported.add(message)
            self.report(message)

    def leave(self, lane: int) -> None:
        self.lanes.pop(lane, None)

    def pack(self, call: Call) -> ReadyCall | Outcome:
        """Returns the packed call, without a value that its worker has; an outcome, where it can't be pickled."""
        if call.step.resources and call.step.takes_resources:
            had = Resources(call.step.resources)  # the cluster has no ids
            call = call._replace(arguments={**(call.arguments or {}), RESOURCES: had})
        lane = self.lanes.get(call.lane, Lane())
        cache = WorkerCache()
        if not call.step.isolate:
            cache.value = lane.value
        try:
            shared = self._encoder.shared_of(call)
            step, pickled = self._encoder.step_of(call.step)
            cache.steps.add(step)
            parts = self._encoder.encode(cache, call)
        except Exception as error:  # pickling runs the value's own methods
            return failures.not_sent(call, error)
        process = lane.process if cache.has_value_of(call) else ""
        number = None if shared is None else shared.number
        placement = Placement(call.lane, call.step.isolate, step, process, number, call.step.policy.memory)
        share = 1.0 if process else self._shares.get(step, 1.0) + protocol.size_of(parts) / PACK_SIZE
        return ReadyCall(call, PackedCall(placement, parts), pickled, shared, share)

    def receive(self, sent: SentPack, reply: PackReply) -> None:
        """Ends the calls of which there are replies, gives back those that have not begun, and notes which one runs."""
        times = WorkerTimes(sent, reply)
        for place, of_call in reply.replies.items():
            call = sent.calls.pop(place, None)
            if call is not None:
                self._measure(call, of_call)
                outcome = self.outcome(call, of_call, reply.worker)
                self.answer(call, times.timed(outcome, of_call, is_seen=place in sent.seen))
        if reply.running is not None:
            place, began = reply.running
            self.note_running(sent, place, times.tick(began))
        for place in reply.left:
            call = sent.calls.pop(place, None)
            if call is not None:
                self.answer(call, NotBegun())

    def talk(self, sent: SentPack) -> None:
        """Has the worker of a pack send its next request, unless that is under way."""
        sent.has_asked = sent.is_talking
        if not sent.is_talking:
            sent.is_talking = True
            self.converse(sent)

    def hear(self, sent: SentPack, request: Request | None) -> None:
        """Answers a request about a call, and waits for the next one; None if there was none for a while."""
        if sent.name not in self.packs:
            return
        if request is None:
            sent.is_talking = False
            if sent.has_asked or not self.announces:
                self.talk(sent)
            return
        call = sent.calls.get(request.place)  # none, where its attempt has ended meanwhile
        is_new = sent.answer is None or sent.answer.number != request.number  # else the answer was lost
        if is_new and call is not None and call.port is not None:
            message = Message(REQUEST, 0, protocol.writable(request.parts))
            parts = [bytes(part) for part in answer_request(call.port, message, dump_by_value)]
            sent.answer = Answer(request.number, parts)
        self.converse(sent)

    def _measure(self, call: Call, reply: Reply) -> None:
        """Notes what share of a pack a call of its step takes, by what the last ones took."""
        if reply.kind in (protocol.ANSWERED, protocol.LATE):
            step, _ = self._encoder.step_of(call.step)
            share = min(1.0, max(reply.seconds / PACK_SECONDS, protocol.size_of(reply.parts) / PACK_SIZE))
            self._shares[step] = (share + self._shares.get(step, share)) / 2

    def outcome(self, call: Call, reply: Reply, worker: str) -> Outcome | NotBegun:
        """Returns the outcome for the reply to a call, and prints the output of the step."""
        if reply.kind == protocol.MISSING:  # nothing was run: it is sent again, with all values
            self.lanes.pop(call.lane, None)
            return NotBegun()
        if reply.kind in (protocol.LOST, protocol.STOPPED):
            return self.lost(call, worker)
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
        outcome = self._outcome_of(call, reply, worker)
        self.lanes[call.lane] = Lane(worker)
        is_kept = not call.step.isolate and protocol.size_of(reply.parts) >= protocol.MIN_KEPT_SIZE
        if is_kept and isinstance(outcome, Returned):
            self.lanes[call.lane] = Lane(worker, reply.process, outcome.value)
        if isinstance(outcome, Raised) and outcome.failure.exception == ModuleNotOnWorker.__name__:
            self.report_once(outcome.failure.message)
        return outcome

    def _outcome_of(self, call: Call, reply: Reply, worker: str) -> Outcome:
        if reply.kind == protocol.ANSWERED:
            return load_outcome(call, protocol.writable(reply.parts))
        if reply.kind == protocol.LATE:
            return failures.timed_out(call, failures.KILLED, Usage(*reply.usage))
        if reply.kind == protocol.EXCEEDED:
            return failures.exceeded(call, reply.detail, Usage(*reply.usage))
        if reply.kind == protocol.DIED:
            last_lines = "" if self._capture is None else self._capture.masks.mask_end(reply.last_lines)
            return failures.died(call, reply.detail, "", Usage(*reply.usage), last_lines)
        assert reply.kind == protocol.NOT_STARTED
        return failures.not_started(call, f"{reply.detail} (on {worker})")

    def lost(self, call: Call, place: str) -> Outcome:
        """Returns the outcome of a call whose worker the cluster has lost; *place* is "" if it is not known which."""
        self.lanes.pop(call.lane, None)
        return failures.died(call, None, place or f"a worker of {self.cluster}")

    def note_running(self, sent: SentPack, place: int, began: float) -> None:
        """Lets the run know which call of a pack runs since when, in ticks."""
        if place in sent.calls and place not in sent.seen and clock.source is None:
            sent.seen.add(place)
            self.answers.append((sent.calls[place], Running(began)))

    def mark_begun(self, sent: SentPack) -> None:
        """Records that a pack has begun."""
        if sent.begun_at is None:
            sent.begun_at = clock.ticks()

    def until_wait_report(self) -> float:
        """Returns the seconds until the log says that steps wait and none runs; infinity for never."""
        is_running = any(sent.begun_at is not None for sent in self.packs.values())
        if is_running or not self._count_waiting() or self._has_reported_wait:
            return math.inf
        return max(0.0, self._idle_since + WAIT_REPORT_DELAY - clock.ticks())

    def _count_waiting(self) -> int:
        waiting = sum(len(sent.calls) for sent in self.packs.values() if sent.begun_at is None)
        return waiting + sum(self.ready.values())

    def count_busy(self, pool: Hashable) -> int:
        """Returns how many packs take room of a pool: its own and, where it needs no resources, all that run."""
        packs = sum(sent.pool == pool or (not pool and sent.begun_at is not None) for sent in self.packs.values())
        return packs + (pool in self._open)

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


def unusable(cluster: str, what: str, error: BaseException, hint: str) -> ClusterError:
    """Returns the error of a cluster; what the network has said may be over later."""
    kind = ClusterLost if isinstance(error, OSError) else ClusterError
    return kind(cluster, f"{what}: {describe_error(error)}", hint)
