"""TypeExecution: the modes of a run."""

from enum import StrEnum
from typing import Final

from dotflow.core.hints import Hints, by_word
from dotflow.errors import InvalidArgument, close_match


class TypeExecution(StrEnum):
    """The modes of `start(mode=...)`."""

    SEQUENTIAL = "sequential"
    BACKGROUND = "background"
    PARALLEL = "parallel"


#: Words that people try for a mode -> the hint.
HINTS: Final[Hints] = by_word({
    "Groups are made by add(group_name=...), and run side by side in the mode 'sequential'.": (
        "group", "groups", "parallel_group", "parallel_groups", "sequential_group",
    ),
    (
        "Coroutine steps run in every mode. Config(executor=ExecutorAsync()) with the mode 'parallel' runs them side "
        "by side, and `await workflow.astart()` runs a workflow inside of a coroutine."
    ): ("async", "asyncio", "asynchronous", "coroutine", "coroutines"),
    "Config(executor=ExecutorThread()) with the mode 'parallel' runs each task in a thread.": (
        "thread", "threads", "threaded", "threading",
    ),
    "The mode 'parallel' runs each task in a process of its own.": (
        "process", "processes", "multiprocess", "multiprocessing", "concurrent",
    ),
    "The mode 'sequential' runs the tasks in order.": ("default", "linear", "serial", "sync"),
})  # fmt: skip


def hint_for_mode(word: object) -> str:
    """Returns a hint for a word that is no mode; "" where nothing is similar."""
    text = str(word).strip().lower()
    return HINTS.get(text) or close_match(text, TypeExecution)


def mode_of(word: object) -> TypeExecution:
    """Returns the mode of that name. Raises InvalidArgument, with a hint, where there is none."""
    try:
        return TypeExecution(word)  # type: ignore[arg-type]
    except ValueError:
        allowed = ", ".join(repr(str(known)) for known in TypeExecution)
        raise InvalidArgument("mode", word, f"one of {allowed}", hint_for_mode(word)) from None
