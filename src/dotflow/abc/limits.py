"""LimitStore: where the grants of limits are counted."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from dotflow.core.limits import Part, Wanted


class Holder(NamedTuple):
    """An attempt that a limit counts as one of those at once.

    Attributes:
        id: An id of its own.
        run: The run.
        task: The task, or the item: `ask[17]`.
        priority: The priority of its run: places are set aside for the highest one.
    """

    id: str
    run: str
    task: str
    priority: int = 0


class Ended(NamedTuple):
    """An attempt that has ended.

    Attributes:
        id: The id of its Holder.
        wanted: What it was granted.
        used: What it has used, by unit, in millionths; what is missing counts as it was estimated.
    """

    id: str
    wanted: Sequence[Wanted] = ()
    used: Mapping[str, int] = {}


class Excess(NamedTuple):
    """Why an attempt never begins: it needs more than a limit has at all, or than is left of a budget.

    Attributes:
        part: The part.
        needs: What the attempt needs of it, in millionths; 0 where that is not known.
        used: What is used of a budget; 0 for a limit.
        again: The seconds until a budget has that; None for never.
        is_budget: Whether it is a budget.
    """

    part: Part
    needs: int
    used: int = 0
    again: float | None = None
    is_budget: bool = False


class Reached(NamedTuple):
    """A budget of which people are told, once in its period.

    Attributes:
        name: The budget.
        part: The part.
        used: What is used of it, in millionths.
        level: The percentage that is reached: 80 or 100.
    """

    name: str
    part: Part
    used: int
    level: int


class Verdict(NamedTuple):
    """Whether an attempt may begin.

    Attributes:
        wait: The seconds until it is asked again; None where it may begin, and where it never does.
        name: The limit that it waits for.
        reason: What of that: `10/min`, `3 at once`, `closed until 12:04:10 (429)`.
        is_place: Whether it waits for the end of another attempt, which nobody can foresee.
        refused: Of a granted one, how often the service had refused since an attempt got through.
        excess: Why it never begins; None where it does.
        reached: The budgets of which people are told now.
        ids: Of a granted one, which of the things that have ids it has, by name.
    """

    wait: float | None = None
    name: str = ""
    reason: str = ""
    is_place: bool = False
    refused: int = 0
    excess: Excess | None = None
    reached: tuple[Reached, ...] = ()
    ids: Mapping[str, tuple[str, ...]] = {}


class PartUse(NamedTuple):
    """A part of a limit or a budget, and how much of it is used now, in millionths.

    Attributes:
        part: The part.
        used: What counts, with what is only estimated.
        estimated: What attempts that run are estimated to use.
        run: Of a budget for a run: the first of its runs; else "".
        is_budget: Whether it is a part of a budget.
    """

    part: Part
    used: int
    estimated: int = 0
    run: str = ""
    is_budget: bool = False


class Held(NamedTuple):
    """An attempt that counts as one of those at once, or waits for that, and since when."""

    run: str
    task: str
    since: datetime


class LimitUse(NamedTuple):
    """A limit as it stands now, with the budget of the same name.

    Attributes:
        name: The name.
        parts: The parts with what is used of them.
        held: The attempts at once.
        waits: Of each process that has waited for a place for more than a second, an attempt.
        closed: The moment until which nothing begins since a service has refused; None where it is open.
        closed_by: The run and the task that it has refused.
        is_place: Whether it is something of this machine.
    """

    name: str
    parts: Sequence[PartUse]
    held: Sequence[Held]
    waits: Sequence[Held] = ()
    closed: datetime | None = None
    closed_by: str = ""
    is_place: bool = False


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
    def end(self, attempts: Sequence[Ended]) -> Sequence[Reached]:
        """Ends attempts, and counts what they have used. Those that are unknown are ended already.

        Returns:
            The budgets of which people are told now.
        """

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


class PlaceStore(LimitStore):
    """Counts what attempts have of a machine: ids and amounts. All methods raise HistoryError."""

    @abstractmethod
    def wanted(self, resources: Mapping[str, float]) -> tuple[Wanted, ...]:
        """Returns what an attempt needs, given the resources of its step."""
