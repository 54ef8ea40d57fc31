"""Output that is not of the attempt around it: that of a run which its step starts, and whose history captures it.

In a worker process, the coordinator takes all output for that of the attempt, until it is told otherwise.
"""

from collections.abc import Callable

_depth = 0  # runs within runs
_mark: Callable[[bool], object] = bool


def set_mark(mark: Callable[[bool], object]) -> None:
    """Sets what tells the coordinator of a worker process whether the output from now on is not of the attempt."""
    global _depth, _mark
    _depth, _mark = 0, mark


def begin_aside() -> None:
    """Begins the output of a run."""
    global _depth
    _depth += 1
    if _depth == 1:
        _mark(True)


def end_aside() -> None:
    """Ends it."""
    global _depth
    _depth -= 1
    if not _depth:
        _mark(False)
