"""Interrupts while something is opened or closed are raised afterwards, and nothing stays open."""

import asyncio
import contextlib
import errno
import gc
import os
import queue
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import filelock
import psutil
import pytest

from dotflow import DotFlow, action
from dotflow.errors import EventLoopBlocked
from dotflow.processes import forkserver
from dotflow.processes.process_session import ProcessSession
from dotflow.processes.start import Fork
from dotflow.providers import StorageFile
from dotflow.worker import deadline_thread, interrupts
from dotflow.worker.coroutines import LoopThread
from dotflow.worker.deadline import DeadlinePassed, Limit
from dotflow.worker.deadline_thread import Stopped, stop_thread
from dotflow.worker.interrupts import interrupts_held, interrupts_let_through
from dotflow.worker.loops import Loops
from dotflow.worker.programs import ThreadPrograms
from dotflow.worker.waiting import WakeupPipe

MakeWorkflow = Callable[..., DotFlow]


def open_descriptors() -> list[str]:
    """Returns the kinds of all open descriptors of this process."""
    gc.collect()
    kinds = []
    for link in Path("/dev/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the folder's own, which is closed by now
            kinds.append(str(link.readlink()).partition(":")[0])
    return sorted(kinds)


class Boom(Exception):
    """Raised by a signal's handler."""


@pytest.fixture
def raising() -> Iterator[None]:
    """Makes SIGUSR1 raise Boom."""

    def handler(signum: int, frame: object) -> NoReturn:
        raise Boom

    before = signal.signal(signal.SIGUSR1, handler)
    yield
    signal.signal(signal.SIGUSR1, before)


def blocked() -> set[int]:
    return set(signal.pthread_sigmask(signal.SIG_BLOCK, ()))


def test_signals_come_afterwards(raising: None) -> None:
    """Their handlers run at the end of the outermost block, and the mask is as before."""
    before, lines = blocked(), []

    with pytest.raises(Boom):  # noqa: PT012 (where it is raised is what is tested)
        with interrupts_held():
            with interrupts_held():
                signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
                lines.append("inner")
            lines.append("outer")
        lines.append("never")

    assert lines == ["inner", "outer"]
    assert blocked() == before


def test_a_signal_at_the_first_moment_leaves_none_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python calls its handler at the end of the very call that blocks it."""
    before, set_mask = blocked(), interrupts.set_mask

    def block_and_raise(how: int, mask: Any) -> set[int]:
        previous = set_mask(how, mask)
        if mask == interrupts.ALL_SIGNALS:
            raise Boom
        return previous

    monkeypatch.setattr(interrupts, "set_mask", block_and_raise)
    with pytest.raises(Boom), interrupts_held():
        pytest.fail("the block was entered")

    assert blocked() == before
    assert interrupts._held == {}


def test_long_calls_let_signals_through(raising: None) -> None:
    """Within it handlers run at once, and afterwards signals are held again."""
    lines = []

    with interrupts_held():
        with pytest.raises(Boom), interrupts_let_through():
            signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
        lines.append(blocked() >= {signal.SIGUSR1, signal.SIGINT})

    assert lines == [True]


def test_an_exception_at_the_first_moment_of_a_long_call_leaves_interrupts_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another thread may raise it right after this one allows it: what is closed then must not be interrupted."""

    class Raising(dict[int, set[int]]):
        def pop(self, *given: Any) -> Any:
            super().pop(*given)
            if next(raises):
                raise Boom

    raises = iter([True, False])
    monkeypatch.setattr(interrupts, "_held", Raising())
    with interrupts_held():
        with pytest.raises(Boom), interrupts_let_through():
            pytest.fail("the block was entered")
        assert interrupts.are_held()
        assert blocked() >= {signal.SIGUSR1, signal.SIGINT}

    assert not interrupts.are_held()


def test_another_threads_exceptions_are_not_raised_meanwhile() -> None:
    """Deadlines and stops wait for the end of the block."""
    held, go, free = threading.Event(), threading.Event(), threading.Event()
    lines: list[object] = []

    def work() -> None:
        try:
            with interrupts_held():
                held.set()
                while not go.is_set():
                    time.sleep(0.001)
                lines.append("whole")
            free.set()
            while True:
                time.sleep(0.001)
        except Stopped:
            lines.append(Stopped)

    thread = threading.Thread(target=work)
    thread.start()
    held.wait()
    programs = ThreadPrograms()
    assert thread.ident is not None
    stop_thread(thread.ident, programs)
    go.set()
    free.wait()
    stop_thread(thread.ident, programs)
    thread.join()

    assert lines == ["whole", Stopped]


def test_a_stop_that_a_finalizer_swallows_ends_the_wait_for_a_coroutine(monkeypatch: pytest.MonkeyPatch) -> None:
    """CPython prints an exception that is raised in `__del__`, and drops it: the step would go on."""
    swallowed: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: swallowed.append(unraisable.exc_type))
    ended: list[type[BaseException]] = []
    is_in_finalizer = threading.Event()

    class Connection:
        def __del__(self) -> None:
            is_in_finalizer.set()
            while True:
                time.sleep(0.001)

    class Collecting(Limit):
        @property
        def seconds(self) -> float:
            """Frees a connection in the thread of the step, right before it waits."""
            if threading.current_thread() is thread and sys._getframe(1).f_code is LoopThread.run.__code__:
                Connection()
            return 0

        @seconds.setter
        def seconds(self, seconds: float) -> None: ...

    def work() -> None:
        try:
            loops.run(asyncio.sleep(60), Collecting(0))
        except BaseException as error:
            ended.append(type(error))

    loops = Loops(own_thread=True)
    thread = threading.Thread(target=work)
    thread.start()
    assert is_in_finalizer.wait(30)
    assert thread.ident is not None
    stop_thread(thread.ident, ThreadPrograms())
    thread.join(30)
    loops.close()

    assert (swallowed, ended) == ([Stopped], [Stopped])


def test_a_lock_is_given_back_when_an_interrupt_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a `with` is no line to raise in: neither in a step, nor in dotflow, whose locks all runs share."""

    def waits(*_: object) -> NoReturn:
        while True:
            time.sleep(0.001)

    def step() -> None:
        with lock:
            waits()

    lock, server = threading.Lock(), forkserver.ForkServerProcess()
    control = server._control
    monkeypatch.setattr(server, "_control", types.SimpleNamespace(sendmsg=waits))
    for interrupted in (step, lambda: server.fork(0, 0, [1])):
        limit = Limit(0.05)
        limit.raised = 1  # the step has swallowed the first one
        with pytest.raises(DeadlinePassed):
            deadline_thread.run_with_thread(limit, interrupted)
    monkeypatch.setattr(server, "_control", control)
    locked = (lock.locked(), server._lock.locked())
    server.close()

    assert locked == (False, False)


@pytest.mark.processes
def test_a_run_that_is_interrupted_anywhere_leaves_nothing(
    make_workflow: MakeWorkflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step's deadline may come while a run in it starts, feeds or ends its workers."""
    monkeypatch.setattr(deadline_thread, "REPEAT", 0.01)
    ignored: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda raised: ignored.append(raised.exc_value))

    def run() -> None:
        workflow = make_workflow()
        workflow.task.add([action(os.getpid)] * 2)
        workflow.start(mode="parallel")

    def run_for(seconds: float) -> None:
        def work() -> None:
            with contextlib.suppress(DeadlinePassed):
                deadline_thread.run_with_thread(Limit(seconds), run)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    me = psutil.Process()
    run_for(10)
    descriptors, children = open_descriptors(), len(me.children(recursive=True))
    for milliseconds in range(1, 41):
        run_for(milliseconds / 1000)
    run_for(10)  # the fork server is there again

    assert open_descriptors() == descriptors
    assert len(me.children(recursive=True)) <= children  # one of another test may have ended meanwhile
    # Python may raise the exception in a finalizer, which ignores it.
    assert [error for error in ignored if not isinstance(error, DeadlinePassed)] == []


@pytest.mark.processes
def test_a_run_whose_wait_for_outcomes_is_interrupted_again_and_again_leaves_nothing(
    make_workflow: MakeWorkflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker may take long to send what its step has returned, and a deadline raises until the run has ended."""

    def waits(*_: object) -> NoReturn:
        raise Boom

    workflow = make_workflow()
    workflow.task.add([action(os.getpid)] * 2)
    workflow.start(mode="parallel")  # in a process with threads it starts a fork server, which is kept
    before = open_descriptors()
    monkeypatch.setattr(ProcessSession, "_wait_for_returned", waits)
    with pytest.raises(Boom) as raised:
        workflow.start(mode="parallel")

    assert raised.traceback  # which holds the frames that had them open
    assert open_descriptors() == before


# What fails halfway


def test_a_fork_server_that_cannot_start_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its socket is closed."""

    def fails(*arguments: object, **options: object) -> NoReturn:
        raise OSError(errno.EAGAIN, "no more processes")

    monkeypatch.setattr(forkserver, "start_interpreter", fails)
    before = open_descriptors()
    with pytest.raises(OSError, match="no more processes"):
        forkserver.ForkServerProcess()

    assert open_descriptors() == before


@pytest.mark.parametrize("at", ["pipe", "launch"])
def test_a_worker_that_cannot_start_leaves_nothing(at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its sockets and pipes are closed."""

    def fails(*arguments: object) -> NoReturn:
        raise OSError(errno.EMFILE, "no more descriptors")

    before = open_descriptors()
    owner: Any = os if at == "pipe" else Fork
    with monkeypatch.context() as patch:
        patch.setattr(owner, at, fails)
        with pytest.raises(OSError, match="no more descriptors") as raised:
            Fork({}).workers(1)

    assert raised.traceback  # which holds the frames that had them open
    assert open_descriptors() == before


def test_a_pipe_that_is_dropped_is_closed() -> None:
    """An interrupt may come before its owner can close it."""
    before = open_descriptors()
    pipe = WakeupPipe()
    assert open_descriptors() != before

    del pipe
    assert open_descriptors() == before


def test_a_loop_that_is_stopped_in_its_own_lines_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a coroutine, the exception would be the coroutine's result."""

    def is_stopped() -> NoReturn:
        raise Stopped

    before = open_descriptors()
    loop = LoopThread()
    with monkeypatch.context() as patch:
        patch.setattr(loop.loop, "run_forever", is_stopped)
        loop.start()
        loop._thread.join()

    assert loop.loop.is_closed()
    assert open_descriptors() == before


@pytest.mark.skipif(sys.version_info < (3, 12), reason="while it is traced, a thread of 3.11 may never begin")
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")  # asyncio's, for the loop's end
def test_a_loop_that_is_abandoned_at_any_moment_is_closed() -> None:
    """The exception that ends its thread may come in any line of the thread's own."""
    own = LoopThread._work.__code__, LoopThread._serve.__code__
    number, count, is_reached = 0, 0, True
    asked: queue.SimpleQueue[LoopThread | None] = queue.SimpleQueue()
    answers: queue.SimpleQueue[None] = queue.SimpleQueue()

    def abandon() -> None:
        while (abandoned := asked.get()) is not None:
            abandoned.abandon()
            answers.put(None)

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count
        if frame.f_code not in own:
            return None
        if event == "line":
            count += 1
            if count == number:
                asked.put(loop)
                answers.get()
        return trace

    other = threading.Thread(target=abandon, daemon=True)
    other.start()
    while is_reached:
        number, count = number + 1, 0
        loop = LoopThread()
        threading.settrace(trace)
        try:
            loop.start()
        finally:
            threading.settrace(None)
        loop.close()
        loop._thread.join()
        is_reached = count >= number

        assert loop.loop.is_closed(), number
    asked.put(None)
    other.join()


def test_a_coroutine_never_waits_for_an_abandoned_loop() -> None:
    """Another step's thread may have taken the loop right before it was abandoned."""

    async def late() -> None:
        raise AssertionError

    loop = LoopThread()
    loop.abandon()
    with pytest.raises(EventLoopBlocked):
        loop.run(late(), Limit(0))

    loop.start()
    loop.close()
    with pytest.raises(EventLoopBlocked):
        loop.run(late(), Limit(0))


@pytest.mark.parametrize("own_thread", [False, True])
def test_no_coroutine_begins_after_its_run(own_thread: bool) -> None:
    """A thread that a run has left behind opens no loop, which nothing would close."""

    async def late() -> None:
        raise AssertionError

    loops = Loops(own_thread)
    loops.close()
    with pytest.raises(Stopped):
        loops.run(late(), Limit(0))

    assert loops._loop is None


def test_ctrl_c_while_a_lock_is_made_leaves_a_process_that_can_fork(
    make_workflow: MakeWorkflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """filelock refuses each fork after an interrupt within one of its calls, so the signal comes after the call."""
    made: list[str] = []

    class Interrupting(filelock.FileLock):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            signal.raise_signal(signal.SIGINT)
            made.append("whole")
            super().__init__(*arguments, **named)

    monkeypatch.setattr(filelock, "FileLock", Interrupting)
    workflow = make_workflow(workflow_id="nightly", storage=StorageFile(tmp_path))
    workflow.task.add(action(lambda: 1))
    with pytest.raises(KeyboardInterrupt):
        workflow.start()

    assert made == ["whole"]
    sys.audit("os.fork")
    monkeypatch.undo()
    assert workflow.start().status == "Completed"
