"""Failure and TaskError: an exception as data, which outlives the exception and can be pickled.

An exception holds its frames, and frames hold every local variable of the step, so keeping the exception would
keep the memory. Formatting a traceback takes ten times as long as a failed attempt may. So a failure records the
lines, and formats them on first access.
"""

import builtins
import functools
import inspect
import itertools
import os
import re
import traceback
from pathlib import Path
from types import CodeType, TracebackType
from typing import Final

from dotflow.core.masks import NO_MASKS, Masks

PACKAGE: Final = f"{Path(__file__).parent.parent}{os.sep}"

#: The folders of the code that calls steps. Tracebacks leave out its frames before the step's first one.
CALLERS: Final = (
    PACKAGE,
    *(f"{Path(os.__file__).parent / part}{os.sep}" for part in ("asyncio", "concurrent")),
)

#: Their text is more than a message and frames (suggestions, a caret, members): formatted at once.
FORMATTED_AT_ONCE: Final = (ImportError, NameError, AttributeError, SyntaxError, BaseExceptionGroup)

CAUSE: Final = "\nThe above exception was the direct cause of the following exception:\n\n"
CONTEXT: Final = "\nDuring handling of the above exception, another exception occurred:\n\n"

#: A frame of a traceback: file, line, function, and the code if Python has it.
FRAME_TEXT: Final = re.compile(r'^  File "(.+)", line (\d+), in (.+)\n(?:    (\S.*)\n)?', re.M)

#: The line in a traceback between a group and its first member, and the one at the end of a member.
FIRST_MEMBER: Final = re.compile(r"^ *\+-\+-+ 1 -+\n", re.M)
MEMBER_END: Final = re.compile(r"^ *\+-", re.M)
IN_GROUP: Final = re.compile(r"^ *\| ?", re.M)

MAX_STACKS: Final = 256  # whose text is cached: a step that is repeated fails at the same lines

Frame = tuple[CodeType, int, int]  # code, line, last instruction
Kinds = tuple[str, ...]
ChainPart = tuple[str, tuple[Frame, ...], str]  # of a chain: the link from the part before, the frames, the last lines


class Failure:
    """An exception's type name, message and traceback, without the exception.

    Args:
        exception: The type's name.
        message: The exception's message.
        traceback: The formatted traceback; empty where there is none.
        kinds: As the property; None for those of the class of that name, of dotflow or of Python.

    Attributes:
        refusal: Why `retry_on` allowed no further attempt; empty where it was not that.
        masks: The secrets that it does not show, and that no other text about it shows. A pickle does not have them.
    """

    __slots__ = ("_kinds", "_parts", "_text", "exception", "masks", "message", "refusal")

    def __init__(self, exception: str, message: str, traceback: str = "", kinds: Kinds | None = None) -> None:
        self.exception: str = exception
        self.message: str = message
        self.refusal: str = ""
        self._text: str | None = traceback
        self._parts: tuple[ChainPart, ...] = ()
        self._kinds: Kinds | type | None = kinds
        self.masks: Masks = NO_MASKS

    @classmethod
    def of(cls, error: BaseException, *, name: str | None = None, message: str | None = None) -> "Failure":
        """Returns the failure of *error*, with another name or message where these are not None."""
        failure = cls(name or type(error).__name__, message_of(error) if message is None else message)
        if name is None:
            failure._kinds = type(error)
        if isinstance(error, FORMATTED_AT_ONCE):
            failure._text = _format_whole(error)
        else:
            failure._text = None
            failure._parts = _parts_of(error)
        return failure

    @property
    def kinds(self) -> Kinds:
        """The names of the exception's class and of its bases, as `identity_of` has them, the class itself first."""
        kinds = self._kinds
        if not isinstance(kinds, tuple):
            kinds = self._kinds = _kinds_of(_class_of(self.exception) if kinds is None else kinds)
        return kinds

    @property
    def traceback(self) -> str:
        """The traceback as Python prints it, without dotflow's own frames."""
        if self._text is None:
            parts = [f"{link}{_stack_text(frames) if frames else ''}{last}" for link, frames, last in self._parts]
            self._text = self.masks.mask("".join(parts))
            self._parts = ()
        return self._text

    def masked(self, masks: Masks) -> "Failure":
        """Returns the failure without secrets. Its traceback is still formatted on first access."""
        masked = Failure(masks.mask(self.exception), masks.mask(self.message), "")
        masked.masks = masks
        masked._text = None if self._text is None else masks.mask(self._text)
        masked._parts, masked._kinds = self._parts, self._kinds
        masked.refusal = masks.mask(self.refusal)
        return masked

    def __reduce__(self) -> tuple[type["Failure"], tuple[str, str, str, Kinds]]:
        return Failure, (self.exception, self.message, self.traceback, self.kinds)

    def __repr__(self) -> str:
        return f"Failure({self.exception}: {self.message})"


class TaskError:
    """One failed attempt of a task.

    Attributes:
        attempt: The number of the attempt, from 1.
        exception: The exception's type name; "TimeoutError" for a timeout.
        message: The exception's message.
        traceback: The formatted traceback; empty where there is none.
    """

    __slots__ = ("attempt", "failure")

    def __init__(self, attempt: int, failure: Failure) -> None:
        self.attempt: int = attempt
        self.failure = failure

    @property
    def exception(self) -> str:
        return self.failure.exception

    @property
    def message(self) -> str:
        return self.failure.message

    @property
    def traceback(self) -> str:
        return self.failure.traceback

    def __reduce__(self) -> tuple[type["TaskError"], tuple[int, Failure]]:
        return TaskError, (self.attempt, self.failure)

    def __repr__(self) -> str:
        return f"TaskError(attempt={self.attempt}, exception={self.exception!r}, message={self.message!r})"


def raised_at(traceback: str) -> str:
    """Returns the line that raised an error: the last one outside of libraries, "" if the traceback has none."""
    frames = FRAME_TEXT.findall(traceback)
    own = [frame for frame in frames if not frame[0].startswith((*_library_paths(), "<"))] or frames
    if not own:
        return ""
    file, line, function, code = own[-1]
    return f"{relative_path(file)}:{line} in {function}" + (f": {code}" if code else "")


def root_cause(traceback: str) -> tuple[str, str, str] | None:
    """Returns the type, the message and the line of the error that began a chain, or of a group's first member.

    None where the traceback is of one error alone.
    """
    part = traceback
    while (first := FIRST_MEMBER.search(part)) is not None:
        member = part[first.end() :]
        end = MEMBER_END.search(member)
        is_group = end is not None and FIRST_MEMBER.match(member, end.start()) is not None
        part = member if end is None or is_group else member[: end.start()]
    part = IN_GROUP.sub("", part) if part is not traceback else part
    part = min((part.partition(link)[0] for link in (CAUSE, CONTEXT)), key=len)
    if part == traceback:
        return None
    *_, last = re.split(r"^    .*\n", part, flags=re.M)
    exception, _, message = last.strip("\n").partition(": ")
    return exception, message, raised_at(part)


@functools.cache
def _library_paths() -> tuple[str, ...]:
    import sysconfig  # only failures need it

    return tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


def relative_path(file: str) -> str:
    """Returns the path of a file from the current folder, if it is in there."""
    try:
        return str(Path(file).relative_to(Path.cwd()))
    except (OSError, ValueError):  # it is elsewhere, or the current folder was removed
        return file


def name_of(kind: type) -> str:
    """Returns a type's name as a user would write it."""
    name = kind.__qualname__
    return name if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{name}"


def identity_of(kind: type) -> str:
    """Returns what tells an exception's class apart in every process of a run: a worker imports the script anew."""
    module = kind.__module__
    return f"{'__main__' if module == '__mp_main__' else module}.{kind.__qualname__}"


@functools.lru_cache(MAX_STACKS)
def _kinds_of(kind: type) -> Kinds:
    return tuple(identity_of(base) for base in kind.__mro__ if issubclass(base, BaseException))


def _class_of(name: str) -> type:
    """Returns the exception of that name, of dotflow or of Python. A timeout that no step has raised is dotflow's."""
    from dotflow import errors  # here, since only a task with named fallbacks asks

    if name == TimeoutError.__name__:
        return errors.StepTimeout
    found = getattr(errors, name, None) or getattr(builtins, name, None)
    return found if isinstance(found, type) and issubclass(found, BaseException) else Exception


def describe(value: object) -> str:
    """Returns the description of a value for errors, without a memory address."""
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


def message_of(error: BaseException) -> str:
    """Returns the message of an error, also of one whose own code fails."""
    try:
        return str(error)
    except Exception as broken:  # the user's own __str__
        return f"<its message could not be read: {type(broken).__name__} in __str__>"


def _lines_of(notes: object) -> list[str]:
    if not isinstance(notes, list | tuple):
        return []
    return [f"{note}\n" for note in notes if isinstance(note, str)]


def _parts_of(error: BaseException) -> tuple[ChainPart, ...]:
    """Returns the chain of causes, oldest first, each with its frames and last lines."""
    parts: list[ChainPart] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        notes = getattr(current, "__notes__", None)
        name = name_of(type(current))
        message = message_of(current)
        last = "".join([f"{name}: {message}\n" if message else f"{name}\n", *_lines_of(notes)])
        older, link = current.__cause__, CAUSE
        if older is None and not current.__suppress_context__:
            older, link = current.__context__, CONTEXT
        parts.append(
            (link if older is not None and id(older) not in seen else "", _frames(current.__traceback__), last)
        )
        current = older
    parts.reverse()
    return tuple(parts)


def _frames(trace: TracebackType | None) -> tuple[Frame, ...]:
    frames: list[Frame] = []
    while trace is not None:
        code = trace.tb_frame.f_code
        if not code.co_filename.startswith(PACKAGE if frames else CALLERS):
            frames.append((code, trace.tb_lineno, trace.tb_lasti))
        trace = trace.tb_next
    return tuple(frames)


#: By the ids of the code objects, which the values keep alive: two equal ones may be of two files.
_stacks: Final[dict[tuple[tuple[int, int, int], ...], tuple[tuple[Frame, ...], str]]] = {}


def _stack_text(frames: tuple[Frame, ...]) -> str:
    key = tuple((id(code), line, instruction) for code, line, instruction in frames)
    cached = _stacks.get(key)
    if cached is None:
        if len(_stacks) >= MAX_STACKS:
            _stacks.clear()
        text = "".join(["Traceback (most recent call last):\n", *_stack(frames).format()])
        cached = _stacks[key] = (frames, text)
    return cached[1]


def _stack(frames: tuple[Frame, ...]) -> traceback.StackSummary:
    summaries = []
    for code, line, instruction in frames:
        _, end_line, column, end_column = next(
            itertools.islice(code.co_positions(), instruction // 2, None), (None, None, None, None)
        )
        summaries.append(
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
    return traceback.StackSummary.from_list(summaries)


def _format_whole(error: BaseException) -> str:
    try:
        summary = traceback.TracebackException.from_exception(error, compact=True)
    except Exception as broken:  # the user's own __str__, which it calls
        return f"{name_of(type(error))}: <its traceback could not be read: {type(broken).__name__}>\n"
    _remove_own_frames(summary)
    return "".join(summary.format())


def _remove_own_frames(summary: traceback.TracebackException) -> None:
    """Removes dotflow's own frames from a chain and from the members of a group."""
    frames = [frame for frame in summary.stack if not frame.filename.startswith(PACKAGE)]
    summary.stack = traceback.StackSummary.from_list(frames)
    for other in (summary.__cause__, summary.__context__, *(summary.exceptions or ())):
        if other is not None:
            _remove_own_frames(other)
