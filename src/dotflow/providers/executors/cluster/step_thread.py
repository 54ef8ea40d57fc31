"""StepThread: a thread of a cluster's worker that makes the attempts of steps with isolate=False."""

import logging
import sys
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from dotflow.capture.pipes import wait_readable
from dotflow.capture.streams import STREAMS, StreamProxy
from dotflow.core.call import Call
from dotflow.core.calls import Port
from dotflow.core.outcome import Interrupted, Raised
from dotflow.processes.channel import ANSWER, CALL, Message, dump_by_value, keep_shared
from dotflow.processes.requests import RemotePort
from dotflow.processes.worker_main import CallReader, loading_failure
from dotflow.providers.executors.cluster import protocol
from dotflow.providers.executors.cluster.conversation import Ask
from dotflow.providers.executors.cluster.protocol import PackedCall, Reply
from dotflow.providers.executors.thread import ThreadSession, WorkerThread
from dotflow.worker.deadline_thread import waking
from dotflow.worker.interrupts import interrupts_let_through
from dotflow.worker.waiting import WakeupEvent, WakeupPipe

_lock: Final = threading.Lock()
#: By id of the call that a thread makes: what it has printed.
_printed: Final[dict[int, list[tuple[int, bytes]]]] = {}


class Stop(WakeupPipe):
    """Ends the attempts of a pack, from any thread.

    Attributes:
        on_set: Called by `set`, too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.on_set: Callable[[], object] = int

    def set(self) -> None:
        super().set()
        self.on_set()

    @property
    def is_set(self) -> bool:
        """Whether `set` was called."""
        return wait_readable(self.fileno(), 0)


class ThreadPort(RemotePort):
    """The way to the coordinator of one attempt in a thread of a cluster's worker.

    Args:
        ask: Asks the run.
        is_followed: As in RemotePort.
    """

    def __init__(self, ask: Ask, *, is_followed: bool) -> None:
        super().__init__(dump_by_value, is_followed=is_followed)
        self._ask = ask

    def exchange(self, parts: Sequence[Any]) -> Message | None:
        event, answers = WakeupEvent(), list[Sequence[Any] | None]()

        def take(answer: Sequence[Any] | None) -> None:
            answers.append(answer)
            event.set()

        self._ask(parts, take)
        with interrupts_let_through(), waking(event.set):
            while not answers:
                event.wait(None)
        (answer,) = answers
        return None if answer is None else Message(ANSWER, 0, protocol.writable(answer))


class ThreadCallReader(CallReader):
    """Reads calls whose attempts are made in this process.

    Attributes:
        ask: Asks the run about the calls of the last one.
    """

    def __init__(self) -> None:
        super().__init__(dump_by_value, {})
        self.ask: Ask

    def port_of(self, number: int, *, is_followed: bool) -> Port:
        return ThreadPort(self.ask, is_followed=is_followed)


class StepThread:
    """A thread that makes one attempt at a time. Like a process, it keeps the last value for its lane.

    What nothing can end is left behind, in a thread that ends with the worker.

    Attributes:
        name: Its name, another one with each attempt.
        lane: The lane whose last value it has.
        idle_since: When its last attempt has ended, in ticks.
    """

    def __init__(self) -> None:
        self.name = ""
        self.lane: int | None = None
        self.idle_since = 0.0
        self._session = ThreadSession({}, 1, logging.getLogger("dotflow").warning)
        self._reader = ThreadCallReader()
        self._call: Call | None = None
        self._failure: Raised | None = None

    def begin(
        self, packed: PackedCall, steps: Mapping[int, bytes], shared: Mapping[int, Sequence[Any]], ask: Ask
    ) -> None:
        """Reads a call, which `run` makes, and whose attempt asks the run with *ask*."""
        self.name = uuid.uuid4().hex
        self._reader.ask = ask
        reader, step, number = self._reader, packed.placement.step, packed.placement.shared
        if step not in reader.steps:
            reader.pickled_steps[step] = steps[step]
        if number is not None:
            keep_shared(reader.shared, number, shared[number])
        self._call = self._failure = None
        try:
            self._call = reader.read(Message(CALL, 0, protocol.writable(packed.parts)))
        except Exception as error:  # loading objects imports the user's modules
            self._failure = Raised(loading_failure(error))

    def run(self, stop: Stop) -> Reply:
        """Makes the attempt, and returns the reply to it. Ends it when *stop* is set."""
        call, printed = self._call, list[tuple[int, bytes]]()
        if call is None:
            assert self._failure is not None
            return Reply(protocol.ANSWERED, parts=dump_by_value(self._failure))
        _capture_streams()
        _printed[id(call)] = printed
        stop.on_set = self._session.wake
        try:
            self._session.make_room(None, 0, 1)
            self._session.submit(call)
            while not stop.is_set:
                for _, outcome in self._session.wait(None):
                    if isinstance(outcome, Interrupted):
                        return Reply(protocol.STOPPED)
                    return Reply(protocol.ANSWERED, self.name, printed, parts=self._reader.dump_outcome(call, outcome))
            return Reply(protocol.STOPPED)
        finally:
            stop.on_set = int
            self._call = None
            del _printed[id(call)]

    def has_ended(self) -> bool:
        """Returns False: it ends with the worker."""
        return False

    def kill(self) -> None:
        """Makes `run` look whether it was stopped."""
        self._session.wake()

    def reap(self) -> None:
        """Ends the thread at the step's next Python line."""
        self._session.close()


def _capture_streams() -> None:
    """Puts proxies in the place of the worker's streams, which go on to print what they see."""
    with _lock:
        for name, number in STREAMS:
            stream = getattr(sys, name)
            is_there = type(stream) is StreamProxy and vars(stream)["_see"] is _see
            if stream is not None and not is_there:
                setattr(sys, name, StreamProxy(stream, number, _see))


def _see(number: int, data: bytes) -> None:
    """Adds what a step's thread prints to the output of its attempt."""
    thread = threading.current_thread()
    printed = _printed.get(id(thread.call)) if isinstance(thread, WorkerThread) else None
    if printed is not None:
        printed.append((number, data))
