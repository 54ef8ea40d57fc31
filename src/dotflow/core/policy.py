"""How often, how long and how soon again: what @action was told."""

from dataclasses import dataclass
from typing import Final

from dotflow.errors import InvalidPolicy

MOST_SECONDS: Final = 10 * 365 * 86_400  # ten years; far beyond that the system's own timers overflow
MOST_DOUBLINGS: Final = 62  # a second doubled so often outlasts the sun; more would overflow a float


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The rules for a step's attempts.

    Args:
        attempts: Attempts in all, 1 or more.
        timeout: Seconds for each attempt; 0 for no limit.
        delay: Seconds between attempts.
        backoff: Double the delay each time.

    Raises:
        InvalidPolicy: One of them means nothing.
    """

    attempts: int = 1
    timeout: float = 0
    delay: float = 1
    backoff: bool = False

    def __post_init__(self) -> None:
        if type(self.attempts) is not int or self.attempts < 1:
            raise InvalidPolicy(
                "retry", self.attempts, "the number of attempts in all, a whole number from 1 (1 = one try)"
            )
        if not is_seconds(self.timeout):
            raise InvalidPolicy(
                "timeout",
                self.timeout,
                "a number of seconds per attempt, 0 or more (0 = no timeout), ten years at the most",
            )
        if not is_seconds(self.delay):
            raise InvalidPolicy(
                "retry_delay", self.delay, "a number of seconds between attempts, 0 or more, ten years at the most"
            )
        if not isinstance(self.backoff, bool):
            raise InvalidPolicy("backoff", self.backoff, "True or False")

    def delay_after(self, attempt: int) -> float | None:
        """Seconds to wait after failed attempt number *attempt* (from 1); None to give up."""
        if attempt >= self.attempts:
            return None
        if not self.backoff:
            return self.delay
        doubled: float = self.delay * 2 ** min(attempt - 1, MOST_DOUBLINGS)
        return min(doubled, MOST_SECONDS)


def is_seconds(value: object) -> bool:
    """Whether it is a number of seconds that can be waited."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MOST_SECONDS
