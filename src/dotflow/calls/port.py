"""LocalPort: the way to the coordinator for bodies in its own process, and what all ways have in common."""

import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

from dotflow.calls.body import Body
from dotflow.calls.keys import root_of
from dotflow.calls.requests import Requests
from dotflow.core.call import KEY_BASE, Call
from dotflow.core.calls import CallAnswer, CallRequest, Coordinator, TypeRequest
from dotflow.errors import ValueNotStorable
from dotflow.worker.files import SCALARS


def body_of(requests: Requests, call: Call) -> Callable[..., Any]:
    """Returns the function of the call's step, which runs as a body with these requests."""
    assert call.secrets is not None, "a durable step takes its key"
    base, step = call.secrets[KEY_BASE], call.step
    body = Body(requests, step.name, base, root_of(base), call.files)
    return partial(body.run_coroutine if step.is_coroutine else body.run, step.function)


class LocalPort(Requests):
    """The way to the coordinator in its own process. What is kept is a copy, and so is what is given back.

    Args:
        coordinator: Answers the requests.
        is_slow: Whether an answer may take long.
        is_followed: Whether the events of single calls are received.
        must_copy: Whether a value that can't be copied is refused: the storage keeps the objects themselves.
    """

    def __init__(self, coordinator: Coordinator, *, is_slow: bool, is_followed: bool, must_copy: bool) -> None:
        super().__init__(is_slow=is_slow, is_followed=is_followed)
        self._coordinator = coordinator
        self._must_copy = must_copy

    def body_of(self, call: Call) -> Callable[..., Any]:
        """Returns the function of the call's step, which runs as a body."""
        return body_of(self, call)

    def answer(self, request: CallRequest) -> CallAnswer:
        """Answers a request of a body in another process: what it has sent is a copy."""
        return self._coordinator.answer(request)

    def close(self) -> None:
        """Does nothing: the coordinator knows when the attempt is over."""

    def send(self, request: CallRequest) -> CallAnswer:
        if request.kind is TypeRequest.KEEP and type(request.value) not in SCALARS:
            try:
                request = request._replace(value=self._copied(request.value))
            except ValueNotStorable as error:
                error = error.by(request.name.rpartition(":")[2], is_of_call=True)
                return CallAnswer(TypeRequest.REFUSE, error)
        answer = self._coordinator.answer(request)
        if answer.kind is TypeRequest.GIVE and type(answer.value) not in SCALARS:
            answer = answer._replace(value=self._copied(answer.value))
        return answer

    def settle(self) -> None:
        self._coordinator.settle()

    def _copied(self, value: Any) -> Any:
        try:
            return pickle.loads(pickle.dumps(value, pickle.HIGHEST_PROTOCOL))
        except Exception as error:  # the value's own methods
            if not self._must_copy:
                return value
            raise ValueNotStorable(type(value).__qualname__, "", f"copying it raises {type(error).__name__}") from error
