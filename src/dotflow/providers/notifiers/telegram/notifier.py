"""NotifyTelegram: a Telegram chat is told."""

import re
import time
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from dotflow import clock
from dotflow.abc.notify import Notify
from dotflow.core.durations import Duration, as_seconds
from dotflow.core.task import Task
from dotflow.core.types.status import TypeStatus
from dotflow.errors import InvalidArgument, NotifyError
from dotflow.providers.notifiers.message import details, headline, truncate
from dotflow.providers.notifiers.secret import MASK, Secret
from dotflow.providers.notifiers.status_filter import status_filter
from dotflow.providers.notifiers.telegram.responses import Delivered, Response, RetryLater, parse_response

if TYPE_CHECKING:
    from dotflow.providers.notifiers.telegram.secret_post import SecretAddress

#: "1-4096 characters after entities parsing": core.telegram.org/bots/api#sendmessage. It does not say what a character
#: is, and those who tried say different things. We count UTF-16 code units: of those a text never has fewer.
MAX_TEXT: Final = 4096
RETRY_DELAYS: Final = (0.5, 1.0)  # seconds before the second and the third try, where Telegram names none
MIN_DELAY: Final = 0.1  # seconds between two tries, whatever it says
MAX_WAIT: Final = 60.0  # seconds that one message may wait for its turn; a ban can last for hours
MAX_TRIES: Final = 20  # times that one message may be told to wait

RATE_HINT: Final = (
    "Tell of fewer changes: notification_type=TypeStatus.FAILED. Telegram takes about one message a second."
)


class NotifyTelegram(Notify):
    """Tells a Telegram chat where tasks stand.

    What is not said to be final is tried again: after the seconds that Telegram names, or up to twice within two
    seconds. So a message whose answer got lost may come twice.

    Args:
        token: The bot's token. It is part of every URL, so no URL is ever logged or named in an error.
        chat_id: The chat to write to: its number, or the @name of a channel.
        notification_type: Tell only of tasks with this status, or with one of these; None tells of all.
        timeout: The time for one request, until Telegram has answered: seconds, or a text such as "5s".
        base_url: Where the Bot API is; for those who run a server of their own.

    Raises:
        InvalidArgument: One of them is not accepted.

    `send` raises NotifyError when Telegram can't be reached or refuses the message.
    """

    def __init__(
        self,
        token: str,
        chat_id: int | str,
        notification_type: TypeStatus | str | Collection[TypeStatus | str] | None = None,
        timeout: Duration = 1.5,
        base_url: str = "https://api.telegram.org",
    ) -> None:
        _check_token(token)
        _check_chat(chat_id)
        seconds = as_seconds("timeout", timeout, above=0)
        _check_url(base_url, token)
        self.chat_id = chat_id
        self.timeout: float = seconds
        self._statuses = status_filter(notification_type)
        self._token = Secret(token)
        self._base_url = base_url.rstrip("/")
        self._address: SecretAddress | None = None
        self._blocked_until = 0.0  # on the monotonic clock: Telegram wants no message before

    def send(self, task: Task) -> None:
        """As Notify says. It waits where it must, with a plain sleep: it is called from a daemon thread of the run's.

        Raises:
            NotifyError: The message did not get there.
        """
        if task.status in self._statuses:
            self._deliver(truncate(f"{headline(task)}\n{details(task)}", MAX_TEXT))

    def _deliver(self, text: str) -> None:
        document = {"chat_id": self.chat_id, "text": text, "link_preview_options": {"is_disabled": True}}
        deadline = clock.ticks() + MAX_WAIT
        delays = iter(RETRY_DELAYS)
        for number in range(1, MAX_TRIES + 1):
            self._wait_while_blocked(deadline)
            response = self._post(document)
            if isinstance(response, Delivered):
                return
            delay = (response.delay or next(delays, None)) if isinstance(response, RetryLater) else None
            if delay is None or number == MAX_TRIES:
                raise NotifyError("Telegram", response.reason, response.hint)
            self._blocked_until = max(self._blocked_until, clock.ticks() + max(delay, MIN_DELAY))

    def _wait_while_blocked(self, deadline: float) -> None:
        """Waits while Telegram wants no message, from whichever run; gives up where that takes too long."""
        while (left := self._blocked_until - clock.ticks()) > 0:
            if self._blocked_until > deadline:
                raise NotifyError("Telegram", f"it takes no message for the next {left:.0f} s", RATE_HINT)
            time.sleep(left)

    def _post(self, document: dict[str, Any]) -> Response:
        from dotflow.providers.notifiers.telegram.secret_post import HttpResponse, SecretAddress  # loads http.client

        if self._address is None:
            path = Secret(f"/bot{self._token.reveal()}/sendMessage")
            self._address = SecretAddress(self._base_url, path, self.timeout)
        answer = self._address.post(document)
        if not isinstance(answer, HttpResponse):
            return RetryLater(reason=answer)
        # A server in between may repeat the path in what it says.
        return parse_response(answer.status, answer.body, answer.retry_after, hide=self._token.hide_in)

    def __getstate__(self) -> dict[str, Any]:
        """Connections and the clock of this machine don't travel."""
        return self.__dict__ | {"_address": None, "_closed_until": 0.0}

    def __repr__(self) -> str:
        return f"NotifyTelegram(token={MASK}, chat_id={self.chat_id!r})"


def _check_token(token: object) -> None:
    if isinstance(token, str) and re.fullmatch(r"[!-~]+", token) and not re.search(r"[?#%]", token):
        return
    masked = MASK if isinstance(token, str) and token else token if token in (None, "") else type(token)
    raise InvalidArgument(
        "token", masked, "the bot's token as @BotFather shows it, like '123456:ABC-DEF', without spaces and line breaks"
    )


def _check_chat(chat_id: object) -> None:
    if isinstance(chat_id, int) and not isinstance(chat_id, bool):
        return
    if not isinstance(chat_id, str) or not re.fullmatch(r"-?\d+|@\w+", chat_id):
        masked = MASK if ":" in str(chat_id) else chat_id  # the token, should the two have been mixed up
        raise InvalidArgument("chat_id", masked, "the number of a chat, like -1001234567890, or a channel's '@name'")


def _check_url(base_url: object, token: str) -> None:
    accepted = "the address of a Bot API server without the token, like 'https://api.telegram.org'"
    if isinstance(base_url, str) and (token in base_url or "@" in base_url):
        raise InvalidArgument("base_url", MASK, accepted)
    try:
        parts = urlsplit(base_url if isinstance(base_url, str) else "")
        is_valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        is_valid = is_valid and not (parts.query or parts.fragment) and bool(re.fullmatch(r"[!-~]+", str(base_url)))
    except ValueError:  # a port or a bracket that can't be
        is_valid = False
    if not is_valid:
        raise InvalidArgument("base_url", base_url, accepted)
