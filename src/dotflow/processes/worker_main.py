"""A worker process: receives calls, makes attempts and sends outcomes, until its coordinator has ended."""

import contextlib
import os
import pickle
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, NoReturn

from dotflow.capture.output import buffer_lines, flush_all, flush_streams, print_to_descriptors
from dotflow.core.action import AnyAction
from dotflow.core.attempt_id import AttemptId
from dotflow.core.call import Call, Watch
from dotflow.core.calls import Port
from dotflow.core.context import Context
from dotflow.core.failure import Failure
from dotflow.core.files import FileWatch
from dotflow.core.outcome import Interrupted, Outcome, Parked, Raised, Returned
from dotflow.core.task import Task
from dotflow.cpython import SIG_DFL, become_subreaper, run_exit_handlers, set_handler, set_mask
from dotflow.errors import AttemptError, ModuleNotOnWorker, NotPicklable
from dotflow.processes.channel import (
    CALL,
    ENVIRON,
    MIN_BESIDE,
    OUTCOME,
    READY,
    RETURNED,
    SCALARS,
    SECONDS,
    SHARED,
    STARTED,
    STEP,
    Channel,
    Dump,
    Message,
    dump_beside,
    dump_plain,
    keep_shared,
)
from dotflow.processes.failures import HERE
from dotflow.worker.attempt import attempt, remember_process
from dotflow.worker.deadline import forget_limits
from dotflow.worker.files import MAKER, Maker
from dotflow.worker.interrupts import interrupts_held
from dotflow.worker.loops import Loops
from dotflow.worker.programs import become_worker

LINUX: Final = sys.platform == "linux"
new: Final = tuple.__new__  # makes a named tuple in half the time: there is one for every attempt
F_SETSIG: Final = 10  # <asm-generic/fcntl.h>; the fcntl module has no name for it


class LastValue(NamedTuple):
    """Stands in a call for the last value that the worker has returned, which it still has."""


LAST_VALUE: Final = LastValue()


class CallReader:
    """Reads calls, with what a worker has in the place of references to it, and pickles their outcomes.

    Args:
        dump: Pickles outcomes.
        inherited_tasks: The tasks that the worker has by fork.
    """

    def __init__(self, dump: Dump, inherited_tasks: Mapping[int, Task]) -> None:
        self.dump = dump
        self.inherited_tasks = inherited_tasks
        self.steps: dict[int, AnyAction] = {}
        self.pickled_steps: dict[int, Any] = {}  # that no call has needed yet
        self.last_value: Any = None
        self.shared: dict[int, Sequence[Any]] = {}

    def read(self, message: Message) -> Call:
        """Returns the call that a message carries, with what this worker has in the place of references to it."""
        task_id, lane, sent_step, initial, previous, workflow_id, *rest = message.load()
        carrier, number, arguments, shared, fallback, secrets, files, is_followed, attempt_id = rest
        task = self.inherited_tasks.get(task_id)
        if task is not None:
            step, initial = task.step, task.initial_context
            if fallback:
                assert task.links is not None
                step = task.links.fallbacks[fallback - 1].step
        else:
            key, pickled = sent_step
            if pickled is None and key in self.pickled_steps:
                pickled = self.pickled_steps[key]
            if pickled is not None:
                self.steps[key] = pickle.loads(pickled)
                self.pickled_steps.pop(key, None)
            step, initial = self.steps[key], initial or Context()
        if previous is None:
            previous = Context()
        elif type(previous.storage) is LastValue:
            previous = Context(self.last_value, previous.task_id, previous.workflow_id, previous.time, previous.step)
        arguments = arguments and {
            name: self.last_value if type(value) is LastValue else value for name, value in arguments.items()
        }
        shared = None if shared is None else self._shared(shared)
        port = None if is_followed is None else self.port_of(message.number, is_followed=is_followed)
        watch = None if attempt_id is None else Watch(new(AttemptId, attempt_id))
        fields = (task_id, lane, step, initial, previous, workflow_id, carrier, number, arguments, shared)
        return new(Call, (*fields, fallback, secrets, files and new(FileWatch, files), port, None, watch))

    def port_of(self, number: int, *, is_followed: bool) -> Port | None:
        """Returns the way of a durable step's attempt to the coordinator, by the number of its call."""
        return None

    def _shared(self, number: int) -> Mapping[str, Any]:
        """Returns the shared arguments, unpickled anew for each call: calls must not see each other's changes."""
        pickled, *buffers = self.shared[number]
        shared: Mapping[str, Any] = pickle.loads(pickled, buffers=[bytearray(buffer) for buffer in buffers])
        return shared

    def dump_outcome(self, call: Call, outcome: Any) -> list[Any]:
        """Returns the pickled outcome, for `load_outcome`; if its value can't be pickled, that of a failure.

        Keeps the value, to which the next call may refer.
        """
        self.last_value = outcome.value if isinstance(outcome, Returned) else None
        dump, sent = self.dump, outcome
        if outcome.__class__ is Returned:
            value, repeated, usage, files = outcome
            # Pickled in a fifth of the time without their classes.
            sent = value, repeated, usage and tuple(usage), files
            if value.__class__ in SCALARS and not repeated:
                dump = dump_plain
                if value.__class__ is bytes and len(value) >= MIN_BESIDE:
                    dump, sent = dump_beside, (pickle.PickleBuffer(value), *sent[1:])
        elif outcome.__class__ is Parked and not outcome.repeated:
            dump = dump_plain
        try:
            return dump(sent)
        except BaseException as error:  # pickling runs the value's own methods
            self.last_value = None
            reason = f"{type(error).__name__}: {error}"
            message = str(NotPicklable(call.step.name, "The value returned", reason, HERE))
            return self.dump(Raised(Failure("NotPicklable", message), usage=getattr(outcome, "usage", None)))


class WorkerLoop(CallReader):
    """The loop of a worker process: it receives calls, makes their attempts and sends the outcomes.

    Args:
        channel: Its end of the channel to the coordinator.
        dump: As in CallReader.
        inherited_tasks: As in CallReader.
    """

    def __init__(self, channel: Channel, dump: Dump, inherited_tasks: Mapping[int, Task]) -> None:
        super().__init__(dump, inherited_tasks)
        self.channel = channel
        self.loops = Loops()
        self.number = 0  # of the call
        self.pid = os.getpid()
        self.flush: Callable[[], None] = flush_streams

    def run(self) -> None:
        """Makes attempts until the coordinator closes the channel, or interrupts it after an outcome."""
        try:
            self.send(READY, 0, [])
            MAKER.set(Maker())
            for message in self.channel.receive():
                if message.kind == CALL:
                    self.handle(message)
                elif message.kind == SHARED:
                    keep_shared(self.shared, message.number, message.parts)
                elif message.kind == STEP:
                    self.pickled_steps[message.number] = message.parts[0]
                elif message.kind == ENVIRON:  # before anything of the user is imported
                    os.environ.update(message.load())
        except (EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
            return

    def port_of(self, number: int, *, is_followed: bool) -> Port:
        from dotflow.processes.requests import ChannelPort  # here: few steps are durable

        return ChannelPort(self.channel, number, self.dump, is_followed=is_followed)

    def handle(self, message: Message) -> None:
        """Makes the attempt of a call, and sends its outcome."""
        try:
            call = self.read(message)
        except BaseException as error:  # loading objects imports the user's modules
            self.send(OUTCOME, message.number, self.dump(Raised(loading_failure(error))))
            return
        if seconds := call.step.policy.timeout:
            self.send(STARTED, message.number, [SECONDS.pack(seconds)])
        if call.step.policy.memory is not None:
            become_subreaper()
        self.number = message.number
        try:
            outcome = attempt(call, self.loops, self.report_returned)
        except KeyboardInterrupt:
            outcome = Interrupted()
        if os.getpid() != self.pid:  # a child that the step forked; only its parent sends the outcome
            os._exit(0)
        if call.port is not None:
            call.port.close()
        if seconds:
            self.report_returned()
        if seconds or getattr(outcome, "files", None) is not None:
            with interrupts_held():  # they end the reading of files, and the run waits for the outcome
                self.send_outcome(call, outcome)
        else:
            self.send_outcome(call, outcome)

    def report_returned(self) -> None:
        """Reports that the step has returned, and that the outcome takes a while."""
        if os.getpid() == self.pid:
            self.send(RETURNED, self.number, [])

    def send_outcome(self, call: Call, outcome: Outcome) -> None:
        """Sends the outcome of an attempt."""
        self.flush()
        self.send(OUTCOME, self.number, self.dump_outcome(call, outcome))

    def send(self, kind: int, number: int, parts: list[Any]) -> None:
        """Sends a whole message."""
        self.channel.queue(kind, number, parts)
        self.channel.flush()


def loading_failure(error: BaseException) -> Failure:
    """Returns the failure of a call that could not be loaded."""
    raised: AttemptError = NotPicklable("?", "The step or its input", f"{type(error).__name__}: {error}", HERE)
    if isinstance(error, ModuleNotFoundError) and error.name:
        raised = ModuleNotOnWorker(error.name)
    return Failure.of(error, name=type(raised).__name__, message=str(raised))


def run_worker(
    sock: socket.socket,
    parent_pipe: int,
    dump: Dump,
    inherited_tasks: Mapping[int, Task],
    *,
    captured: bool,
) -> NoReturn:
    """Runs a worker process, from its first line to its exit.

    Args:
        sock: Its end of the channel.
        parent_pipe: The reading end of a pipe whose writing end only the coordinator has: it closes with that.
        dump: Pickles outcomes.
        inherited_tasks: The tasks that it has by fork.
        captured: Whether its descriptors 1 and 2 are pipes to the coordinator.
    """
    code = 1
    try:
        _set_up(parent_pipe)
        worker = WorkerLoop(Channel(sock), dump, inherited_tasks)
        if captured:
            print_to_descriptors()
            worker.flush = flush_all
        # Unbuffered streams (PYTHONUNBUFFERED, as in many containers) buffer lines, too: print() writes several pieces,
        # and those of several workers would mix.
        buffer_lines(write_through=False)
        worker.run()
        worker.loops.close()
        run_exit_handlers()
        code = 0
    finally:
        flush_streams()
        os._exit(code)


def _set_up(parent_pipe: int) -> None:
    forget_limits()
    remember_process()
    become_worker()
    set_handler(signal.SIGINT, signal.default_int_handler)
    set_handler(signal.SIGTERM, SIG_DFL)
    set_mask(signal.SIG_SETMASK, ())  # they were blocked while it started
    _end_with_coordinator(parent_pipe)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 (it stays open as long as the process)


def _end_with_coordinator(parent_pipe: int) -> None:
    """Makes the end of the coordinator end this process and all that it has started.

    On Linux the kernel sends SIGKILL to the process group when the pipe closes, even during C code that never returns.
    Elsewhere a thread waits for the pipe.
    """
    if LINUX:
        import fcntl

        fcntl.fcntl(parent_pipe, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(parent_pipe, F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(parent_pipe, fcntl.F_SETFL, fcntl.fcntl(parent_pipe, fcntl.F_GETFL) | os.O_ASYNC | os.O_NONBLOCK)
        with contextlib.suppress(BlockingIOError):  # raised unless the coordinator ended before the kernel knew of it
            _watch_parent_pipe(parent_pipe)
    else:
        threading.Thread(target=_watch_parent_pipe, args=(parent_pipe,), name="dotflow-parent", daemon=True).start()


def _watch_parent_pipe(parent_pipe: int) -> None:
    os.read(parent_pipe, 1)
    os.killpg(0, signal.SIGKILL)
