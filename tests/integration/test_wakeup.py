"""The wakeup: what wakes the caller's own thread, whatever interrupts it."""

import os
import signal
import threading

from dotflow.processes.wakeup import WakeupEvent


def test_a_ring_before_the_wait_is_heard() -> None:
    """Nobody has to wait for what has happened already, and it is heard once."""
    wakeup = WakeupEvent()
    wakeup.set()
    wakeup.set()

    wakeup.wait(None)
    assert not wakeup._unset.acquire(blocking=False)


def test_a_ring_ends_the_wait() -> None:
    """From any thread."""
    wakeup = WakeupEvent()
    ringing = threading.Thread(target=wakeup.set)
    ringing.start()

    wakeup.wait(None)
    ringing.join()


def test_the_time_ends_the_wait() -> None:
    """What is over already is not waited for, and rings are still heard afterwards."""
    wakeup = WakeupEvent()
    wakeup.wait(0.0)
    wakeup.wait(-1.5)

    wakeup.set()
    wakeup.wait(None)


def test_a_signal_that_another_thread_takes_is_heard() -> None:
    """And one that comes right before the wait: Python notes it, and calls the handler when this thread wakes."""
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
