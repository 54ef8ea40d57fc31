"""The lease on a workflow: who holds it, for how long, and what happens when it is lost."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from dotflow import clock
from dotflow.errors import LeaseLost, StorageError, WorkflowBusy
from dotflow.providers.storages import lease as leases
from dotflow.providers.storages.lease import Lease, LeaseLock, Register, RegisterText

MakeLease = Callable[["FakeRegister"], Lease]


class FakeRegister(Register):
    """A register in memory, with a clock and failures for tests.

    Attributes:
        now: Its clock, in seconds.
        is_down: Whether it can't be reached.
        loses_responses: Whether a request is executed, but its response lost.
        may_respond: A write waits until this is set.
        waiting: Set by a write that waits.
        on_write: Called at the beginning of a write.
    """

    def __init__(self) -> None:
        self.key = ("fake", id(self))
        self.location = "fake://nightly"
        self.now = 0.0
        self.is_down = self.loses_responses = False
        self.may_respond, self.waiting = threading.Event(), threading.Event()
        self.may_respond.set()
        self.on_write: Callable[[], None] = lambda: None
        self.text = ""
        self._version = 0
        self._written = 0.0
        self._lock = threading.Lock()

    def read(self) -> RegisterText | None:
        self._fail_if(self.is_down)
        with self._lock:
            return RegisterText(self.text, str(self._version), self.now - self._written) if self._version else None

    def write(self, text: str, version: str | None) -> str | None:
        self.on_write()
        if not self.may_respond.is_set():
            self.waiting.set()
            self.may_respond.wait()
        self._fail_if(self.is_down)
        with self._lock:
            if version != (str(self._version) if self._version else None):
                return None
            self.text, self._written = text, self.now
            self._version += 1
        self._fail_if(self.loses_responses)
        return str(self._version)

    def _fail_if(self, fails: bool) -> None:
        if fails:
            raise StorageError("The register can't be used", "it is down")

    @property
    def holder(self) -> object:
        """The holder in the text."""
        return json.loads(self.text)["holder"]

    @property
    def revision(self) -> int:
        """The number of writes."""
        return int(json.loads(self.text)["beat"])


@pytest.fixture
def register() -> FakeRegister:
    return FakeRegister()


@pytest.fixture
def sleep(monkeypatch: pytest.MonkeyPatch, register: FakeRegister) -> Callable[[float], None]:
    """Moves the time of holders and register. Renewing threads are not waited for."""
    past = [0.0]
    began = clock.elapsed()  # a busy machine takes no time
    monkeypatch.setattr(clock, "elapsed", lambda: began + past[0])

    def go_on(seconds: float) -> None:
        past[0] += seconds
        register.now += seconds

    return go_on


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process is known to be of this machine, as on systems without boot ids."""
    monkeypatch.setattr(leases, "_machine_id", lambda: "")


@pytest.fixture
def lease_of() -> Iterator[MakeLease]:
    """Makes leases, each as of another process, and releases them afterwards."""
    leases: list[Lease] = []

    def make(register: FakeRegister) -> Lease:
        leases.append(Lease(register, "nightly", 30.0))
        return leases[-1]

    yield make
    for lease in leases:
        lease.release()


def test_a_second_one_is_refused_at_once(lease_of: MakeLease, register: FakeRegister) -> None:
    """The error names the holder, since when, and when its lease would expire."""
    first = lease_of(register)
    first.acquire()
    register.now += 10

    with pytest.raises(WorkflowBusy, match=rf"process {os.getpid()} on host .* since 20.*free in 26 s"):
        lease_of(register).acquire()
    first.release()
    lease_of(register).acquire()


def test_an_expired_lease_is_taken_over(
    lease_of: MakeLease, register: FakeRegister, sleep: Callable[[float], None]
) -> None:
    """A margin after its end, and not before. The former holder writes nothing, and its errors name the new one."""
    first, second = lease_of(register), lease_of(register)
    first.acquire()
    sleep(35.9)
    with pytest.raises(WorkflowBusy):
        second.acquire()
    sleep(0.2)
    second.acquire()

    for call in (first.check, lambda: first.update(generation="x"), first.check):
        with pytest.raises(LeaseLost, match=r"'nightly' lost its lease.*took it over.*resume=True"):
            call()
    before = register.text
    first.release()
    assert register.text == before
    second.check()


def test_an_expired_lease_is_renewed(
    lease_of: MakeLease, register: FakeRegister, sleep: Callable[[float], None]
) -> None:
    """A sleeping machine, or a step that held the GIL, loses nothing: the write proves that no other took it."""
    lease = lease_of(register)
    lease.acquire()
    sleep(3_600)
    before = register.revision

    lease.check()
    lease.check()

    assert register.revision == before + 1


def test_without_the_service_nothing_is_written_after_expiry(
    lease_of: MakeLease, register: FakeRegister, sleep: Callable[[float], None]
) -> None:
    """Up to the margin before its end, a holder writes without a request. After it, only once the lease is renewed."""
    lease = lease_of(register)
    lease.acquire()
    register.is_down = True
    sleep(24)
    lease.check()
    sleep(2)
    with pytest.raises(StorageError, match="it is down"):
        lease.check()
    register.is_down = False
    lease.check()


def test_a_lost_response_does_not_lose_the_lease(
    lease_of: MakeLease, register: FakeRegister, sleep: Callable[[float], None]
) -> None:
    """The text is the holder's own: a write whose response was lost."""
    lease = lease_of(register)
    lease.acquire(generation="a")
    register.loses_responses = True
    sleep(26)
    with pytest.raises(StorageError, match="it is down"):
        lease.check()
    register.loses_responses = False

    lease.check()
    lease.update(generation="b")

    assert json.loads(register.text)["generation"] == "b"


def test_fields_of_the_storage_outlive_the_holder(lease_of: MakeLease, register: FakeRegister) -> None:
    """The next holder finds it. Defaults do not replace it."""
    first = lease_of(register)
    first.acquire(generation="a", void=[])
    first.update(generation="b")
    first.update_later(void=["a"])
    first.release()

    second = lease_of(register)
    second.acquire(generation="c", extra=1)

    assert dict(second.extra) == {"generation": "b", "void": ["a"], "extra": 1}


def test_the_lease_of_a_dead_process_of_this_machine_is_free(
    lease_of: MakeLease, register: FakeRegister, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is certain to be gone, so that a crash can be resumed at once."""
    first = lease_of(register)
    first.acquire()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        started = leases._stat(child.pid)[1]
        text = json.loads(register.text)
        text["holder"] |= {"process": child.pid, "started": started}
        register.text = json.dumps(text)
        with pytest.raises(WorkflowBusy, match=f"process {child.pid}"):
            lease_of(register).acquire()
    second = lease_of(register)
    second.acquire()
    # Another process of that number is not the one that held it.
    text["holder"] |= {"process": os.getpid(), "started": "1"}
    register.text = json.dumps(text)
    lease_of(register).acquire()


def test_a_process_of_another_host_is_never_taken_for_dead(lease_of: MakeLease, register: FakeRegister) -> None:
    """Even if all else is equal, as in sandboxes with equal boot ids."""
    lease_of(register).acquire()
    text = json.loads(register.text)
    text["holder"] |= {"process": 2**22 + 1, "host": "another"}
    register.text = json.dumps(text)

    with pytest.raises(WorkflowBusy):
        lease_of(register).acquire()


def test_a_process_of_another_machine_is_never_taken_for_dead(
    lease_of: MakeLease, register: FakeRegister, remote: None
) -> None:
    """Whatever its number is here."""
    lease = lease_of(register)
    lease.acquire()
    text = json.loads(register.text)
    text["holder"]["process"] = 2**22 + 1
    register.text = json.dumps(text)

    with pytest.raises(WorkflowBusy):
        lease_of(register).acquire()


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"holder": 1, "lease": 1, "beat": 1, "token": ""}', "\ud800"])
def test_an_unreadable_lease_is_not_taken(lease_of: MakeLease, register: FakeRegister, text: str) -> None:
    """A damaged text, or that of another program, stays as it is."""
    register.write("x", None)
    register.text = text

    with pytest.raises(StorageError, match="it is not a lease record"):
        lease_of(register).acquire()
    assert register.text == text


def test_it_is_renewed_while_it_is_held(register: FakeRegister) -> None:
    """Three times in the time that it lasts, by a thread, which ends with it."""
    before = set(threading.enumerate())
    with LeaseLock(register, "nightly", 0.3):
        until = time.monotonic() + 45
        while register.revision < 4 and time.monotonic() < until:
            time.sleep(0.01)
        threads = set(threading.enumerate()) - before
        assert [thread.name for thread in threads] == ["dotflow-lease"]
    assert register.revision >= 5
    assert register.holder is None
    for thread in threads:
        thread.join(45)
        assert not thread.is_alive()


def test_runs_of_one_process_share_it(register: FakeRegister) -> None:
    """Each learns the same name; it is free when the last one has left, whichever that is."""
    first, second = LeaseLock(register, "nightly", 30.0), LeaseLock(register, "nightly", 30.0)
    assert first.__enter__() == second.__enter__() == register.key
    lease = LeaseLock.held(register.key)
    assert lease is not None
    first.__exit__(None, None, None)
    assert register.holder is not None
    assert LeaseLock.held(register.key) is lease
    second.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert register.holder is None
    assert LeaseLock.held(register.key) is None


@pytest.mark.parametrize("method", ["read", "write"])
def test_an_interrupt_in_the_middle_of_taking_leaves_nothing(
    register: FakeRegister, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before or after the write: it is free again."""
    real = getattr(register, method)

    def interrupted(*arguments: object) -> None:
        real(*arguments)
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(register, method, interrupted)
    with pytest.raises(KeyboardInterrupt), LeaseLock(register, "nightly", 30.0):
        pass

    assert LeaseLock.held(register.key) is None
    with LeaseLock(register, "nightly", 30.0):
        pass


def test_a_service_that_is_away_does_not_fail_a_run_at_its_end(register: FakeRegister) -> None:
    """What it has done is done; the lease expires."""
    with LeaseLock(register, "nightly", 30.0):
        register.is_down = True

    assert LeaseLock.held(register.key) is None


def test_of_many_at_once_one_gets_it(lease_of: MakeLease, register: FakeRegister) -> None:
    """However close their first looks are."""
    together = threading.Barrier(8)
    got: list[Lease] = []
    busy: list[WorkflowBusy] = []

    def begin() -> None:
        lease = lease_of(register)
        together.wait()
        try:
            lease.acquire()
            got.append(lease)
        except WorkflowBusy as error:
            busy.append(error)

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (len(got), len(busy)) == (1, 7)
    got[0].release()


def test_a_renewal_without_a_response_does_not_delay_the_end(register: FakeRegister) -> None:
    """The run ends all the same, and its lease expires by itself."""
    lease = Lease(register, "nightly", 0.3)
    lease.acquire()
    register.may_respond.clear()
    assert register.waiting.wait(60)

    lease.release()  # before the answer, which never comes

    assert register.holder is not None
    register.may_respond.set()


def test_a_silent_register_does_not_block_others(register: FakeRegister) -> None:
    """A lease that can't be released now does not block other workflows."""
    other = FakeRegister()
    silent = LeaseLock(register, "nightly", 30.0)
    silent.__enter__()
    register.may_respond.clear()
    leaving = threading.Thread(target=silent.__exit__, daemon=True)
    leaving.start()
    assert register.waiting.wait(60)

    with LeaseLock(other, "hourly", 30.0):
        assert other.holder is not None

    assert other.holder is None
    assert leaving.is_alive()
    register.may_respond.set()
    leaving.join()
    assert register.holder is None


def test_giving_it_back_does_not_begin_anew(register: FakeRegister, sleep: Callable[[float], None]) -> None:
    """Ctrl-C while it takes long: the second time is no longer than what was left of the first."""
    lease = Lease(register, "nightly", 30.0)
    lease.acquire()

    def interrupted() -> None:
        sleep(6)
        raise KeyboardInterrupt

    register.on_write = interrupted
    with pytest.raises(KeyboardInterrupt):
        lease.release()
    lease.release()

    assert register.holder is not None


@pytest.fixture
def renew(
    register: FakeRegister, sleep: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> Callable[[Lease, int], list[float]]:
    """Renews a lease so often, without a thread and without waiting; the seconds that would have been waited."""

    def renew_lease(lease: Lease, times: int) -> list[float]:
        waits: list[float] = []

        class Over(threading.Event):
            def wait(self, timeout: float | None = None) -> bool:
                waits.append(timeout or 0.0)
                sleep(waits[-1])
                return len(waits) > times

        with monkeypatch.context() as patch:
            patch.setattr(lease, "_stopped", Over())
            lease._renew()
        return waits[:times]

    return renew_lease


def test_renewals_keep_their_pace(
    lease_of: MakeLease,
    register: FakeRegister,
    sleep: Callable[[float], None],
    renew: Callable[[Lease, int], list[float]],
) -> None:
    """One that takes long to fail does not put the next one off, so that two may fail."""
    lease = lease_of(register)
    lease.acquire()
    register.on_write = lambda: sleep(7)
    register.is_down = True

    assert renew(lease, 3) == [10, 3, 3]


def test_renewals_go_on_after_one_that_failed(
    lease_of: MakeLease, register: FakeRegister, renew: Callable[[Lease, int], list[float]]
) -> None:
    """Two fail; the third is written."""
    lease = lease_of(register)
    lease.acquire()
    before, left = register.revision, [True, True, False]

    def come_and_go() -> None:
        register.is_down = left.pop(0)

    register.on_write = come_and_go
    renew(lease, 3)

    assert (register.revision, left) == (before + 1, [])
    register.on_write = lambda: None


def test_it_lasts_from_before_it_was_sent(
    lease_of: MakeLease, register: FakeRegister, sleep: Callable[[float], None]
) -> None:
    """The time of the response does not count, since others count from the write."""
    lease = lease_of(register)
    register.on_write = lambda: sleep(20)
    lease.acquire()
    register.on_write = lambda: None
    before = register.revision
    sleep(6)
    lease.check()

    assert register.revision == before + 1
