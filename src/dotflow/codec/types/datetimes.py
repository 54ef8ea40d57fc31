"""Dates, times and timedeltas, with their time zones."""

import re
import sys
from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Any, Final

from dotflow.codec.types.classes import NotEncodable
from dotflow.core.failure import name_of

#: No dot, and no slash at an end: a key is also a file's path, and a part of a module's name in the package tzdata.
_ZONE: Final = re.compile(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+)*")

#: What can be added to ISO 8601, and what of it takes the place of its offset.
_EXTRAS: Final = frozenset({"fold", "name", "offset", "zone"})
_ZONES: Final = frozenset({"offset", "zone"})


def write_datetime(value: datetime | time) -> str | list[Any]:
    """Writes ISO 8601, and a zone, an offset's name and a fold beside it. Raises NotEncodable for other time zones."""
    tz = value.tzinfo
    extras: dict[str, Any] = {}
    if tz is not None and tz is not UTC:
        if type(tz) is timezone:
            arguments = tz.__getinitargs__()  # type: ignore[attr-defined]  # pickle uses this, too
            if len(arguments) > 1:
                extras["name"] = arguments[1]
            if arguments[0].microseconds:  # Python reads +00:00:00.000001 as UTC
                extras["offset"] = write_timedelta(arguments[0])
        else:
            extras["zone"] = _key_of(tz)
    if value.fold:
        extras["fold"] = 1
    if not extras:
        return value.isoformat()
    return [(value if extras.keys().isdisjoint(_ZONES) else value.replace(tzinfo=None)).isoformat(), extras]


def read_iso(kind: type[datetime] | type[time], payload: object) -> datetime | time:
    """Reads what `write_datetime` wrote. Raises ValueError, TypeError or KeyError."""
    text, extras = _split(payload)
    value = kind.fromisoformat(text)
    return value if not extras and value.isoformat() == text else value.replace(**_changes(value, text, extras))


def read_date(payload: object) -> date:
    """Reads a date from ISO 8601. Raises ValueError or TypeError."""
    if type(payload) is not str:
        raise TypeError("it is not text")
    value = date.fromisoformat(payload)
    if value.isoformat() != payload:
        raise ValueError("its form is not the usual one")
    return value


def write_timedelta(value: timedelta) -> list[int]:
    """Returns days, seconds and microseconds."""
    return [value.days, value.seconds, value.microseconds]


def read_timedelta(payload: object) -> timedelta:
    """Reads what `write_timedelta` wrote. Raises ValueError, TypeError or OverflowError."""
    if type(payload) is not list or [type(part) for part in payload] != [int, int, int]:
        raise TypeError("it is not three ints")
    value = timedelta(*payload)
    if write_timedelta(value) != payload:
        raise ValueError("a part of it is out of its range")
    return value


def _key_of(tz: Any) -> str:
    """Returns the key that leads to the same zone."""
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


def _split(payload: object) -> tuple[str, dict[str, Any]]:
    text, extras = payload if type(payload) is list and len(payload) == 2 else (payload, {})
    if type(text) is not str or type(extras) is not dict:
        raise TypeError("it is not text, or text with a zone, a name and a fold")
    return text, extras


def _changes(value: datetime | time, text: str, extras: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields to replace in what ISO 8601 says."""
    if value.isoformat() != text:
        raise ValueError("its form is not the usual one")
    if not extras.keys() <= _EXTRAS or extras.get("fold", 1) != 1:
        raise ValueError("a field beside its text is invalid")
    changes: dict[str, Any] = {"fold": 1} if "fold" in extras else {}
    tz: Any = value.tzinfo
    if tz is not None and not extras.keys().isdisjoint(_ZONES):
        raise ValueError("it has two time zones")
    if "zone" in extras:
        tz = _zone(extras["zone"])
    if "offset" in extras:
        tz = timezone(read_timedelta(extras["offset"]))
    if "name" in extras:
        if type(tz) is not timezone or type(extras["name"]) is not str:
            raise ValueError("the name of its offset is invalid")
        tz = timezone(tz.utcoffset(None), extras["name"])
    return changes | {"tzinfo": tz}


def _zone(key: object) -> Any:
    if type(key) is not str or _ZONE.fullmatch(key) is None:
        raise ValueError("its time zone is invalid")
    import zoneinfo

    try:
        return zoneinfo.ZoneInfo(key)
    except (OSError, zoneinfo.ZoneInfoNotFoundError) as error:  # a folder's name is an OSError
        raise ValueError(f"this system knows no time zone {key!r}; install tzdata") from error
