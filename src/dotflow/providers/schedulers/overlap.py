"""Overlap: what becomes of a firing while a run is active. It decides; the scheduler acts."""

from enum import Enum, auto

from dotflow.core.types.overlap import TypeOverlap
from dotflow.errors import InvalidArgument


class Decision(Enum):
    """What to do with a firing."""

    RUN = auto()
    QUEUE = auto()
    DROP = auto()


def decide(overlap: TypeOverlap, *, active: int, pending: int, max_parallel: int) -> Decision:
    """What becomes of a firing.

    Args:
        overlap: The rule.
        active: How many runs go on.
        pending: How many wait for one to end.
        max_parallel: How many may go on side by side, where they may at all.
    """
    if active < (max_parallel if overlap is TypeOverlap.PARALLEL else 1):
        return Decision.RUN
    return Decision.QUEUE if overlap is TypeOverlap.QUEUE and not pending else Decision.DROP


def check_overlap(overlap: object) -> TypeOverlap:
    """The word for it as a TypeOverlap. Raises InvalidArgument."""
    try:
        return TypeOverlap(overlap)  # type: ignore[arg-type]
    except ValueError:
        raise InvalidArgument(
            "overlap", overlap, f"one of {', '.join(repr(str(known)) for known in TypeOverlap)}"
        ) from None


def check_max_parallel(max_parallel: object) -> int:
    """A number of runs that makes sense. Raises InvalidArgument."""
    if type(max_parallel) is not int or max_parallel < 1:
        raise InvalidArgument("max_parallel", max_parallel, "a whole number of runs from 1")
    return max_parallel
