"""Durations: numbers of seconds or texts such as "90s", and their text for people."""

import re
from typing import Final

from dotflow.errors import InvalidArgument

MAX_SECONDS: Final = 10 * 365 * 86_400  # ten years; far beyond that the system's own timers overflow

#: The texts that are durations, for errors.
TEXTS: Final = 'a text such as "500ms", "90s", "15m", "2h", "1d" or "1h30m"'

Duration = float | str

_UNITS: Final = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_TEXT: Final = re.compile(r"\s*".join(rf"(?:([0-9]+(?:\.[0-9]+)?){unit}(?![a-z]))?" for unit in _UNITS))


def to_seconds(value: object) -> float | None:
    """Returns the seconds of a number or a text; None where it is no duration, or too long to wait for.

    A text has numbers with the units d, h, m, s and ms, the largest first: "1.5h", "1h30m", "500ms".
    """
    if isinstance(value, str):
        match = _TEXT.fullmatch(value.strip())
        if match is None or not any(match.groups()):
            return None
        value = sum(float(number or 0) * unit for number, unit in zip(match.groups(), _UNITS.values(), strict=True))
    return float(value) if is_seconds(value) else None  # type: ignore[arg-type]


def as_seconds(name: str, value: object, *, least: float = 0, above: float = -1) -> float:
    """Returns the seconds of a public argument.

    Args:
        name: The argument, for errors.
        value: Its value.
        least: The minimum, in seconds.
        above: A number of seconds that is too few.

    Raises:
        InvalidArgument: It is no duration, or too short.
    """
    seconds = to_seconds(value)
    if seconds is None or seconds < least or seconds <= above:
        bound = f"{least:g} or more" if above < 0 else f"more than {above:g}"
        raise InvalidArgument(name, value, f"a number of seconds, {bound}, or {TEXTS}")
    return seconds


def is_seconds(value: object) -> bool:
    """Returns whether it is a number of seconds, from 0 to MAX_SECONDS."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_SECONDS


def format_duration(seconds: float, *, compact: bool = False) -> str:
    """Returns a duration for people, in its two largest units: 0.21 s, 12.3 s, 4 min 5 s, 2 h 5 min, 3 d 4 h.

    Args:
        seconds: The duration; a negative one counts as 0.
        compact: Whether the text is for a narrow column: 0.21 s, 12.3 s, 4:05, 2:05:00.
    """
    if seconds < 59.95:
        return f"{max(0.0, seconds):.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    if compact:
        return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
    units = [(hours // 24, "d"), (hours % 24, "h"), (minute, "min"), (second, "s")]
    largest = next(index for index, (count, _) in enumerate(units) if count)
    return " ".join(f"{count} {unit}" for count, unit in units[largest : largest + 2] if count)
