"""Whether a schedule runs, queues or drops a firing."""

from enum import Enum, auto

from dotflow.core.types.overlap import TypeOverlap
from dotflow.errors import InvalidArgument


class Decision(Enum):
    """What to do with a firing."""

    RUN = auto()
    QUEUE = auto()
    DROP = auto()


def decide(overlap: TypeOverlap, *, active: int, pending: int, max_parallel: int) -> Decision:
    """Returns what to do with a firing.

    Args:
        overlap: The rule.
        active: The number of active runs.
        pending: The number of queued runs.
        max_parallel: The largest number of active runs with PARALLEL.
    """
    if active < (max_parallel if overlap is TypeOverlap.PARALLEL else 1):
        return Decision.RUN
    return Decision.QUEUE if overlap is TypeOverlap.QUEUE and not pending else Decision.DROP


def check_overlap(overlap: object) -> TypeOverlap:
    """Returns the value as a TypeOverlap. Raises InvalidArgument."""
    try:
        return TypeOverlap(overlap)  # type: ignore[arg-type]
    except ValueError:
        raise InvalidArgument(
            "overlap", overlap, f"one of {', '.join(repr(str(known)) for known in TypeOverlap)}"
        ) from None


def check_max_parallel(max_parallel: object) -> int:
    """Returns the number of runs. Raises InvalidArgument."""
    if type(max_parallel) is not int or max_parallel < 1:
        raise InvalidArgument("max_parallel", max_parallel, "a whole number of runs from 1")
    return max_parallel
