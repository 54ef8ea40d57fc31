"""How often, how long and how soon again: what @action was told."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from dotflow.core.durations import MOST_SECONDS, TEXTS, is_seconds, to_seconds
from dotflow.core.failure import Failure, describe
from dotflow.errors import InvalidPolicy

MOST_DOUBLINGS: Final = 62  # a second doubled so often outlasts the sun; more would overflow a float

RetryOn = type[BaseException] | tuple[type[BaseException], ...] | Callable[[Any], bool | float]
"""Which errors are repeated: a class, several, or a function that answers True, False or a number of seconds."""

RETRY_ON: Final = (
    "an exception class, a tuple of them, or a plain function f(error) that answers True, False or a number of seconds"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The rules for a step's attempts. Durations are numbers of seconds or texts, and kept as seconds.

    Args:
        attempts: Attempts in all, 1 or more.
        timeout: The time for each attempt; 0 for no limit.
        delay: The time between attempts.
        backoff: Double the delay each time.
        retry_on: Which errors are repeated; None for all.
        max_delay: The longest delay; None for no bound.
        jitter: The share of a delay that chance may take off, from 0 to 1.

    Raises:
        InvalidPolicy: One of them means nothing.
    """

    attempts: int = 1
    timeout: float = 0
    delay: float = 1
    backoff: bool = False
    retry_on: RetryOn | None = None
    max_delay: float | None = None
    jitter: float = 0

    def __post_init__(self) -> None:
        if type(self.attempts) is not int or self.attempts < 1:
            raise InvalidPolicy(
                "retry", self.attempts, "the number of attempts in all, a whole number from 1 (1 = one try)"
            )
        self._keep("timeout", "timeout", "per attempt, 0 or more (0 = no timeout)")
        self._keep("delay", "retry_delay", "between attempts, 0 or more")
        if self.max_delay is not None:
            self._keep("max_delay", "max_delay", "between attempts at the most, 0 or more")
        if not isinstance(self.backoff, bool):
            raise InvalidPolicy("backoff", self.backoff, "True or False")
        if not is_seconds(self.jitter) or self.jitter > 1:
            raise InvalidPolicy("jitter", self.jitter, "the share of a delay that chance may take off, from 0 to 1")
        if not _is_retry_on(self.retry_on):
            raise InvalidPolicy("retry_on", self.retry_on, RETRY_ON)

    def _keep(self, field: str, name: str, meaning: str) -> None:
        value = getattr(self, field)
        seconds = to_seconds(value)
        if seconds is None:
            raise InvalidPolicy(name, value, f"a number of seconds {meaning}, or {TEXTS}; ten years at the most")
        object.__setattr__(self, field, seconds)

    def ask(self, error: BaseException) -> tuple[bool | float, str]:
        """Asks `retry_on` about an error.

        Returns:
            Whether the attempt is repeated, or the seconds until then; and a note where the answer is no since the
            function raised, or answered what means nothing.
        """
        retry_on = self.retry_on
        if retry_on is None or self.attempts == 1:
            return True, ""
        if isinstance(retry_on, type | tuple):
            return isinstance(error, retry_on), ""
        try:
            answer = retry_on(error)
        except (Exception, SystemExit) as broken:  # the user's own function
            broken.__suppress_context__ = True  # the step's error, which stands beside it
            told = Failure.of(broken).traceback.rstrip()
            return False, f"It is not repeated, since retry_on raised {type(broken).__name__}:\n{told}"
        if isinstance(answer, bool):
            return answer, ""
        if is_seconds(answer):
            return float(answer), ""
        wanted = "not True, False or a number of seconds"
        return False, f"It is not repeated, since retry_on answered {describe(answer)}, {wanted}."

    def delay_after(
        self, attempt: int, retry: bool | float | None = None, chance: Callable[[], float] | None = None
    ) -> float | None:
        """Seconds to wait after failed attempt number *attempt* (from 1); None to give up.

        Args:
            attempt: The attempt that failed.
            retry: What `ask` answered; None where nothing could be asked, which `retry_on` doesn't match.
            chance: Gives a number from 0 to 1; random.random unless given.
        """
        if attempt >= self.attempts:
            return None
        if self.retry_on is not None and retry is not True:
            return None if retry is None or retry is False else retry
        delay = self.delay
        if self.backoff:
            delay = min(delay * 2 ** min(attempt - 1, MOST_DOUBLINGS), MOST_SECONDS)
        if self.max_delay is not None:
            delay = min(delay, self.max_delay)
        if self.jitter:
            delay *= 1 - self.jitter * (chance or _chance())()
        return delay


def _chance() -> Callable[[], float]:
    import random  # takes some milliseconds, and few steps need it

    return random.random


def _is_retry_on(value: object) -> bool:
    if value is None:
        return True
    kinds = value if isinstance(value, tuple) and value else (value,)
    if all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
        return True
    import inspect

    return callable(value) and not isinstance(value, type) and not inspect.iscoroutinefunction(value)
