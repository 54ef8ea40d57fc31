"""What the Bot API's answers mean."""

import json

import pytest

from dotflow.providers.notifiers.telegram.responses import Delivered, Rejected, RetryLater, parse_response


def body(description: str = "", **parameters: object) -> bytes:
    told: dict[str, object] = {"ok": False, "description": description}
    return json.dumps(told | ({"parameters": parameters} if parameters else {})).encode()


def test_a_message_is_delivered_when_telegram_says_so() -> None:
    """With a status of 200 and "ok": true, and not otherwise."""
    assert parse_response(200, b'{"ok": true, "result": {}}') == Delivered()


@pytest.mark.parametrize(
    "said",
    [b"", b"<html>Log in to the hotel's network</html>", b'{"ok": true', b"[1]", b'{"ok": 1}', b"\xff", b"[" * 100_000],
)
def test_a_page_of_somebody_elses_is_no_delivery(said: bytes) -> None:
    """A network that answers 200 to everything takes no messages."""
    found = parse_response(200, said)

    assert isinstance(found, Rejected)
    assert "base_url and the network" in found.hint


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_a_refusal(status: int) -> None:
    """It may lead anywhere, and the token is part of the path."""
    assert isinstance(parse_response(status, b""), Rejected)


@pytest.mark.parametrize(
    ("status", "description", "words"),
    [
        (400, "Bad Request: chat not found", ["chat_id", "write to the bot first"]),
        (401, "Unauthorized", ["token", "@BotFather"]),
        (403, "Forbidden: bot was blocked by the user", ["start it"]),
        (404, "Not Found", ["token", "base_url"]),
        (418, "I'm a teapot", ["base_url"]),
    ],
)
def test_a_refusal_says_what_telegram_said_and_what_to_do(status: int, description: str, words: list[str]) -> None:
    """It is not tried again."""
    found = parse_response(status, body(description))

    assert isinstance(found, Rejected)
    assert f"{status}, {description}" in found.reason
    assert [word for word in words if word not in found.hint] == []


def test_a_group_that_moved_tells_its_new_number() -> None:
    """When a group becomes a supergroup its chat_id changes."""
    found = parse_response(400, body("Bad Request: group chat was upgraded", migrate_to_chat_id=-100123))

    assert isinstance(found, Rejected)
    assert "-100123" in found.hint


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_what_may_work_later_is_tried_again(status: int) -> None:
    """Too many requests, and a server in trouble, whether or not it says so in JSON."""
    assert isinstance(parse_response(status, body("trouble")), RetryLater)
    assert isinstance(parse_response(status, b"<html>"), RetryLater)


@pytest.mark.parametrize(
    ("told", "header", "delay"),
    [
        ({"retry_after": 30}, None, 30),
        ({"retry_after": 30}, "5", 30),
        ({}, "5", 5),
        ({}, None, None),
        ({"retry_after": "7"}, None, 7),
        ({"retry_after": True}, None, None),
        ({"retry_after": -5}, None, None),
        ({"retry_after": [1]}, "Wed, 21 Oct 2026 07:28:00 GMT", None),
        ({"retry_after": float("inf")}, "nan", None),
        ({"retry_after": 10**400}, None, None),
    ],
)
def test_how_long_to_wait(told: dict[str, object], header: str | None, delay: float | None) -> None:
    """What the body says, else the header; nonsense is nothing."""
    found = parse_response(429, body("Too Many Requests", **told), header)

    assert isinstance(found, RetryLater)
    assert found.delay == delay


def test_a_description_is_one_short_line() -> None:
    """Whoever answers, no page of it gets into an error."""
    found = parse_response(400, body("a\nb " + "c" * 10_000))

    assert isinstance(found, Rejected)
    assert "\n" not in found.reason
    assert len(found.reason) < 400
