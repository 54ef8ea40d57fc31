"""The rules of limits: whether an attempt may begin now, or in how many microseconds. Facts in, verdicts out.

In no span of one period more than the amount of a part is granted, by the clock of the store. The grants of a window
are counted in at most 65 slots: a slot counts whole until its newest grant is a period old, so a window never lets too
much through, and is free again at most a 64th of the period late.
"""

from collections.abc import Sequence
from enum import Enum
from typing import Final, NamedTuple

AT_ONCE: Final = 0  # instead of a period, for attempts that run side by side
RUN: Final = -1  # instead of a period, for a run with those that go on with it
SLOTS: Final = 64
MAX_THROTTLES: Final = 10  # refusals by a service since an attempt has got through, after which an attempt fails
LEVELS: Final = (100, 80)  # the percentages of a budget of which people are told
MAX_DELAY: Final = 60.0  # seconds after a refusal that names no time


class Slot(NamedTuple):
    """Grants that lie close together.

    Attributes:
        began: The moment of the first one, in microseconds.
        newest: That of the last one.
        amount: How much, in millionths.
    """

    began: int
    newest: int
    amount: int


def window(slots: Sequence[Slot], period: int, now: int) -> list[Slot]:
    """Returns the slots that count now, the oldest first. What is later than now counts as of now."""
    if period == RUN:
        return [*slots]
    later = sum(slot.amount for slot in slots if slot.newest > now)
    found = sorted(slot for slot in slots if now - period < slot.newest <= now)
    return [*found, Slot(now, now, later)] if later else found


def wait_for(slots: Sequence[Slot], needs: int, most: int, period: int, now: int) -> int:
    """Returns the microseconds until so much more may begin in a window; 0 for now."""
    excess = sum(slot.amount for slot in slots) + (needs or 1) - most
    for slot in sorted(slots, key=lambda slot: slot.newest):
        if excess <= 0:
            break
        excess -= slot.amount
        wait = slot.newest + period - now
        if excess <= 0:
            return wait
    return 0


class Budget(Enum):
    """What a budget says to an attempt."""

    FITS = "fits"
    WAITS = "waits"  # for what others have estimated, and maybe will not use
    EXCEEDED = "exceeded"


def judge_budget(used: int, estimated: int, needs: int, most: int) -> Budget:
    """Returns what a budget says. What is used alone refuses; what is only estimated lets wait.

    Args:
        used: What counts in its period, the estimates of those that run among it.
        estimated: These estimates.
        needs: The estimate of the attempt itself; 0 where it has none.
        most: The budget.
    """
    if used - estimated + (needs or 1) > most:
        return Budget.EXCEEDED
    return Budget.WAITS if used + (needs or 1) > most else Budget.FITS


def level_of(used: int, most: int) -> int:
    """Returns the percentage of a budget that is reached of those of which people are told; 0 for none."""
    return next((level for level in LEVELS if used * 100 >= most * level), 0)


def with_more(slots: Sequence[Slot], amount: int, period: int, now: int) -> Slot:
    """Returns the last slot of a window after a grant: a new one, or the last one with more."""
    last = slots[-1] if slots else None
    if last is not None and (period == RUN or now - last.began < period // SLOTS):
        return Slot(last.began, max(now, last.newest), last.amount + amount)
    return Slot(now, now, amount)


def settled(slots: Sequence[Slot], difference: int, began: int, period: int, now: int) -> Slot | None:
    """Returns the slot that changes when an attempt has used more or less than it was estimated to; None for none.

    It is that of the attempt's beginning. If that is over, more than the estimate counts as of now.

    Args:
        slots: The slots that count.
        difference: How much more it has used; negative for less.
        began: When it was granted.
        period: The period.
        now: The moment.
    """
    for slot in slots:
        if period == RUN or slot.began <= began <= slot.newest:
            return slot._replace(amount=max(0, slot.amount + difference))
    return with_more(slots, difference, period, now) if difference > 0 else None


def delay_of(after: float | None, refused: int) -> float:
    """Returns for how many seconds a service is left alone that has refused an attempt.

    Args:
        after: The seconds that it has named; None, or 0, for none.
        refused: How often it has refused since an attempt got through.
    """
    return after or min(2.0**refused, MAX_DELAY)
