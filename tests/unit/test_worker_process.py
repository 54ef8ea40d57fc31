"""WorkerProcess: what the coordinator makes of the messages of a worker process. No process is needed for it."""

import os
import signal
import socket
from collections.abc import Iterator

import pytest

from dotflow import Context, action, clock
from dotflow.core.call import Call
from dotflow.core.outcome import Returned, Usage
from dotflow.processes.channel import CALL, OUTCOME, READY, RETURNED, SECONDS, STARTED, Channel, dump_by_value
from dotflow.processes.encoding import load_outcome
from dotflow.processes.worker import WorkerProcess
from dotflow.processes.worker_main import CallReader
from dotflow.worker.deadline import GRACE

NO_PROCESS = 1 << 30  # above any process id


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[WorkerProcess, Channel]]:
    """The coordinator's side, which has begun call 7, and the worker's end of the channel."""
    monkeypatch.setattr(clock, "ticks", lambda: 100.0)
    ours, theirs = (Channel(sock) for sock in socket.socketpair())
    ours.sock.setblocking(False)
    reading, parent_pipe = os.pipe()
    os.close(reading)
    worker = WorkerProcess(lambda pid: (-signal.SIGKILL, Usage(cpu=5.0)), NO_PROCESS, ours, parent_pipe)
    worker.begin(7, [(CALL, 7, [b"call"])])
    yield worker, theirs
    theirs.close()
    if ours.fileno() >= 0:  # it is not reaped yet
        worker.reap()


def send(channel: Channel, *messages: tuple[int, int, list[bytes]]) -> None:
    for message in messages:
        channel.queue(*message)
    channel.flush()


def test_a_call_is_sent_with_its_number(ends: tuple[WorkerProcess, Channel]) -> None:
    """`begin` only queues it."""
    worker, theirs = ends

    assert worker.flush()
    message = next(theirs.receive())
    assert (message.kind, message.number, bytes(message.parts[0])) == (CALL, 7, b"call")


def test_the_time_of_an_attempt_runs_from_its_start_to_its_return(ends: tuple[WorkerProcess, Channel]) -> None:
    """The worker sends the timeout. The process is late a grace after it, unless the step has returned."""
    worker, theirs = ends
    send(theirs, (READY, 0, []), (STARTED, 7, [SECONDS.pack(2.0)]))

    assert list(worker.outcomes()) == []
    assert (worker.starting, worker.kill_at, worker.is_late()) == (False, 102.0 + GRACE, False)
    worker.kill_at = 100.0
    assert worker.is_late()
    send(theirs, (RETURNED, 7, []))
    assert list(worker.outcomes()) == []
    assert (worker.kill_at, worker.is_late()) == (None, False)


def test_the_outcome_of_another_call_is_not_this_ones(ends: tuple[WorkerProcess, Channel]) -> None:
    """Calls have numbers."""
    worker, theirs = ends
    send(theirs, (OUTCOME, 6, [b"other"]), (OUTCOME, 7, [b"pickle", b"buffer"]))

    (parts,) = worker.outcomes()
    assert [bytes(part) for part in parts] == [b"pickle", b"buffer"]


def test_an_outcome_that_was_sent_just_before_the_end_counts(ends: tuple[WorkerProcess, Channel]) -> None:
    """The end of the channel is noticed after it."""
    worker, theirs = ends
    send(theirs, (OUTCOME, 7, [b"pickle"]))
    theirs.close()

    assert len(list(worker.outcomes())) == 1
    with pytest.raises(EOFError):
        list(worker.outcomes())
    assert worker.flush(), "a call to a process that has ended is no error"


def test_the_usage_of_earlier_attempts_is_not_the_last_ones(ends: tuple[WorkerProcess, Channel]) -> None:
    """The system only knows what the whole process has used."""
    worker, _ = ends
    worker.cpu = 3.0

    assert worker.reap() == -signal.SIGKILL
    assert worker.usage.cpu == 2.0


def test_large_bytes_that_a_step_returns_are_sent_as_they_are() -> None:
    """Their pickle would be a copy, which takes longer than the way to the run."""
    call, value = Call(0, 0, action(len), Context(), Context(), "w"), bytes(range(256)) * 1_000

    parts = CallReader(dump_by_value, {}).dump_outcome(call, Returned(value))
    outcome = load_outcome(call, [bytearray(part) for part in parts])

    assert parts[1].obj is value
    assert isinstance(outcome, Returned)
    assert type(outcome.value) is bytes
    assert outcome.value == value
