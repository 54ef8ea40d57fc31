"""failing: attempts of a step fail, so that a test shows what the workflow makes of it."""

import contextlib
import math
import threading
from collections import Counter
from collections.abc import Callable, Generator, Hashable
from typing import Any

from dotflow.calls.keys import identity_of
from dotflow.core.action import AnyAction, action_of
from dotflow.core.callables import unwrapped
from dotflow.core.faults import ACTIVE, PlannedFailures
from dotflow.errors import InvalidArgument


class _Failing:
    """The fault of one step.

    Attributes:
        count: How many attempts have failed.
    """

    def __init__(self, action: AnyAction, times: float, error: Exception | type[Exception]) -> None:
        self._action = action
        self._called_as = identity_of(unwrapped(action.function))
        self._times = times
        self._error = error
        self._failed: Counter[Hashable] = Counter()
        self._lock = threading.Lock()
        self.count = 0

    def failure_of(self, identity: str, node: Hashable) -> Exception | None:
        if identity != self._action.identity or not self._take(node, 1):
            return None
        return self._error() if isinstance(self._error, type) else self._error

    def failures_of(self, identity: str, node: Hashable) -> PlannedFailures | None:
        if identity != self._called_as:
            return None
        policy = self._action.policy
        error = self._error() if isinstance(self._error, type) else self._error
        is_repeated = policy.should_retry(error)[0] is not False
        number = self._take(node, policy.attempts if is_repeated else 1)
        return PlannedFailures(self._error, number) if number else None

    def _take(self, node: Hashable, at_most: int) -> int:
        """Returns how many of the next attempts fail, and counts them."""
        with self._lock:
            number = int(min(self._times - self._failed[node], at_most))
            self._failed[node] += number
            self.count += number
        return number


@contextlib.contextmanager
def failing(
    step: Callable[..., Any], times: int | None = 1, error: Exception | type[Exception] = RuntimeError
) -> Generator[None]:
    """Has the first attempts of a step fail, in the runs that this process makes within the context.

    The step's own code does not run in these attempts; retries, delays, `fallback`, callbacks and the records follow as
    after a failure of its own. It works in every mode, with every executor, and for calls of the action in a durable
    step. Each task, item and call fails so many times, however many run at once, and a resume goes on counting. An
    ordinary call of the step, outside of a run or in another step, is not affected.

    Args:
        step: The action.
        times: How many attempts fail; None for all of them.
        error: What they fail with: an exception, or its class, as after `raise`.

    Raises:
        InvalidArgument: An argument is none of these.
        AssertionError: No attempt has failed within the context, so the test has shown nothing.
    """
    action = action_of(step)
    if action is None:
        raise InvalidArgument("step", step, "an action")
    if times is not None and (type(times) is not int or times < 1):
        raise InvalidArgument("times", times, "a number of attempts, 1 or more, or None for all")
    try:
        example = error() if isinstance(error, type) else error
    except TypeError:  # its class wants arguments
        example = None
    if not isinstance(example, Exception):
        raise InvalidArgument("error", error, "an Exception, or a class of one that takes no arguments")
    fault = _Failing(action, math.inf if times is None else times, error)
    ACTIVE.append(fault)
    try:
        yield
    finally:
        ACTIVE.remove(fault)
    if not fault.count:
        raise AssertionError(
            f"No attempt of {action.name} has failed: none began within failing(). Start the workflow within it, in "
            f"this process, and don't resume a run that has completed the step."
        )
