"""ClusterSession: packs calls, and turns replies into outcomes; no cluster is needed for it."""

import math
import pickle
from collections.abc import Hashable
from typing import Any

import pytest

from dotflow import Context, action, clock
from dotflow.abc.executor import Report
from dotflow.core.call import Call
from dotflow.core.calls import CallAnswer, CallRequest, TypeRequest
from dotflow.core.failure import Failure
from dotflow.core.outcome import Died, NotBegun, Outcome, Raised, Returned, Running, Timed, TimedOut
from dotflow.errors import ModuleNotOnWorker
from dotflow.processes.channel import dump_by_value, dump_plain
from dotflow.processes.worker_main import LAST_VALUE
from dotflow.providers.executors.cluster import cluster_session
from dotflow.providers.executors.cluster.cluster_session import ClusterSession, ReadyCall, ReadyPack, SentPack
from dotflow.providers.executors.cluster.conversation import Request
from dotflow.providers.executors.cluster.protocol import (
    ANSWERED,
    DIED,
    LATE,
    LOST,
    MIN_KEPT_SIZE,
    MISSING,
    NOT_STARTED,
    PackReply,
    Placement,
    Reply,
    size_of,
)

LARGE = bytes(MIN_KEPT_SIZE)


class ExecutorSession(ClusterSession):
    """The part that every cluster's session has."""

    def __init__(self, report: Report) -> None:
        super().__init__("the cluster", report, announces=True)
        self.sent_answers: list[int | None] = []

    def has_free_worker(self, pool: Hashable) -> bool:
        """Not for what asks for a GPU."""
        return not pool

    def prepare(self) -> float:
        """Nothing is due."""
        return math.inf

    def describe(self) -> str:
        """Always the same."""
        return "no workers"

    def send(self, pack: ReadyPack, sent: SentPack) -> None:
        """Nothing is sent."""

    def take(self, sent: SentPack) -> None:
        """Not asked of it here."""

    def converse(self, sent: SentPack) -> None:
        """Notes the answer that is sent."""
        self.sent_answers.append(sent.answer and sent.answer.number)

    def close(self) -> None:
        """Not asked of it here."""


def one() -> int:
    return 1


@action(timeout=2)
def step(previous_context: Context) -> None: ...


@action(isolate=True)
def apart(previous_context: Context) -> None: ...


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def session(told: list[str]) -> ExecutorSession:
    return ExecutorSession(told.append)


def call(previous: Any = None, lane: int = 0, task_id: int = 0, of: Any = step) -> Call:
    return Call(task_id, lane, of, Context("given"), Context(previous), "w", number=task_id)


def answered(outcome: Outcome, holder: str = "process") -> Reply:
    return Reply(ANSWERED, holder, parts=dump_by_value(outcome))


def unpacked(ready: ReadyCall | Outcome) -> tuple[Placement, Call]:
    """Where the attempt is made, and the call as it is sent."""
    assert isinstance(ready, ReadyCall)
    sent, *buffers = ready.packed.parts
    return ready.packed.placement, Call(*pickle.loads(sent, buffers=buffers))


def sent_pack(session: ExecutorSession) -> SentPack:
    """The last pack that was sent."""
    return list(session.packs.values())[-1]


class TestPackedCalls:
    def test_carry_all_that_the_attempt_needs(self, session: ExecutorSession) -> None:
        """Step and contexts; nothing is taken to be there."""
        place, sent = unpacked(session.pack(call("before", lane=4, task_id=9)))

        assert place == Placement(4, isolate=None, step=0, process="")
        assert (sent.lane, sent.number, sent.workflow_id) == (4, 9, "w")
        assert (sent.previous_context.storage, sent.initial_context) == ("before", Context("given"))
        assert sent.step is not None

    def test_a_large_value_is_not_sent_back_to_who_has_it(self, session: ExecutorSession) -> None:
        """The lane's next remote call names the process that returned it, and leaves it out."""
        outcome = session.outcome(call(), answered(Returned(LARGE)), "there")
        assert isinstance(outcome, Returned)
        packed = session.pack(call(outcome.value))
        place, sent = unpacked(packed)

        assert isinstance(packed, ReadyCall)
        assert place.process == "process"
        assert sent.previous_context.storage == LAST_VALUE
        assert size_of(packed.packed.parts) < MIN_KEPT_SIZE / 10
        assert session.lanes[0].worker == "there"

    @pytest.mark.parametrize("value", [1, b"small"])
    def test_a_small_one_is(self, session: ExecutorSession, value: object) -> None:
        """Asking for it again would take longer."""
        outcome = session.outcome(call(), answered(Returned(value)), "there")
        assert isinstance(outcome, Returned)

        assert unpacked(session.pack(call(outcome.value)))[0].process == ""

    def test_another_value_is_sent(self, session: ExecutorSession) -> None:
        """A callback may have put another one in its place; another lane's is another one, too."""
        outcome = session.outcome(call(), answered(Returned(LARGE)), "there")
        assert isinstance(outcome, Returned)

        for packed in (session.pack(call(bytes(LARGE + b"!"))), session.pack(call(outcome.value, lane=1))):
            assert unpacked(packed)[0].process == ""

    def test_whole_where_it_is_lost_and_for_a_process_of_its_own(self, session: ExecutorSession) -> None:
        """Where nobody has it, it is sent along."""
        outcome = session.outcome(call(), answered(Returned(LARGE)), "there")
        assert isinstance(outcome, Returned)

        isolated = session.pack(call(outcome.value, of=apart))
        assert isinstance(session.outcome(call(), Reply(MISSING), "there"), NotBegun)
        for packed in (isolated, session.pack(call(outcome.value))):
            place, sent = unpacked(packed)
            assert place.process == ""
            assert sent.previous_context.storage == LARGE

    def test_an_argument_that_a_worker_has_names_its_process(self, session: ExecutorSession) -> None:
        """As a previous value does: another process would take a value of its own for it."""
        outcome = session.outcome(call(), answered(Returned(LARGE)), "there")
        assert isinstance(outcome, Returned)
        asked = call()._replace(arguments={"value": outcome.value, "other": 1})

        place, sent = unpacked(session.pack(asked))
        session.lost(call(), "there")
        whole_place, whole = unpacked(session.pack(asked))

        assert (place.process, whole_place.process) == ("process", "")
        assert sent.arguments == {"value": LAST_VALUE, "other": 1}
        assert whole.arguments == asked.arguments

    def test_shared_arguments_travel_beside_them(self, session: ExecutorSession) -> None:
        """They are pickled once for all calls that share them, and named by a number."""
        shared = {"data": LARGE}
        packed = [session.pack(call()._replace(number=number, shared=shared)) for number in (7, 8)]
        (first, _), (second, sent) = map(unpacked, packed)
        other, _ = unpacked(session.pack(call()._replace(shared=dict(shared))))

        assert first.shared == second.shared == sent.shared != other.shared
        assert all(isinstance(one, ReadyCall) and size_of(one.packed.parts) < MIN_KEPT_SIZE for one in packed)
        assert len({id(one.shared) for one in packed if isinstance(one, ReadyCall)}) == 1

    def test_a_value_that_cannot_travel_is_the_outcome(self, session: ExecutorSession) -> None:
        """It is known at once, and names the step."""
        outcome = session.pack(call(open(0, closefd=False)))  # noqa: SIM115 (it is not ours to close)

        assert isinstance(outcome, Raised)
        assert outcome.failure.exception == "NotPicklable"
        assert "'step'" in outcome.failure.message


class TestReplies:
    @pytest.mark.parametrize(
        ("reply", "kind", "exception", "said"),
        [
            (Reply(DIED, detail=3), Died, "WorkerDied", "exit code 3"),
            (Reply(DIED, detail=-9), Died, "WorkerDied", "SIGKILL"),
            (Reply(LATE), TimedOut, "TimeoutError", "2 s"),
            (Reply(NOT_STARTED, detail="no memory"), Died, "WorkerNotStarted", "no memory (on tcp://a)"),
            (Reply(ANSWERED, parts=[b"garbage"]), Raised, "NotPicklable", "the value returned"),
        ],
        ids=lambda part: part if isinstance(part, str) else "",
    )
    def test_of_attempts_that_failed(
        self, session: ExecutorSession, reply: Reply, kind: type[Outcome], exception: str, said: str
    ) -> None:
        """Each is the outcome that it would be on this machine, with the same words."""
        outcome = session.outcome(call(), reply, "tcp://a")

        assert isinstance(outcome, kind)
        assert outcome.failure.exception == exception
        assert said in outcome.failure.message

    def test_prints_come_out_here(self, session: ExecutorSession, capsys: pytest.CaptureFixture[str]) -> None:
        """In the order in which they were made, each on its stream."""
        reply = answered(Returned(1))._replace(output=[(1, b"one\n"), (2, b"two\n"), (1, b"three\n")])
        session.outcome(call(), reply, "tcp://a")

        assert capsys.readouterr() == ("one\nthree\n", "two\n")

    def test_a_lost_worker(self, session: ExecutorSession) -> None:
        """Its place is named, and nothing is looked for there any more."""
        session.outcome(call(), answered(Returned(LARGE)), "there")
        outcome = session.lost(call(), "tcp://a")

        assert isinstance(outcome, Died)
        assert "tcp://a" in outcome.failure.message
        assert 0 not in session.lanes

    def test_a_missing_module_is_reported_once(self, session: ExecutorSession, told: list[str]) -> None:
        """However many steps it fails."""
        failure = Failure("ModuleNotOnWorker", str(ModuleNotOnWorker("shop.steps")))
        for task_id in range(3):
            session.outcome(call(task_id=task_id), answered(Raised(failure)), "there")

        assert told == [failure.message]


class TestPacks:
    def test_the_first_call_goes_alone_and_others_by_what_it_took(self, session: ExecutorSession) -> None:
        """As many as take 50 ms together, and no more than the share of a free worker."""
        session.make_room(session.pool_of(step), 0, 1000)
        session.submit(call(task_id=0))
        first = sent_pack(session)
        assert (first.count, session.has_room(session.pool_of(step))) == (1, True)
        session.receive(first, PackReply({0: answered(Returned(None))._replace(seconds=0.001)}))
        session.wait(0)

        for number in range(1, 120):
            session.make_room(session.pool_of(step), 0, 1000)
            session.submit(call(task_id=number))

        assert 30 <= session.packs[f"{session.run}-1"].count <= 50

    def test_a_wait_sends_what_is_ready(self, session: ExecutorSession) -> None:
        """And what does not begin is given back, each call once."""
        session._shares[0] = 0.01
        session.make_room(session.pool_of(step), 0, 8)
        for number in range(8):
            session.submit(call(task_id=number))
        session.wait(0)
        sent = sent_pack(session)
        reply = PackReply({0: answered(Returned(1))}, [2, 3, 4, 5, 6, 7])
        session.receive(sent, reply)
        session.receive(sent, reply._replace(replies={**reply.replies, 1: answered(Returned(2))}))

        ended = [(given.number, outcome) for given, outcome in session.wait(0)]
        assert ended == [(0, Returned(1)), *((number, NotBegun()) for number in range(2, 8)), (1, Returned(2))]


class TestTimes:
    """Each call of a pack begins and ends when it did on its worker."""

    @pytest.fixture
    def sent(self, session: ExecutorSession, monkeypatch: pytest.MonkeyPatch) -> SentPack:
        """Four calls, sent at 1000 s since 1970; it is 1010 now, and 50 in ticks."""
        monkeypatch.setattr(clock, "real_time", lambda: 1000.0)
        session._shares[0] = 0.01
        session.make_room(session.pool_of(step), 0, 4)
        for number in range(4):
            session.submit(call(task_id=number))
        session.wait(0)
        monkeypatch.setattr(clock, "real_time", lambda: 1010.0)
        monkeypatch.setattr(clock, "ticks", lambda: 50.0)
        return sent_pack(session)

    @pytest.mark.parametrize(
        ("ahead", "first"),
        [
            (0.0, 43.0),
            pytest.param(0.5, 43.5, id="as far as the clocks agree"),
            pytest.param(3600.0, 44.0, id="the reply was made before it arrived"),
            pytest.param(-3600.0, 40.0, id="the first call began after the pack was sent"),
        ],
    )
    def test_they_are_those_of_the_worker(
        self, session: ExecutorSession, sent: SentPack, ahead: float, first: float
    ) -> None:
        """Within the time from the sending to the arrival, whatever its clock says."""
        began = 1003.0 + ahead
        replies = {
            place: answered(Returned(place))._replace(began=began + 2 * place, seconds=1.0) for place in range(2)
        }
        session.receive(sent, PackReply(replies, [], (2, began + 4), 1009.0 + ahead))
        last = answered(Returned(2))._replace(began=began + 4, seconds=1.0)
        session.receive(sent, PackReply({**replies, 2: last}, [], None, 1009.0 + ahead))

        assert [arrived for _, arrived in session.wait(0)] == [
            Timed(Returned(0), first, first + 1),
            Timed(Returned(1), first + 2, first + 3),
            Running(first + 4),
            Timed(Returned(2), None, first + 5),
        ]

    def test_a_long_call_that_is_alone_is_seen_to_run(self, session: ExecutorSession) -> None:
        """Once, and at once when it has run for a while, though nothing else happens."""
        session.submit(call(task_id=0))
        session.wait(0)
        sent = sent_pack(session)
        sent.begun_at, sent.first_began = clock.ticks() - 1, 41.0

        assert [arrived for _, arrived in session.wait(60)] == [Running(41.0)]
        assert session.wait(0) == []

    def test_a_lost_call_ends_when_its_loss_is_known(self, session: ExecutorSession, sent: SentPack) -> None:
        """It began when the journal says."""
        session.receive(sent, PackReply({0: Reply(LOST, began=1001.0)}, made=1009.0))

        ((_, arrived),) = session.wait(0)
        assert isinstance(arrived, Timed)
        assert (type(arrived.outcome), arrived.began, arrived.ended) == (Died, 41.0, 50.0)


class TestPatience:
    def test_it_does_not_end_while_something_runs(self, session: ExecutorSession) -> None:
        """A queue is no reason to worry."""
        for number in (0, 1):
            session.submit(call(task_id=number))
        session.mark_begun(sent_pack(session))

        assert session.count_busy(session.pool_of(step)) == 2
        assert session.until_wait_report() == math.inf

    def test_calls_that_wait_in_the_runner_are_counted(
        self, session: ExecutorSession, told: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A call that there is no room for waits as much as one that the cluster has."""
        monkeypatch.setattr(cluster_session, "WAIT_REPORT_DELAY", 0.0)
        assert session.until_wait_report() == math.inf

        assert not session.make_room(session.pool_of(action(resources={"GPU": 1})(one)), 0, 7)
        assert session.make_room(session.pool_of(step), 1, 3)
        session.submit(call(task_id=1))
        assert session.until_wait_report() == 0.0
        session.report_waiting()

        assert "10 step(s)" in told[0]

    def test_it_ends_where_nothing_does(
        self, session: ExecutorSession, told: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Once, with what the cluster has."""
        monkeypatch.setattr(cluster_session, "WAIT_REPORT_DELAY", 0.0)
        session.submit(call(task_id=1))
        assert session.until_wait_report() == 0.0
        session.report_waiting()

        assert session.until_wait_report() == math.inf
        assert len(told) == 1
        assert "1 step(s)" in told[0]
        assert "the cluster, which has no workers. They keep waiting" in told[0]


class PortStub:
    """The way to a coordinator that notes what it is asked."""

    is_followed = False

    def __init__(self) -> None:
        self.asked: list[str] = []

    def body_of(self, call: Any) -> Any:
        """Not asked of it here."""

    def answer(self, request: CallRequest) -> CallAnswer:
        """Notes the key."""
        self.asked.append(request.key)
        return CallAnswer(TypeRequest.DONE)

    def close(self) -> None:
        """Not asked of it here."""


class TestRequests:
    @pytest.fixture
    def port(self) -> PortStub:
        return PortStub()

    @pytest.fixture
    def sent(self, session: ExecutorSession, port: PortStub) -> SentPack:
        """A pack of one call whose attempt asks."""
        session.submit(call()._replace(port=port))
        session.wait(0)
        return sent_pack(session)

    def keeping(self, number: int, key: str) -> Request:
        return Request(number, 0, dump_plain((int(TypeRequest.KEEP), key)))

    def test_one_that_arrives_again_is_answered_again_and_counts_once(
        self, session: ExecutorSession, sent: SentPack, port: PortStub
    ) -> None:
        """Its answer was lost."""
        session.talk(sent)
        for request in (self.keeping(1, "a"), self.keeping(1, "a"), self.keeping(2, "b")):
            session.hear(sent, request)

        assert port.asked == ["a", "b"]
        assert session.sent_answers == [None, 1, 1, 2]

    def test_an_announcement_while_the_run_waits_is_kept(self, session: ExecutorSession, sent: SentPack) -> None:
        """The reply that there was none for a while may arrive after it."""
        session.talk(sent)
        session.talk(sent)
        session.hear(sent, None)
        session.hear(sent, None)

        assert session.sent_answers == [None, None]

    def test_one_of_an_attempt_that_is_over_has_no_answer(
        self, session: ExecutorSession, sent: SentPack, port: PortStub
    ) -> None:
        """But the next call of its pack may ask."""
        sent.calls.clear()
        session.talk(sent)
        session.hear(sent, self.keeping(1, "a"))

        assert port.asked == []
        assert session.sent_answers == [None, None]

    def test_none_is_heard_of_a_pack_that_is_over(
        self, session: ExecutorSession, sent: SentPack, port: PortStub
    ) -> None:
        """Its calls may be others by now."""
        session.packs.clear()
        session.hear(sent, self.keeping(1, "a"))

        assert port.asked == session.sent_answers == []
