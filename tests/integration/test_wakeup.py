"""WakeupEvent wakes a thread that waits, also after an interrupt."""

import os
import signal
import threading

from dotflow.processes.wakeup import WakeupEvent


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
