"""Policy: the attempts, the timeout and the delays of a step."""

import math
import pickle
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dotflow.core.policy import Policy
from dotflow.errors import DefinitionError, InvalidPolicy
from tests.names import plain


def test_defaults_are_one_try_without_a_limit() -> None:
    """Without options there is one attempt, without a limit."""
    policy = Policy()

    assert (policy.attempts, policy.timeout, policy.delay, policy.backoff) == (1, 0, 1, False)
    assert policy.delay_after(1) is None


@pytest.mark.parametrize(
    ("policy", "delays"),
    [
        (Policy(attempts=1), [None]),
        (Policy(attempts=2), [1, None]),
        (Policy(attempts=4, delay=0.5), [0.5, 0.5, 0.5, None]),
        (Policy(attempts=4, delay=0), [0, 0, 0, None]),
        (Policy(attempts=5, delay=1, backoff=True), [1, 2, 4, 8, None]),
        (Policy(attempts=4, delay=0.25, backoff=True), [0.25, 0.5, 1, None]),
        (Policy(attempts=3, delay=0, backoff=True), [0, 0, None]),
        (Policy(attempts=1, backoff=True), [None]),
    ],
    ids=repr,
)
def test_delay_after_each_failed_attempt(policy: Policy, delays: list[float | None]) -> None:
    """The delay is the same each time, or doubles with backoff; after the last attempt there is none."""
    assert [policy.delay_after(number) for number in range(1, policy.attempts + 1)] == delays


def test_gives_up_beyond_the_last_attempt() -> None:
    """An attempt beyond the last one is not followed by another."""
    assert Policy(attempts=3).delay_after(7) is None


@given(attempt=st.integers(1, 10_000), delay=st.floats(0, 1e6))
def test_backoff_never_overflows(attempt: int, delay: float) -> None:
    """After any number of attempts, the next delay is finite and no shorter than the first."""
    following = Policy(attempts=10_001, delay=delay, backoff=True).delay_after(attempt)

    assert following is not None
    assert math.isfinite(following)
    assert following >= delay


@pytest.mark.parametrize("attempts", [0, -1, 1.5, 3.0, True, "3", None, math.inf], ids=repr)
def test_refuses_attempts_that_mean_nothing(attempts: object) -> None:
    """retry is a whole number from 1; the message has the value, under the name that the user wrote."""
    with pytest.raises(InvalidPolicy) as caught:
        Policy(attempts=attempts)

    assert f"@action(retry={attempts!r})" in str(caught.value)
    assert "from 1" in str(caught.value)


@pytest.mark.parametrize("seconds", [-1, -0.001, math.nan, math.inf, -math.inf, True, "5", "soon", None, [1]], ids=repr)
@pytest.mark.parametrize(("argument", "name"), [("timeout", "timeout"), ("delay", "retry_delay")])
def test_refuses_seconds_that_mean_nothing(argument: str, name: str, seconds: object) -> None:
    """timeout and retry_delay are numbers of seconds from 0; the message names the one that is wrong."""
    with pytest.raises(InvalidPolicy) as caught:
        Policy(**{argument: seconds})

    assert f"@action({name}={seconds!r})" in str(caught.value)
    assert "0 or more" in str(caught.value)


def test_refuses_a_number_too_large_for_a_float() -> None:
    """A number of seconds that no clock can count is an InvalidPolicy, not an OverflowError."""
    for argument in ("timeout", "delay"):
        with pytest.raises(InvalidPolicy):
            Policy(**{argument: 10**400})


def test_seconds_beyond_the_limit_of_the_system_are_refused() -> None:
    """A timeout or delay that overflows the system's timers is refused when the step is decorated."""
    for argument in ("timeout", "delay"):
        with pytest.raises(InvalidPolicy):
            Policy(**{argument: sys.maxsize})


@pytest.mark.parametrize("backoff", [1, 0, "yes", None], ids=repr)
def test_refuses_a_backoff_that_is_no_bool(backoff: object) -> None:
    """backoff is True or False, and not a number or text."""
    with pytest.raises(InvalidPolicy, match="True or False"):
        Policy(backoff=backoff)


def test_a_bad_policy_is_a_definition_error_and_a_value_error() -> None:
    """`except ValueError` catches it."""
    with pytest.raises(ValueError):
        Policy(attempts=0)
    assert issubclass(InvalidPolicy, DefinitionError)


@pytest.mark.parametrize("seconds", [0, 1, 0.001, 1e-9, 86_400, 0.0])
def test_takes_fractions_and_whole_numbers(seconds: float) -> None:
    """Seconds may be whole numbers, fractions and 0."""
    policy = Policy(timeout=seconds, delay=seconds)

    assert (policy.timeout, policy.delay) == (seconds, seconds)


def test_is_frozen_and_picklable() -> None:
    """A policy is a value: frozen, equal by its parts, the same after pickling."""
    policy = Policy(attempts=3, timeout=1.5, delay=2, backoff=True)

    with pytest.raises(AttributeError):
        policy.attempts = 5
    assert pickle.loads(pickle.dumps(policy)) == policy


@pytest.mark.parametrize("argument", ["timeout", "delay", "max_delay"])
def test_takes_texts_and_keeps_seconds(argument: str) -> None:
    """Every duration may be a text."""
    assert getattr(Policy(**{argument: "1m30s"}), argument) == 90.0


def test_max_delay_caps_the_delay() -> None:
    """Doubling ends at max_delay."""
    policy = Policy(attempts=6, delay=1, backoff=True, max_delay="5s")

    assert [policy.delay_after(number) for number in range(1, 6)] == [1, 2, 4, 5, 5]


@pytest.mark.parametrize(("chance", "delay"), [(0.0, 5.0), (0.5, 3.75), (1.0, 2.5)])
def test_chance_takes_off_a_share_of_the_delay(chance: float, delay: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """jitter=0.5 leaves at least half of the delay, after it was capped."""
    policy = Policy(attempts=2, delay=60, max_delay=5, jitter=0.5)
    monkeypatch.setattr("random.random", lambda: chance)

    assert policy.delay_after(1) == delay


def test_chance_is_pythons_own() -> None:
    """The delay lies within its bounds, and differs."""
    policy = Policy(attempts=2, delay=10, jitter=1)
    delays = {policy.delay_after(1) for _ in range(20)}

    assert len(delays) > 1
    assert all(delay is not None and 0 <= delay <= 10 for delay in delays)


@pytest.mark.parametrize(
    ("retry_on", "error", "result"),
    [
        (None, KeyError(), True),
        (LookupError, KeyError(), True),
        (LookupError, ValueError(), False),
        ((OSError, ValueError), ValueError(), True),
        ((OSError, ValueError), KeyError(), False),
        (lambda error: isinstance(error, KeyError), KeyError(), True),
        (lambda error: False, KeyError(), False),
        (lambda error: 30, KeyError(), 30.0),
        (lambda error: 0, KeyError(), 0.0),
    ],
)
def test_the_result_of_retry_on(retry_on: object, error: Exception, result: object) -> None:
    """A class, several, or a function that returns True, False or seconds."""
    retry, note = Policy(attempts=2, retry_on=retry_on).should_retry(error)

    assert (retry, note) == (result, "")
    assert type(retry) is type(result)


@pytest.mark.parametrize("result", [None, "30", "yes", -1, math.nan, [True]], ids=repr)
def test_another_result_is_no(result: object) -> None:
    """Another result means no retry, and a note says why."""
    retry, note = Policy(attempts=2, retry_on=lambda error: result).should_retry(KeyError())

    assert retry is False
    assert "retry_on returned" in note
    assert "not True, False or a number of seconds" in note


@pytest.mark.parametrize("error", [ZeroDivisionError("of zero"), SystemExit(3)], ids=repr)
def test_a_retry_on_that_raises_is_no(error: BaseException) -> None:
    """The note has the error and its traceback."""

    def retry_on(_: BaseException) -> bool:
        raise error

    retry, note = Policy(attempts=2, retry_on=retry_on).should_retry(KeyError())

    assert retry is False
    assert f"retry_on raised {type(error).__name__}" in note
    assert "test_policy.py" in note


def test_is_not_called_for_the_last_attempt() -> None:
    """With one attempt, retry_on is not called."""
    calls: list[BaseException] = []
    policy = Policy(retry_on=calls.append)

    policy.should_retry(KeyError())

    assert calls == []


@pytest.mark.parametrize(("result", "delay"), [(True, 2), (False, None), (None, None), (30.0, 30.0), (0.0, 0.0)])
def test_the_result_decides_the_delay(result: bool | float | None, delay: float | None) -> None:
    """Seconds are not capped and not shortened; without a result there is no retry."""
    policy = Policy(attempts=2, delay=2, max_delay=10, retry_on=KeyError)

    assert policy.delay_after(1, result) == delay
    assert Policy(attempts=2, max_delay=1, jitter=1, retry_on=KeyError).delay_after(1, 30.0) == 30.0


async def returns_a_coroutine(error: BaseException) -> bool:
    return True


@pytest.mark.parametrize(
    "retry_on", ["KeyError", 5, (), (KeyError, 5), [KeyError], int, KeyError(), returns_a_coroutine, True], ids=plain
)
def test_refuses_a_retry_on_that_means_nothing(retry_on: object) -> None:
    """A list, a name, a class that is no exception, a coroutine function."""
    with pytest.raises(InvalidPolicy, match="exception class"):
        Policy(retry_on=retry_on)


@pytest.mark.parametrize("jitter", [-0.1, 1.1, "0.5", True, None, math.nan], ids=repr)
def test_refuses_a_jitter_that_is_no_share(jitter: object) -> None:
    """jitter is a number from 0 to 1."""
    with pytest.raises(InvalidPolicy, match="from 0 to 1"):
        Policy(jitter=jitter)


@pytest.mark.parametrize(
    ("retry_on", "attempt", "why"),
    [
        (None, 1, ""),
        (OSError, 1, "ValueError is not in retry_on"),
        ((OSError, KeyError), 3, "ValueError is not in retry_on"),
        (lambda error: False, 1, "retry_on refused ValueError"),
        (OSError, 4, ""),
    ],
)
def test_a_refusal_has_a_reason(retry_on: Any, attempt: int, why: str) -> None:
    """It is `retry_on`, unless the attempts are used up."""
    assert Policy(attempts=4, retry_on=retry_on).refusal(attempt, "ValueError") == why


def test_a_step_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its interval and its limit are seconds, and what differs from the default is recorded."""
    policy = Policy(poll="30s", poll_timeout="2h", jitter=0.5)

    assert (policy.poll, policy.poll_timeout) == (30.0, 7200.0)
    assert policy.changed() == {"jitter": 0.5, "poll": 30.0, "poll_timeout": 7200.0}
    monkeypatch.setattr("random.random", iter((0, 0.5, 1)).__next__)
    assert [policy.poll_delay() for _ in range(3)] == [30, 22.5, 15]
    assert "poll" not in Policy().changed()
