"""note and used: what a step records about its attempt, such as rows, a score, or the tokens that a model has taken.

It travels with the usage of the attempt.
"""

import math
import numbers
import threading
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Final, SupportsFloat

from dotflow.core.attempt_id import AttemptId, current_attempt
from dotflow.core.outcome import Note
from dotflow.errors import InvalidArgument

MAX_NOTES: Final = 100  # of an attempt
MORE: Final = "…"  # the name of the note on those that were left out

#: The notes of attempts that run in this process.
NOTED: Final[dict[AttemptId, dict[str, Note]]] = {}
#: What they have used. Each of it is noted, too.
USED: Final[dict[AttemptId, dict[str, float]]] = {}
#: What the call of a durable step has used that runs in this context; None outside of one with a limit.
OF_CALL: Final[ContextVar[dict[str, float] | None]] = ContextVar("dotflow_used", default=None)
_adding: Final = threading.Lock()  # a step may add in several threads


def note(**values: SupportsFloat | str) -> None:
    """Records numbers and short texts of the running attempt in the history: `note(rows=len(orders), score=0.93)`.

    `dotflow show` and the pages show them with the task, and numbers over the runs of the workflow. Of a name that is
    noted again in the same attempt, the last value counts. Where no attempt runs, or its run has no history, nothing is
    recorded, so a step can still be called as a plain function. An attempt whose process dies loses its notes. In a
    thread that a step starts, call it within a copy of the step's context: `contextvars.copy_context().run(...)`.
    Longer texts and names are cut, and a text then shows its length. Of an attempt the first 100 names are recorded,
    and a note `…` names the first one that was left out.

    Args:
        **values: The values by name: numbers, booleans, scalars of NumPy, or texts of up to 1,000 characters. A number
            that is infinite or no number is recorded as the text "inf", "-inf" or "nan".

    Raises:
        InvalidArgument: A value is something else.
    """
    checked = {name: _checked(name, value) for name, value in values.items()}
    attempt = current_attempt.get()
    if attempt is None:
        return
    noted = NOTED.setdefault(attempt, {})
    for name, value in checked.items():
        if name in noted or len(noted) < MAX_NOTES:
            noted[name] = value
        else:
            noted.setdefault(MORE, f"'{name}' and later names are left out: an attempt has up to {MAX_NOTES}")


def used(**units: float) -> None:
    """Adds to what the running attempt has used of limits and budgets: `used(tokens=answer.tokens, usd=answer.cost)`.

    At the attempt's end the sum of each unit counts instead of what `@action(uses=...)` has estimated, for the limits
    and the budgets of its step that name the unit: "200000 tokens/min", "$5/run". It is noted, too, as by `note`.
    Attempts that fail or time out count. One whose process dies keeps its estimate. Where no attempt runs, nothing is
    recorded. In a thread that a step starts, call it within a copy of the step's context.

    Args:
        **units: The amounts by unit: numbers from 0. `usd` is the unit of "$".

    Raises:
        InvalidArgument: A unit has capitals, or its amount is no number from 0.
    """
    from dotflow.core.limits import UNIT, is_amount  # here: few steps use them

    for unit, amount in units.items():
        if not UNIT.fullmatch(unit):
            raise InvalidArgument("a unit of used", unit, "small letters, digits and _, such as tokens")
        if not is_amount(amount):
            raise InvalidArgument(unit, amount, "a number from 0")
    attempt, of_call = current_attempt.get(), OF_CALL.get()
    if of_call is not None:
        with _adding:
            for unit, amount in units.items():
                of_call[unit] = of_call.get(unit, 0) + amount
    if attempt is None:
        return
    with _adding:
        sums = USED.setdefault(attempt, {})
        for unit, amount in units.items():
            sums[unit] = sums.get(unit, 0) + amount
        note(**{unit: sums[unit] for unit in units})


def take_used() -> Mapping[str, float] | None:
    """Returns what the attempt that ends in this context has used, and forgets it."""
    attempt = current_attempt.get()
    return None if attempt is None else USED.pop(attempt, None)


def take_notes() -> Mapping[str, Note] | None:
    """Returns the notes of the attempt that ends in this context, and forgets them."""
    attempt = current_attempt.get()
    return None if attempt is None else NOTED.pop(attempt, None)


def _checked(name: str, value: Any) -> Note:
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool):
        return value
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):  # a scalar of NumPy and the like
        return _checked(name, value.item())
    if isinstance(value, numbers.Number) and not isinstance(value, complex):
        return _number(value)
    raise InvalidArgument(name, value, "a number or a text")


def _number(value: Any) -> Note:
    if isinstance(value, numbers.Integral) and abs(int(value)) < 2**63:
        return int(value)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf if value > 0 else -math.inf
    return number if math.isfinite(number) else str(number)
