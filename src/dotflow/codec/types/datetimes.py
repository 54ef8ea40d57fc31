"""Dates, times and spans, with their time zones."""

import re
import sys
from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Any, Final

from dotflow.codec.types.classes import NotEncodable
from dotflow.core.failure import name_of

#: No dot, and no slash at an end: a key is also a file's path, and a part of a module's name in the package tzdata.
_ZONE: Final = re.compile(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+)*")

#: What more may be said than ISO 8601 says, and which of it takes the place of the offset there.
_MORE: Final = frozenset({"fold", "name", "offset", "zone"})
_APART: Final = frozenset({"offset", "zone"})


def write_moment(value: datetime | time) -> str | list[Any]:
    """ISO 8601; a zone, the name of an offset and a fold in a second part. Raises NotEncodable for other time zones."""
    tz = value.tzinfo
    more: dict[str, Any] = {}
    if tz is not None and tz is not UTC:
        if type(tz) is timezone:
            arguments = tz.__getinitargs__()  # type: ignore[attr-defined]  # what pickle asks, too
            if len(arguments) > 1:
                more["name"] = arguments[1]
            if arguments[0].microseconds:  # Python reads +00:00:00.000001 as UTC
                more["offset"] = write_span(arguments[0])
        else:
            more["zone"] = _key_of(tz)
    if value.fold:
        more["fold"] = 1
    if not more:
        return value.isoformat()
    return [(value if more.keys().isdisjoint(_APART) else value.replace(tzinfo=None)).isoformat(), more]


def read_datetime(payload: object) -> datetime:
    """The opposite of `write_moment`. Raises ValueError, TypeError or KeyError."""
    text, more = _parts(payload)
    value = datetime.fromisoformat(text)
    return value if not more and value.isoformat() == text else value.replace(**_completion(value, text, more))


def read_time(payload: object) -> time:
    """The opposite of `write_moment`. Raises ValueError, TypeError or KeyError."""
    text, more = _parts(payload)
    value = time.fromisoformat(text)
    return value if not more and value.isoformat() == text else value.replace(**_completion(value, text, more))


def read_date(payload: object) -> date:
    """A date from ISO 8601. Raises ValueError or TypeError."""
    if type(payload) is not str:
        raise TypeError("it is not text")
    value = date.fromisoformat(payload)
    if value.isoformat() != payload:
        raise ValueError("it is not written as dates are here")
    return value


def write_span(value: timedelta) -> list[int]:
    """Days, seconds and microseconds."""
    return [value.days, value.seconds, value.microseconds]


def read_span(payload: object) -> timedelta:
    """The opposite of `write_span`. Raises ValueError, TypeError or OverflowError."""
    if type(payload) is not list or [type(part) for part in payload] != [int, int, int]:
        raise TypeError("it is not three whole numbers")
    value = timedelta(*payload)
    if write_span(value) != payload:
        raise ValueError("a part of it is out of its range")
    return value


def _key_of(tz: Any) -> str:
    """The name of a zone that leads to the same zone."""
    zoneinfo = sys.modules.get("zoneinfo")
    if zoneinfo is None or type(tz) is not zoneinfo.ZoneInfo:
        raise NotEncodable(f"its time zone is a {name_of(type(tz))}; use zoneinfo.ZoneInfo or datetime.timezone")
    try:
        key = tz.__reduce__()[1][0]
    except Exception as error:  # a PicklingError: it was made from a file. Importing pickle for its name takes 8 ms
        raise NotEncodable("its time zone was made from a file, and no key leads to it") from error
    if type(key) is not str or _ZONE.fullmatch(key) is None:
        raise NotEncodable("its time zone has no key that leads to it")
    return key


def _parts(payload: object) -> tuple[str, dict[str, Any]]:
    text, more = payload if type(payload) is list and len(payload) == 2 else (payload, {})
    if type(text) is not str or type(more) is not dict:
        raise TypeError("it is not text, or text and what more there is to say")
    return text, more


def _completion(value: datetime | time, text: str, more: dict[str, Any]) -> dict[str, Any]:
    """What the text alone doesn't say."""
    if value.isoformat() != text:
        raise ValueError("it is not written as dates and times are here")
    if not more.keys() <= _MORE or more.get("fold", 1) != 1:
        raise ValueError("what more is said of it means nothing")
    found: dict[str, Any] = {"fold": 1} if "fold" in more else {}
    tz: Any = value.tzinfo
    if tz is not None and not more.keys().isdisjoint(_APART):
        raise ValueError("it has two time zones")
    if "zone" in more:
        tz = _zone(more["zone"])
    if "offset" in more:
        tz = timezone(read_span(more["offset"]))
    if "name" in more:
        if type(tz) is not timezone or type(more["name"]) is not str:
            raise ValueError("the name of its offset means nothing")
        tz = timezone(tz.utcoffset(None), more["name"])
    return found | {"tzinfo": tz}


def _zone(key: object) -> Any:
    if type(key) is not str or _ZONE.fullmatch(key) is None:
        raise ValueError("its time zone is none")
    import zoneinfo

    try:
        return zoneinfo.ZoneInfo(key)
    except (OSError, zoneinfo.ZoneInfoNotFoundError) as error:  # a folder's name is an OSError
        raise ValueError(f"this system knows no time zone {key!r}; install tzdata") from error
