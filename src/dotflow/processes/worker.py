"""WorkerProcess: the coordinator's side of a worker process, and of the attempt that it makes."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from dotflow import clock
from dotflow.capture.pipes import close_own_end, wait_readable
from dotflow.core.outcome import Usage
from dotflow.processes.channel import OUTCOME, READY, REQUEST, RETURNED, SECONDS, STARTED, Channel, Message
from dotflow.worker.deadline import GRACE
from dotflow.worker.programs import own_processes

if TYPE_CHECKING:
    from dotflow.processes.memory import Excess, WatchedProcess

Answer = Callable[[Message], object]
Reap = Callable[[int], tuple[int | None, Usage]]


class WorkerProcess:
    """A worker process. It makes one attempt at a time.

    `begin` and `flush` send a call, and `outcomes` handles what the process sends. The caller waits for `channel` and
    `sentinel`, and reaps a process that has ended or is late.

    Args:
        reap: Waits for the process's end; returns its exit code, None if that is unknown, and what it has used.
        pid: Its process id, and that of its group.
        channel: The channel to it, which does not block.
        parent_pipe: The writing end of the pipe that ends with this process.
        outputs: The reading ends of its stdout and stderr, which the caller closes; empty if they are not captured.

    Attributes:
        sentinel: A descriptor that is readable when the process has ended; None if the system has no pidfd.
        has_returned: Whether its step has returned, and the outcome has not arrived.
        starting: Whether it has not reported yet.
        kill_at: When it has to be killed, in ticks; None while its step's time does not run.
        cpu: Seconds of CPU time that its earlier attempts have used, as far as the caller adds them.
        usage: What its last attempt has used, after `reap`, as far as it is known.
        watched: The memory of its last attempt, where that has a limit.
    """

    def __init__(self, reap: Reap, pid: int, channel: Channel, parent_pipe: int, outputs: Sequence[int] = ()) -> None:
        self._reap = reap
        self._parent_pipe = parent_pipe
        self._number = 0  # of its call
        self._answer: Answer | None = None
        self.pid = pid
        self.channel = channel
        self.outputs = outputs
        self.starting = True
        self.has_returned = False
        self.kill_at: float | None = None
        self.cpu = 0.0
        self.usage = Usage()
        self.watched: WatchedProcess | None = None
        self.sentinel = _pidfd(pid)
        own_processes.add(pid)

    def begin(
        self,
        number: int,
        messages: Iterable[tuple[int, int, Sequence[Any]]],
        answer: Answer | None = None,
        memory: int | None = None,
    ) -> None:
        """Adds the messages of a call to the queue of the channel. Raises what making them raises.

        Args:
            number: The number of the call.
            messages: Its messages.
            answer: Answers the requests of its attempt; None for one that has none.
            memory: The bytes that its attempt may use; None for no limit.
        """
        if memory is not None:
            from dotflow.processes.memory import watch  # here: few steps have a limit

            self.watched = watch.begin(self.pid, memory)
        self._number = number
        self._answer = answer
        self.kill_at = None
        self.has_returned = False
        for message in messages:
            self.channel.queue(*message)

    def flush(self) -> bool:
        """Sends what the socket accepts now; returns whether that was all, or the process has ended."""
        try:
            return self.channel.flush()
        except OSError:  # it has ended, as `outcomes` and the sentinel will show
            return True

    def outcomes(self) -> Iterator[Sequence[memoryview]]:
        """Handles the messages that have arrived; yields the parts of the attempt's outcome, if that is among them.

        Raises EOFError or OSError when the process has closed its end.
        """
        for message in self.channel.receive():
            kind = message.kind
            if kind == OUTCOME and message.number == self._number:
                self.kill_at = None
                self.has_returned = False
                yield message.parts
            elif kind == REQUEST and message.number == self._number:
                if self._answer is not None:
                    self._answer(message)
            elif kind == STARTED:
                self.kill_at = clock.ticks() + SECONDS.unpack(message.parts[0])[0] + GRACE
            elif kind == RETURNED:  # pickling its value may take long
                self.kill_at = None
                self.has_returned = True
            elif kind == READY:
                self.starting = False

    @property
    def excess(self) -> "Excess | None":
        """What its attempt has used, where it was killed for the memory."""
        return None if self.watched is None else self.watched.excess

    def is_late(self) -> bool:
        """Returns whether it has to be killed now."""
        return self.kill_at is not None and self.kill_at <= clock.ticks()

    def has_ended(self) -> bool:
        """Returns whether it is known to have ended; False without a sentinel."""
        return self.sentinel is not None and wait_readable(self.sentinel, 0)

    def interrupt(self) -> None:
        """Ends the reading of files after its step has returned, so that the outcome arrives soon."""
        self.has_returned = False
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGINT)

    def kill(self) -> None:
        """Kills it and everything that it has started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def reap(self) -> int | None:
        """Kills it and its group, waits for it, and returns its exit code, or minus the number of its signal.

        The group outlives its leader, and until the leader is reaped no other process can get its id.
        """
        if self.watched is not None:
            from dotflow.processes.memory import watch

            watch.end(self.watched)
        self.kill()
        code, usage = self._reap(self.pid)
        self.usage = usage if usage.cpu is None else usage._replace(cpu=max(0.0, usage.cpu - self.cpu))
        self.channel.close()
        close_own_end(self._parent_pipe)
        if self.sentinel is not None:
            os.close(self.sentinel)
        own_processes.discard(self.pid)
        return code


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):  # this system does not have it, or does not allow it
        return None
