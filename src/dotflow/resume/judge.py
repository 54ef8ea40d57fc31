"""The judge: what becomes of a task or an item, by what it takes and by what earlier runs have left. It writes nothing.

The run asks it when the turn has come; a resume asks it before the run, where values may not be there yet.
"""

from enum import Enum
from typing import Final, NamedTuple, Protocol

from dotflow.core.context import Context
from dotflow.core.links import Condition
from dotflow.core.task import Task
from dotflow.core.types.decision import TypeDecision
from dotflow.graph.gather import Got, Skip


class Cause(Enum):
    """What makes that a checkpoint does not count."""

    SOURCE = "a value that it takes is made anew"
    ASKED_FOR = "a run without a resume was asked for its task"
    INTENT = "only the run says so: by rerun, changed code, a file or a value that is no longer valid"
    CODE = "only the run says so: its own code has changed, and nothing else"
    OTHER = "all else, which later runs find, too"

    @property
    def is_intent(self) -> bool:
        """Whether a later run does not find it."""
        return self in (Cause.INTENT, Cause.CODE, Cause.ASKED_FOR)


class Void(NamedTuple):
    """Why a checkpoint does not count.

    Attributes:
        text: The reason, for people.
        cause: What makes that, for those who decide by it.
    """

    text: str
    cause: Cause = Cause.OTHER


class Verdict(NamedTuple):
    """What becomes of a task or an item.

    Attributes:
        kind: RESTORE, SKIP or RUN; of a plan CACHED or OPEN, too.
        reason: Why it is skipped, or why that is open.
        saved: Its checkpoint, if it has one; of one without checkpoints the context that stands for its value.
        void: Why that does not count; None if it does.
        open: What decides in the run whether it runs at all: a condition, or the record of a value that it requires.
    """

    kind: TypeDecision
    reason: str = ""
    saved: Context | None = None
    void: Void | None = None
    open: Condition | Task | None = None


RUNS: Final = Verdict(TypeDecision.RUN)


class WhyVoid(Protocol):
    """Compares a checkpoint with what would make its value now."""

    def why_void(self, record: Task, context: Context, made: Task | None) -> Void | None:
        """Returns why the checkpoint of a task or an item does not count; None if it does."""


def judge(
    record: Task, got: Got, unmet: Skip | None, saved: Context | None = None, look: WhyVoid | None = None
) -> Verdict:
    """Returns the verdict on a task or an item. The order of the rules is a contract: what is restored needs no order.

    Args:
        record: The task or the item.
        got: What it takes, as far as it is known.
        unmet: Why it can't run, by what must have completed before it; None if it can.
        saved: Its checkpoint, or the context that stands for its value.
        look: What compares that.
    """
    if got.lack is not None:
        void = None if saved is None else Void(got.lack.reason)
        return Verdict(TypeDecision.SKIP, (unmet or got.lack).reason, saved, void)
    void = None
    if saved is not None and look is not None:
        void = Void(got.void) if got.void else look.why_void(record, saved, got.made)
        if void is None and (record.step.checkpoint or unmet is None):  # without a checkpoint nothing is there
            return tuple.__new__(Verdict, (TypeDecision.RESTORE, "", saved, None, None))  # half the time of calling it
    if unmet is not None:
        return Verdict(TypeDecision.SKIP, unmet.reason, saved, void)
    if got.open is not None:
        return Verdict(TypeDecision.OPEN, "", saved, void, got.open)
    return RUNS if saved is None and not got.void else Verdict(TypeDecision.RUN, got.void, saved, void)
