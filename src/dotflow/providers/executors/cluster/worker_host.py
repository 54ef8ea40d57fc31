"""WorkerHost: the processes that make one run's attempts on one worker of a cluster, pack by pack.

A step runs in a process of its own. A stuck step is killed with everything that it started, and a crash ends no other
task of the cluster. The cluster's worker itself loads the pickles of users only for steps with isolate=False.
"""

import selectors
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from dotflow import clock
from dotflow.capture.worker_output import WorkerOutput
from dotflow.processes.channel import ANSWER, CALL, SHARED, STEP, Message, keep_shared
from dotflow.processes.forkserver import KeptForkServer
from dotflow.processes.worker import WorkerProcess
from dotflow.providers.executors.cluster import protocol
from dotflow.providers.executors.cluster.conversation import Ask, Conversation
from dotflow.providers.executors.cluster.journal import Journal, delete_journal, delete_old_journals
from dotflow.providers.executors.cluster.protocol import Pack, PackedCall, PackReply, Placement, Reply
from dotflow.providers.executors.cluster.step_thread import StepThread, Stop
from dotflow.worker.interrupts import interrupts_held
from dotflow.worker.waiting import WakeupPipe

READ: Final = selectors.EVENT_READ
WRITE: Final = selectors.EVENT_WRITE

#: After so many seconds, or bytes of outcomes, no further call of a pack begins. The run gets it back.
MAX_PACK_SECONDS: Final = 0.1
MAX_PACK_SIZE: Final = 1 << 20

SharedParts = Mapping[int, Sequence[Any]]


class RunningPack:
    """What came of the calls of a pack so far, and whether further ones begin. Any thread may call its methods.

    Args:
        count: How many calls it has.
        announce: As in Conversation.

    Attributes:
        began: When the last call began, as `Reply.began`.
        conversation: What its attempts ask their run.
    """

    def __init__(self, count: int, announce: Callable[[], object]) -> None:
        self.began = 0.0
        self.conversation = Conversation(announce)
        self._lock = threading.Lock()
        self._count = count
        self._next = 0  # the place of the next call
        self._is_over = False
        self._replies: dict[int, Reply] = {}
        self._until = clock.ticks() + MAX_PACK_SECONDS
        self._size = 0

    def begin(self, place: int) -> bool:
        """Returns whether a call begins."""
        with self._lock:
            if self._is_over or (place and (clock.ticks() > self._until or self._size > MAX_PACK_SIZE)):
                return False
            self._next = place + 1
            self.began = clock.real_time()
            return True

    def end(self, place: int, reply: Reply) -> None:
        """Adds what came of a call."""
        with self._lock:
            self._replies[place] = reply
            self._size += protocol.size_of(reply.parts)

    def take(self) -> PackReply:
        """Returns all that has ended, and gives back the calls that have not begun: they no longer do."""
        with self._lock:
            self._is_over = True
            last = self._next - 1
            running = None if last < 0 or last in self._replies else (last, self.began)
            return PackReply(dict(self._replies), range(self._next, self._count), running, clock.real_time())


class StepProcess:
    """A process, its lane, and the numbers of the steps and the shared arguments that it keeps."""

    def __init__(self, worker: WorkerProcess) -> None:
        self.worker = worker
        self.printed: list[tuple[int, bytes]] = []  # by the current attempt
        self.output = WorkerOutput(worker.outputs, self._take)
        self.name = ""
        self.lane: int | None = None
        self.steps: set[int] = set()
        self.shared: dict[int, None] = {}
        self.idle_since = 0.0
        self.pipes = [pipe for pipe in self.output.pipes if pipe.is_open]
        self.selector = selectors.DefaultSelector()
        for other in (worker.channel, *self.pipes, *(() if worker.sentinel is None else (worker.sentinel,))):
            self.selector.register(other, READ)
        self._arrived: WakeupPipe | None = None  # set when the answer to a request has arrived
        self._answer: Sequence[Any] | None = None

    def _take(self, stream: int, data: bytes) -> None:
        self.printed.append((stream, data))

    def begin(self, call: PackedCall, steps: Mapping[int, bytes], shared: SharedParts, ask: Ask) -> None:
        """Begins an attempt, which asks the run with *ask*. What it has of step and arguments is not sent again."""
        self.name = uuid.uuid4().hex  # the last name refers to a value that it no longer has
        self.printed = []
        self.output.begin(None)
        step, number = call.placement.step, call.placement.shared
        messages: list[tuple[int, int, Sequence[Any]]] = [(CALL, 0, call.parts)]
        if step not in self.steps:
            self.steps.add(step)
            messages.insert(0, (STEP, step, [steps[step]]))
        if number is not None and number not in self.shared:
            keep_shared(self.shared, number, None)
            messages.insert(0, (SHARED, number, shared[number]))
        self._answer = None
        self.worker.begin(0, messages, lambda message: self._ask(ask, message), call.placement.memory)

    def _ask(self, ask: Ask, message: Message) -> None:
        """Passes a request of the attempt on to the run, which answers in another thread."""
        if self._arrived is None:
            self._arrived = WakeupPipe()
            self.selector.register(self._arrived, READ)
        ask(message.parts, self._note_answer)

    def _note_answer(self, parts: Sequence[Any] | None) -> None:
        assert self._arrived is not None
        self._answer = parts
        self._arrived.set()

    def _pass_answer(self) -> None:
        """Sends the answer that has arrived to the process."""
        assert self._arrived is not None
        self._arrived.clear()
        answer, self._answer = self._answer, None
        if answer is not None:
            self.worker.channel.queue(ANSWER, 0, answer)
            if not self.worker.flush():
                self.selector.modify(self.worker.channel, READ | WRITE)

    def run(self, stop: Stop) -> Reply:
        """Sends the call and waits for the reply. Unless that is an answer, the caller ends the process."""
        worker, channel, selector = self.worker, self.worker.channel, self.selector
        reply = partial(Reply, process=self.name, output=self.printed)
        if not worker.flush():
            selector.modify(channel, READ | WRITE)
        selector.register(stop, READ)
        try:
            while True:
                timeout = None if worker.kill_at is None else max(0.0, worker.kill_at - clock.ticks())
                events = {key.fd: mask for key, mask in selector.select(timeout)}
                for pipe in [pipe for pipe in self.pipes if pipe.fileno() in events]:
                    pipe.read()
                    if not pipe.is_open:
                        self.pipes.remove(pipe)
                        selector.unregister(pipe)
                if events.get(channel.fileno(), 0) & WRITE and worker.flush():
                    selector.modify(channel, READ)
                try:  # first: an answer sent just before the process ended still counts
                    for parts in worker.outcomes():
                        self.output.end()
                        return reply(protocol.ANSWERED, parts=parts)
                except (EOFError, OSError):
                    return reply(protocol.DIED)
                if stop.fileno() in events:
                    return reply(protocol.STOPPED)
                if self._arrived is not None and self._arrived.fileno() in events:
                    self._pass_answer()
                if worker.sentinel in events:
                    return reply(protocol.DIED)
                if worker.is_late():
                    return reply(protocol.LATE)
        finally:
            selector.unregister(stop)

    def has_ended(self) -> bool:
        """Returns whether it is known to have ended."""
        return self.worker.has_ended()

    def kill(self) -> None:
        """Kills it and everything that it has started."""
        self.worker.kill()

    def reap(self) -> int | None:
        """Ends it, and returns its exit code."""
        self.selector.close()
        if self._arrived is not None:
            self._arrived.close()
        code = self.worker.reap()
        self.output.end()
        self.output.close()
        return code


StepWorker = StepProcess | StepThread


class WorkerHost:
    """Makes attempts for any number of threads. A lane keeps its process until another lane needs it.

    Args:
        max_processes: The maximum number of processes of each kind; at least the number of threads.
        announce: Called with the name of a pack, as that of a Conversation.
    """

    def __init__(self, max_processes: int, announce: Callable[[str], object] = bool) -> None:
        self._max_processes = max_processes
        self._announce = announce
        self._lock = threading.Lock()
        self._begun = threading.Condition(self._lock)  # a pack has
        self._start = KeptForkServer({}, captured=True)  # the worker keeps it for the next run
        self._idle: dict[StepWorker, None] = {}  # an ordered set; the longest idle comes first
        self._busy: dict[StepWorker, Stop] = {}
        self._packs: dict[str, RunningPack] = {}
        self._journals: set[str] = set()  # the names of the packs that are over, and may not have arrived
        self._closed = False

    def make(self, packed: Sequence[Any], stop: Stop, shared: SharedParts) -> PackReply:
        """Makes the attempts of a pack, one after the other. It ends each at its deadline, and all when *stop* is set.

        Args:
            packed: The packed pack.
            stop: Ends it.
            shared: The parts of the calls' shared arguments, by number. Each process is sent them once.

        Returns:
            All that has ended, also what `take` has returned before: that may not have arrived.
        """
        pack = Pack.unpack(packed)
        running = RunningPack(len(pack.calls), partial(self._announce, pack.name))
        with self._lock:
            if self._closed:
                return PackReply({}, kind=protocol.STOPPED)
            self._packs[pack.name] = running
            self._begun.notify_all()
        journal, process = Journal(pack.name), None
        try:
            for place, call in enumerate(pack.calls):
                if not running.begin(place):
                    break
                began = clock.ticks()
                begin, ask = partial(journal.begin, place), running.conversation.begin(place)
                process, reply = self._attempt(call, pack.steps, shared, stop, process, begin, ask)
                running.conversation.end()
                reply = reply._replace(seconds=clock.ticks() - began, began=running.began)
                journal.end(place, reply)
                running.end(place, reply)
                if reply.kind == protocol.STOPPED:
                    break
        finally:
            with self._lock:
                del self._packs[pack.name]
                self._journals.add(pack.name)
            running.conversation.close()
            journal.close()
        return running.take()

    def forget(self, name: str) -> None:
        """Deletes the journal of a pack: the run has its reply."""
        with self._lock:
            self._journals.discard(name)
        delete_journal(name)

    def take(self, name: str) -> PackReply | None:
        """Ends a pack after the call that runs, and returns what came of it so far; None if it is over."""
        with self._lock:
            running = self._packs.get(name)
        return None if running is None else running.take()

    def conversation(self, name: str, seconds: float = 0.0) -> Conversation | None:
        """Returns what the attempts of a pack ask their run; None if it does not run.

        Args:
            name: The name of the pack.
            seconds: How long to wait for its beginning.
        """
        with self._lock:
            self._begun.wait_for(lambda: name in self._packs, seconds)
            running = self._packs.get(name)
        return None if running is None else running.conversation

    def _attempt(
        self,
        call: PackedCall,
        steps: Mapping[int, bytes],
        shared: SharedParts,
        stop: Stop,
        last: StepWorker | None,
        begin: Callable[[], bool],
        ask: Ask,
    ) -> tuple[StepWorker | None, Reply]:
        """Makes an attempt. Returns the process that the next call of the pack should take, and the reply.

        Args:
            call: The call.
            steps: The pickles of the pack's steps.
            shared: The parts of the shared arguments.
            stop: Ends it.
            last: The process of the call before, which has what this one needs.
            begin: Notes that it begins; returns whether it may.
            ask: Asks the run about a call of a durable step.
        """
        place = call.placement
        with self._lock:
            if self._closed:
                return None, Reply(protocol.STOPPED)
            try:
                process = self._process_for(place, last)
            except OSError as error:
                return None, Reply(protocol.NOT_STARTED, detail=str(error))
            if process is None:
                return None, Reply(protocol.MISSING)
            self._busy[process] = stop
        reply = None
        try:
            if begin():
                process.begin(call, steps, shared, ask)
                reply = process.run(stop)
            else:
                reply = Reply(protocol.STOPPED)
        finally:
            with self._lock:
                self._busy.pop(process, None)
                is_over = reply is None or reply.kind != protocol.ANSWERED or bool(place.isolate) or self._closed
                if not is_over:
                    process.lane = place.lane
                    process.idle_since = clock.ticks()
                    self._idle[process] = None
                elif isinstance(process, StepProcess):
                    code = process.reap()
                    if reply is not None and reply.kind in (protocol.DIED, protocol.LATE):
                        usage, last_lines = tuple(process.worker.usage), process.output.last_lines()
                        reply = reply._replace(detail=code, usage=usage, last_lines=last_lines)
                        if reply.kind == protocol.DIED and (excess := process.worker.excess) is not None:
                            reply = reply._replace(kind=protocol.EXCEEDED, detail=tuple(excess))
                self._close_forkserver_if_closed()
            if is_over and isinstance(process, StepThread):  # without the lock: its step may take a second to end
                process.reap()
        is_kept = protocol.size_of(reply.parts) >= protocol.MIN_KEPT_SIZE  # its lane's next call takes the value there
        return None if is_kept else process, reply

    def end_idle(self, since: float) -> bool:
        """Ends the processes that have been idle since then. Returns whether none is left."""
        with self._lock:
            self._end([process for process in self._idle if process.idle_since <= since])
            return not self._idle and not self._busy

    def close(self) -> None:
        """Ends all processes. Each `make` that waits returns."""
        with self._lock:
            self._closed = True
            for name in self._journals:
                delete_journal(name)
            self._end(list(self._idle))
            for process, wakeup in self._busy.items():
                process.kill()
                wakeup.set()
            self._close_forkserver_if_closed()
        delete_old_journals()  # here, where no run waits for it

    def _process_for(self, place: Placement, last: StepWorker | None) -> StepWorker | None:
        """Returns the process, or thread, for a call; None if it has ended. Raises OSError if none can be started."""
        kind = StepThread if place.isolate is False else StepProcess
        is_any = not place.process and not place.isolate
        if is_any and last is not None and last in self._idle and isinstance(last, kind) and not last.has_ended():
            del self._idle[last]
            return last
        self._end([process for process in self._idle if process.has_ended()])
        found, idle = None, [process for process in self._idle if isinstance(process, kind)]
        if place.process:
            found = next((process for process in idle if process.name == place.process), None)
            if found is None:
                return None
        elif not place.isolate:
            found = next((process for process in idle if process.lane == place.lane), None)
            if found is None and len(self._idle) + len(self._busy) >= self._max_processes:
                found = next(iter(idle), None)
        if found is None:
            if place.isolate is False:
                return StepThread()
            with interrupts_held():
                return StepProcess(*self._start.workers(1))
        del self._idle[found]
        return found

    def _end(self, processes: Iterable[StepWorker]) -> None:
        for process in processes:
            self._idle.pop(process, None)
            process.reap()

    def _close_forkserver_if_closed(self) -> None:
        if self._closed and not self._busy:
            self._start.close()
