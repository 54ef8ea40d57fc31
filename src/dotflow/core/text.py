"""Text from anywhere: with lone surrogates, which UTF-8 doesn't have, or too long for a message; and ids for people."""

import re
from collections.abc import Sequence
from typing import Final

LEVELS: Final = 2  # the indices of an item that a history knows
MAX_MESSAGE: Final = 300  # characters of a message that repeats what a file or a library says

GENERATED: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # the id of a workflow without one

#: Characters that end a line, move a terminal's cursor, colour text or change its direction.
_UNSAFE: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_UNSAFE_IN_LINES: Final = re.compile(_UNSAFE.pattern.replace("\x0a-\x1f", "\x0b-\x1f"))  # the same but for line ends
_SURROGATE: Final = re.compile("([\ud800-\udfff])")

#: The address of an item: `fetch#3`, `fetch[3]`, or `page[3].fetch` in an added workflow.
_ADDRESS: Final = re.compile(r"(.+)#([0-9]+)|(.+?)\[([0-9]+)\](\..+)?")

#: The address of a call of a durable step: `agent@12`.
_CALL: Final = re.compile(r"(.+)@([1-9][0-9]{0,8})", re.S)

_INDEX: Final = re.compile(r"\[([0-9]{1,18})\](?=[.\[]|$)")


def known_id(workflow_id: str, name: str | None = None) -> str:
    """Returns the id of a workflow for people: in place of a generated one, which no other run has, the name or "".

    The parameters of the run stay: `shop@day=2026-11-25`.
    """
    workflow, at, params = workflow_id.partition("@")
    return f"{name or ''}{at}{params}" if GENERATED.fullmatch(workflow) else workflow_id


def titled_id(workflow_id: str, name: str | None) -> str:
    """Returns what `known_id` does, with the name behind it where that says more: `shop (Nightly report)`."""
    known = known_id(workflow_id, name)
    return f"{known} ({name})" if name and known == workflow_id != name else known


def split_address(text: str) -> tuple[str, int] | None:
    """Returns the name of the task and the index of an item from its address; None for any other text."""
    match = _ADDRESS.fullmatch(text)
    if match is None:
        return None
    return match[1] or f"{match[3]}{match[5] or ''}", int(match[2] or match[4])


def split_call(text: str) -> tuple[str, int] | None:
    """Returns the name of a durable step and the number of a call from its address; None for any other text."""
    match = _CALL.fullmatch(text)
    return None if match is None else (match[1], int(match[2]))


def split_path(text: str) -> tuple[str, tuple[tuple[str, int], ...]]:
    """Returns the name of a task, and the indices of an address with the names that they follow.

    Of `page[1].fetch[0]` these are `page.fetch`, and 1 of `page` and 0 of `page.fetch`.
    """
    name, indices, end = "", [], 0
    for match in _INDEX.finditer(text):
        name += text[end : match.start()]
        indices.append((name, int(match[1])))
        end = match.end()
    return name + text[end:], tuple(indices)


def name_at(name: str, levels: Sequence[str], path: Sequence[int]) -> str:
    """Returns the name of an item: that of its task, with an index behind each of the levels."""
    found, before = "", ""
    for level, index in zip(levels, path, strict=True):
        found += f"{level.removeprefix(before)}[{index}]"
        before = level
    return found + name.removeprefix(before)


def is_utf8(text: str) -> bool:
    """Whether a text is free of lone surrogates."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def escape_surrogates(text: str) -> str:
    r"""Returns the text with a lone surrogate as the six characters of its escape, such as \ud800."""
    return text if is_utf8(text) else text.encode("utf-8", "backslashreplace").decode()


def escape_controls(text: str) -> str:
    """Returns text for one line of a terminal, with control characters written as \\x1b and the like."""
    if text.isprintable():  # nearly all are
        return text
    return _UNSAFE.sub(_escape, text)


def escape_lines(text: str) -> str:
    """Returns the same for several lines."""
    if text.replace("\n", "").replace("\t", "").isprintable():  # much faster than the search
        return text
    return _UNSAFE_IN_LINES.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


def split_surrogates(text: str) -> list[str | int]:
    """Returns the parts of a text: lone surrogates as numbers, between the rest."""
    return [ord(part) if "\ud800" <= part <= "\udfff" else part for part in _SURROGATE.split(text) if part]


def shorten(text: str, length: int = MAX_MESSAGE) -> str:
    """Returns the text cut to a number of characters, with escapes for what can't be printed."""
    cut = text if len(text) <= length else f"{text[:length]}..."
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in cut)


def error_line(name: str, exception: str, message: str) -> str:
    """Returns how a task failed on one line, for people."""
    first = message.partition("\n")[0]
    return shorten(f"{name}: {exception}: {first}".rstrip(": "))


def times(count: int) -> str:
    """Returns "once", or as in "37 times"."""
    return "once" if count == 1 else f"{count:,} times"


def count_calls(count: int) -> str:
    """Returns a number of calls of a durable step, as in "12 calls"."""
    return "1 call" if count == 1 else f"{count:,} calls"


def counted_calls(made: int, given: int, cached: int = 0) -> str:
    """Returns how many calls were made, given back and cached, as in "3 calls made, 5 given back, 1 from the cache"."""
    counts = {"made": made, "given back": given, "from the cache": cached}
    (first, count), *others = ((what, count) for what, count in counts.items() if count)
    return ", ".join([f"{count_calls(count)} {first}", *(f"{count:,} {what}" for what, count in others)])


def waiting(asked: int, note: str) -> str:
    """Returns what an attempt waits for, as in "waits: 3 of 5 files, asked 37 times"; or until when it sleeps."""
    if not asked:
        return note
    return f"{f'waits: {note}' if note else 'waits'}, asked {times(asked)}"


def safe_repr(value: object) -> str:
    """Returns the repr of a value, or a text in its place where the value's own code raises."""
    try:
        return str(repr(value))
    except Exception as error:  # the user's own __repr__, or one that never ends
        return f"<{type(value).__qualname__}: its repr raised {type(error).__name__}>"
