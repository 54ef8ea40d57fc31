"""LimitStore: where the grants of limits are counted."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from dotflow.core.limits import Part


class Wanted(NamedTuple):
    """What an attempt needs of one limit.

    Attributes:
        name: The name, with its arguments.
        shared: The name before its braces were filled: what has a text.
        parts: The parts as the step has them.
    """

    name: str
    shared: str
    parts: tuple[Part, ...]


class Holder(NamedTuple):
    """An attempt that a limit counts as one of those at once.

    Attributes:
        id: An id of its own.
        run: The run.
        task: The task, or the item: `ask[17]`.
    """

    id: str
    run: str
    task: str


class Verdict(NamedTuple):
    """Whether an attempt may begin.

    Attributes:
        wait: The seconds until it is asked again; None where it may begin.
        name: The limit that it waits for.
        reason: What of that: `10/min`, `3 at once`, `closed until 12:04:10 (429)`.
        is_place: Whether it waits for the end of another attempt, which nobody can foresee.
        refused: Of a granted one, how often the service had refused since an attempt got through.
    """

    wait: float | None = None
    name: str = ""
    reason: str = ""
    is_place: bool = False
    refused: int = 0


class PartUse(NamedTuple):
    """A part of a limit, and how much of it is used now."""

    part: Part
    used: int


class Held(NamedTuple):
    """An attempt that counts as one of those at once, or waits for that, and since when."""

    run: str
    task: str
    since: datetime


class LimitUse(NamedTuple):
    """A limit as it stands now.

    Attributes:
        name: The name.
        parts: Its parts with what is used of them.
        held: The attempts at once.
        waits: Of each process that has waited for a place for more than a second, an attempt.
        closed: The moment until which nothing begins since a service has refused; None where it is open.
        closed_by: The run and the task that it has refused.
    """

    name: str
    parts: Sequence[PartUse]
    held: Sequence[Held]
    waits: Sequence[Held] = ()
    closed: datetime | None = None
    closed_by: str = ""


class LimitStore(ABC):
    """Counts the grants of limits. All methods raise HistoryError.

    Attributes:
        is_shared: Whether other processes count there, too.
    """

    is_shared: bool = True

    @abstractmethod
    def ask(self, wanted: Sequence[Wanted], holder: Holder, *, must: bool = False) -> Verdict:
        """Grants an attempt all that it wants, or nothing.

        Args:
            wanted: The limits.
            holder: The attempt.
            must: Whether it begins in any case, and is counted.
        """

    @abstractmethod
    def end(self, holders: Sequence[str]) -> None:
        """Ends attempts: their ids. Those that are unknown are ended already."""

    @abstractmethod
    def throttle(self, names: Sequence[str], after: float | None, holder: Holder) -> tuple[float, int]:
        """Closes names for all since a service has refused an attempt.

        Args:
            names: The names.
            after: The seconds that the service has named; None for none.
            holder: The attempt.

        Returns:
            For how many seconds, and how often it has refused since an attempt got through, this time included.
        """

    @abstractmethod
    def note_passed(self, names: Sequence[str]) -> None:
        """Notes that an attempt has got through, after refusals."""

    @abstractmethod
    def open(self, name: str) -> bool:
        """Ends a closing. Returns False where there is none."""

    @abstractmethod
    def uses(self) -> list[LimitUse]:
        """Returns the limits that are known, by name."""
