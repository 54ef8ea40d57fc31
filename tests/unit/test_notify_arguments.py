"""NotifyTelegram and NotifyApprise: the arguments that they accept, and their reprs."""

import copy
import logging
import pickle
import sys
from collections.abc import Callable
from functools import partial

import pytest

from dotflow import Config
from dotflow.errors import InvalidArgument
from dotflow.providers import NotifyApprise, NotifyTelegram
from dotflow.providers.notifiers.apprise.notifier import http_status_in, suppressed_logs
from dotflow.providers.notifiers.hidden import Hidden

TOKEN = "123456:AAE-secret_token"
URL = "json://user:secret_password@localhost/secret_path"


@pytest.mark.parametrize("token", [TOKEN, "42:x", "123456:AAE/test"])
@pytest.mark.parametrize("chat_id", [1, -1001234567890, "-1001234567890", "@my_channel"])
def test_tokens_and_chats_of_telegram_are_accepted(token: str, chat_id: int | str) -> None:
    """Tokens of any length, also of test servers; numbers, also as text; names of channels."""
    assert NotifyTelegram(token, chat_id).chat_id == chat_id


@pytest.mark.parametrize(
    "token", [f"{TOKEN}\n", f" {TOKEN}", "123:a b", f"{TOKEN}?a", f"{TOKEN}#", "123:ä", f"{TOKEN}%"]
)
def test_an_invalid_token_is_refused_and_masked(token: str) -> None:
    """For example with a line break from a file; the message does not show it."""
    with pytest.raises(InvalidArgument, match=r"token='\*\*\*' is not accepted.*BotFather") as caught:
        NotifyTelegram(token, 1)

    assert TOKEN not in repr(vars(caught.value))


@pytest.mark.parametrize(("token", "shown"), [(None, "None"), ("", "''"), (5, r"'\*\*\*'"), (b"1:a", r"'\*\*\*'")])
def test_a_missing_token_is_shown(token: object, shown: str) -> None:
    """Most often an environment variable is missing."""
    with pytest.raises(InvalidArgument, match=f"token={shown} is not accepted"):
        NotifyTelegram(token, 1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("chat_id", chat) for chat in (None, "", " ", "a b", "my_channel", "@", True, 1.5, [1], TOKEN)],
        *[("timeout", seconds) for seconds in (0, -1, None, "1", float("inf"), float("nan"), True)],
        *[
            ("base_url", url)
            for url in (
                None,
                "",
                "localhost",
                "ftp://a",
                "https://",
                "http://a b",
                "http://a?b",
                "http://[",
                "http://a/é",
            )
        ],
        ("base_url", f"https://api.telegram.org/bot{TOKEN}"),
        ("base_url", "https://user:secret_password@proxy"),
        ("notification_type", "done"),
        *[("by", by) for by in ("workflow", None, "Run", ["run"])],
    ],
)
def test_other_mistakes_are_refused(name: str, value: object) -> None:
    """The message names the argument, and no secret."""
    arguments = {"token": TOKEN, "chat_id": 1, name: value}

    with pytest.raises(InvalidArgument, match=f"{name}=") as caught:
        NotifyTelegram(**arguments)  # type: ignore[arg-type]

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("make", [partial(NotifyTelegram, TOKEN, 1), partial(NotifyApprise, URL)])
def test_a_status_that_no_run_ends_with_is_refused_by_run(make: Callable[..., object]) -> None:
    """It would never be sent."""
    assert make(by="run", notification_type=["Failed", "Paused", "Completed"])
    with pytest.raises(InvalidArgument, match=r'Retry.*Completed.*Failed.*Paused.*by="run"'):
        make(by="run", notification_type=["Failed", "Retry"])


@pytest.mark.parametrize(
    ("urls", "shown"),
    [
        ("json://", "urls='json://***'"),
        ("no URL, but secret", r"urls='***'"),
        ("nosuchservice://secret", "urls='nosuchservice://***'"),
        ("slack://secret", "urls='slack://***'"),
        ([URL, "tgram://secret"], "urls[1]='tgram://***'"),
        ("json://secret, json://secret", "Pass one URL"),
        (None, "urls=None"),
        ([], "urls=[]"),
        ([URL, None], "urls[1]=None"),
        (5, "<class 'int'>"),
        ("", "urls='***'"),
    ],
)
def test_an_invalid_url_is_refused_and_masked(
    urls: object, shown: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """The message names the argument and its index; neither it nor Apprise's logs show the URL."""
    caplog.set_level(1)
    with pytest.raises(InvalidArgument) as caught:
        NotifyApprise(urls)  # type: ignore[arg-type]

    assert shown in str(caught.value)
    assert "secret" not in f"{caught.value!r}{vars(caught.value)}{caplog.text}{capfd.readouterr()}"


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """At construction, with the command that installs it."""
    monkeypatch.setitem(sys.modules, "apprise", None)

    with pytest.raises(ImportError, match=r"pip install 'dotflow\[notify\]'"):
        NotifyApprise(URL)


@pytest.mark.parametrize(
    "make", [lambda: NotifyTelegram(TOKEN, 1), lambda: NotifyApprise(URL)], ids=["telegram", "apprise"]
)
def test_secrets_are_not_shown(make: object) -> None:
    """Neither by repr nor by dumping attributes, alone or in a Config; copies and pickles work."""
    notify = make()  # type: ignore[operator]

    for provider in (notify, copy.deepcopy(notify), pickle.loads(pickle.dumps(notify))):
        assert "***" in repr(provider)
        shown = f"{provider!r}{vars(provider)}{vars(Config(notify=provider))}"
        assert "secret_token" not in shown
        assert "secret_pa" not in shown


def test_a_secret_is_revealed_on_request() -> None:
    """Only `reveal` returns it."""
    secret = Hidden("hunter2")

    assert secret.reveal() == "hunter2"
    assert f"{secret} {secret!r} %s" % secret == "*** *** ***"
    assert secret.hide_in("my hunter2!") == "my ***!"
    assert Hidden("").hide_in("abc") == "abc"
    assert pickle.loads(pickle.dumps(secret)).reveal() == "hunter2"


def test_logs_of_libraries_are_kept_back(caplog: pytest.LogCaptureFixture) -> None:
    """Inside the block only, in nested blocks too; the block has the messages."""
    caplog.set_level(1)
    logger = logging.getLogger("apprise")

    logger.warning("before")
    with suppressed_logs() as messages:
        logger.debug("secret %s", 1)
        with suppressed_logs() as inner_messages:
            logger.error("secret 2, error=503.")
        logger.error("secret 3 %d", "no number")

    logger.warning("after")
    assert caplog.messages == ["before", "after"]
    assert messages == ["secret 1"]
    assert inner_messages == ["secret 2, error=503."]
    assert http_status_in(inner_messages) == "503"
    assert http_status_in(messages) == ""
