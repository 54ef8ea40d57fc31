"""ClusterCrew: calls into errands, replies into outcomes; no cluster is needed for it."""

import pickle
from collections.abc import Hashable, Sequence
from typing import Any

import pytest

from dotflow import Context, action
from dotflow.abc.executor import Answer
from dotflow.core.call import Call
from dotflow.core.failure import Failure
from dotflow.core.outcome import Died, Outcome, Raised, Returned, TimedOut
from dotflow.errors import ModuleNotOnWorker
from dotflow.processes.channel import STDERR, STDOUT, dump_by_value
from dotflow.processes.worker_main import Kept, Order
from dotflow.providers.executors.cluster import session as cluster_session
from dotflow.providers.executors.cluster.protocol import ANSWERED, DIED, LATE, NOT_STARTED, Errand, Reply
from dotflow.providers.executors.cluster.session import WORTH_KEEPING, ClusterCrew

LARGE = bytes(WORTH_KEEPING)


class Crew(ClusterCrew):
    """The part that every cluster's crew has."""

    def has_room(self, pool: Hashable) -> bool:
        """Not for what asks for a GPU."""
        return not pool

    def submit(self, call: Call) -> None:
        """Not asked of it here."""

    def wait(self, timeout: float | None) -> Sequence[Answer]:
        """Not asked of it here."""
        return []

    def wake(self) -> None:
        """Not asked of it here."""

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
def crew(told: list[str]) -> Crew:
    return Crew("the cluster", told.append)


def call(previous: Any = None, lane: int = 0, task_id: int = 0, of: Any = step) -> Call:
    return Call(task_id, lane, of, Context("given"), Context(previous), "w")


def answered(outcome: Outcome, holder: str = "process", place: str = "there") -> Reply:
    return Reply(ANSWERED, holder, place=place, parts=dump_by_value(outcome))


def order_of(errand: Errand | Outcome) -> Order:
    assert isinstance(errand, Errand)
    order: Order = pickle.loads(errand.parts[0], buffers=errand.parts[1:])
    return order


class TestErrands:
    def test_carry_all_that_the_attempt_needs(self, crew: Crew) -> None:
        """Step, contexts and policy; nothing is taken to be there."""
        errand = crew.errand(call("before", lane=4, task_id=9))
        order = order_of(errand)

        assert isinstance(errand, Errand)
        assert (errand.lane, errand.number, errand.timeout, errand.isolate, errand.holder) == (4, 9, 2, False, "")
        assert isinstance(order.previous_context, Context)
        assert (order.previous_context.storage, order.initial_context) == ("before", Context("given"))
        assert order.step is not None

    def test_a_large_value_is_not_sent_back_to_who_has_it(self, crew: Crew) -> None:
        """The lane's next errand names the process that returned it, and leaves it out."""
        outcome = crew.outcome(call(), answered(Returned(LARGE)))
        assert isinstance(outcome, Returned)
        errand = crew.errand(call(outcome.value))

        assert isinstance(errand, Errand)
        assert errand.holder == "process"
        assert isinstance(order_of(errand).previous_context, Kept)
        assert sum(len(part) for part in errand.parts) < WORTH_KEEPING / 10
        assert crew.lanes[0].place == "there"

    @pytest.mark.parametrize("value", [1, b"small"])
    def test_a_small_one_is(self, crew: Crew, value: object) -> None:
        """Asking for it again would take longer."""
        outcome = crew.outcome(call(), answered(Returned(value)))
        assert isinstance(outcome, Returned)
        errand = crew.errand(call(outcome.value))

        assert isinstance(errand, Errand)
        assert errand.holder == ""

    def test_another_value_is_sent(self, crew: Crew) -> None:
        """A callback may have put another one in its place; another lane's is another one, too."""
        outcome = crew.outcome(call(), answered(Returned(LARGE)))
        assert isinstance(outcome, Returned)

        for errand in (crew.errand(call(bytes(LARGE + b"!"))), crew.errand(call(outcome.value, lane=1))):
            assert isinstance(errand, Errand)
            assert errand.holder == ""

    def test_whole_on_demand_and_for_a_process_of_its_own(self, crew: Crew) -> None:
        """Where nobody has it, it is sent along."""
        outcome = crew.outcome(call(), answered(Returned(LARGE)))
        assert isinstance(outcome, Returned)

        for errand in (crew.errand(call(outcome.value), whole=True), crew.errand(call(outcome.value, of=apart))):
            assert isinstance(errand, Errand)
            assert errand.holder == ""
            assert isinstance(order_of(errand).previous_context, Context)

    def test_what_cannot_travel_is_the_outcome(self, crew: Crew) -> None:
        """It is known at once, and names the step."""
        outcome = crew.errand(call(open(0, closefd=False)))  # noqa: SIM115 (it is not ours to close)

        assert isinstance(outcome, Raised)
        assert outcome.failure.exception == "CannotTravel"
        assert "'step'" in outcome.failure.message


class TestReplies:
    @pytest.mark.parametrize(
        ("reply", "kind", "exception", "said"),
        [
            (Reply(DIED, detail=3), Died, "WorkerDied", "exit code 3"),
            (Reply(DIED, detail=-9), Died, "WorkerDied", "SIGKILL"),
            (Reply(LATE), TimedOut, "TimeoutError", "2 s"),
            (
                Reply(NOT_STARTED, detail="no memory", place="tcp://a"),
                Died,
                "WorkerNotStarted",
                "no memory (on tcp://a)",
            ),
            (Reply(ANSWERED, parts=[b"garbage"]), Raised, "CannotTravel", "the value returned"),
        ],
        ids=lambda part: part if isinstance(part, str) else "",
    )
    def test_of_attempts_that_failed(
        self, crew: Crew, reply: Reply, kind: type[Outcome], exception: str, said: str
    ) -> None:
        """Each is the outcome that it would be on this machine, with the same words."""
        outcome = crew.outcome(call(), reply)

        assert isinstance(outcome, kind)
        assert outcome.failure.exception == exception
        assert said in outcome.failure.message

    def test_prints_come_out_here(self, crew: Crew, capsys: pytest.CaptureFixture[str]) -> None:
        """In the order in which they were made, each on its stream."""
        reply = answered(Returned(1))._replace(printed=[(STDOUT, b"one\n"), (STDERR, b"two\n"), (STDOUT, b"three\n")])
        crew.outcome(call(), reply)

        assert capsys.readouterr() == ("one\nthree\n", "two\n")

    def test_a_lost_worker(self, crew: Crew) -> None:
        """Its place is named, and nothing is looked for there any more."""
        crew.outcome(call(), answered(Returned(LARGE)))
        outcome = crew.lost(call(), "tcp://a")

        assert isinstance(outcome, Died)
        assert "tcp://a" in outcome.failure.message
        assert 0 not in crew.lanes

    def test_a_missing_module_is_said_once(self, crew: Crew, told: list[str]) -> None:
        """However many steps it fails."""
        failure = Failure("ModuleNotOnWorker", str(ModuleNotOnWorker("shop.steps")))
        for task_id in range(3):
            crew.outcome(call(task_id=task_id), answered(Raised(failure)))

        assert told == [failure.message]


class TestPatience:
    def test_it_does_not_end_while_something_runs(self, crew: Crew) -> None:
        """A queue is no reason to worry."""
        crew.begins_to_wait(call(task_id=0))
        crew.begins_to_wait(call(task_id=1))
        crew.began(0)

        assert crew.until_patience_ends() is None

    def test_calls_that_wait_in_the_runner_are_counted(
        self, crew: Crew, told: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A call that there is no room for waits as much as one that the cluster has."""
        monkeypatch.setattr(cluster_session, "PATIENCE", 0.0)
        assert crew.until_patience_ends() is None

        assert not crew.make_room(crew.pool_of(action(resources={"GPU": 1})(one)), 0, 7)
        assert crew.make_room(crew.pool_of(step), 1, 3)
        crew.begins_to_wait(call(task_id=1))
        assert crew.until_patience_ends() == 0.0
        crew.say_who_waits("no workers")

        assert "10 step(s)" in told[0]

    def test_it_ends_where_nothing_does(self, crew: Crew, told: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        """Once, with what the cluster has."""
        monkeypatch.setattr(cluster_session, "PATIENCE", 0.0)
        crew.begins_to_wait(call(task_id=0))
        crew.began(0)
        crew.ended(0)
        crew.begins_to_wait(call(task_id=1))
        assert crew.until_patience_ends() == 0.0
        crew.say_who_waits("no workers")

        assert crew.until_patience_ends() is None
        assert len(told) == 1
        assert "1 step(s)" in told[0]
        assert "the cluster, which has no workers" in told[0]
