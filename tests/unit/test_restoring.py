"""What a resume restores, and why the rest runs again."""

from collections.abc import Sequence
from typing import Any

import pytest

from dotflow import Context, action
from dotflow.core.context import Inputs
from dotflow.core.task import RunTask, Task
from dotflow.graph.params import NO_PARAMS
from dotflow.providers import StorageDefault
from dotflow.resume.changed_code import ChangedCode
from dotflow.resume.earlier_runs import EarlierRuns, Restoration
from dotflow.resume.journal import Journal
from dotflow.resume.tokens import INCOMPARABLE, NO_INITIAL, ORDER, Tokens, difference, digest_of


@action
def apart() -> None: ...


@action
def chained(previous_context: Context) -> None: ...


CHAIN = (None, 0, 1)


def tasks(*steps: object) -> list[Task]:
    return [RunTask(number, step, workflow_id="w") for number, step in enumerate(steps)]  # type: ignore[arg-type]


def made(
    task_id: int,
    initial: str = NO_INITIAL,
    previous: int | None = None,
    value: object = 1,
    run: str = "",
    source: str = "",
) -> Context:
    context = Context(value, task_id, "w")
    context.inputs = Inputs(initial, previous, run, source)
    return context


def decide(
    steps: Sequence[object], found: Sequence[Context], sources: Sequence[int | None], initials: Sequence[str]
) -> Restoration:
    """Returns the decisions on these checkpoints, without the notes on code that none of them has."""
    storage: Any = StorageDefault()
    records = tasks(*steps)
    for context in found:
        storage.post(storage.key(records[context.task_id or 0]), context)
    tokens = Tokens(records, sources, NO_PARAMS)
    tokens.initials = dict(enumerate(initials))
    earlier = EarlierRuns(storage, Journal(storage, "w"), tokens, ChangedCode(tokens), [].append, resume=True)
    restoration = earlier.decide()
    assert restoration is not None
    restoration.notes = [note for note in restoration.notes if "Whether the code" not in note]
    return restoration


def void(
    steps: Sequence[object],
    found: Sequence[Context],
    sources: Sequence[int | None] = CHAIN,
    initials: Sequence[str] = (NO_INITIAL,) * 3,
) -> dict[int, str]:
    """Why the checkpoints that do not count don't."""
    restoration = decide(steps, found, sources, initials)
    reasons = {task.task_id: why.text for task, why in restoration.void}
    assert restoration.restored.keys() == {context.task_id for context in found} - reasons.keys()
    assert restoration.notes == []
    return reasons


WHOLE = [made(0), made(1, previous=0), made(2, previous=1)]


def test_values_that_would_be_made_again_are_restored() -> None:
    """The same steps, the same inputs: nothing runs."""
    assert void([apart, chained, chained], WHOLE) == {}


def test_another_initial_context_runs_again_with_its_dependents() -> None:
    """Each with its reason, once."""
    found = void([apart, chained, chained], WHOLE, initials=("new", NO_INITIAL, NO_INITIAL))

    assert found == {
        0: "its initial_context has changed",
        1: "it takes the value of task 0 apart, which runs again",
        2: "it takes the value of task 1 chained, which runs again",
    }


def test_independent_tasks_are_restored() -> None:
    """Of a grid of independent tasks, only the one whose initial_context changed runs again."""
    grid = [made(0, "a"), made(1, "b", previous=0), made(2, "c", previous=1)]

    assert list(void([apart, apart, apart], grid, initials=("a", "x", "c"))) == [1]


def test_a_lost_checkpoint_takes_its_followers_along() -> None:
    """Whether it was deleted, lost or never made."""
    assert list(void([apart, chained, chained], [WHOLE[0], WHOLE[2]])) == [2]
    assert list(void([apart, chained, chained], WHOLE[1:])) == [1, 2]


def test_a_value_that_was_made_from_another_task_runs_again() -> None:
    """After a parallel run without previous values, or after a change of groups."""
    side_by_side = [made(0), made(1), made(2)]

    assert void([apart, chained, apart], side_by_side) == {1: "it was made from another value of 'previous_context'"}
    assert list(void([apart, apart, chained], WHOLE, sources=(None, None, 0))) == [2]


def test_a_value_that_was_made_from_an_earlier_value_runs_again() -> None:
    """However the newer value got there: by another run of this process, or while the task was not in the workflow."""
    newer = [made(0, run="new/2"), made(1, previous=0, run="old/3", source="old/3")]

    assert void([apart, chained], newer) == {1: "it was made from another value of 'previous_context'"}
    assert void([apart, chained], [newer[0], made(1, previous=0, run="last/2", source="new/2")]) == {}


def test_the_value_of_a_class_depends_on_the_task_before() -> None:
    """Its actions may ask for the previous context where the step itself does not."""
    of_class = made(1, previous=0, value=[Context(1), Context(2)])

    assert list(void([apart, apart], [of_class], sources=CHAIN[:2])) == [1]


@pytest.mark.parametrize(
    ("context", "initial", "said"),
    [
        (made(0, INCOMPARABLE), INCOMPARABLE, "can't be compared"),
        (Context(1, 0, "w"), "digest", "does not record which initial_context"),
    ],
)
def test_values_that_can_not_be_compared_are_restored_and_reported(context: Context, initial: str, said: str) -> None:
    """A value that the codec refuses has no digest, and a storage may keep values only."""
    restoration = decide([apart], [context], (None,), (initial,))

    assert (list(restoration.restored), restoration.void) == ([0], [])
    assert len(restoration.notes) == 1
    assert "Task 0 apart is restored" in restoration.notes[0]
    assert said in restoration.notes[0]


def test_a_value_that_has_a_digest_is_another_one_than_one_that_has_none() -> None:
    """Only two values that both have none are left uncompared."""
    assert void([apart], [made(0, INCOMPARABLE)], (None,), ("digest",)) == {0: "its initial_context has changed"}
    assert void([apart], [made(0, "digest")], (None,), (INCOMPARABLE,)) == {0: "its initial_context has changed"}


def test_a_refused_value_has_no_digest() -> None:
    """Everything else has one of its own."""
    assert digest_of(object()) == INCOMPARABLE
    assert digest_of(None) == NO_INITIAL
    assert len({digest_of(value) for value in ("2026-01-01", "2026-01-02", 1, True, 1.0, "1", [1], (1,))}) == 8


def test_a_checkpoint_of_lists_in_another_order_is_not_valid() -> None:
    assert difference({"shared": "1", ORDER: "y, x"}, {"shared": "1", ORDER: "x, y"}) == ORDER
