"""Policy: the attempts, the timeout and the delays of a step."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from dotflow.core.durations import MAX_SECONDS, TEXTS, is_seconds, to_seconds
from dotflow.core.failure import Failure, describe, name_of
from dotflow.errors import InvalidPolicy

if TYPE_CHECKING:
    from dotflow.core.limits import Limit

MAX_DOUBLINGS: Final = 62  # of a delay; more would overflow a float
ABOVE_ZERO: Final = ("poll", "poll_timeout")

#: What can wait, for errors.
POLL_IS: Final = "for functions and coroutine functions: a class and its actions can't wait. Add a step that waits"

RetryOn = type[BaseException] | tuple[type[BaseException], ...] | Callable[[Any], bool | float]
"""The errors to retry on: a class, several, or a function that returns True, False or a number of seconds."""

#: The accepted values of retry_on, for errors.
RETRY_ON: Final = (
    "an exception class, a tuple of them, or a plain function f(error) that returns True, False or a number of seconds"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The rules for a step's attempts. Durations are numbers of seconds or texts, and are converted to seconds.

    Args:
        attempts: The total number of attempts, 1 or more.
        timeout: The maximum time of an attempt; 0 for no limit.
        delay: The time between attempts.
        backoff: Whether the delay doubles each time.
        retry_on: The errors to retry on; None for all.
        max_delay: The maximum delay; None for no limit.
        jitter: The maximum share of a delay that is subtracted at random, from 0 to 1.
        poll: The time between two calls of an attempt that waits; None for a step that doesn't wait.
        poll_timeout: The maximum time for which an attempt waits; None for no limit.
        limits: What its attempts wait for; given as a text or a list of texts.
        budgets: What refuses them; given as a text or a list of texts.
        uses: A function of its arguments that returns what an attempt will use, by unit; None if that is not known.
        memory: The bytes that an attempt may use; given as bytes or a text; None for no limit.

    Raises:
        InvalidPolicy: One of them is invalid.
    """

    attempts: int = 1
    timeout: float = 0
    delay: float = 1
    backoff: bool = False
    retry_on: RetryOn | None = None
    max_delay: float | None = None
    jitter: float = 0
    poll: float | None = None
    poll_timeout: float | None = None
    limits: "tuple[Limit, ...]" = ()
    budgets: "tuple[Limit, ...]" = ()
    uses: Callable[..., Mapping[str, float]] | None = None
    memory: int | None = None

    def __post_init__(self) -> None:
        if type(self.attempts) is not int or self.attempts < 1:
            raise InvalidPolicy("retry", self.attempts, "the total number of attempts, a whole number from 1")
        self._convert("timeout", "per attempt, 0 or more (0 = no timeout)")
        self._convert("delay", "between attempts, 0 or more", "retry_delay")
        if self.max_delay is not None:
            self._convert("max_delay", "between attempts at most, 0 or more")
        if not isinstance(self.backoff, bool):
            raise InvalidPolicy("backoff", self.backoff, "True or False")
        if not is_seconds(self.jitter) or self.jitter > 1:
            raise InvalidPolicy(
                "jitter", self.jitter, "the maximum share of a delay to subtract at random, from 0 to 1"
            )
        if not _is_retry_on(self.retry_on):
            raise InvalidPolicy("retry_on", self.retry_on, RETRY_ON)
        if self.poll is not None:
            self._convert("poll", "between two calls, above 0")
        if self.poll_timeout is not None:
            if self.poll is None:
                raise InvalidPolicy("poll_timeout", self.poll_timeout, "for a step that waits: write poll='30s', too")
            self._convert("poll_timeout", "for which an attempt waits, above 0")
        if self.limits != () or self.budgets != () or self.uses is not None:
            from dotflow.core.limits import check_uses, parse_limits  # here: few steps have them

            for option in ("limit", "budget"):
                if (value := getattr(self, f"{option}s")) != ():
                    object.__setattr__(self, f"{option}s", parse_limits(value, option))
            if self.uses is not None:
                check_uses(self.uses, (*self.limits, *self.budgets))
        if self.memory is not None:
            from dotflow.core.sizes import SIZES, to_bytes  # here: few steps have it

            size = to_bytes(self.memory)
            if not size:
                raise InvalidPolicy("memory", self.memory, f"above 0: {SIZES}")
            object.__setattr__(self, "memory", size)

    @property
    def is_limited(self) -> bool:
        """Whether its attempts have a limit or a budget."""
        return bool(self.limits or self.budgets)

    def _convert(self, field: str, meaning: str, name: str = "") -> None:
        value = getattr(self, field)
        seconds = to_seconds(value)
        if seconds is None or (not seconds and field in ABOVE_ZERO):
            raise InvalidPolicy(name or field, value, f"a number of seconds {meaning}, or {TEXTS}; at most ten years")
        object.__setattr__(self, field, seconds)

    def should_retry(self, error: BaseException) -> tuple[bool | float, str]:
        """Applies `retry_on` to an error.

        Returns:
            Whether to retry, or the seconds until the next attempt. And a note, where the function raised or returned
            something else, which means no retry.
        """
        retry_on = self.retry_on
        if retry_on is None or self.attempts == 1:
            return True, ""
        if isinstance(retry_on, type | tuple):
            return isinstance(error, retry_on), ""
        try:
            result = retry_on(error)
        except (Exception, SystemExit) as broken:  # the user's own function
            broken.__suppress_context__ = True  # the step's error, which is shown anyway
            traceback = Failure.of(broken).traceback.rstrip()
            return False, f"It is not repeated, since retry_on raised {type(broken).__name__}:\n{traceback}"
        if isinstance(result, bool):
            return result, ""
        if is_seconds(result):
            return float(result), ""
        expected = "not True, False or a number of seconds"
        return False, f"It is not repeated, since retry_on returned {describe(result)}, {expected}."

    def changed(self, rounds: int = 0, levels: Sequence[str] = ()) -> dict[str, Any]:
        """Returns what differs from the default policy, as values for JSON.

        Of a task in rounds also their number, and of one whose items have several indices to what these belong.
        """
        default = Policy()
        fields = ("attempts", "timeout", "delay", "backoff", "max_delay", "jitter", "poll", "poll_timeout", "memory")
        values = {name: value for name in fields if (value := getattr(self, name)) != getattr(default, name)}
        if self.retry_on is not None:
            kinds = self.retry_on if isinstance(self.retry_on, tuple) else (self.retry_on,)
            values["retry_on"] = [name_of(kind) if isinstance(kind, type) else "a function" for kind in kinds]
        if self.limits:
            values["limit"] = [limit.text for limit in self.limits]
        if self.budgets:
            values["budget"] = [budget.text for budget in self.budgets]
        return values | ({"repeat": rounds} if rounds else {}) | ({"levels": [*levels]} if levels else {})

    def refusal(self, attempt: int, exception: str) -> str:
        """Returns why a failed attempt was not repeated; "" without `retry_on`, and after the last attempt.

        Args:
            attempt: Its number, from 1.
            exception: The name of the exception.
        """
        if self.retry_on is None or attempt >= self.attempts:
            return ""
        is_list = isinstance(self.retry_on, type | tuple)
        return f"{exception} is not in retry_on" if is_list else f"retry_on refused {exception}"

    def delay_after(self, attempt: int, retry: bool | float | None = None) -> float | None:
        """Returns the seconds until the next attempt; None for no further attempt.

        Args:
            attempt: The number of the failed attempt, from 1.
            retry: The result of `should_retry`; None where it was not called, which is no match for `retry_on`.
        """
        if attempt >= self.attempts:
            return None
        if self.retry_on is not None and retry is not True:
            return None if retry is None or retry is False else retry
        delay = self.delay
        if self.backoff:
            delay = min(delay * 2 ** min(attempt - 1, MAX_DOUBLINGS), MAX_SECONDS)
        if self.max_delay is not None:
            delay = min(delay, self.max_delay)
        return self._jittered(delay)

    def poll_delay(self) -> float:
        """Returns the seconds until the next call of an attempt that waits."""
        return self._jittered(self.poll or 0.0)

    def _jittered(self, delay: float) -> float:
        if not self.jitter:
            return delay
        import random  # here: it takes milliseconds, and few steps need it

        return delay * (1 - self.jitter * random.random())


def _is_retry_on(value: object) -> bool:
    if value is None:
        return True
    kinds = value if isinstance(value, tuple) and value else (value,)
    if all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
        return True
    import inspect

    return callable(value) and not isinstance(value, type) and not inspect.iscoroutinefunction(value)
