"""What the Bot API's answers mean: decided here, done in notify_telegram.py."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

#: What to do about a refusal; core.telegram.org/bots/api#making-requests and the words of its errors.
HINTS: Final = {
    400: "Check chat_id: the number of the chat, with its minus sign, or the @name of a channel. A person has to write "
    "to the bot first, and a group or channel has to have it as a member.",
    401: "Check the token: @BotFather shows it, and makes a new one.",
    403: "The bot may not write there: the person has to start it (again), or the group or channel has to admit it.",
    404: "Check the token, as @BotFather shows it, and base_url if you gave one.",
}
ELSEWHERE: Final = "Check base_url and the network: this does not look like the Bot API."
LATER: Final = "It may work again later; the run is not affected."
MOST_WORDS: Final = 300  # characters of a description that are passed on


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """The message is in the chat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """It may work again: after so many seconds where Telegram said so, else when one likes."""

    reason: str
    after: float | None = None
    hint: str = LATER


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """It will not work, however often it is tried."""

    reason: str
    hint: str


Meaning = Delivered | Again | Refused


def meaning_of(
    status: int, body: bytes, retry_after: str | None = None, hide: Callable[[str], str] = lambda text: text
) -> Meaning:
    """What an answer means.

    Args:
        status: The HTTP status.
        body: What came with it: JSON, if it is from the Bot API.
        retry_after: The header of this name, if there was one.
        hide: Takes out of a text what must not be told.
    """
    told = _json_of(body)
    if told.get("ok") is True and 200 <= status < 300:
        return Delivered()
    reason = _reason(status, told, hide)
    if status == 429 or status >= 500:
        return Again(reason=reason, after=_seconds(_parameter(told, "retry_after")) or _seconds(retry_after))
    if 400 <= status < 500:
        return Refused(reason=reason, hint=_moved(told) or HINTS.get(status, ELSEWHERE))
    return Refused(reason=reason, hint=ELSEWHERE)


def _reason(status: int, told: dict[str, Any], hide: Callable[[str], str]) -> str:
    description = told.get("description")
    if isinstance(description, str) and description.strip():
        words = " ".join(hide(description).split())[:MOST_WORDS].rstrip(".")
        return f"it answered {status}, {words}"
    return f"it answered {status}" + ("" if status >= 300 else ", but not that the message was sent")


def _moved(told: dict[str, Any]) -> str:
    """A group that became a supergroup has another number, which the answer tells."""
    number = _parameter(told, "migrate_to_chat_id")
    return f"The group has become a supergroup: its chat_id is {number} now." if isinstance(number, int) else ""


def _json_of(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):  # a proxy's page, or half an answer
        return {}
    return found if isinstance(found, dict) else {}


def _parameter(told: dict[str, Any], name: str) -> object:
    parameters = told.get("parameters")
    return parameters.get(name) if isinstance(parameters, dict) else None


def _seconds(given: object) -> float | None:
    """A number of seconds, also as text; a header may hold a date instead, which is not read."""
    if isinstance(given, bool) or not isinstance(given, int | float | str):
        return None
    try:
        seconds = float(given)
    except (ValueError, OverflowError):
        return None
    return seconds if math.isfinite(seconds) and seconds > 0 else None
