"""Waits end when they are woken, also after an interrupt, and by every signal."""

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from dotflow.engine import background
from dotflow.engine.run import RunEnd
from dotflow.processes.process_session import ProcessSession
from dotflow.providers.executors.thread import ThreadSession
from dotflow.worker import coroutines, waiting
from dotflow.worker.coroutines import InlineLoop
from dotflow.worker.deadline import Limit
from dotflow.worker.waiting import MAX_SLEEP, MAX_WAIT, Waiters, WakeupEvent, longest_sleep


def test_setting_it_before_the_wait_ends_one_wait() -> None:
    """Setting it twice ends one wait only."""
    wakeup = WakeupEvent()
    wakeup.set()
    wakeup.set()

    wakeup.wait(None)
    assert not wakeup._unset.acquire(blocking=False)


def test_setting_it_ends_the_wait() -> None:
    """Another thread may set it."""
    wakeup = WakeupEvent()
    setter = threading.Thread(target=wakeup.set)
    setter.start()

    wakeup.wait(None)
    setter.join()


def test_the_time_ends_the_wait() -> None:
    """A time that is over ends the wait at once, and the event can still be set."""
    wakeup = WakeupEvent()
    wakeup.wait(0.0)
    wakeup.wait(-1.5)

    wakeup.set()
    wakeup.wait(None)


def test_a_signal_that_another_thread_receives_ends_the_wait() -> None:
    """Python calls its handler when this thread wakes; the same holds for one that comes right before the wait."""
    wakeup, over = WakeupEvent(), threading.Event()
    other = threading.Thread(target=over.wait)
    other.start()
    before = signal.signal(signal.SIGUSR1, lambda signum, frame: wakeup.set())
    held = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])  # the other thread began without that
    killing = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1))
    killing.start()
    try:
        wakeup.wait(None)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
        signal.signal(signal.SIGUSR1, before)
        over.set()
        other.join()
        killing.join()


class Boom(KeyboardInterrupt):
    """Raised by a signal's handler. Of others, asyncio only logs those that come while it calls a function."""


def boom(signum: int, frame: object) -> None:
    raise Boom


def wait_for_background_runs(run: Any) -> None:
    background._running.add(run)
    try:
        background._wait(None)
    finally:
        background._running.discard(run)


def wait_in_a_coroutine() -> None:
    with contextlib.closing(InlineLoop()) as loop:
        loop.run(asyncio.sleep(60), Limit(0))


WAITS: dict[str, Callable[[], object]] = {
    "for workers": lambda: ProcessSession({}, 1, None).wait(None),
    "for threads": lambda: ThreadSession({}, 1, print).wait(None),
    "for a run": lambda: RunEnd().wait(None),
    "for background runs": lambda: wait_for_background_runs(object()),
    "in a coroutine": wait_in_a_coroutine,
}


@pytest.mark.parametrize("wait", WAITS)
def test_no_wait_misses_a_signal(wait: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python notes a signal that comes right before a wait, or to another thread, but the wait is not ended by it."""
    for module in (waiting, coroutines):
        monkeypatch.setattr(module, "MAX_SLEEP", 0.01)
    before = signal.signal(signal.SIGUSR1, boom)
    sending = threading.Timer(0.05, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGUSR1))

    def wait_for_signal() -> None:
        sending.start()
        WAITS[wait]()

    try:
        with pytest.raises(Boom):
            wait_for_signal()
    finally:
        signal.signal(signal.SIGUSR1, before)
        sending.join()


def test_only_the_main_thread_wakes_for_signals() -> None:
    """Hundreds of background runs that wait cost nothing."""
    sleeps: list[float] = []
    other = threading.Thread(target=lambda: sleeps.append(longest_sleep()))
    other.start()
    other.join()

    assert sleeps == [MAX_WAIT]
    assert longest_sleep() == MAX_SLEEP


def test_waiters_are_woken_and_ask_again() -> None:
    """A wake for something else does not end the wait."""
    waiters, is_true = Waiters(), threading.Event()

    def wake_twice() -> None:
        waiters.wake()
        is_true.set()
        waiters.wake()

    waking = threading.Timer(0.01, wake_twice)
    waking.start()
    waiters.wait_until(is_true.is_set, None)
    assert is_true.is_set()

    waiters.wait_until(lambda: False, 0.01)
    assert waiters._events == set()
    waking.join()
