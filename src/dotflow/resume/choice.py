"""Choice: what `start(resume=...)` takes, and the tasks that the options of a run name."""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, TypeGuard, get_args

#: "changed": tasks whose code has changed run again. "unfinished": only if the last run left a task unfinished.
ResumeText = Literal["changed", "unfinished"]
Resume = bool | ResumeText


NO_CALLS: Final[Mapping[int, int]] = MappingProxyType({})


class ChosenTasks(NamedTuple):
    """The tasks that the options of a run name, by their ids.

    Attributes:
        rerun: Those that run again in any case.
        left_out: Those that were not asked for: they don't run, and keep their checkpoints, but for those made from a
            value that the run makes anew.
        anew: Those that were asked for in a run without a resume, so that none of their checkpoints counts.
        calls: Durable steps that run again, each with the number of its first call that does not count.
    """

    rerun: Collection[int] = ()
    left_out: Collection[int] = ()
    anew: Collection[int] = ()
    calls: Mapping[int, int] = NO_CALLS


NONE_CHOSEN: Final = ChosenTasks()


def is_resume(value: object) -> TypeGuard[Resume]:
    """Returns whether `start` takes the value."""
    return isinstance(value, bool) or (isinstance(value, str) and value in get_args(ResumeText))
