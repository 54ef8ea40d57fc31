"""The rules of limits: whether an attempt may begin now, or in how many microseconds. Facts in, verdicts out.

In no span of one period more than the amount of a part are granted, by the clock of the store. The grants of a window
are counted in at most 65 slots: a slot counts whole until its newest grant is a period old, so a window never lets too
much through, and is free again at most a 64th of the period late.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

SLOTS: Final = 64
MAX_THROTTLES: Final = 10  # refusals by a service since an attempt has got through, after which an attempt fails
MAX_DELAY: Final = 60.0  # seconds after a refusal that names no time


class Slot(NamedTuple):
    """Grants that lie close together.

    Attributes:
        began: The moment of the first one, in microseconds.
        newest: That of the last one.
        amount: How many.
    """

    began: int
    newest: int
    amount: int


def window(slots: Sequence[Slot], period: int, now: int) -> list[Slot]:
    """Returns the slots that count now, the oldest first. What is later than now counts as of now."""
    later = sum(slot.amount for slot in slots if slot.newest > now)
    found = sorted(slot for slot in slots if now - period < slot.newest <= now)
    return [*found, Slot(now, now, later)] if later else found


def wait_for(slots: Sequence[Slot], most: int, period: int, now: int) -> int:
    """Returns the microseconds until one more may begin in a window; 0 for now."""
    excess = sum(slot.amount for slot in slots) + 1 - most
    for slot in sorted(slots, key=lambda slot: slot.newest):
        if excess <= 0:
            break
        excess -= slot.amount
        wait = slot.newest + period - now
        if excess <= 0:
            return wait
    return 0


def with_one_more(slots: Sequence[Slot], period: int, now: int) -> list[Slot]:
    """Returns the slots of a window after a grant."""
    last = slots[-1] if slots else None
    if last is not None and now - last.began < period // SLOTS:
        return [*slots[:-1], Slot(last.began, now, last.amount + 1)]
    return [*slots, Slot(now, now, 1)]


def delay_of(after: float | None, refused: int) -> float:
    """Returns for how many seconds a service is left alone that has refused an attempt.

    Args:
        after: The seconds that it has named; None, or 0, for none.
        refused: How often it has refused since an attempt got through.
    """
    return after or min(2.0**refused, MAX_DELAY)
