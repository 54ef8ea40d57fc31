"""Calls of actions in the body of a durable step: the body that a call belongs to, and the requests about it."""

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from enum import IntEnum
from typing import Any, Final, NamedTuple, Protocol

from dotflow.core.files import FileRecord
from dotflow.core.outcome import Parked

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
    STOP = 5  # the answer: the attempt is parked
    DONE = 6  # the answer: it was kept, or dropped
    REFUSE = 7  # the answer: an error, which fails the attempt
    FAIL = 8  # to report a failure: it is kept later, or never; and the answer: not made, with this error
    WAIT = 9  # the end of a sleep, a question or a poll's wait, which it begins; and the answer: not yet
    LIMIT = 10  # what a call needs of its limits
    FREE = 11  # the end of what it was granted


class Asking(NamedTuple):
    """A question to people.

    Attributes:
        text: The question, whose braces name values.
        values: The values.
        within: The seconds within which an answer counts; None for no limit.
    """

    text: str
    values: Mapping[str, Any]
    within: float | None = None


class Polling(NamedTuple):
    """The wait of a call that was not ready.

    Attributes:
        attempt: The attempt of the call, from 1.
        asked: How often this attempt has asked.
        since: The seconds since it has begun, where no earlier wait of it was kept.
        delay: The seconds until it asks again.
        timeout: The maximum seconds for which it waits; None for no limit.
        note: What it has said: the text of its NotYet.
    """

    attempt: int
    asked: int
    since: float
    delay: float
    timeout: float | None
    note: str


class CacheQuery(NamedTuple):
    """What a call of an action with a cache asks of it.

    Attributes:
        keys: Where its value may be, or where it belongs; () for nowhere.
        age: The maximum age of a value, in seconds; True for no limit.
        has_files: Whether the files that the value names have to be those that were made.
        reason: Why it has no key.
    """

    keys: tuple[str, ...]
    age: float
    has_files: bool
    reason: str = ""


class CallRequest(NamedTuple):
    """A request about a call.

    Attributes:
        kind: ASK, KEEP, DROP, FAIL or WAIT.
        key: The key of the call; of LIMIT and FREE an id of its attempt.
        name: The identity of its action.
        code: The fingerprint of its code.
        links: Of KEEP and WAIT, and where there is a cache of ASK: the key that it is below, its number, and its
            arguments. Of FAIL: these.
        digest: Of the same: the digest of its arguments.
        value: Of KEEP: the value, or the failure as data. Of FAIL: the Failure. Of WAIT: the seconds of a sleep,
            an Asking, or a Polling. Of LIMIT: what the call needs, Wanted; of FREE: what it has used, by unit, whether
            it got through, and of one that a service has refused the seconds that this has named, and the limit.
        is_failure: Whether it is a failure.
        files: Of KEEP: the files that the call has made.
        keys: Of DROP: the keys.
        beginning: Of ASK and WAIT, where calls are followed: the beginning of its arguments as JSON.
        depth: Of ASK and WAIT: in how many durable calls it is made.
        cached: Of ASK and KEEP: where its value is cached; None where its action has no cache.
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
    beginning: str = ""
    depth: int = 0
    cached: CacheQuery | None = None


class CallAnswer(NamedTuple):
    """The answer to a request.

    Attributes:
        kind: MAKE, GIVE, WAIT, STOP, DONE, REFUSE or FAIL.
        value: What was kept; of MAKE the PlannedFailures of a test, or None; of WAIT the seconds that are left, or
            None, and where a limit makes it wait a note beside them, of STOP a Parked, of REFUSE and FAIL the error. To
            a Polling that is over: whether the time of the call is up.
        is_failure: Whether a failure was kept.
        files: The files that a kept call has made.
        voided: How often what was kept of the call was voided by changed code.
        polled: Of MAKE the attempt and the count of the Polling that the call goes on with; None for none.
    """

    kind: TypeRequest
    value: Any = None
    is_failure: bool = False
    files: tuple[str, ...] = ()
    voided: int = 0
    polled: tuple[int, int] | None = None


class Coordinator(Protocol):
    """Answers the requests of the bodies of one attempt, in any thread."""

    def answer(self, request: CallRequest) -> CallAnswer:
        """Returns the answer. It raises nothing."""

    def settle(self) -> None:
        """Saves what the answers to requests from other threads have left to the thread of the body."""


class CallFollower(Protocol):
    """What follows the calls of a run. Any thread may call it.

    Attributes:
        is_following: Whether the events of single calls are received.
    """

    is_following: bool

    @property
    def is_pausing(self) -> bool:
        """Whether the run pauses: a durable step then stops before its next call."""

    def begin_attempt(self, task: Any, kept: int) -> None:
        """Notes that an attempt of a task or an item goes on with so many kept calls, in the run's thread."""

    def end_attempt(self, task: Any, made: int, given: int, cached: int) -> None:
        """Notes how many calls an attempt that is over has made, was given back, and took from the cache.

        It is called in the same thread.
        """

    def count_calls(self, task: Any, kept: int, given: int) -> None:
        """Notes how many calls the attempt of a task or an item has kept so far, and how many it was given back."""

    def begin_call(self, task: Any, number: int, request: CallRequest) -> None:
        """Notes that a call is made, by its number and its ASK."""

    def end_call(
        self, task: Any, number: int, tick: float, end: Any, text: str = "", *, is_cached: bool = False
    ) -> None:
        """Notes that a call has ended: with a Failure, and the JSON of its arguments, or with a value."""

    def wait_call(self, task: Any, number: int, asked: int, note: str) -> None:
        """Notes that a call was not ready, how often it has asked, and what it has said; or that it asks again."""

    def grant(self, task: Any, request: CallRequest, *, must: bool) -> CallAnswer:
        """Answers a LIMIT: MAKE, WAIT or FAIL. *must* is whether the call is made in any case, and only counted."""

    def free(self, task: Any, request: CallRequest) -> CallAnswer:
        """Answers a FREE: DONE; where a service has refused the call WAIT, or FAIL if that was too often."""

    def ask(self, task: Any, request: CallRequest, nth: int) -> Any:
        """Returns the Answer to the question of a call, whose WAIT it is, by how often it was voided.

        Raises:
            NotServable: Nothing can keep the answers.
            HistoryError: The history can't be read or written.
        """

    def settle(self) -> None:
        """Saves what was noted in other threads, where it is called in the run's thread, which runs the body."""


class Port(Protocol):
    """The way of an attempt to the coordinator.

    Attributes:
        is_followed: Whether the events of single calls are received.
    """

    is_followed: bool

    def body_of(self, call: Any) -> Callable[..., Any]:
        """Returns the function of the call's step, which runs as a body."""

    def answer(self, request: CallRequest) -> CallAnswer:
        """Answers a request of a body that runs elsewhere. It raises nothing."""

    def close(self) -> None:
        """Ends the conversation, once the request under way has its answer."""


class BodyStopped(BaseException):
    """Ends the body of a durable step between two calls.

    Args:
        why: The outcome of its attempt, or the error with which it fails.
    """

    def __init__(self, why: Parked | Exception) -> None:
        super().__init__(why)
        self.why = why
