"""AttemptId; and what a run is started by, as context variables: the attempt around it, and the trigger."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, NamedTuple

ID_LENGTH: Final = 8  # characters of a run's id, for people


class AttemptId(NamedTuple):
    """One attempt of a task, or of an item of a mapped task. `attempt` counts from 1."""

    run_id: str
    task_id: int
    attempt: int
    item: int | None = None


#: The attempt whose step runs in this context: the parent of a run that is started here. Only set with a history.
current_attempt: Final[ContextVar[AttemptId | None]] = ContextVar("dotflow_current_attempt", default=None)

#: Why a run is started in this context: "command" or "schedule"; "" in a program.
trigger: Final[ContextVar[str]] = ContextVar("dotflow_trigger", default="")


@contextmanager
def triggered_by(reason: str) -> Iterator[None]:
    """Sets the trigger of the runs that are started within it."""
    token = trigger.set(reason)
    try:
        yield
    finally:
        trigger.reset(token)
