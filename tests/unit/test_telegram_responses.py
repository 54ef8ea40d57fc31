"""The responses of the Bot API."""

import json

import pytest

from dotflow.providers.notifiers.telegram.notifier import parse_response


def body(description: str = "", **parameters: object) -> bytes:
    document: dict[str, object] = {"ok": False, "description": description}
    return json.dumps(document | ({"parameters": parameters} if parameters else {})).encode()


def test_a_message_is_delivered_when_telegram_says_so() -> None:
    """With a status of 200 and "ok": true, and not otherwise."""
    assert parse_response(200, b'{"ok": true, "result": {}}') is None


@pytest.mark.parametrize(
    "page",
    [b"", b"<html>Log in to the hotel's network</html>", b'{"ok": true', b"[1]", b'{"ok": 1}', b"\xff", b"[" * 100_000],
)
def test_a_foreign_page_is_no_delivery(page: bytes) -> None:
    """A network that answers 200 to everything delivers no messages."""
    response = parse_response(200, page)

    assert response is not None
    assert response.is_final
    assert "base_url and the network" in response.hint


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_a_rejection(status: int) -> None:
    """It may lead anywhere, and the token is part of the path."""
    refusal = parse_response(status, b"")

    assert refusal is not None
    assert refusal.is_final


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
def test_a_rejection_has_telegrams_reason_and_a_hint(status: int, description: str, words: list[str]) -> None:
    """It is not sent again."""
    response = parse_response(status, body(description))

    assert response is not None
    assert response.is_final
    assert f"{status}, {description}" in response.reason
    assert [word for word in words if word not in response.hint] == []


def test_a_group_that_moved_has_its_new_number_in_the_hint() -> None:
    """When a group becomes a supergroup its chat_id changes."""
    response = parse_response(400, body("Bad Request: group chat was upgraded", migrate_to_chat_id=-100123))

    assert response is not None
    assert response.is_final
    assert "-100123" in response.hint


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_failure_that_may_pass_is_sent_again(status: int) -> None:
    """Too many requests and server errors, in JSON or not."""
    refusals = [parse_response(status, body("trouble")), parse_response(status, b"<html>")]

    assert [refusal is not None and refusal.is_final for refusal in refusals] == [False, False]
    assert None not in refusals


@pytest.mark.parametrize(
    ("parameters", "header", "delay"),
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
def test_how_long_to_wait(parameters: dict[str, object], header: str | None, delay: float | None) -> None:
    """The body's delay counts before the header's; an invalid one is ignored."""
    response = parse_response(429, body("Too Many Requests", **parameters), header)

    assert response is not None
    assert not response.is_final
    assert response.delay == delay


def test_a_description_is_one_short_line() -> None:
    """A long page does not get into an error."""
    response = parse_response(400, body("a\nb " + "c" * 10_000))

    assert response is not None
    assert response.is_final
    assert "\n" not in response.reason
    assert len(response.reason) < 400
