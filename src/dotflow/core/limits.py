"""Limits: how often attempts of steps may begin, and how many may run at once, over all runs and processes."""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, date, timedelta
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from dotflow import clock
from dotflow.core.approval import fields_of
from dotflow.core.durations import to_seconds
from dotflow.errors import InvalidPolicy

AT_ONCE: Final = 0  # instead of a period, for attempts that run side by side
MAX_NAME: Final = 200  # characters of a name with its values
_BEGINNING: Final = 150  # those that a longer one keeps, before its digest
MICRO: Final = 1_000_000  # microseconds of a second
MAX_AFTER: Final = 86_400.0  # seconds that a step waits for a service; more is a failure

#: What a limit is, for errors.
ACCEPTED: Final = (
    "made of parts such as '10/s', '100/15min' or '3 at once', with commas between them and a name before: "
    "'crm: 10/min, 3 at once'. Or a list of such texts"
)
_PERIODS: Final = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), 86_400),
}
_PART: Final = re.compile(r"([0-9]+(?:_[0-9]+)*)\s*(?:/\s*([0-9]*)\s*([a-z]+)|at\s+once)")
_NAME: Final = re.compile(r"(?:[A-Za-z0-9_./@-]|\{[^{}]*\})+")


class Part(NamedTuple):
    """One part of a limit: so many beginnings in a period, or so many attempts at once.

    Attributes:
        amount: How many.
        period: The period in microseconds; AT_ONCE for attempts side by side.
    """

    amount: int
    period: int

    @property
    def text(self) -> str:
        """The part for people: `10/15min`, `3 at once`."""
        if self.period == AT_ONCE:
            return f"{self.amount} at once"
        seconds = self.period // MICRO
        size, unit = next((size, unit) for size, unit in _UNITS if seconds % size == 0)
        return f"{self.amount}/{seconds // size if seconds != size else ''}{unit}"


_UNITS: Final = ((86_400, "day"), (3600, "h"), (60, "min"), (1, "s"))


class Limit(NamedTuple):
    """A limit of a step.

    Attributes:
        name: What shares it; braces name arguments. "" for the step alone.
        parts: Its parts.
    """

    name: str
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """The limit for people, as the decorator takes it."""
        return f"{self.name}{self.name and ': '}{text_of(self.parts)}"


def text_of(parts: Sequence[Part]) -> str:
    """Returns the parts of a limit for people."""
    return ", ".join(part.text for part in parts)


def parse_limits(value: object) -> tuple[Limit, ...]:
    """Returns the limits of a step. Raises InvalidPolicy."""
    if isinstance(value, tuple) and all(isinstance(one, Limit) for one in value):
        return value
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, Sequence) or not texts or not all(text and isinstance(text, str) for text in texts):
        raise InvalidPolicy("limit", value, ACCEPTED)
    limits = tuple(_parse(text) for text in texts)
    names = [limit.name for limit in limits]
    for name in names:
        if names.count(name) > 1:
            raise InvalidPolicy("limit", value, f"one text for each name: {name or 'the step'!r} has two")
    return limits


def _parse(text: str) -> Limit:
    name, colon, rest = text.rpartition(":")
    name = name.strip()
    if colon and not _NAME.fullmatch(name):
        accepted = f"a name of letters, digits and _ . / @ - before the ':', and then {ACCEPTED}"
        raise InvalidPolicy("limit", text, accepted)
    return Limit(name, parse_parts(rest, text))


def parse_parts(text: str, whole: str = "") -> tuple[Part, ...]:
    """Returns the parts of a limit. Raises InvalidPolicy, which shows the *whole* text."""
    return tuple(_part(whole or text, one.strip()) for one in text.split(","))


def _part(text: str, part: str) -> Part:
    match = _PART.fullmatch(part)
    amount = int(match[1].replace("_", "")) if match else 0
    if match is None or not amount or (match[3] and match[3] not in _PERIODS) or match[2] == "0":
        raise InvalidPolicy("limit", text, f"{ACCEPTED}. {part!r} is none of these")
    if match[3] is None:
        return Part(amount, AT_ONCE)
    return Part(amount, int(match[2] or 1) * _PERIODS[match[3]] * MICRO)


def check_names(limits: Sequence[Limit], known: Collection[str], secrets: Collection[str]) -> None:
    """Raises InvalidPolicy for a name whose braces name no parameter of the step, or a secret."""
    for limit in limits:
        for field in fields_of(limit.name):
            if field in secrets:
                raise InvalidPolicy("limit", limit.text, f"no secret in a name, which the history has: not {{{field}}}")
            if field not in known:
                takes = f"it takes {', '.join(known)}" if known else "it takes none"
                raise InvalidPolicy("limit", limit.text, f"a name whose braces name parameters of the step: {takes}")


def name_of(limit: Limit, identity: str, arguments: Mapping[str, Any]) -> str:
    """Returns the name of a limit with the arguments of an attempt.

    Args:
        limit: The limit.
        identity: The identity of the step, which is the name of its own limit.
        arguments: The arguments, by parameter.

    Raises:
        TypeError: An argument is no text, number, bool or date, so that its name could differ from run to run.
    """
    if not limit.name:
        return identity
    if "{" not in limit.name:
        return limit.name
    values = {field: _shown(field, arguments.get(field)) for field in fields_of(limit.name)}
    name = limit.name.format_map(values)
    if len(name) <= MAX_NAME:
        return name
    return f"{name[:_BEGINNING]}~{blake2b(name.encode(errors='surrogatepass'), digest_size=16).hexdigest()}"


def seconds_after(after: object) -> float | None:
    """Returns for how many seconds a service wants to be left alone; None where it does not say so.

    Args:
        after: Seconds, a duration, a timedelta, or the text of the header Retry-After: seconds, or an HTTP date.
    """
    if isinstance(after, timedelta):
        after = after.total_seconds()
    if isinstance(after, str):
        text = after.strip()
        after = float(text) if text.isascii() and text.isdigit() else to_seconds(text) or _until(text)
    seconds = after if isinstance(after, int | float) and not isinstance(after, bool) else 0
    return float(seconds) if 0 < seconds < math.inf else None


def _until(text: str) -> float:
    """Returns the seconds until an HTTP date; 0 for another text."""
    from email.utils import parsedate_to_datetime  # here: few services name a date

    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - clock.now()).total_seconds()


def _shown(field: str, value: object) -> str:
    if isinstance(value, str | int | date):
        return str(value)
    raise TypeError(f"limit: {{{field}}} is a {type(value).__name__}, and a name takes texts, whole numbers and dates")
