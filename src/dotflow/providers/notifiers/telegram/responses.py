"""The responses of the Bot API: what each one means for a message."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

#: Status -> what to do; see core.telegram.org/bots/api#making-requests.
HINTS: Final = {
    400: "Check chat_id: the number of the chat, with its minus sign, or the @name of a channel. A person has to write "
    "to the bot first, and a group or channel needs it as a member.",
    401: "Check the token: @BotFather shows it, and makes a new one.",
    403: "The bot may not write there: the person has to start it (again), or the group or channel has to admit it.",
    404: "Check the token, as @BotFather shows it, and base_url if you passed one.",
}
NOT_TELEGRAM: Final = "Check base_url and the network: this does not look like the Bot API."
RETRY_HINT: Final = "It may work again later; the run is not affected."
MAX_DESCRIPTION: Final = 300  # characters of a description that an error repeats


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """The message is in the chat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryLater:
    """The message may be sent again: after a delay in seconds, if Telegram named one."""

    reason: str
    delay: float | None = None
    hint: str = RETRY_HINT


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """The message will not be taken, however often it is sent."""

    reason: str
    hint: str


Response = Delivered | RetryLater | Rejected


def parse_response(
    status: int, body: bytes, retry_after: str | None = None, hide: Callable[[str], str] = lambda text: text
) -> Response:
    """Returns what a response means.

    Args:
        status: The HTTP status.
        body: The body: JSON, if it is from the Bot API.
        retry_after: The header of this name, if there is one.
        hide: Masks the secret in a text.
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
    """Returns the new number of a group that became a supergroup, in a sentence; "" for other responses."""
    number = _parameter(document, "migrate_to_chat_id")
    return f"The group has become a supergroup: its chat_id is {number} now." if isinstance(number, int) else ""


def _parse_json(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):  # a proxy's page, or a truncated response
        return {}
    return document if isinstance(document, dict) else {}


def _parameter(document: dict[str, Any], name: str) -> object:
    parameters = document.get("parameters")
    return parameters.get(name) if isinstance(parameters, dict) else None


def _seconds(value: object) -> float | None:
    """Returns a positive number of seconds, also from a text; None for anything else, such as a date."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    return seconds if math.isfinite(seconds) and seconds > 0 else None
