"""Choice: what `start(resume=...)` takes, what a schedule makes of it, and the tasks that the options of a run name."""

from collections.abc import Collection
from typing import Final, Literal, NamedTuple, TypeGuard, get_args

#: "changed": tasks whose code has changed run again. "unfinished": only if the last run left a task unfinished.
#: "then_anew": as "finish" and then as "anew", the two that a schedule passes one by one: "finish" runs nothing unless
#: the last run is unfinished, and "anew" begins a new run, whose log names the unfinished one that it replaces.
ResumeText = Literal["changed", "unfinished", "then_anew", "finish", "anew"]
Resume = bool | ResumeText

#: Those that restore nothing of a finished run.
UNFINISHED_ONLY: Final = ("unfinished", "then_anew", "finish", "anew")


class ChosenTasks(NamedTuple):
    """The tasks that the options of a run name, by their ids.

    Attributes:
        rerun: Those that run again in any case.
        left_out: Those that were not asked for: they don't run, and keep their checkpoints, but for those made from a
            value that the run makes anew.
        anew: Those that were asked for in a run without a resume, so that none of their checkpoints counts.
    """

    rerun: Collection[int] = ()
    left_out: Collection[int] = ()
    anew: Collection[int] = ()


NONE_CHOSEN: Final = ChosenTasks()


def is_resume(value: object) -> TypeGuard[Resume]:
    """Returns whether `start` takes the value."""
    return isinstance(value, bool) or (isinstance(value, str) and value in get_args(ResumeText))


def resume_of_schedule(resume: Resume) -> Resume:
    """Returns the `resume` of a schedule's runs: an unfinished run is finished before the firing's own run begins."""
    return "then_anew" if resume in (True, "unfinished") else resume
