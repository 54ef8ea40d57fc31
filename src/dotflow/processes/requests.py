"""The way of a body in a worker process to the coordinator: one request at a time, and its answer."""

import os
import threading
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from dotflow.calls.port import body_of
from dotflow.calls.requests import Requests
from dotflow.core.call import Call
from dotflow.core.calls import CallAnswer, CallRequest, Port, TypeRequest
from dotflow.core.outcome import Parked, TypePark
from dotflow.errors import NotPicklable
from dotflow.processes.channel import ANSWER, REQUEST, SCALARS, Channel, Dump, Message, dump_plain
from dotflow.processes.failures import HERE
from dotflow.worker.interrupts import interrupts_held


def answer_request(port: Port, message: Message, dump: Dump) -> list[Any]:
    """Returns the parts of the answer to a request that a worker has sent."""
    try:
        kind, *fields = message.load()
    except Exception as error:  # unpickling runs the value's own methods
        return _dump_answer(CallAnswer(TypeRequest.REFUSE, not_pickled("?", error)), dump)
    request = CallRequest(TypeRequest(kind), *fields)
    answer = port.answer(request)
    try:
        return _dump_answer(answer, dump)
    except Exception as error:  # pickling runs them, too
        return _dump_answer(CallAnswer(TypeRequest.REFUSE, not_pickled(request.name, error)), dump)


def _dump_answer(answer: CallAnswer, dump: Dump) -> list[Any]:
    kind, *fields = answer
    return (dump_plain if type(answer.value) in SCALARS else dump)((int(kind), *fields))


def not_pickled(name: str, error: Exception) -> NotPicklable:
    """Returns the error of a call whose value can't be sent."""
    called = name.rpartition(":")[2]
    return NotPicklable(called, "The value returned by the call", f"{type(error).__name__}: {error}", HERE)


class RemotePort(Requests):
    """The way of one attempt to a coordinator in another process.

    Threads take turns. After the end of the attempt nothing is sent.

    Args:
        dump: Pickles values.
        is_followed: Whether the events of single calls are received.
    """

    def __init__(self, dump: Dump, *, is_followed: bool) -> None:
        super().__init__(is_slow=True, is_followed=is_followed)
        self._dump = dump
        self._lock = threading.Lock()
        self._is_over = False
        self._pid = os.getpid()

    def body_of(self, call: Call) -> Callable[..., Any]:
        """Returns the function of the call's step, which runs as a body."""
        return body_of(self, call)

    def answer(self, request: CallRequest) -> CallAnswer:
        """Answers as the coordinator."""
        return self.send(request)

    def send(self, request: CallRequest) -> CallAnswer:
        kind, *fields = request
        try:
            parts = (dump_plain if type(request.value) in SCALARS else self._dump)((int(kind), *fields))
        except Exception as error:  # pickling runs the value's own methods
            return CallAnswer(TypeRequest.REFUSE, not_pickled(request.name, error))
        with interrupts_held(), self._lock:  # half a message would be the end of the channel
            answer = None if self._is_over or os.getpid() != self._pid else self.exchange(parts)
        if answer is None:
            return CallAnswer(TypeRequest.STOP, Parked(TypePark.PAUSE))
        kind, *fields = answer.load()
        return CallAnswer(TypeRequest(kind), *fields)

    @abstractmethod
    def exchange(self, parts: Sequence[Any]) -> Message | None:
        """Sends the parts of a request, and returns the answer; None where none comes. It holds interrupts."""

    def close(self) -> None:
        """Ends the conversation, once the request under way has its answer."""
        with interrupts_held(), self._lock:
            self._is_over = True


class ChannelPort(RemotePort):
    """The way to the coordinator of one attempt in a worker process. After the attempt its channel has other messages.

    Args:
        channel: The worker's end of the channel.
        number: The number of the call.
        dump: Pickles values.
        is_followed: As in RemotePort.
    """

    def __init__(self, channel: Channel, number: int, dump: Dump, *, is_followed: bool) -> None:
        super().__init__(dump, is_followed=is_followed)
        self._channel = channel
        self._number = number

    def exchange(self, parts: Sequence[Any]) -> Message | None:
        self._channel.queue(REQUEST, self._number, parts)
        self._channel.flush()
        return next(message for message in self._channel.receive() if message.kind == ANSWER)
