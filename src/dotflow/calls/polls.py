"""Polls: the attempts of a call that waits for something, and what the coordinator keeps of each wait."""

from dotflow import clock
from dotflow.core.action import AnyAction
from dotflow.core.calls import CallAnswer, Polling
from dotflow.core.text import times
from dotflow.errors import PollTimeout


class Polls:
    """The attempts of one call of an action with `poll`, in one attempt of its step.

    Args:
        action: The action.
        before: How a wait of an earlier attempt of the step, which the call goes on with, was numbered: by the attempt
            of the call, and how often that had asked. None for a call that begins.

    Attributes:
        attempt: The number of the attempt of the call, from 1.
        has_waited: Whether the coordinator has kept a wait.
    """

    def __init__(self, action: AnyAction, before: tuple[int, int] | None) -> None:
        self.attempt, self._asked = before or (1, 0)
        self.has_waited = before is not None
        self._action = action
        self._goes_on = before is not None
        self._has_begun = False
        self._began = clock.monotonic()
        self._note = ""

    def begin(self) -> Polling | None:
        """Begins an attempt. Returns the wait that it begins with: that which an earlier attempt of its step began."""
        if self._has_begun:
            self.attempt, self._asked, self._goes_on = self.attempt + 1, 0, False
        self._has_begun, self._began = True, clock.monotonic()
        return self._polling() if self._goes_on else None

    def wait(self, note: str) -> Polling:
        """Returns the wait that follows a call that was not ready, with what it has said."""
        self._asked, self._note, self.has_waited = self._asked + 1, note, True
        return self._polling()

    def _polling(self) -> Polling:
        policy = self._action.policy
        since = clock.monotonic() - self._began
        return Polling(self.attempt, self._asked, since, policy.poll_delay(), policy.poll_timeout, self._note)

    def check(self, answer: CallAnswer) -> None:
        """Raises PollTimeout where the answer to a wait is that its time is up."""
        if answer.value:
            policy = self._action.policy
            raise PollTimeout(self._action.name, policy.poll_timeout or 0.0, times(self._asked), self._note)
