"""Grant: what one attempt of a call needs of the limits of its action, and has used."""

import contextlib
import inspect
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from dotflow.core.action import AnyAction
from dotflow.core.calls import CallAnswer, CallRequest, TypeRequest
from dotflow.core.limits import MAX_AFTER, Wanted, seconds_after, wanted_by
from dotflow.errors import Throttled
from dotflow.worker.attempt import NO_LIMIT
from dotflow.worker.deadline import Limit
from dotflow.worker.notes import OF_CALL


def needs_of(action: AnyAction, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Wanted, ...]:
    """Returns what a call needs of the limits and budgets of its action; none where it has none.

    Raises:
        Exception: What `uses` raises; or TypeError for what it returns, and for a value that tells nothing apart.
    """
    if not action.policy.is_limited:
        return ()
    arguments = inspect.signature(action.function).bind_partial(*args, **kwargs).arguments
    try:
        return wanted_by(action, arguments, "run")
    except Exception as error:  # of the user's own function
        error.add_note(f"It was raised for the limits of '{action.name}', before the call.")
        raise


class Grant:
    """What one attempt of a call is granted, and has used.

    Args:
        action: The action.
        needs: What it needs.

    Attributes:
        request: Asks for that.
        is_refused: Whether a service has refused the attempt, so that the call is made again.
    """

    def __init__(self, action: AnyAction, needs: tuple[Wanted, ...]) -> None:
        self.request = CallRequest(TypeRequest.LIMIT, uuid.uuid4().hex, action.identity, value=needs)
        self.is_refused = False
        self._used: dict[str, float] = {}

    @contextlib.contextmanager
    def counting(self) -> Iterator[None]:
        """Counts what the code within uses."""
        self._used = {}
        token = OF_CALL.set(self._used)
        try:
            yield
        finally:
            with contextlib.suppress(ValueError):  # the garbage collector closes a coroutine in another context
                OF_CALL.reset(token)

    def end(self, error: BaseException | None = None, limit: Limit = NO_LIMIT) -> CallRequest:
        """Returns the request that says that the attempt has ended: with an *error*, under a *limit* of time."""
        refused: tuple[float | None, str] | None = None
        if isinstance(error, Throttled) and not error.refused and not limit.raised:
            after = seconds_after(error.after)
            if after is None or after <= MAX_AFTER:
                refused = after, error.limit or ""
        self.is_refused = refused is not None
        return CallRequest(TypeRequest.FREE, self.request.key, value=(self._used, error is None, refused))

    @staticmethod
    def check(answer: CallAnswer) -> CallAnswer:
        """Returns an answer. Raises the error of one that refuses the call."""
        if answer.kind is TypeRequest.FAIL:
            raise answer.value
        return answer
