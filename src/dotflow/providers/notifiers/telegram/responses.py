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
NOT_TELEGRAM: Final = "Check base_url and the network: this does not look like the Bot API."
RETRY_HINT: Final = "It may work again later; the run is not affected."
MAX_DESCRIPTION: Final = 300  # characters of a description that are passed on


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """The message is in the chat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryLater:
    """It may work again: after so many seconds where Telegram said so, else when one likes."""

    reason: str
    delay: float | None = None
    hint: str = RETRY_HINT


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """It will not work, however often it is tried."""

    reason: str
    hint: str


Response = Delivered | RetryLater | Rejected


def parse_response(
    status: int, body: bytes, retry_after: str | None = None, hide: Callable[[str], str] = lambda text: text
) -> Response:
    """What an answer means.

    Args:
        status: The HTTP status.
        body: What came with it: JSON, if it is from the Bot API.
        retry_after: The header of this name, if there was one.
        hide: Takes out of a text what must not be told.
    """
    document = _parse_json(body)
    if document.get("ok") is True and 200 <= status < 300:
        return Delivered()
    reason = _reason(status, document, hide)
    if status == 429 or status >= 500:
        return RetryLater(reason=reason, delay=_seconds(_parameter(document, "retry_after")) or _seconds(retry_after))
    if 400 <= status < 500:
        return Rejected(reason=reason, hint=_migration_hint(document) or HINTS.get(status, NOT_TELEGRAM))
    return Rejected(reason=reason, hint=NOT_TELEGRAM)


def _reason(status: int, document: dict[str, Any], hide: Callable[[str], str]) -> str:
    description = document.get("description")
    if isinstance(description, str) and description.strip():
        text = " ".join(hide(description).split())[:MAX_DESCRIPTION].rstrip(".")
        return f"it answered {status}, {text}"
    return f"it answered {status}" + ("" if status >= 300 else ", but not that the message was sent")


def _migration_hint(document: dict[str, Any]) -> str:
    """A group that became a supergroup has another number, which the answer tells."""
    number = _parameter(document, "migrate_to_chat_id")
    return f"The group has become a supergroup: its chat_id is {number} now." if isinstance(number, int) else ""


def _parse_json(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):  # a proxy's page, or half an answer
        return {}
    return document if isinstance(document, dict) else {}


def _parameter(document: dict[str, Any], name: str) -> object:
    parameters = document.get("parameters")
    return parameters.get(name) if isinstance(parameters, dict) else None


def _seconds(value: object) -> float | None:
    """A number of seconds, also as text; a header may hold a date instead, which is not read."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    return seconds if math.isfinite(seconds) and seconds > 0 else None
