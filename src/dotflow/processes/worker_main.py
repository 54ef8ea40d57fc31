"""A worker process: takes calls, makes attempts, answers, until its coordinator is gone."""

import os
import pickle
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, NoReturn

from dotflow.core.action import Action
from dotflow.core.call import Call, Carrier
from dotflow.core.context import Context
from dotflow.core.failure import Failure
from dotflow.core.outcome import Interrupted, Outcome, Raised, Returned
from dotflow.core.task import Task
from dotflow.cpython import SIG_DFL, run_exit_handlers, set_handler, set_mask
from dotflow.errors import AttemptError, ModuleNotOnWorker, NotPicklable
from dotflow.processes.channel import ANSWER, CALL, READY, RETURNED, STARTED, STDERR, STDOUT, Channel, Dump, Message
from dotflow.processes.output import Relay
from dotflow.worker import deadline_signal
from dotflow.worker.attempt import attempt, remember_process
from dotflow.worker.loops import Loops

LINUX: Final = sys.platform == "linux"
F_SETSIG: Final = 10  # <asm-generic/fcntl.h>; the fcntl module has no name for it


class Kept(NamedTuple):
    """Stands for the value that the worker itself returned last, among a call's arguments."""


KEPT: Final = Kept()


class ValueRef(NamedTuple):
    """Stands for a value that the worker itself returned last and still has."""

    context: Context


class CallMessage(NamedTuple):
    """A call as it travels: what the worker knows already is left out.

    Attributes:
        task_id, lane, workflow_id: As in Call.
        step_key: A number for the step, the same for each of its calls.
        step: The step, pickled; None where the worker was born with it or had it before.
        initial_context: None where the worker was born with it.
        previous_context: A Context, or ValueRef where its value never left the worker.
        carrier, is_fallback: As in Call.
        arguments: As in Call, with KEPT for a value that never left the worker.
        shared_key: A number for the arguments that items share, the same for each of their calls; None without them.
        shared: These arguments, pickled; None where the worker had them before.
    """

    task_id: int
    lane: int
    workflow_id: str
    step_key: int
    step: bytes | None
    initial_context: Context | None
    previous_context: Context | ValueRef
    carrier: Carrier | None
    is_fallback: bool = False
    arguments: Mapping[str, Any] | None = None
    shared_key: int | None = None
    shared: bytes | None = None


class Worker:
    """One worker process.

    Args:
        channel: Its end of the channel to the coordinator.
        dump: How what it returns is pickled.
        born_with: The tasks that a fork gave it.
    """

    def __init__(self, channel: Channel, dump: Dump, born_with: Mapping[int, Task]) -> None:
        self.channel = channel
        self.dump = dump
        self.born_with = born_with
        self.loops = Loops()
        self.lock = threading.Lock()  # a step's threads may print while an answer is on its way
        self.steps: dict[int, Action[..., Any]] = {}
        self.kept: Any = None
        self.shared: dict[int, bytes] = {}
        self.pid = os.getpid()

    def work(self) -> None:
        """Makes attempts until the coordinator closes the channel."""
        try:
            self.send(READY, 0, [])
            for message in self.channel.receive():
                if message.kind == CALL:
                    self.answer(message)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return

    def answer(self, message: Message) -> None:
        """Makes the attempt that *message* asks for, and sends what came of it."""
        try:
            call = self.read(message)
        except BaseException as error:  # the user's modules are imported while their objects are loaded
            self.send(ANSWER, message.number, self.dump(Raised(_unreadable(error))))
            return
        if call.step.policy.timeout:
            self.send(STARTED, message.number, [])
        try:
            outcome = attempt(call, self.loops)
        except KeyboardInterrupt:
            outcome = Interrupted()
        if os.getpid() != self.pid:  # a child that the step forked came back too; the answer is its parent's to give
            os._exit(0)
        if call.step.policy.timeout:
            self.send(RETURNED, message.number, [])
        self.kept = outcome.value if isinstance(outcome, Returned) else None
        _flush()
        self.send(ANSWER, message.number, self.pack(call, outcome))

    def read(self, message: Message) -> Call:
        """The call that *message* carries."""
        order: CallMessage = message.load()
        task = self.born_with.get(order.task_id)
        if task is not None:
            step, initial = task.step, task.initial_context
            if order.is_fallback:
                assert task.links is not None
                assert task.links.fallback is not None
                step = task.links.fallback
        else:
            if order.step is not None:
                self.steps[order.step_key] = pickle.loads(order.step)
            assert order.initial_context is not None
            step, initial = self.steps[order.step_key], order.initial_context
        previous = order.previous_context
        if isinstance(previous, ValueRef):
            told = previous.context
            previous = Context(self.kept, told.task_id, told.workflow_id, told.time, told.step)
        return Call(
            order.task_id,
            order.lane,
            step,
            initial,
            previous,
            order.workflow_id,
            order.carrier,
            message.number,
            self._arguments(order.arguments),
            self._shared(order),
            order.is_fallback,
        )

    def _arguments(self, arguments: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        if arguments is None:
            return None
        return {name: self.kept if value.__class__ is Kept else value for name, value in arguments.items()}

    def _shared(self, order: CallMessage) -> Mapping[str, Any] | None:
        """What items share, unpickled anew for each: they must not see each other's changes."""
        if order.shared_key is None:
            return None
        if order.shared is not None:
            self.shared[order.shared_key] = order.shared
        found: Mapping[str, Any] = pickle.loads(self.shared[order.shared_key])
        return found

    def pack(self, call: Call, outcome: Outcome) -> list[Any]:
        """The outcome, pickled; of a value that can't be, an outcome that says so."""
        try:
            return self.dump(outcome)
        except BaseException as error:  # pickling runs the value's own methods
            self.kept = None
            reason = f"{type(error).__name__}: {error}"
            told = NotPicklable(call.step.name, "The value returned", reason)
            return self.dump(Raised(Failure("NotPicklable", str(told))))

    def send(self, kind: int, number: int, parts: list[Any]) -> None:
        """Sends one message whole."""
        with self.lock:
            self.channel.queue(kind, number, parts)
            self.channel.flush()


def _unreadable(error: BaseException) -> Failure:
    """Why a call could not be read."""
    told: AttemptError = NotPicklable("?", "What is given", f"{type(error).__name__}: {error}")
    if isinstance(error, ModuleNotFoundError) and error.name:
        told = ModuleNotOnWorker(error.name)
    return Failure.of(error, name=type(told).__name__, message=str(told))


def run_worker(
    sock: socket.socket, lifeline: int, dump: Dump, relayed: tuple[bool, bool], born_with: Mapping[int, Task]
) -> NoReturn:
    """The whole life of a worker process, from its first line to its exit.

    Args:
        sock: Its end of the channel.
        lifeline: The reading end of a pipe that only the coordinator can write to, and never does: it closes when
            the coordinator is gone, however it went.
        dump: How what it returns is pickled.
        relayed: Whether its stdout and stderr have to go through the channel.
        born_with: The tasks that a fork gave it.
    """
    code = 1
    try:
        _settle_in(lifeline)
        worker = Worker(Channel(sock), dump, born_with)
        if relayed[0]:
            sys.stdout = Relay(lambda data: worker.send(STDOUT, 0, [data]))
        if relayed[1]:
            sys.stderr = Relay(lambda data: worker.send(STDERR, 0, [data]))
        _line_by_line()
        worker.work()
        worker.loops.close()
        run_exit_handlers()
        code = 0
    finally:
        _flush()
        os._exit(code)


def _settle_in(lifeline: int) -> None:
    deadline_signal.forget()
    remember_process()
    set_handler(signal.SIGINT, signal.default_int_handler)
    set_handler(signal.SIGTERM, SIG_DFL)
    set_mask(signal.SIG_SETMASK, ())  # whoever started it held them
    _end_with_coordinator(lifeline)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 (it stays open as long as the process)


def _end_with_coordinator(lifeline: int) -> None:
    """The end of the coordinator ends this process and all that it started.

    On Linux the kernel itself sees to it: when the pipe closes it sends SIGKILL to the process group, whatever
    the process is doing, C code that never returns included. Elsewhere a thread waits for it.
    """
    if LINUX:
        import fcntl

        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(lifeline, F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC | os.O_NONBLOCK)
        try:
            gone = os.read(lifeline, 1) == b""
        except BlockingIOError:
            gone = False
        if gone:  # it went before the kernel was told
            os.killpg(0, signal.SIGKILL)
    else:
        threading.Thread(target=_wait_for_end, args=(lifeline,), name="dotflow-lifeline", daemon=True).start()


def _wait_for_end(lifeline: int) -> None:
    os.read(lifeline, 1)
    os.killpg(0, signal.SIGKILL)


def _line_by_line() -> None:
    """A worker may be killed at any time; what it printed before should not be lost with it.

    Nor should less than a line be written where Python does not buffer (PYTHONUNBUFFERED, as in many containers):
    print() writes piece by piece, and the pieces of several workers would mix.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True, write_through=False)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            if isinstance(stream, Relay):
                stream.flush_all()
            stream.flush()
        except (AttributeError, OSError, ValueError):  # None, broken, closed: there is nowhere to say so
            continue
