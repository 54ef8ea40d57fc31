"""What went wrong, as data: it outlives its exception, and it travels.

An exception holds its frames, and frames hold every local variable of the step, so keeping the exception would
keep the memory. Formatting a traceback takes ten times as long as a failed attempt may. So the lines are noted
when it happens, and put into words when somebody asks.
"""

import inspect
import itertools
import os
import traceback
from pathlib import Path
from types import CodeType, TracebackType
from typing import Final

HOME: Final = f"{Path(__file__).parent.parent}{os.sep}"

#: What lies between us and a step: frames from here, before the step's first, say nothing to the user.
PLUMBING: Final = (
    HOME,
    *(f"{Path(os.__file__).parent / part}{os.sep}" for part in ("asyncio", "concurrent")),
)

#: Their text holds more than a message and frames (suggestions, a caret, members): put into words at once.
RICH: Final = (ImportError, NameError, AttributeError, SyntaxError, BaseExceptionGroup)

CAUSE: Final = "\nThe above exception was the direct cause of the following exception:\n\n"
CONTEXT: Final = "\nDuring handling of the above exception, another exception occurred:\n\n"

MOST_STACKS: Final = 256  # whose text is kept: a step that is repeated fails at the same lines

Spot = tuple[CodeType, int, int]  # code, line, last instruction
Part = tuple[str, tuple[Spot, ...], str]  # the link from the part before, the frames, the last lines


class Failure:
    """An exception's type name, message and traceback, without the exception.

    Args:
        exception: The type's name.
        message: What the exception says.
        traceback: The formatted traceback; empty where there is none.
    """

    __slots__ = ("_parts", "_text", "exception", "message")

    def __init__(self, exception: str, message: str, traceback: str = "") -> None:
        self.exception: str = exception
        self.message: str = message
        self._text: str | None = traceback
        self._parts: tuple[Part, ...] = ()

    @classmethod
    def of(cls, error: BaseException, *, name: str | None = None, message: str | None = None) -> "Failure":
        """What *error* tells, under another name and message where these are given."""
        failure = cls(name or type(error).__name__, _message_of(error) if message is None else message)
        if isinstance(error, RICH):
            failure._text = _whole_text(error)
        else:
            failure._text = None
            failure._parts = _parts_of(error)
        return failure

    @property
    def traceback(self) -> str:
        """The traceback as Python prints it, without the lines of dotflow itself."""
        if self._text is None:
            self._text = "".join(itertools.chain.from_iterable(map(_format_part, self._parts)))
            self._parts = ()
        return self._text

    def __reduce__(self) -> tuple[type["Failure"], tuple[str, str, str]]:
        return Failure, (self.exception, self.message, self.traceback)

    def __repr__(self) -> str:
        return f"Failure({self.exception}: {self.message})"


class TaskError:
    """One failed attempt of a task.

    Attributes:
        attempt: Which attempt, from 1.
        exception: The exception's type name; "TimeoutError" for a timeout.
        message: What it said.
        traceback: Where it was raised, formatted; empty where there is nothing to show.
    """

    __slots__ = ("_failure", "attempt")

    def __init__(self, attempt: int, failure: Failure) -> None:
        self.attempt: int = attempt
        self._failure = failure

    @property
    def exception(self) -> str:
        return self._failure.exception

    @property
    def message(self) -> str:
        return self._failure.message

    @property
    def traceback(self) -> str:
        return self._failure.traceback

    def __reduce__(self) -> tuple[type["TaskError"], tuple[int, Failure]]:
        return TaskError, (self.attempt, self._failure)

    def __repr__(self) -> str:
        return f"TaskError(attempt={self.attempt}, exception={self.exception!r}, message={self.message!r})"


def name_of(kind: type) -> str:
    """A type's name as a user would write it."""
    return (
        kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    )


def describe(value: object) -> str:
    """A value as an error speaks of it, without the address that says nothing to a reader."""
    if inspect.isroutine(value):
        return f"the function '{_short(value)}'"
    if isinstance(value, type):
        return f"the class '{_short(value)}'"
    if value is None or type(value).__repr__ is object.__repr__:
        return "None" if value is None else f"an object of the class '{_short(type(value))}'"
    return f"{value!r} ({name_of(type(value))})"


def _short(named: object) -> str:
    name: str = getattr(named, "__qualname__", None) or repr(named)
    return name.rpartition("<locals>.")[2]


def _message_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:  # the user's own __str__
        return f"<its message could not be read: {type(broken).__name__} in __str__>"


def _lines_of(notes: object) -> list[str]:
    if not isinstance(notes, list | tuple):
        return []
    return [f"{note}\n" for note in notes if isinstance(note, str)]


def _parts_of(error: BaseException) -> tuple[Part, ...]:
    """The chain of causes, oldest first, each with its frames and last lines."""
    parts: list[Part] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        notes = getattr(current, "__notes__", None)
        name = name_of(type(current))
        message = _message_of(current)
        last = "".join([f"{name}: {message}\n" if message else f"{name}\n", *_lines_of(notes)])
        older, link = current.__cause__, CAUSE
        if older is None and not current.__suppress_context__:
            older, link = current.__context__, CONTEXT
        parts.append((link if older is not None and id(older) not in seen else "", _spots(current.__traceback__), last))
        current = older
    parts.reverse()
    return tuple(parts)


def _spots(trace: TracebackType | None) -> tuple[Spot, ...]:
    spots: list[Spot] = []
    while trace is not None:
        code = trace.tb_frame.f_code
        if not code.co_filename.startswith(HOME if spots else PLUMBING):
            spots.append((code, trace.tb_lineno, trace.tb_lasti))
        trace = trace.tb_next
    return tuple(spots)


def _format_part(part: Part) -> list[str]:
    link, spots, last = part
    return [link, _stack_text(spots) if spots else "", last]


#: By the ids of their codes, which stay alive here: two codes that are equal may be of two files.
_stacks: Final[dict[tuple[tuple[int, int, int], ...], tuple[tuple[Spot, ...], str]]] = {}


def _stack_text(spots: tuple[Spot, ...]) -> str:
    key = tuple((id(code), line, instruction) for code, line, instruction in spots)
    known = _stacks.get(key)
    if known is None:
        if len(_stacks) >= MOST_STACKS:
            _stacks.clear()
        text = "".join(["Traceback (most recent call last):\n", *_stack(spots).format()])
        known = _stacks[key] = (spots, text)
    return known[1]


def _stack(spots: tuple[Spot, ...]) -> traceback.StackSummary:
    frames = []
    for code, line, instruction in spots:
        _, end_line, column, end_column = next(
            itertools.islice(code.co_positions(), instruction // 2, None), (None, None, None, None)
        )
        frames.append(
            traceback.FrameSummary(
                code.co_filename,
                line,
                code.co_name,
                lookup_line=False,
                end_lineno=end_line,
                colno=column,
                end_colno=end_column,
            )
        )
    return traceback.StackSummary.from_list(frames)


def _whole_text(error: BaseException) -> str:
    try:
        told = traceback.TracebackException.from_exception(error, compact=True)
    except Exception as broken:  # the user's own __str__, which it reads
        return f"{name_of(type(error))}: <its traceback could not be read: {type(broken).__name__}>\n"
    _leave_us_out(told)
    return "".join(told.format())


def _leave_us_out(told: traceback.TracebackException) -> None:
    """Takes the frames of dotflow itself out of a chain and of a group's members."""
    told.stack = traceback.StackSummary.from_list(
        [frame for frame in told.stack if not frame.filename.startswith(HOME)]
    )
    for other in (told.__cause__, told.__context__, *(told.exceptions or ())):
        if other is not None:
            _leave_us_out(other)
