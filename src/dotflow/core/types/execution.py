"""TypeExecution: the modes of a run."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from dotflow.errors import InvalidArgument, close_match


class TypeExecution(StrEnum):
    """The modes of `start(mode=...)`."""

    SEQUENTIAL = "sequential"
    BACKGROUND = "background"
    PARALLEL = "parallel"


GROUPS: Final = "Groups are made by add(group_name=...), and run side by side in the mode 'sequential'."
COROUTINES: Final = (
    "Coroutine steps run in every mode. Config(executor=ExecutorAsync()) with the mode 'parallel' runs them side by "
    "side, and `await workflow.astart()` runs a workflow inside of a coroutine."
)
THREADS: Final = "Config(executor=ExecutorThread()) with the mode 'parallel' runs each task in a thread."
PROCESSES: Final = "The mode 'parallel' runs each task in a process of its own."
IN_ORDER: Final = "The mode 'sequential' runs the tasks in order."

#: Words that people try for a mode -> the hint.
HINTS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("group", "groups", "parallel_group", "parallel_groups", "sequential_group"), GROUPS),
    **dict.fromkeys(("async", "asyncio", "asynchronous", "coroutine", "coroutines"), COROUTINES),
    **dict.fromkeys(("thread", "threads", "threaded", "threading"), THREADS),
    **dict.fromkeys(("process", "processes", "multiprocess", "multiprocessing", "concurrent"), PROCESSES),
    **dict.fromkeys(("default", "linear", "serial", "sync"), IN_ORDER),
}


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
