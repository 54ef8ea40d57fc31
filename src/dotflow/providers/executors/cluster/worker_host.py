"""WorkerHost: the processes that make one run's attempts on one worker of a cluster.

A step runs in a process of its own. A stuck step is killed with everything that it started, and a crash ends no other
task of the cluster. The cluster's worker itself never loads the pickles of users.
"""

import pickle
import selectors
import threading
import uuid
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Final

from dotflow import clock
from dotflow.capture.worker_output import WorkerOutput
from dotflow.processes.channel import CALL, SHARED, keep_shared
from dotflow.processes.forkserver import ForkServer
from dotflow.processes.worker import WorkerProcess
from dotflow.providers.executors.cluster import protocol
from dotflow.providers.executors.cluster.protocol import Placement, Reply
from dotflow.worker.interrupts import interrupts_held
from dotflow.worker.waiting import WakeupPipe

READ: Final = selectors.EVENT_READ
WRITE: Final = selectors.EVENT_WRITE


class _Process:
    """A process, its lane, and the numbers of the shared arguments that it keeps."""

    def __init__(self, worker: WorkerProcess) -> None:
        self.worker = worker
        self.printed: list[tuple[int, bytes]] = []  # by the current attempt
        self.output = WorkerOutput(worker.outputs, self._take)
        self.name = ""
        self.lane: int | None = None
        self.shared: dict[int, None] = {}
        self.idle_since = 0.0

    def _take(self, stream: int, data: bytes) -> None:
        self.printed.append((stream, data))

    def begin(self, parts: Sequence[Any], number: int | None, shared: Sequence[Any]) -> None:
        """Begins an attempt. Shared arguments that it has already, by their number, are not sent again."""
        self.printed = []
        self.output.begin(None)
        messages = [(CALL, 0, parts)]
        if number is not None and number not in self.shared:
            keep_shared(self.shared, number, None)
            messages.insert(0, (SHARED, number, shared))
        self.worker.begin(0, messages)

    def reap(self) -> int | None:
        """Ends it, and returns its exit code."""
        code = self.worker.reap()
        self.output.end()
        self.output.close()
        return code


class WorkerHost:
    """Makes attempts for any number of threads. A lane keeps its process until another lane needs it.

    Args:
        max_processes: The maximum number of processes; at least the number of threads.
    """

    def __init__(self, max_processes: int) -> None:
        self._max_processes = max_processes
        self._lock = threading.Lock()
        self._start = ForkServer({}, captured=True)
        self._idle: dict[_Process, None] = {}  # an ordered set; the longest idle comes first
        self._busy: dict[_Process, WakeupPipe] = {}
        self._closed = False

    def make(self, packed: Sequence[Any], stop: WakeupPipe, shared: Sequence[Any] = ()) -> Reply:
        """Makes the attempt in a process and returns its reply. It ends at the deadline, and when *stop* is set.

        Args:
            packed: The packed call.
            stop: Ends it.
            shared: The parts of its shared arguments. Each process is sent them once.
        """
        place = Placement(*pickle.loads(packed[0]))
        with self._lock:
            if self._closed:
                return Reply(protocol.MISSING)
            try:
                process = self._process_for(place)
            except OSError as error:
                return Reply(protocol.NOT_STARTED, detail=str(error))
            if process is None:
                return Reply(protocol.MISSING)
            process.name = uuid.uuid4().hex  # the last name refers to a value that it no longer has
            self._busy[process] = stop
        reply = None
        try:
            process.begin(packed[1:], place.shared, shared)
            reply = _run_attempt(process, stop)
        finally:
            with self._lock:
                self._busy.pop(process, None)
                if reply is None or reply.kind != protocol.ANSWERED or place.isolate or self._closed:
                    code = process.reap()
                    if reply is not None and reply.kind in (protocol.DIED, protocol.LATE):
                        usage, last_lines = tuple(process.worker.usage), process.output.last_lines()
                        reply = reply._replace(detail=code, usage=usage, last_lines=last_lines)
                    self._close_forkserver_if_closed()
                else:
                    process.lane = place.lane
                    process.idle_since = clock.ticks()
                    self._idle[process] = None
        return reply

    def end_idle(self, since: float) -> bool:
        """Ends the processes that have been idle since then. Returns whether none is left."""
        with self._lock:
            self._end([process for process in self._idle if process.idle_since <= since])
            return not self._idle and not self._busy

    def close(self) -> None:
        """Ends all processes. Each `make` that waits returns."""
        with self._lock:
            self._closed = True
            self._end(list(self._idle))
            for process, wakeup in self._busy.items():
                process.worker.kill()
                wakeup.set()
            self._close_forkserver_if_closed()

    def _process_for(self, place: Placement) -> _Process | None:
        """Returns the process for a call; None if it has ended. Raises OSError if none can be started."""
        self._end([process for process in self._idle if process.worker.has_ended()])
        found = None
        if place.process:
            found = next((process for process in self._idle if process.name == place.process), None)
            if found is None:
                return None
        elif not place.isolate:
            found = next((process for process in self._idle if process.lane == place.lane), None)
            if found is None and len(self._idle) + len(self._busy) >= self._max_processes:
                found = next(iter(self._idle), None)
        if found is None:
            with interrupts_held():
                return _Process(*self._start.workers(1))
        del self._idle[found]
        return found

    def _end(self, processes: Iterable[_Process]) -> None:
        for process in processes:
            self._idle.pop(process, None)
            process.reap()

    def _close_forkserver_if_closed(self) -> None:
        if self._closed and not self._busy:
            self._start.close()


def _run_attempt(process: _Process, stop: WakeupPipe) -> Reply:
    """Sends the call to its process and waits for the reply. Unless that is an answer, the caller ends the process."""
    worker, channel = process.worker, process.worker.channel
    pipes = [pipe for pipe in process.output.pipes if pipe.is_open]
    reply = partial(Reply, process=process.name, output=process.printed)
    with selectors.DefaultSelector() as selector:
        selector.register(channel, READ | WRITE)
        for other in (stop, *pipes, *(() if worker.sentinel is None else (worker.sentinel,))):
            selector.register(other, READ)
        while True:
            timeout = None if worker.kill_at is None else max(0.0, worker.kill_at - clock.ticks())
            events = {key.fd: mask for key, mask in selector.select(timeout)}
            for pipe in pipes:
                if pipe.fileno() in events:
                    pipe.read()
                    if not pipe.is_open:
                        selector.unregister(pipe)
            if events.get(channel.fileno(), 0) & WRITE and worker.flush():
                selector.modify(channel, READ)
            try:  # first: an answer sent just before the process ended still counts
                for parts in worker.outcomes():
                    process.output.end()
                    return reply(protocol.ANSWERED, parts=parts)
            except (EOFError, OSError):
                return reply(protocol.DIED)
            if stop.fileno() in events:
                return reply(protocol.STOPPED)
            if worker.sentinel in events:
                return reply(protocol.DIED)
            if worker.is_late():
                return reply(protocol.LATE)
