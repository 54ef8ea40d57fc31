"""ExecutorContract: what every executor promises, as tests for subclasses to inherit."""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from dotflow import clock
from dotflow.abc.executor import Executor, ExecutorSession
from dotflow.core.action import AnyAction
from dotflow.core.call import Call
from dotflow.core.context import Context
from dotflow.core.decorator import action
from dotflow.core.links import Handler, Links
from dotflow.core.outcome import (
    Died,
    Interrupted,
    NotBegun,
    Outcome,
    Parked,
    Raised,
    Returned,
    Running,
    Timed,
    TimedOut,
    TypePark,
)
from dotflow.core.secret import Secret
from dotflow.errors import NotYet
from dotflow.graph.linked_task import LinkedTask

try:
    import pytest
except ImportError as error:
    raise ImportError("ExecutorContract needs pytest: its promises are tests. Run: pip install pytest") from error

SECONDS: Final = 30.0  # for all outcomes of a test; a cluster takes seconds to begin

Item = tuple[int, Sequence[int], Mapping[str, Any]]


@action
def contexts(initial_context: Context, previous_context: Context) -> tuple[Any, Any, int | None]:
    """Returns the values of its contexts, and which task the second one is of."""
    return initial_context.storage, previous_context.storage, previous_context.task_id


@action
def join(number: int, numbers: list[int], options: dict[str, Any]) -> Item:
    """Returns its arguments. Earlier items take longer, so that they end in another order."""
    time.sleep(max(0.0, 0.05 - 0.01 * number))
    return number, list(numbers), dict(options)


@action
def grow(numbers: list[int]) -> list[int]:
    """Changes the value of the task before."""
    numbers.append(4)
    return numbers


@action
def listed() -> list[int]:
    """Returns a value that may be changed."""
    return [1, 2, 3]


@action
def signs(text: str = "", key: str = Secret("DOTFLOW_CONTRACT_KEY")) -> str:
    """Takes a secret."""
    return f"{text} {key}"


@action
def fails() -> None:
    """Fails."""
    raise ValueError("my words")


@action
def repairs(number: int = 0) -> str:
    """The fallback of `fails`."""
    return f"repaired {number}"


@action
def interrupts() -> None:
    """Asks for the end of the run."""
    raise KeyboardInterrupt


@action(poll=1)
def waits(number: int) -> int | None:
    """Is not ready for the first two numbers."""
    if number == 0:
        raise NotYet("0 of 2")
    return None if number == 1 else number


@action(timeout=0.2)
def sleeps() -> None:
    """Exceeds its timeout."""
    until = clock.ticks() + SECONDS
    while clock.ticks() < until:
        time.sleep(0.01)


STEPS: Final[Sequence[AnyAction]] = (contexts, join, grow, listed, fails, interrupts, sleeps, signs, waits)
#: The tasks of the session that a test opens, by id. The fallback of each is `repairs`.
TASKS: Final = {
    number: LinkedTask(
        number, step, None, Context("given"), workflow_id="w", links=Links(fallbacks=(Handler(repairs),))
    )
    for number, step in enumerate(STEPS)
}
CONTEXTS, JOIN, GROW, LISTED, FAILS, INTERRUPTS, SLEEPS, SIGNS, WAITS = TASKS.values()


def call_of(task: LinkedTask, number: int, **more: Any) -> Call:
    """Returns a call of a task, in a lane of its own unless *more* names one."""
    fields: dict[str, Any] = {"lane": number, "step": task.step, "previous_context": Context(), **more}
    return Call(task_id=task.task_id, initial_context=task.initial_context, workflow_id="w", number=number, **fields)


def outcomes_of(session: ExecutorSession, calls: Sequence[Call]) -> dict[int, Outcome]:
    """Submits calls as a run does, and returns their outcomes by the calls' numbers."""
    left, outcomes, limit = list(calls), dict[int, Outcome](), clock.ticks() + SECONDS
    while len(outcomes) < len(calls):
        assert clock.ticks() < limit, _lost(calls, outcomes)
        while left and session.make_room(session.pool_of(left[0].step), left[0].lane, len(left)):
            call = left.pop(0)
            outcome = session.submit(call)
            if outcome is not None:
                outcomes[call.number] = outcome
        if len(outcomes) == len(calls):
            break
        for call, ended in session.wait(0.5):
            assert call.number not in outcomes, f"the session returned the outcome of call {call.number} twice. {HINT}"
            if isinstance(ended, NotBegun):
                left.append(call)
            elif not isinstance(ended, Running):
                outcomes[call.number] = ended.outcome if isinstance(ended, Timed) else ended
    return outcomes


def outcome_of(session: ExecutorSession, call: Call) -> Outcome:
    """Submits one call, and returns its outcome."""
    return outcomes_of(session, [call])[call.number]


HINT: Final = (
    "Keep what belongs to a call by its number, which is unique in a run: all items of a mapped task have its task_id, "
    "and run side by side."
)


def _lost(calls: Sequence[Call], outcomes: Mapping[int, Outcome]) -> str:
    lost = [call.number for call in calls if call.number not in outcomes]
    return f"the session returned no outcome of {len(lost)} of {len(calls)} calls within {SECONDS:g} s: {lost}. {HINT}"


def value_of(outcome: Outcome) -> Any:
    """Returns what a step has returned."""
    assert isinstance(outcome, Returned), f"the step did not return, but: {outcome}"
    return outcome.value


class ExecutorContract:
    """The promises of `dotflow.abc.executor.Executor`, for an executor of any kind.

    Inherit from it, and add the fixture `executor`, which returns an executor for each test.

        class TestMyExecutor(ExecutorContract):
            @pytest.fixture
            def executor(self):
                return MyExecutor()

    Its steps are in the module `dotflow.testing.contracts.executor`, which the workers have to be able to import.
    """

    @pytest.fixture
    def session(self, executor: Executor) -> Iterator[ExecutorSession]:
        """A session of the executor, which the test's end closes."""
        session = executor.open(TASKS, print)
        try:
            yield session
        finally:
            session.close()

    def test_the_contexts_reach_the_step(self, session: ExecutorSession) -> None:
        """A step gets its initial context, and that of the task before with its origin."""
        call = call_of(CONTEXTS, 0, previous_context=Context("before", task_id=7))

        assert value_of(outcome_of(session, call)) == ("given", "before", 7)

    def test_arguments_reach_the_step(self, session: ExecutorSession) -> None:
        """A step gets `Call.arguments` by the names of its parameters."""
        call = call_of(JOIN, 9, arguments={"number": 5, "numbers": [1], "options": {"a": None}})

        assert value_of(outcome_of(session, call)) == (5, [1], {"a": None})

    def test_secrets_reach_the_step(self, session: ExecutorSession) -> None:
        """A step gets `Call.secrets`, which are by their own names, and no environment has to have them."""
        values = {"DOTFLOW_CONTRACT_KEY": "k3y"}
        calls = [
            call_of(SIGNS, 0, secrets=values),
            call_of(SIGNS, 1, secrets=values, arguments={"text": "one"}),
            call_of(SIGNS, 2, secrets=values, arguments={"key": "mine"}),
        ]

        outcomes = outcomes_of(session, calls)

        assert [value_of(outcomes[number]) for number in range(3)] == [" k3y", "one k3y", " mine"]

    def test_calls_of_one_task_are_told_apart(self, session: ExecutorSession) -> None:
        """The items of a mapped task run side by side with one task_id: each call gets the outcome of its own."""
        shared = {"numbers": [1, 2], "options": {"unit": "cm"}}
        calls = [call_of(JOIN, 10 + item, arguments={"number": item}, shared=shared) for item in range(5)]

        outcomes = outcomes_of(session, calls)

        wrong = [item for item in range(5) if value_of(outcomes[10 + item]) != (item, [1, 2], {"unit": "cm"})]
        assert not wrong, f"items {wrong} got another's outcome, or not what all items share. {HINT}"

    def test_a_changed_value_stays_with_its_step(self, session: ExecutorSession) -> None:
        """In a worker, each step has its own copy: a later step receives the value as it was returned."""
        value = value_of(outcome_of(session, call_of(LISTED, 0)))
        kept = list(value)

        grown = outcome_of(session, call_of(GROW, 1, lane=0, arguments={"numbers": value}))

        assert value_of(grown) == [1, 2, 3, 4]
        is_copied = value is not value_of(grown)
        later = call_of(JOIN, 2, lane=0, arguments={"number": 0, "numbers": value, "options": {}})
        expected = kept if is_copied else [1, 2, 3, 4]
        assert value_of(outcome_of(session, later)) == (0, expected, {})

    def test_a_fallback_is_the_calls_step(self, session: ExecutorSession) -> None:
        """After the task's step has failed, a call brings another step of the same task, with its own arguments."""
        failed = outcome_of(session, call_of(FAILS, 0))
        assert isinstance(failed, Raised)
        assert (failed.failure.exception, failed.failure.message) == ("ValueError", "my words")

        call = call_of(FAILS, 0, step=repairs, arguments={"number": 2}, fallback=1)
        assert value_of(outcome_of(session, call)) == "repaired 2"

    def test_a_step_that_waits_is_asked_again(self, session: ExecutorSession) -> None:
        """A call that is not ready has an outcome of its own. The next one has the same number, task and lane."""
        for number, expected in ((0, Parked(TypePark.POLL, "0 of 2")), (1, Parked(TypePark.POLL))):
            outcome = outcome_of(session, call_of(WAITS, 0, arguments={"number": number}))
            assert isinstance(outcome, Parked), f"a step that was not ready gave {outcome}"
            assert outcome._replace(usage=None) == expected

        assert value_of(outcome_of(session, call_of(WAITS, 0, arguments={"number": 2}))) == 2

    def test_one_failure_is_of_one_call(self, session: ExecutorSession) -> None:
        """A step that fails, or takes too long, leaves the others alone."""
        calls = [call_of(LISTED, 0), call_of(FAILS, 1), call_of(SLEEPS, 2), call_of(LISTED, 3)]

        outcomes = outcomes_of(session, calls)

        assert isinstance(outcomes[1], Raised)
        assert isinstance(outcomes[2], TimedOut | Died)
        assert [value_of(outcomes[number]) for number in (0, 3)] == [[1, 2, 3], [1, 2, 3]]

    def test_a_keyboard_interrupt_of_a_step_is_an_outcome(self, session: ExecutorSession) -> None:
        """It ends the run, which is for the run to do."""
        call = call_of(INTERRUPTS, 0)

        try:
            outcome = outcome_of(session, call)
        except KeyboardInterrupt:  # in the calling thread it goes straight to the run
            return
        assert isinstance(outcome, Interrupted)

    def test_a_session_that_is_woken_returns(self, session: ExecutorSession) -> None:
        """`wake`, from another thread, ends a `wait` that has nothing to wait for."""
        timer = threading.Timer(0.05, session.wake)
        timer.start()
        began = clock.ticks()

        session.wait(SECONDS)

        timer.join()
        assert clock.ticks() - began < SECONDS / 2
