"""NotifyTelegram: messages in a Telegram chat."""

import contextlib
import json
import re
import time
from collections.abc import Callable, Collection
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from dotflow import clock
from dotflow.core.durations import Duration, as_seconds
from dotflow.core.types.status import TypeStatus
from dotflow.errors import InvalidArgument, NotifyError
from dotflow.providers.notifiers.hidden import MASK, Hidden
from dotflow.providers.notifiers.message import TASK, NotifyMessages, truncate

#: Status -> what to do; see core.telegram.org/bots/api#making-requests.
HINTS: Final = {
    400: "Check chat_id: the number of the chat, with its minus sign, or the @name of a channel. A person has to write "
    "to the bot first, and a group or channel needs it as a member.",
    401: "Check the token: @BotFather shows it, and makes a new one.",
    403: "The bot may not write there: the person has to start it (again), or the group or channel has to admit it.",
    404: "Check the token, as @BotFather shows it, and base_url if you passed one.",
}
NOT_TELEGRAM: Final = "Check base_url and the network: this does not look like the Bot API."
LONGEST_DELAY: Final = 1e9  # seconds; a greater number is none that Telegram names
RETRY_HINT: Final = "It may work again later; the run is not affected."
MAX_DESCRIPTION: Final = 300  # characters of a description that an error repeats


class Refusal(NamedTuple):
    """Telegram has not taken the message. It may be sent again unless that is final: after a delay, if it named one."""

    reason: str
    hint: str = RETRY_HINT
    is_final: bool = False
    delay: float | None = None


def parse_response(
    status: int, body: bytes, retry_after: str | None = None, hide: Callable[[str], str] = lambda text: text
) -> Refusal | None:
    """Returns what a response means; None if the message is in the chat.

    Args:
        status: The HTTP status.
        body: The body: JSON, if it is from the Bot API.
        retry_after: The header of this name, if there is one.
        hide: Masks the secret in a text.
    """
    document = _parse_json(body)
    if document.get("ok") is True and 200 <= status < 300:
        return None
    reason, parameters = _reason(status, document, hide), document.get("parameters")
    if not isinstance(parameters, dict):
        parameters = {}
    if status == 429 or status >= 500:
        return Refusal(reason, delay=_seconds(parameters.get("retry_after")) or _seconds(retry_after))
    hint, moved_to = HINTS.get(status, NOT_TELEGRAM), parameters.get("migrate_to_chat_id")
    if isinstance(moved_to, int):
        hint = f"The group has become a supergroup: its chat_id is {moved_to} now."
    return Refusal(reason, hint, is_final=True)


def _reason(status: int, document: dict[str, Any], hide: Callable[[str], str]) -> str:
    description = document.get("description")
    if isinstance(description, str) and description.strip():
        text = " ".join(hide(description).split())[:MAX_DESCRIPTION].rstrip(".")
        return f"it answered {status}, {text}"
    return f"it answered {status}" + ("" if status >= 300 else ", but not that the message was sent")


def _parse_json(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):  # a proxy's page, or a truncated response
        return {}
    return document if isinstance(document, dict) else {}


def _seconds(value: Any) -> float | None:
    """Returns a positive number of seconds, also from a text; None for anything else, such as a date."""
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        if not isinstance(value, bool) and 0 < float(value) < LONGEST_DELAY:
            return float(value)
    return None


#: "1-4096 characters after entities parsing": core.telegram.org/bots/api#sendmessage. It does not define a character.
#: UTF-16 code units are the safe count: no other way of counting gives more.
MAX_TEXT: Final = 4096
RETRY_DELAYS: Final = (0.5, 1.0)  # seconds before the second and the third try, unless Telegram names a delay
MIN_DELAY: Final = 0.1  # seconds between two tries, even if Telegram names less
MAX_WAIT: Final = 60.0  # seconds that one message may wait; a ban can last for hours

RATE_HINT: Final = 'Send fewer: by="run", or notification_type="Failed". Telegram takes about one message a second.'


class NotifyTelegram(NotifyMessages):
    """Sends the status changes of tasks or the ends of runs, and the alerts of a server, to a Telegram chat.

    A failure that may pass is retried: after the delay that Telegram names, or up to twice within two seconds.
    So a message may arrive twice if only its response was lost.

    Args:
        token: The bot's token. It is part of every URL, so no URL appears in a log or an error.
        chat_id: The chat: its number, or the @name of a channel.
        notification_type: Send only this status, or these; None sends all. Questions and alerts are always sent.
        timeout: The time for one request, up to the end of the response: seconds, or a text such as "5s".
        base_url: The Bot API server, if you run one of your own.
        by: "task" for a message at each change of a task's status, "run" for one at the end of a run.

    Raises:
        InvalidArgument: One of them is not accepted.
    """

    def __init__(
        self,
        token: str,
        chat_id: int | str,
        notification_type: TypeStatus | str | Collection[TypeStatus | str] | None = None,
        timeout: Duration = 1.5,
        base_url: str = "https://api.telegram.org",
        by: str = TASK,
    ) -> None:
        _check_token(token)
        _check_chat(chat_id)
        self.chat_id = chat_id
        self.timeout: float = as_seconds("timeout", timeout, above=0)
        _check_url(base_url, token)
        super().__init__(by, notification_type)
        self._token = Hidden(token)
        self._base_url = base_url.rstrip("/")
        self._blocked_until = 0.0  # on the monotonic clock; Telegram takes no message before

    def deliver(self, title: str, text: str, status: TypeStatus | None) -> None:
        """Sends a message, or waits until Telegram takes it.

        Raises:
            NotifyError: Telegram can't be reached or rejects the message.
        """
        text = truncate(f"{title}\n{text}", MAX_TEXT)
        document = {"chat_id": self.chat_id, "text": text, "link_preview_options": {"is_disabled": True}}
        deadline = clock.ticks() + MAX_WAIT
        delays = iter(RETRY_DELAYS)
        while True:
            self._wait_while_blocked(deadline)
            refusal = self._post(document)
            if refusal is None:
                return
            delay = None if refusal.is_final else refusal.delay or next(delays, None)
            if delay is None:
                raise NotifyError("Telegram", refusal.reason, refusal.hint)
            self._blocked_until = max(self._blocked_until, clock.ticks() + max(delay, MIN_DELAY))

    def _wait_while_blocked(self, deadline: float) -> None:
        """Waits while Telegram takes no message, from any run. Raises NotifyError if the wait would be too long."""
        while (left := self._blocked_until - clock.ticks()) > 0:
            if self._blocked_until > deadline:
                raise NotifyError("Telegram", f"it accepts no message for the next {max(left, 1.0):.0f} s", RATE_HINT)
            time.sleep(left)

    def _post(self, document: dict[str, Any]) -> Refusal | None:
        from dotflow.providers.notifiers.telegram.secret_post import post  # loads http.client

        answer = post(self._base_url, f"/bot{self._token.reveal()}/sendMessage", document, self.timeout)
        if isinstance(answer, str):
            return Refusal(answer)
        # A proxy may repeat the path in its response.
        return parse_response(answer.status, answer.body, answer.retry_after, hide=self._token.hide_in)

    def __getstate__(self) -> dict[str, Any]:
        """Returns the state without a time on this machine's clock."""
        return self.__dict__ | {"_blocked_until": 0.0}

    def __repr__(self) -> str:
        return f"NotifyTelegram(token={MASK}, chat_id={self.chat_id!r})"


def _check_token(token: object) -> None:
    if isinstance(token, str) and re.fullmatch(r"[!-~]+", token) and not re.search(r"[?#%]", token):
        return
    accepted = "the bot's token as @BotFather shows it, like '123456:ABC-DEF', without spaces and line breaks"
    raise InvalidArgument("token", MASK if token else token, accepted)


def _check_chat(chat_id: object) -> None:
    if isinstance(chat_id, int) and not isinstance(chat_id, bool):
        return
    if not isinstance(chat_id, str) or not re.fullmatch(r"-?\d+|@\w+", chat_id):
        masked = MASK if ":" in str(chat_id) else chat_id  # it may be the token, passed by mistake
        raise InvalidArgument("chat_id", masked, "the number of a chat, like -1001234567890, or a channel's '@name'")


def _check_url(base_url: object, token: str) -> None:
    accepted = "the address of a Bot API server without the token, like 'https://api.telegram.org'"
    if isinstance(base_url, str) and (token in base_url or "@" in base_url):
        raise InvalidArgument("base_url", MASK, accepted)
    try:
        parts = urlsplit(str(base_url))
        is_valid = bool(parts.hostname) and parts.port != 0 and not (parts.query or parts.fragment)
    except ValueError:  # an invalid port or bracket
        is_valid = False
    if not is_valid or not isinstance(base_url, str) or not re.fullmatch(r"(?i)https?://[!-~]+", base_url):
        raise InvalidArgument("base_url", base_url, accepted)
