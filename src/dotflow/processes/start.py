"""How a worker process starts: as a copy of this process or of a fork server.

No worker imports the caller's `__main__` again. Each leads a process group of its own, so that it can be killed with
everything that it has started.
"""

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Iterable, Mapping, Sequence

from dotflow.capture.output import flush_streams
from dotflow.capture.pipes import close_own_end, open_pipe, own_ends
from dotflow.core.outcome import Usage
from dotflow.core.task import Task
from dotflow.cpython import forget_exit_handlers, forget_running_loop
from dotflow.processes.channel import Channel, Dump, dump_by_reference, dump_by_value
from dotflow.processes.worker import Reap, WorkerProcess
from dotflow.processes.worker_main import run_worker
from dotflow.worker.usage import wait_for


def default_start_method() -> str:
    """Returns "fork" where it is safe: on Linux, in a process with one thread, native ones counted."""
    try:
        return "fork" if sys.platform == "linux" and len(os.listdir("/proc/self/task")) == 1 else "forkserver"  # noqa: PTH208
    except OSError:  # threads can't be counted
        return "forkserver"


class _Ends:
    """Both ends of a worker's channel, parent-death pipe and captured outputs.

    Args:
        undo: Closes the worker's ends, and those of this process unless `worker` takes them.
        captured: Whether the outputs are captured.
    """

    def __init__(self, undo: contextlib.ExitStack, *, captured: bool) -> None:
        self._undo = undo.enter_context(contextlib.ExitStack())
        self._ours, self.theirs = socket.socketpair()
        undo.callback(self.theirs.close)
        self._undo.callback(self._ours.close)
        self._ours.setblocking(False)
        # The parent-death pipe: the worker lives as long as its writing end is open, which only this process has.
        self.reading, self._writing = os.pipe()
        self._keep(undo, self._writing, self.reading)
        pipes = []
        for _ in "12" if captured else "":
            pipes.append(open_pipe())
            self._keep(undo, *pipes[-1])
        self._outputs = [pipe[0] for pipe in pipes]
        self.outputs = [pipe[1] for pipe in pipes]

    def _keep(self, undo: contextlib.ExitStack, own: int, other: int) -> None:
        own_ends.add(own)
        self._undo.callback(close_own_end, own)
        undo.callback(os.close, other)

    def foreign_to(self, other: "_Ends") -> list[int]:
        """Returns the descriptors that the fork with the other ends must close, but `own_ends`."""
        ours = self._ours.fileno()
        return [ours] if self is other else [ours, self.theirs.fileno(), self.reading, *self.outputs]

    def worker(self, reap: Reap, pid: int) -> WorkerProcess:
        """Returns the worker that has started with these ends."""
        self._undo.pop_all()
        return WorkerProcess(reap, pid, Channel(self._ours), self._writing, self._outputs)


class StartMethod:
    """Starts the workers of one run.

    Args:
        tasks: The run's tasks, by id.
        captured: Whether the workers' stdout and stderr are pipes to this process, and not its own.
    """

    #: Pickles values for its workers.
    dump: Dump = staticmethod(dump_by_value)
    #: Whether its workers have the run's tasks by fork.
    inherits_tasks = False

    def __init__(self, tasks: Mapping[int, Task], *, captured: bool = False) -> None:
        self.tasks = tasks
        self.captured = captured

    def workers(self, count: int) -> list[WorkerProcess]:
        """Starts so many workers, or fewer where the system refuses more. Raises OSError when it refuses the first one.

        All are prepared before the first one starts: a fork makes the next write to each page of this process slow.
        """
        flush_streams()  # buffered output would be written late or, after a fork, twice
        pids: list[int] = []
        with contextlib.ExitStack() as undo:
            try:
                prepared = [_Ends(undo, captured=self.captured) for _ in range(count)]
                foreign = [[fd for other in prepared for fd in other.foreign_to(ends)] for ends in prepared]
                for ends, others in zip(prepared, foreign, strict=True):
                    pids.append(self.launch(ends.theirs, ends.reading, others, ends.outputs))
            except OSError:
                if count == 1:
                    raise
            if pids:
                return [ends.worker(self.reap, pid) for ends, pid in zip(prepared, pids, strict=False)]
        return self.workers(1)

    def launch(self, sock: socket.socket, parent_pipe: int, foreign: Iterable[int], outputs: Sequence[int]) -> int:
        """Starts the process and returns its id.

        Args:
            sock: The worker's end of the channel.
            parent_pipe: The worker's end of the parent-death pipe.
            foreign: The descriptors of channels and of other workers that a fork must close.
            outputs: The worker's stdout and stderr; empty for those of this process.
        """
        raise NotImplementedError

    def reap(self, pid: int) -> tuple[int | None, Usage]:
        """Waits for the process's end; returns its exit code, None if that is unknown, and what it has used."""
        return wait_for(pid)

    def close(self) -> None:
        """Ends what it has started beside the workers."""


class Fork(StartMethod):
    """Workers begin as copies of this process, with the run's tasks."""

    dump = staticmethod(dump_by_reference)
    inherits_tasks = True

    def launch(self, sock: socket.socket, parent_pipe: int, foreign: Iterable[int], outputs: Sequence[int]) -> int:
        coordinator = os.getpid()
        try:
            pid = os.fork()
            if pid:
                with contextlib.suppress(OSError):  # the child does the same, so that neither is too late
                    os.setpgid(pid, pid)
                return pid
            os.setpgid(0, 0)
            forget_exit_handlers()
            signal.set_wakeup_fd(-1)
            for descriptor in (*own_ends, *foreign):
                os.close(descriptor)
            own_ends.clear()
            for descriptor, output in enumerate(outputs, 1):
                os.dup2(output, descriptor)
                os.close(output)
            forget_running_loop()
            run_worker(sock, parent_pipe, dump_by_reference, self.tasks, captured=self.captured)
        finally:
            if os.getpid() != coordinator:  # the child must never return to the caller's code
                os._exit(1)
