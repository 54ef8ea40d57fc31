"""Context: the value that one step passes to the next, and its origin."""

import pickle
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from dotflow import Context, clock

MOMENT = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)


def test_an_empty_context_has_no_value() -> None:
    """Without arguments there is a time, and nothing else."""
    context = Context()

    assert (context.storage, context.task_id, context.workflow_id) == (None, None, None)
    assert abs(clock.now() - context.time) < timedelta(minutes=1)
    assert context.time.tzinfo is UTC


def test_the_value_is_the_same_object() -> None:
    """A context holds its value; it copies nothing."""
    value = {"rows": [1, 2]}

    assert Context(value).storage is value


def test_wrapping_keeps_one_layer() -> None:
    """A Context in a Context, however deep, is one Context with the inner one's value and origin."""
    inner = Context([1], task_id=3, workflow_id="w", time=MOMENT)

    outer = Context(Context(Context(inner)))

    assert outer.storage is inner.storage
    assert (outer.task_id, outer.workflow_id, outer.time) == (3, "w", MOMENT)


def test_wrapping_lets_the_outer_arguments_win() -> None:
    """The outer one's arguments win, the first task's 0 too; the rest is the inner one's."""
    outer = Context(Context([1], task_id=3, workflow_id="w", time=MOMENT), task_id=0, workflow_id="v")

    assert (outer.storage, outer.task_id, outer.workflow_id, outer.time) == ([1], 0, "v", MOMENT)


def test_a_context_inside_a_value_is_left_alone() -> None:
    """Only the value itself is unwrapped: a list of contexts stays a list of contexts."""
    members = [Context(1), Context(2)]

    assert Context(members).storage is members


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (Context(1), Context(1), True),
        (Context(1), Context(2), False),
        (Context(1, task_id=0), Context(1, task_id=1), False),
        (Context(1, workflow_id="a"), Context(1, workflow_id="b"), False),
        (Context(1, time=MOMENT), Context(1), True),
        (Context(), Context(None), True),
    ],
)
def test_equality(one: Context, other: Context, equal: bool) -> None:
    """Two contexts are equal if value and origin are, at any time."""
    assert (one == other) is equal
    assert (one != other) is not equal


def test_is_not_equal_to_its_value() -> None:
    """A context is not its value."""
    assert Context(1) != 1
    assert Context(None) is not None


def test_the_same_value_is_equal_even_if_it_denies_it() -> None:
    """nan, and anything else that is not equal to itself, is the same value all the same."""
    nan = float("nan")

    assert Context(nan) == Context(nan)


def test_has_no_hash() -> None:
    """Its value may change, so it can be in no set."""
    with pytest.raises(TypeError):
        hash(Context(1))


def test_survives_pickling() -> None:
    """It is unpickled unchanged, with its step."""
    context = Context({"a": 1}, task_id=2, workflow_id="w", time=MOMENT, step="m:f")

    loaded = pickle.loads(pickle.dumps(context))

    assert loaded == context
    assert (loaded.time, loaded.step) == (MOMENT, "m:f")


def test_takes_no_attributes_of_its_own() -> None:
    """A misspelt attribute is an error, not a silent new one."""
    with pytest.raises(AttributeError):
        Context(1).storge = 2


def test_repr_shows_value_and_place() -> None:
    """A REPL shows the value and the task."""
    assert repr(Context([1])) == "Context([1])"
    assert repr(Context("x", task_id=4)) == "Context('x', task_id=4)"


@pytest.mark.parametrize(
    "use",
    [
        lambda context: sum(context),
        lambda context: context[0],
        lambda context: 3 in context,
        lambda context: [*context],
        lambda context: len(context),
        lambda context: context + 1,
        lambda context: 2 * context,
        lambda context: context > 1,
    ],
    ids=["loop", "item", "in", "star", "len", "plus", "times", "greater"],
)
def test_used_as_its_value(use: Callable[[Any], object]) -> None:
    """The error names the attribute with the value."""
    with pytest.raises(TypeError, match=r"carries a value in its storage, as in previous_context\.storage"):
        use(Context([1, 2]))


def test_is_true_with_any_value() -> None:
    """As any object is; its value may be false."""
    assert Context()
    assert Context([])


def test_an_attribute_of_its_value() -> None:
    """hasattr() works."""
    with pytest.raises(AttributeError, match=r"has no attribute 'upper': .* previous_context\.storage"):
        _ = cast(Any, Context("a")).upper

    assert not hasattr(Context("a"), "upper")
    assert not isinstance(Context([1]), Iterable)
