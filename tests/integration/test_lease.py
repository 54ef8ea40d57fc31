"""The lease on a workflow: who has it, for how long, and what becomes of whoever lost it."""

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
from dotflow.providers.storages.leases import process_identity
from dotflow.providers.storages.leases.lease import Lease, Register
from dotflow.providers.storages.leases.lease_lock import LeaseLock
from dotflow.providers.storages.leases.lease_record import Entry

MakeLease = Callable[["Slate"], Lease]


class Slate(Register):
    """A register in memory, with a clock of its own: a service that a test can ask for anything.

    Attributes:
        now: What its clock says, in seconds.
        is_away: Whether it can't be reached.
        loses_answers: Whether it does what it is asked, and its answer is lost.
        answers: Unless it is set, a write gets no answer until it is; "asked" is set by who waits so.
        takes: What happens while a write is on its way.
    """

    def __init__(self) -> None:
        self.name = ("slate", id(self))
        self.where = "slate://nightly"
        self.now = 0.0
        self.is_away = self.loses_answers = False
        self.answers, self.asked = threading.Event(), threading.Event()
        self.answers.set()
        self.takes: Callable[[], None] = lambda: None
        self.text = ""
        self._version = 0
        self._written = 0.0
        self._lock = threading.Lock()

    def read(self) -> Entry | None:
        """As Register says."""
        self._answer(self.is_away)
        with self._lock:
            return Entry(self.text, str(self._version), self.now - self._written) if self._version else None

    def write(self, text: str, version: str | None) -> str | None:
        """As Register says."""
        self.takes()
        if not self.answers.is_set():
            self.asked.set()
            self.answers.wait()
        self._answer(self.is_away)
        with self._lock:
            if version != (str(self._version) if self._version else None):
                return None
            self.text, self._written = text, self.now
            self._version += 1
        self._answer(self.loses_answers)
        return str(self._version)

    def _answer(self, fails: bool) -> None:
        if fails:
            raise StorageError("The slate can't be used", "it is away")

    @property
    def holder(self) -> object:
        """Who holds it, as it is written."""
        return json.loads(self.text)["holder"]

    @property
    def beat(self) -> int:
        """How often it was written."""
        return int(json.loads(self.text)["beat"])


@pytest.fixture
def slate() -> Slate:
    return Slate()


@pytest.fixture
def sleep(monkeypatch: pytest.MonkeyPatch, slate: Slate) -> Callable[[float], None]:
    """Lets time go on, for everybody. It is the same for the renewing threads, but they are never waited for."""
    past = [0.0]
    real = clock.elapsed
    monkeypatch.setattr(clock, "elapsed", lambda: real() + past[0])

    def go_on(seconds: float) -> None:
        past[0] += seconds
        slate.now += seconds

    return go_on


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process is known to be of this machine, as on systems that don't say."""
    monkeypatch.setattr(process_identity, "_machine", lambda: "")


@pytest.fixture
def lease_of() -> Iterator[MakeLease]:
    """Makes leases, each as another process would have it; what is still held afterwards is given back."""
    made: list[Lease] = []

    def make(slate: Slate) -> Lease:
        made.append(Lease(slate, "nightly", 30.0))
        return made[-1]

    yield make
    for lease in made:
        lease.give_back()


def test_a_second_one_is_refused_at_once(lease_of: MakeLease, slate: Slate) -> None:
    """It learns who has the workflow, since when, and how long it would take if that process is gone."""
    first = lease_of(slate)
    first.take()
    slate.now += 10

    with pytest.raises(WorkflowBusy, match=rf"process {os.getpid()} on host .* since 20.*free in 26 s"):
        lease_of(slate).take()
    first.give_back()
    lease_of(slate).take()


def test_what_has_expired_is_taken_over(lease_of: MakeLease, slate: Slate, sleep: Callable[[float], None]) -> None:
    """A margin after its end, and not before. The one that lost it writes nothing any more, and is told who has it."""
    first, second = lease_of(slate), lease_of(slate)
    first.take()
    sleep(35.9)
    with pytest.raises(WorkflowBusy):
        second.take()
    sleep(0.2)
    second.take()

    for call in (first.check, lambda: first.change(generation="x"), first.check):
        with pytest.raises(LeaseLost, match=r"'nightly' is no longer this process's.*has it now.*resume=True"):
            call()
    before = slate.text
    first.give_back()
    assert slate.text == before
    second.check()


def test_what_expired_and_nobody_took_is_renewed(
    lease_of: MakeLease, slate: Slate, sleep: Callable[[float], None]
) -> None:
    """A machine that slept, or a step that held the interpreter, loses nothing: the write proves that nobody came."""
    lease = lease_of(slate)
    lease.take()
    sleep(3_600)
    before = slate.beat

    lease.check()
    lease.check()

    assert slate.beat == before + 1


def test_while_nobody_can_be_asked_nothing_is_written(
    lease_of: MakeLease, slate: Slate, sleep: Callable[[float], None]
) -> None:
    """Up to the margin before its end a holder writes without asking; after it, only once it is renewed."""
    lease = lease_of(slate)
    lease.take()
    slate.is_away = True
    sleep(24)
    lease.check()
    sleep(2)
    with pytest.raises(StorageError, match="it is away"):
        lease.check()
    slate.is_away = False
    lease.check()


def test_an_answer_that_was_lost_is_no_loss(lease_of: MakeLease, slate: Slate, sleep: Callable[[float], None]) -> None:
    """What is there is the holder's own: a write of which nobody told it."""
    lease = lease_of(slate)
    lease.take(generation="a")
    slate.loses_answers = True
    sleep(26)
    with pytest.raises(StorageError, match="it is away"):
        lease.check()
    slate.loses_answers = False

    lease.check()
    lease.change(generation="b")

    assert json.loads(slate.text)["generation"] == "b"


def test_what_a_storage_keeps_there_outlives_the_holder(lease_of: MakeLease, slate: Slate) -> None:
    """It is there for the next one; what that wants to be there if it isn't yet does not take its place."""
    first = lease_of(slate)
    first.take(generation="a", void=[])
    first.change(generation="b")
    first.remember(void=["a"])
    first.give_back()

    second = lease_of(slate)
    second.take(generation="c", more=1)

    assert dict(second.more) == {"generation": "b", "void": ["a"], "more": 1}


def test_a_dead_process_of_this_machine_holds_nobody_up(
    lease_of: MakeLease, slate: Slate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is certain to be gone, so that a crash can be resumed at once."""
    first = lease_of(slate)
    first.take()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        started = process_identity._stat(child.pid)[1]
        text = json.loads(slate.text)
        text["holder"] |= {"process": child.pid, "started": started}
        slate.text = json.dumps(text)
        with pytest.raises(WorkflowBusy, match=f"process {child.pid}"):
            lease_of(slate).take()
    second = lease_of(slate)
    second.take()
    # Another process of that number is not the one that held it.
    text["holder"] |= {"process": os.getpid(), "started": "1"}
    slate.text = json.dumps(text)
    lease_of(slate).take()


def test_a_process_of_another_host_is_never_taken_for_dead(lease_of: MakeLease, slate: Slate) -> None:
    """Even where all else looks the same, as in sandboxes that tell everybody the same of the machine."""
    lease_of(slate).take()
    text = json.loads(slate.text)
    text["holder"] |= {"process": 2**22 + 1, "host": "another"}
    slate.text = json.dumps(text)

    with pytest.raises(WorkflowBusy):
        lease_of(slate).take()


def test_a_process_of_another_machine_is_never_taken_for_dead(
    lease_of: MakeLease, slate: Slate, elsewhere: None
) -> None:
    """Whatever its number is here."""
    lease = lease_of(slate)
    lease.take()
    text = json.loads(slate.text)
    text["holder"]["process"] = 2**22 + 1
    slate.text = json.dumps(text)

    with pytest.raises(WorkflowBusy):
        lease_of(slate).take()


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"holder": 1, "lease": 1, "beat": 1, "token": ""}', "\ud800"])
def test_what_it_can_t_read_it_does_not_take(lease_of: MakeLease, slate: Slate, text: str) -> None:
    """Somebody else's object, or a damaged one: it is left as it is."""
    slate.write("x", None)
    slate.text = text

    with pytest.raises(StorageError, match="is not what dotflow has written there"):
        lease_of(slate).take()
    assert slate.text == text


def test_it_is_renewed_while_it_is_held(slate: Slate) -> None:
    """Three times in the time that it lasts, by a thread, which ends with it."""
    before = set(threading.enumerate())
    with LeaseLock(slate, "nightly", 0.3):
        until = time.monotonic() + 10
        while slate.beat < 4 and time.monotonic() < until:
            time.sleep(0.01)
        threads = set(threading.enumerate()) - before
        assert [thread.name for thread in threads] == ["dotflow-lease"]
    assert slate.beat >= 5
    assert slate.holder is None
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def test_runs_of_one_process_share_it(slate: Slate) -> None:
    """Each learns the same name; it is free when the last one has left, whichever that is."""
    first, second = LeaseLock(slate, "nightly", 30.0), LeaseLock(slate, "nightly", 30.0)
    assert first.__enter__() == second.__enter__() == slate.name
    lease = LeaseLock.held(slate.name)
    assert lease is not None
    first.__exit__(None, None, None)
    assert slate.holder is not None
    assert LeaseLock.held(slate.name) is lease
    second.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert slate.holder is None
    assert LeaseLock.held(slate.name) is None


@pytest.mark.parametrize("method", ["read", "write"])
def test_an_interrupt_in_the_middle_of_taking_leaves_nothing(
    slate: Slate, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it is written, or when it is written already and nobody knows: it is free again."""
    real = getattr(slate, method)

    def interrupted(*arguments: object) -> None:
        real(*arguments)
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(slate, method, interrupted)
    with pytest.raises(KeyboardInterrupt), LeaseLock(slate, "nightly", 30.0):
        pass

    assert LeaseLock.held(slate.name) is None
    with LeaseLock(slate, "nightly", 30.0):
        pass


def test_a_service_that_is_away_does_not_fail_a_run_at_its_end(slate: Slate) -> None:
    """What it has done is done; the lease expires."""
    with LeaseLock(slate, "nightly", 30.0):
        slate.is_away = True

    assert LeaseLock.held(slate.name) is None


def test_of_many_at_once_one_gets_it(lease_of: MakeLease, slate: Slate) -> None:
    """However close their first looks are."""
    together = threading.Barrier(8)
    got: list[Lease] = []
    busy: list[WorkflowBusy] = []

    def begin() -> None:
        lease = lease_of(slate)
        together.wait()
        try:
            lease.take()
            got.append(lease)
        except WorkflowBusy as error:
            busy.append(error)

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (len(got), len(busy)) == (1, 7)
    got[0].give_back()


def test_a_renewal_that_nobody_answers_does_not_hold_the_end_up(slate: Slate) -> None:
    """The run ends all the same, and its lease expires by itself."""
    lease = Lease(slate, "nightly", 0.3)
    lease.take()
    slate.answers.clear()
    assert slate.asked.wait(10)

    lease.give_back()  # before the answer, which never comes

    assert slate.holder is not None
    slate.answers.set()


def test_one_place_that_is_silent_holds_no_other_up(slate: Slate) -> None:
    """A workflow whose lease can't be given back now is no business of others."""
    other = Slate()
    silent = LeaseLock(slate, "nightly", 30.0)
    silent.__enter__()
    slate.answers.clear()
    leaving = threading.Thread(target=silent.__exit__, daemon=True)
    leaving.start()
    assert slate.asked.wait(10)

    with LeaseLock(other, "hourly", 30.0):
        assert other.holder is not None

    assert other.holder is None
    assert leaving.is_alive()
    slate.answers.set()
    leaving.join()
    assert slate.holder is None


def test_giving_it_back_does_not_begin_anew(slate: Slate, sleep: Callable[[float], None]) -> None:
    """Ctrl-C while it takes long: the second time is no longer than what was left of the first."""
    lease = Lease(slate, "nightly", 30.0)
    lease.take()

    def interrupted() -> None:
        sleep(6)
        raise KeyboardInterrupt

    slate.takes = interrupted
    with pytest.raises(KeyboardInterrupt):
        lease.give_back()
    lease.give_back()

    assert slate.holder is not None


@pytest.fixture
def renew(
    slate: Slate, sleep: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
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
            patch.setattr(lease, "_over", Over())
            lease._keep()
        return waits[:times]

    return renew_lease


def test_renewals_keep_their_pace(
    lease_of: MakeLease, slate: Slate, sleep: Callable[[float], None], renew: Callable[[Lease, int], list[float]]
) -> None:
    """One that takes long to fail does not put the next one off, so that two may fail."""
    lease = lease_of(slate)
    lease.take()
    slate.takes = lambda: sleep(7)
    slate.is_away = True

    assert renew(lease, 3) == pytest.approx([10, 3, 3], abs=0.5)


def test_renewals_go_on_after_one_that_failed(
    lease_of: MakeLease, slate: Slate, renew: Callable[[Lease, int], list[float]]
) -> None:
    """Two fail; the third is written."""
    lease = lease_of(slate)
    lease.take()
    before, left = slate.beat, [True, True, False]

    def come_and_go() -> None:
        slate.is_away = left.pop(0)

    slate.takes = come_and_go
    renew(lease, 3)

    assert (slate.beat, left) == (before + 1, [])
    slate.takes = lambda: None


def test_it_lasts_from_before_it_was_sent(lease_of: MakeLease, slate: Slate, sleep: Callable[[float], None]) -> None:
    """Time that the service took to answer is not the holder's: others count from when it was written."""
    lease = lease_of(slate)
    slate.takes = lambda: sleep(20)
    lease.take()
    slate.takes = lambda: None
    before = slate.beat
    sleep(6)
    lease.check()

    assert slate.beat == before + 1
