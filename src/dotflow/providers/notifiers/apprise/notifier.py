"""NotifyApprise: messages through Apprise, to Slack, Discord, Teams, e-mail and many more."""

import contextlib
import logging
import re
import threading
import warnings
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from dotflow.core.text import escape_surrogates
from dotflow.core.types.status import TypeStatus
from dotflow.errors import InvalidArgument, NotifyError
from dotflow.providers.notifiers.hidden import MASK, Hidden
from dotflow.providers.notifiers.message import TASK, NotifyMessages
from dotflow.providers.optional import PerProcess, require_extra

if TYPE_CHECKING:
    from apprise import Apprise

#: Apprise's NotifyType, by which services choose a colour or an icon.
NOTIFY_TYPES: Final = {
    None: "warning",  # an alert
    TypeStatus.COMPLETED: "success",
    TypeStatus.RETRY: "warning",
    TypeStatus.FAILED: "failure",
}
ACCEPTED: Final = (
    "an Apprise URL such as 'slack://...' or 'mailto://...', with all the parts that "
    "github.com/caronc/apprise/wiki lists, or several in a list"
)
HINT: Final = "Check the URL and the network. `apprise -vv URL` on the command line shows more, secrets too."


class _Service(NamedTuple):
    """A service: its Apprise object, and a name without the host, which is a secret in most URLs."""

    name: str
    apprise: "Apprise"


class NotifyApprise(NotifyMessages):
    """Sends status changes of tasks or ends of runs, and alerts, to any service that Apprise supports.

    Several services get a message at the same time.

    Args:
        urls: One or several Apprise URLs. They hold secrets, so they appear in no log and no error.
        notification_type: Send only this status, or these; None sends all. Questions and alerts are always sent.
        by: "task" for a message at each change of a task's status, "run" for one at the end of a run.

    Raises:
        MissingExtra: Apprise is not installed.
        InvalidArgument: One of them is not accepted.
    """

    def __init__(
        self,
        urls: str | Collection[str],
        notification_type: TypeStatus | str | Collection[TypeStatus | str] | None = None,
        by: str = TASK,
    ) -> None:
        super().__init__(by, notification_type)
        self._urls = [Hidden(url) for url in _checked_urls(urls)]
        self._services: PerProcess[list[_Service]] = PerProcess()
        self._get_services()  # refuses a URL at once

    def _get_services(self) -> list[_Service]:
        return self._services.get(lambda: _services_for(self._urls))

    def deliver(self, title: str, text: str, status: TypeStatus | None) -> None:
        """Sends a message to every service. Raises NotifyError if one did not take it; the others have it."""
        services, kind = self._get_services(), NOTIFY_TYPES.get(status, "info")
        failures = _deliver(services, escape_surrogates(title), escape_surrogates(text), kind)
        if failures:
            others = ["the others have it"] if len(failures) < len(services) else []
            raise NotifyError("Apprise", "; ".join([*failures, *others]), HINT)

    def __repr__(self) -> str:
        return f"NotifyApprise(urls={self._urls!r})"


def _checked_urls(urls: object) -> list[str]:
    values = [urls] if isinstance(urls, str) else urls
    if not isinstance(values, list | tuple | set | frozenset) or not values:
        raise InvalidArgument("urls", values if values in (None, [], ()) else type(values), ACCEPTED)
    for index, url in enumerate(values):
        if not isinstance(url, str):
            raise InvalidArgument(_argument(index, len(values)), None if url is None else type(url), ACCEPTED)
        if re.search(r"[\s,]\S+://", url):
            raise InvalidArgument(_argument(index, len(values)), _masked(url), f"one URL: {ACCEPTED}")
    return list(values)


def _services_for(urls: Sequence[Hidden]) -> list[_Service]:
    require_extra("apprise", "NotifyApprise", "notify")
    import apprise

    # With a service timeout, Apprise sends from a thread pool, which the interpreter waits for at exit.
    limit: dict[str, Any] = {"service_timeout": 0} if hasattr(apprise.AppriseAsset, "_service_timeout") else {}
    asset = apprise.AppriseAsset(async_mode=False, storage_mode="memory", **limit)
    services = []
    for index, url in enumerate(urls):
        with suppressed_logs(), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # from what Apprise's plugins import
            service = apprise.Apprise.instantiate(url.reveal(), asset=asset)
            sender = apprise.Apprise(asset=asset)
        if service is None:
            raise InvalidArgument(_argument(index, len(urls)), _masked(url.reveal()), ACCEPTED)
        if service.overflow_mode == apprise.OverflowMode.UPSTREAM:
            service.overflow_mode = apprise.OverflowMode.TRUNCATE  # a text that is too long is cut, not rejected
        sender.add(service)
        name = f"{service.service_name} (URL {index + 1} of {len(urls)})" if len(urls) > 1 else service.service_name
        services.append(_Service(str(name), sender))
    return services


def _argument(index: int, count: int) -> str:
    return f"urls[{index}]" if count > 1 else "urls"


def _masked(url: str) -> str:
    """Returns the kind of service and a mask for the rest, which often is a secret."""
    schema = re.match(r"\s*([A-Za-z0-9]{1,32})://", url)
    return f"{schema[1]}://{MASK}" if schema else MASK


def _deliver(services: Sequence[_Service], title: str, body: str, kind: str) -> list[str]:
    """Sends to all services at once, so that one that hangs doesn't block the others. Returns the failures."""
    reasons = [""] * len(services)

    def send(index: int) -> None:
        reasons[index] = _send(services[index], title, body, kind)

    # Daemons: the interpreter does not wait for them at exit.
    threads = [threading.Thread(target=send, args=(index,), daemon=True) for index in range(1, len(services))]
    for thread in threads:
        thread.start()
    send(0)
    for thread in threads:
        thread.join()
    return [reason for reason in reasons if reason]


def _send(service: _Service, title: str, body: str, kind: str) -> str:
    """Sends to one service. Returns the failure; "" for a success."""
    from apprise import NotifyFormat

    with suppressed_logs() as messages:
        try:
            if service.apprise.notify(body=body, title=title, notify_type=kind, body_format=NotifyFormat.TEXT):
                return ""
        except Exception as error:  # from a plugin's own code; its message may hold a secret
            return f"{service.name} raised {type(error).__name__}"
        status = http_status_in(messages)
    return f"{service.name} answered {status}" if status else f"{service.name} was not reached, or rejected it"


#: Loggers that log URLs, hosts and payloads, which hold the secrets.
LOGGERS: Final = (
    "apprise",
    "requests",
    "requests_oauthlib.oauth1_session",
    "requests_oauthlib.oauth2_session",
    "urllib3.connection",
    "urllib3.connectionpool",
    "urllib3.poolmanager",
    "urllib3.response",
    "urllib3.util.retry",
)

_STATUS: Final = re.compile(r"\berror=(\d{3})\b")


class _Capture(threading.local):
    """The messages of this thread; None while nothing is kept back."""

    messages: list[str] | None = None


_thread = _Capture()


@contextlib.contextmanager
def suppressed_logs() -> Iterator[list[str]]:
    """Keeps this thread's records of LOGGERS from all handlers. Their messages are in the list instead."""
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_passes)  # a logger adds the same filter only once
    outer, _thread.messages = _thread.messages, []
    try:
        yield _thread.messages
    finally:
        _thread.messages = outer


def http_status_in(messages: list[str]) -> str:
    """Returns the last HTTP status in the messages, which is no secret; "" if there is none."""
    for line in reversed(messages):
        if match := _STATUS.search(line):
            return match[1]
    return ""


def _passes(record: logging.LogRecord) -> bool:
    if _thread.messages is None:
        return True
    with contextlib.suppress(Exception):  # formatting a library's own arguments may fail
        _thread.messages.append(record.getMessage())
    return False
