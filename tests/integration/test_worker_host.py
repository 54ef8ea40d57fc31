"""WorkerHost: the processes that make a run's attempts on a cluster's worker. No cluster is needed to see that."""

import contextlib
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from dotflow import Context, action
from dotflow.core.call import Call
from dotflow.core.outcome import Outcome, Raised, Returned, TimedOut
from dotflow.processes.channel import dump_by_value
from dotflow.processes.encoding import CallEncoder, WorkerCache, load_outcome
from dotflow.providers.executors.cluster.protocol import (
    ANSWERED,
    DIED,
    LATE,
    MISSING,
    STOPPED,
    Pack,
    PackedCall,
    Placement,
    Reply,
)
from dotflow.providers.executors.cluster.step_thread import Stop
from dotflow.providers.executors.cluster.worker_host import WorkerHost


def step_processes() -> set[psutil.Process]:
    """The processes that the fork server has forked. This process keeps the server itself for the next run."""
    found = set()
    for server in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            found |= set(server.children(recursive=True))
    return found


_END = threading.Lock()  # a stuck step waits for it


@pytest.fixture
def worker_host() -> Iterator[WorkerHost]:
    """With room for two; nothing of it is left."""
    before = step_processes()
    made = WorkerHost(max_processes=2)
    yield made
    made.close()
    assert not psutil.wait_procs(step_processes() - before, timeout=30)[1]


@pytest.fixture
def wakeup() -> Iterator[Stop]:
    made = Stop()
    yield made
    made.close()


def packed(
    step: Callable[..., Any], lane: int = 0, previous: Any = None, holder: str = "", **options: Any
) -> list[Any]:
    """A packed call of a step that travels by value."""
    cache = WorkerCache()
    if holder:
        cache.value = previous
    made = action(**options)(step)
    call = Call(0, lane, made, Context(), Context(previous), "w")
    return packed_of(call, CallEncoder(dump_by_value, inherited=False), cache, process=holder)


def packed_of(call: Call, encoder: CallEncoder, cache: WorkerCache | None = None, **options: Any) -> list[Any]:
    """A pack of one call, whose journal has a name of its own."""
    number, pickled = encoder.step_of(call.step)
    placement = Placement(call.lane, call.step.isolate, number, **options)
    parts = encoder.encode(cache or WorkerCache(), call)
    return Pack(f"test-{uuid.uuid4().hex}", [PackedCall(placement, parts)], {number: pickled}).pack()


def reply_of(worker_host: WorkerHost, packed: list[Any], wakeup: Stop, shared: dict[int, Any] | None = None) -> Reply:
    """The reply to the only call of a pack, or that to the pack where it is refused."""
    reply = worker_host.make(packed, wakeup, shared or {})
    return reply.replies[0] if reply.replies else Reply(reply.kind)


def outcome_of(reply: Reply) -> Outcome:
    assert reply.kind == ANSWERED
    return load_outcome(Call(0, 0, action(len), Context(), Context(), "w"), reply.parts)


def value_of(reply: Reply) -> Any:
    outcome = outcome_of(reply)
    assert isinstance(outcome, Returned)
    return outcome.value


def test_a_lane_keeps_its_process(worker_host: WorkerHost, wakeup: Stop) -> None:
    """What a step left in its memory is there for the next one; another lane has another process."""
    make = lambda lane: value_of(reply_of(worker_host, packed(lambda: os.getpid(), lane), wakeup))

    first, second, third = make(0), make(1), make(0)

    assert first == third != second
    assert os.getpid() not in (first, second)


def test_the_one_that_rested_longest_is_given_away(worker_host: WorkerHost, wakeup: Stop) -> None:
    """No more are started than there may be."""
    make = lambda lane: value_of(reply_of(worker_host, packed(lambda: os.getpid(), lane), wakeup))
    first, second = make(0), make(1)

    assert make(2) == first
    assert make(1) == second


def test_a_value_is_kept_by_the_process_that_returned_it(worker_host: WorkerHost, wakeup: Stop) -> None:
    """A call that names it need not bring it; one that names somebody else is told so, and nothing runs."""
    value = list(range(5))
    reply = reply_of(worker_host, packed(lambda: list(range(5))), wakeup)
    follow = lambda previous_context: sum(previous_context.storage)

    assert value_of(reply_of(worker_host, packed(follow, previous=value, holder=reply.process), wakeup)) == 10
    assert reply_of(worker_host, packed(follow, previous=value, holder="somebody else"), wakeup).kind == MISSING


def test_a_value_is_gone_when_another_lane_has_used_the_process(worker_host: WorkerHost, wakeup: Stop) -> None:
    """A call that refers to it is not answered with the value of that other lane."""
    reply = reply_of(worker_host, packed(lambda: "a", lane=0), wakeup)
    reply_of(worker_host, packed(lambda: "b", lane=1), wakeup)
    reply_of(worker_host, packed(lambda: "c", lane=2), wakeup)
    follow = lambda previous_context: previous_context.storage

    assert reply_of(worker_host, packed(follow, lane=0, previous="a", holder=reply.process), wakeup).kind == MISSING


def test_each_process_is_sent_shared_arguments_once(worker_host: WorkerHost, wakeup: Stop) -> None:
    """Each call has a copy of its own of them."""
    encoder = CallEncoder(dump_by_value, inherited=False)
    shared = {"numbers": [0], "data": bytearray(100_000)}

    def grow(numbers: list[int], data: bytearray) -> tuple[int, int]:
        numbers.append(1)
        data += b"more"
        return len(numbers), len(data)

    step = action(grow)

    def make(lane: int, *, send: bool) -> Any:
        call = Call(0, lane, step, Context(), Context(), "w", arguments={}, shared=shared)
        message = encoder.shared_of(call)
        assert message is not None
        pack = packed_of(call, encoder, shared=message.number)
        return value_of(reply_of(worker_host, pack, wakeup, {message.number: message.parts} if send else {}))

    for lane, send in ((0, True), (0, False), (1, True), (1, False), (0, False)):
        assert make(lane, send=send) == (2, 100_004)


def test_prints_come_with_the_reply(worker_host: WorkerHost, wakeup: Stop) -> None:
    """Each with its stream."""

    def prints() -> None:
        import sys

        print("out")
        print("err", file=sys.stderr)

    reply = reply_of(worker_host, packed(prints), wakeup)

    assert reply.output == [(1, b"out\n"), (2, b"err\n")]


def test_all_output_comes_with_the_reply(worker_host: WorkerHost, wakeup: Stop) -> None:
    """C code and programs, too, and the last words of a process that crashes."""

    def print_everywhere() -> None:
        import os
        import subprocess
        import sys

        print("out", flush=True)
        os.write(1, b"descriptor\n")
        subprocess.run(["echo", "program"], check=True)
        print("err", file=sys.stderr)
        sys.stdout.write("a part")

    def crash() -> None:
        import os
        import sys

        print("last words", file=sys.stderr)
        os.abort()

    output = reply_of(worker_host, packed(print_everywhere), wakeup).output
    reply = reply_of(worker_host, packed(crash), wakeup)

    assert b"".join(data for kind, data in output if kind == 1) == b"out\ndescriptor\nprogram\na part"
    assert b"".join(data for kind, data in output if kind == 2) == b"err\n"
    assert (reply.kind, reply.detail) == (DIED, -6)
    assert reply.last_lines.startswith("Fatal Python error: Aborted")
    assert reply.output[0][1].startswith(b"last words\n")
    assert reply.usage[1] > 1_000_000


def test_isolated_steps_share_no_process(worker_host: WorkerHost, wakeup: Stop) -> None:
    """Each has a process of its own, which ends with it."""
    plain = value_of(reply_of(worker_host, packed(lambda: os.getpid()), wakeup))
    alone = [value_of(reply_of(worker_host, packed(lambda: os.getpid(), isolate=True), wakeup)) for _ in range(2)]

    assert len({plain, *alone}) == 3
    assert not any(psutil.pid_exists(process) for process in alone)


@pytest.mark.parametrize(("step", "code"), [(lambda: os._exit(7), 7), (lambda: os.kill(os.getpid(), 9), -9)])
def test_a_death_is_reported_with_its_cause(worker_host: WorkerHost, wakeup: Stop, step: Any, code: int) -> None:
    """With its exit code or signal, and the next call finds another process."""
    reply = reply_of(worker_host, packed(step), wakeup)

    assert (reply.kind, reply.detail) == (DIED, code)
    assert value_of(reply_of(worker_host, packed(lambda: "next"), wakeup)) == "next"


@pytest.mark.exhaustive
@pytest.mark.slow
def test_an_attempt_that_does_not_stop_in_time_is_killed(worker_host: WorkerHost, wakeup: Stop) -> None:
    """C code that never returns, too."""

    def stuck() -> None:
        import hashlib

        hashlib.pbkdf2_hmac("sha256", b"x", b"y", 200_000_000)

    assert reply_of(worker_host, packed(stuck, timeout=0.1), wakeup).kind == LATE


def test_the_bell_ends_it(worker_host: WorkerHost, wakeup: Stop, tmp_path: Path) -> None:
    """An attempt that nobody wants any more ends in the middle of whatever it does."""
    here = tmp_path / "pid"

    def sleeps() -> None:
        (tmp_path / "half").write_text(str(os.getpid()))
        (tmp_path / "half").rename(here)
        time.sleep(60)

    with ThreadPoolExecutor(1) as pool:
        reply = pool.submit(reply_of, worker_host, packed(sleeps), wakeup)
        while not here.exists():
            assert not reply.done()
        wakeup.set()

        assert reply.result(10).kind == STOPPED
    assert not psutil.pid_exists(int(here.read_text()))


def test_closing_ends_all(wakeup: Stop, tmp_path: Path) -> None:
    """Idle ones and busy ones; those who wait are told."""
    before = step_processes()
    worker_host, begun = WorkerHost(max_processes=3), tmp_path / "begun"

    def sleeps() -> None:
        begun.touch()
        time.sleep(60)

    reply_of(worker_host, packed(lambda: None, lane=0), wakeup)
    with ThreadPoolExecutor(1) as pool:
        reply = pool.submit(reply_of, worker_host, packed(sleeps, lane=1), wakeup)
        while not begun.exists():
            assert not reply.done()
        worker_host.close()

        assert reply.result(10).kind in (STOPPED, DIED)
    left = step_processes() - before
    assert not psutil.wait_procs(left, timeout=30)[1]


def test_a_process_that_died_at_rest_fails_no_task(worker_host: WorkerHost, wakeup: Stop) -> None:
    """What needs its value is told that this is gone; what needs nothing of it is given another process."""
    reply = reply_of(worker_host, packed(lambda: os.getpid()), wakeup)
    process = psutil.Process(value_of(reply))
    process.kill()
    while process.status() != psutil.STATUS_ZOMBIE:
        assert process.is_running()

    assert reply_of(worker_host, packed(lambda: None, previous=1, holder=reply.process), wakeup).kind == MISSING
    assert value_of(reply_of(worker_host, packed(lambda: "next"), wakeup)) == "next"


def test_the_process_that_forks_them_is_replaced(worker_host: WorkerHost, wakeup: Stop) -> None:
    """When memory runs out the system may kill that one, too: no attempt fails for it."""
    nursery = psutil.Process(value_of(reply_of(worker_host, packed(lambda: os.getppid()), wakeup)))
    nursery.kill()
    while nursery.status() != psutil.STATUS_ZOMBIE:
        assert nursery.is_running()

    assert value_of(reply_of(worker_host, packed(lambda: "next", lane=1), wakeup)) == "next"


def test_after_closing_nothing_is_run(wakeup: Stop, tmp_path: Path) -> None:
    """A call that comes late, of a run that has ended, starts no process."""
    worker_host = WorkerHost(max_processes=2)
    worker_host.close()

    assert reply_of(worker_host, packed((tmp_path / "ran").touch), wakeup).kind == STOPPED
    assert not (tmp_path / "ran").exists()


def test_who_has_rested_too_long_goes(worker_host: WorkerHost, wakeup: Stop) -> None:
    """Only they: those who have just been here stay, and when nobody is left that is said."""
    process = value_of(reply_of(worker_host, packed(lambda: os.getpid()), wakeup))

    assert not worker_host.end_idle(since=0.0)
    assert psutil.pid_exists(process)
    assert worker_host.end_idle(since=float("inf"))
    assert not psutil.pid_exists(process)


def test_several_threads_at_once(wakeup: Stop) -> None:
    """Each has its call made; none gets another's reply."""
    worker_host = WorkerHost(max_processes=4)
    wakeups = [Stop() for _ in range(4)]
    ready = threading.Barrier(4)

    def many(place: int) -> list[Any]:
        ready.wait()
        add = lambda previous_context: previous_context.storage + 1
        return [value_of(reply_of(worker_host, packed(add, place, place * 100 + n), wakeups[place])) for n in range(20)]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(many, range(4)))
    worker_host.close()
    for other in wakeups:
        other.close()

    assert found == [[place * 100 + n + 1 for n in range(20)] for place in range(4)]


class TestThreads:
    """A thread of the worker makes the attempts of a step with isolate=False."""

    def test_it_keeps_the_value_for_its_lane(self, worker_host: WorkerHost, wakeup: Stop) -> None:
        """It runs in the worker's own process, and a process does not have what a thread has returned."""
        reply = reply_of(worker_host, packed(lambda: [os.getpid()], isolate=False), wakeup)
        value = value_of(reply)
        follow = lambda previous_context: [*previous_context.storage, os.getpid()]
        given = {"previous": value, "holder": reply.process}

        assert value == [os.getpid()]
        assert reply_of(worker_host, packed(follow, **given), wakeup).kind == MISSING
        assert value_of(reply_of(worker_host, packed(follow, **given, isolate=False), wakeup)) == [os.getpid()] * 2

    def test_prints_and_errors_come_with_the_reply(self, worker_host: WorkerHost, wakeup: Stop) -> None:
        """Only those of its own attempt."""

        def step() -> None:
            print("printed there")
            raise ValueError("broken")

        reply = reply_of(worker_host, packed(step, isolate=False), wakeup)
        outcome = outcome_of(reply)
        print("printed here")

        assert b"".join(data for _, data in reply.output) == b"printed there\n"
        assert isinstance(outcome, Raised)
        assert outcome.failure.message == "broken"

    def test_what_nothing_can_end_is_left_behind(self, worker_host: WorkerHost, wakeup: Stop) -> None:
        """The attempt fails in time, and the next one has another thread."""
        end = _END
        end.acquire()

        def stuck() -> None:
            from tests.integration.test_worker_host import _END

            with _END:
                pass

        try:
            outcome = outcome_of(reply_of(worker_host, packed(stuck, timeout=0.05, isolate=False), wakeup))
            assert value_of(reply_of(worker_host, packed(lambda: "next", isolate=False), wakeup)) == "next"
        finally:
            end.release()

        assert isinstance(outcome, TimedOut)
        assert "left behind" in outcome.failure.message

    def test_the_bell_ends_it(self, worker_host: WorkerHost, wakeup: Stop, tmp_path: Path) -> None:
        """At its next Python line."""

        def waits() -> None:
            (tmp_path / "begun").touch()
            while True:
                time.sleep(0.01)

        with ThreadPoolExecutor(1) as pool:
            reply = pool.submit(reply_of, worker_host, packed(waits, isolate=False), wakeup)
            while not (tmp_path / "begun").exists():
                assert not reply.done()
            wakeup.set()

            assert reply.result(10).kind == STOPPED
