"""WorkerHost: the processes that make one run's attempts on one worker of a cluster.

A step runs in a process of its own. A stuck step is killed with everything that it started, and a crash ends no other
task of the cluster. The cluster's worker itself never loads the pickles of users.
"""

import selectors
import threading
import uuid
from collections.abc import Iterable, Sequence
from typing import Any, Final

from dotflow import clock
from dotflow.capture.worker_output import WorkerOutput
from dotflow.processes.channel import CALL, OUTCOME, RETURNED, SHARED, STARTED, STDERR, STDOUT
from dotflow.processes.forkserver import ForkServer
from dotflow.processes.shared import keep_shared
from dotflow.processes.start import WorkerProcess
from dotflow.processes.wakeup import WakeupPipe
from dotflow.providers.executors.cluster.protocol import (
    ANSWERED,
    DIED,
    LATE,
    MISSING,
    NOT_STARTED,
    STOPPED,
    RemoteCall,
    Reply,
)
from dotflow.worker.deadline import GRACE
from dotflow.worker.interrupts import interrupts_held

READ: Final = selectors.EVENT_READ
WRITE: Final = selectors.EVENT_WRITE


class _Process:
    """A process, its lane, and the numbers of the shared arguments that it keeps."""

    def __init__(self, worker: WorkerProcess) -> None:
        self.worker = worker
        self.printed: list[tuple[int, bytes]] = []  # by the current attempt
        self.output = WorkerOutput(worker.outputs, self._take) if worker.outputs else None
        self.name = ""
        self.lane: int | None = None
        self.shared: dict[int, None] = {}
        self.idle_since = 0.0

    def _take(self, stream: int, data: bytes) -> None:
        self.printed.append((stream, data))

    def begin(self) -> list[tuple[int, bytes]]:
        """Returns the output of the attempt that begins, which grows."""
        self.printed = []
        if self.output is not None:
            self.output.begin(None)
        return self.printed

    def reap(self) -> int | None:
        """Ends it, and returns its exit code."""
        code = self.worker.reap()
        if self.output is not None:
            self.output.end()
            self.output.close()
        return code


class WorkerHost:
    """Makes attempts for any number of threads. A lane keeps its process until another lane needs it.

    Args:
        max_processes: The maximum number of processes; at least the number of threads.
        captured: Whether all output of the processes is captured, and not only what Python prints.
    """

    def __init__(self, max_processes: int, *, captured: bool = False) -> None:
        self._max_processes = max_processes
        self._lock = threading.Lock()
        self._start = ForkServer({}, relayed=(True, True), captured=captured)
        self._idle: dict[_Process, None] = {}  # an ordered set; the longest idle comes first
        self._busy: dict[_Process, WakeupPipe] = {}
        self._closed = False

    def make(self, remote_call: RemoteCall, stop: WakeupPipe, shared: Sequence[Any] = ()) -> Reply:
        """Makes the attempt in a process and returns its reply. It ends at the deadline, and when *stop* is set.

        Args:
            remote_call: The attempt.
            stop: Ends it.
            shared: The parts of its shared arguments. Each process is sent them once.
        """
        with self._lock:
            if self._closed:
                return Reply(MISSING)
            try:
                process = self._process_for(remote_call)
            except OSError as error:
                return Reply(NOT_STARTED, detail=str(error))
            if process is None:
                return Reply(MISSING)
            process.name = uuid.uuid4().hex  # the last name refers to a value that it no longer has
            self._busy[process] = stop
        reply = None
        try:
            if remote_call.shared is not None and remote_call.shared not in process.shared:
                keep_shared(process.shared, remote_call.shared, None)
                process.worker.channel.queue(SHARED, remote_call.shared, shared)
            reply = _run_attempt(process, remote_call, stop)
        finally:
            with self._lock:
                self._busy.pop(process, None)
                if reply is None or reply.kind != ANSWERED or remote_call.isolate or self._closed:
                    code = process.reap()
                    if reply is not None and reply.kind in (DIED, LATE):
                        last_lines = "" if process.output is None else process.output.last_lines()
                        reply = reply._replace(
                            detail=code if reply.kind == DIED else None,
                            usage=tuple(process.worker.usage),
                            last_lines=last_lines,
                        )
                    self._close_forkserver_if_closed()
                else:
                    process.lane = remote_call.lane
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

    def _process_for(self, remote_call: RemoteCall) -> _Process | None:
        """Returns the process for a remote call; None if it has ended. Raises OSError if none can be started."""
        self._end([process for process in self._idle if process.worker.has_ended()])
        process_found = None
        if remote_call.process:
            process_found = next((process for process in self._idle if process.name == remote_call.process), None)
            if process_found is None:
                return None
        elif not remote_call.isolate:
            process_found = next((process for process in self._idle if process.lane == remote_call.lane), None)
            if process_found is None and len(self._idle) + len(self._busy) >= self._max_processes:
                process_found = next(iter(self._idle), None)
        if process_found is None:
            with interrupts_held():
                return _Process(self._start.worker())
        del self._idle[process_found]
        return process_found

    def _end(self, processes: Iterable[_Process]) -> None:
        for process in processes:
            self._idle.pop(process, None)
            process.reap()

    def _close_forkserver_if_closed(self) -> None:
        if self._closed and not self._busy:
            self._start.close()


def _run_attempt(process: _Process, remote_call: RemoteCall, stop: WakeupPipe) -> Reply:
    """Sends the remote call to a process and waits for its reply. Unless it answers, the caller ends the process."""
    channel, ended = process.worker.channel, process.worker.sentinel
    output = process.begin()
    pipes = [] if process.output is None else process.output.pipes
    kill_at: float | None = None
    channel.queue(CALL, remote_call.number, remote_call.parts)
    with selectors.DefaultSelector() as selector:
        selector.register(channel, READ | WRITE)
        selector.register(stop, READ)
        if ended is not None:
            selector.register(ended, READ)
        for pipe in pipes:
            if pipe.is_open:
                selector.register(pipe, READ)
        while True:
            process_found = selector.select(None if kill_at is None else max(0.0, kill_at - clock.ticks()))
            events = {key.fd: mask for key, mask in process_found}
            for pipe in pipes:
                if pipe.fileno() in events:
                    pipe.read()
                    if not pipe.is_open:
                        selector.unregister(pipe)
            try:
                if events.get(channel.fileno(), 0) & WRITE and channel.flush():
                    selector.modify(channel, READ)
                # Read first: an answer sent just before the process ended still counts.
                for message in channel.receive():
                    if message.kind == OUTCOME:
                        if process.output is not None:
                            process.output.end()
                        return Reply(ANSWERED, process.name, output, parts=message.parts)
                    if message.kind in (STDOUT, STDERR):
                        output.append((message.kind, bytes(message.parts[0])))
                    elif message.kind == STARTED:
                        kill_at = clock.ticks() + remote_call.timeout + GRACE
                    elif message.kind == RETURNED:
                        kill_at = None
            except (EOFError, OSError):
                return Reply(DIED, process.name, output)
            if stop.fileno() in events:
                return Reply(STOPPED, process.name, output)
            if ended in events:
                return Reply(DIED, process.name, output)
            if kill_at is not None and kill_at <= clock.ticks():
                return Reply(LATE, process.name, output)
