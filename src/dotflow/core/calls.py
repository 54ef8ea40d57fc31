"""Calls of actions in the body of a durable step: the body that a call belongs to, and the requests about it."""

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from enum import IntEnum
from typing import Any, Final, NamedTuple, Protocol

from dotflow.core.files import FileRecord

NO_LINKS: Final[Mapping[str, str]] = {}


class Scope(Protocol):
    """The body of a durable step that runs, or that of a durable call in it."""

    def call(self, action: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Makes a call of an action, or returns what was kept of it."""

    def of_thread(self, name: str) -> "Scope | None":
        """Returns the body that a call of a thread without one belongs to; None for a plain call. Raises CallRefused.

        *name* is that of the action.
        """


class _Inside:
    """Stands for the inside of a call, where actions are plain functions."""

    def call(self, action: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Makes a plain call."""
        return action.call_plain(args, kwargs)

    def of_thread(self, name: str) -> None:
        """Returns None."""


INSIDE: Final[Scope] = _Inside()

#: The body whose calls the code of this context makes; None outside of all.
SCOPE: Final[ContextVar[Scope | None]] = ContextVar("dotflow_scope", default=None)

#: After INSIDE, the bodies that run in this process, but those of durable calls. Empty until there has been one, so
#: that calls of actions cost nothing more: what outlives its body still has the scope, which refuses its calls.
OPEN: Final[list[Scope]] = []


class TypeRequest(IntEnum):
    """What a body asks of the coordinator, and what it is answered."""

    ASK = 0  # what was kept of a call, before it is made
    KEEP = 1  # the end of a call
    DROP = 2  # calls whose failures don't count: their steps ended with them
    MAKE = 3  # the answer: make the call
    GIVE = 4  # the answer: this was kept
    STOP = 5  # the answer: the run pauses
    DONE = 6  # the answer: it was kept, or dropped
    REFUSE = 7  # the answer: an error, which fails the attempt


class CallRequest(NamedTuple):
    """A request about a call.

    Attributes:
        kind: ASK, KEEP or DROP.
        key: The key of the call.
        name: The identity of its action.
        code: The fingerprint of its code.
        links: Of KEEP: the key that it is below, its number, and what it shows of its arguments.
        digest: Of KEEP: the digest of its arguments.
        value: Of KEEP: the value, or the failure as data.
        is_failure: Whether it is a failure.
        files: Of KEEP: the files that the call has made.
        keys: Of DROP: the keys.
    """

    kind: TypeRequest
    key: str = ""
    name: str = ""
    code: str = ""
    links: Mapping[str, str] = NO_LINKS
    digest: str = ""
    value: Any = None
    is_failure: bool = False
    files: FileRecord | None = None
    keys: tuple[str, ...] = ()


class CallAnswer(NamedTuple):
    """The answer to a request.

    Attributes:
        kind: MAKE, GIVE, STOP, DONE or REFUSE.
        value: What was kept; of REFUSE the error.
        is_failure: Whether a failure was kept.
        files: The files that a kept call has made.
        voided: How often what was kept of the call was voided by changed code.
    """

    kind: TypeRequest
    value: Any = None
    is_failure: bool = False
    files: tuple[str, ...] = ()
    voided: int = 0


class Coordinator(Protocol):
    """Answers the requests of the bodies of one attempt, in any thread."""

    def answer(self, request: CallRequest) -> CallAnswer:
        """Returns the answer. It raises nothing."""


class CallFollower(Protocol):
    """What follows the calls of a run: its loop. Any thread may ask it."""

    @property
    def is_pausing(self) -> bool:
        """Whether the run pauses: a durable step then stops before its next call."""

    def count_calls(self, task: Any, kept: int, given: int) -> None:
        """Notes how many calls the attempt of a task or an item has kept so far, and how many it was given back."""


class Port(Protocol):
    """The way of an attempt to the coordinator."""

    def body_of(self, call: Any) -> Callable[..., Any]:
        """Returns the function of the call's step, which runs as a body."""

    def answer(self, request: CallRequest) -> CallAnswer:
        """Answers a request of a body that runs elsewhere. It raises nothing."""


class BodyStopped(BaseException):
    """Ends the body of a durable step between two calls.

    Args:
        error: What its attempt fails with; None where the run pauses.
    """

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__(error)
        self.error = error
