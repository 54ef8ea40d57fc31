"""What the attempts of a pack ask their run: nothing is lost, and nothing counts twice."""

from collections.abc import Sequence
from typing import Any

import pytest

from dotflow.providers.executors.cluster.conversation import Answer, Conversation, Request

Answers = list[Sequence[Any] | None]


@pytest.fixture
def announced() -> list[str]:
    return []


@pytest.fixture
def conversation(announced: list[str]) -> Conversation:
    return Conversation(lambda: announced.append("asks"))


def test_a_request_is_returned_until_its_answer_has_come(conversation: Conversation, announced: list[str]) -> None:
    """The reply with it, or the message with the answer, may be lost."""
    answers: Answers = []
    conversation.begin(3)([b"a"], answers.append)

    first = conversation.next(None).result(0)
    again = conversation.next(None).result(0)
    conversation.next(Answer(1, [b"A"]))

    assert first == again == Request(1, 3, [b"a"])
    assert answers == [[b"A"]]
    assert announced == ["asks"]


def test_an_answer_counts_once(conversation: Conversation) -> None:
    """An earlier one that comes again is none to the next request."""
    answers: Answers = []
    ask = conversation.begin(0)
    ask([b"a"], answers.append)
    conversation.next(Answer(1, [b"A"]))
    ask([b"b"], answers.append)

    request = conversation.next(Answer(1, [b"A"])).result(0)

    assert request == Request(2, 0, [b"b"])
    assert answers == [[b"A"]]


def test_who_waits_receives_the_next_request(conversation: Conversation, announced: list[str]) -> None:
    """Without an announcement."""
    waiting = conversation.next(None)
    assert not waiting.done()

    conversation.begin(0)([b"a"], Answers().append)

    assert waiting.result(0) == Request(1, 0, [b"a"])
    assert announced == []


def test_a_request_that_comes_as_the_run_leaves_is_not_lost(conversation: Conversation, announced: list[str]) -> None:
    """The run takes it along, or hears of it."""
    waiting = conversation.next(None)
    waiting.cancel()  # its time is up
    conversation.begin(0)([b"a"], Answers().append)
    assert conversation.leave() == Request(1, 0, [b"a"])
    assert announced == ["asks"]

    conversation.end()
    conversation.next(None)
    assert conversation.leave() is None
    conversation.begin(1)([b"b"], Answers().append)
    assert announced == ["asks", "asks"]


def test_only_the_last_who_waits_does(conversation: Conversation) -> None:
    """The one before has been lost."""
    before, waiting = conversation.next(None), conversation.next(None)

    assert before.result(0) is None
    assert not waiting.done()


def test_the_end_of_an_attempt_is_the_end_of_its_requests(conversation: Conversation) -> None:
    """It must not wait for ever, and its threads must not speak for the next attempt."""
    answers: Answers = []
    ask = conversation.begin(0)
    ask([b"a"], answers.append)

    conversation.end()
    conversation.begin(1)
    ask([b"b"], answers.append)

    assert answers == [None, None]
    assert not conversation.next(Answer(1, [b"A"])).done()


def test_the_end_of_the_pack_ends_each_wait(conversation: Conversation) -> None:
    """One that begins later, too."""
    answers: Answers = []
    waiting = conversation.next(None)
    conversation.begin(0)([b"a"], answers.append)
    assert waiting.result(0) is not None
    waiting = conversation.next(Answer(1, [b"A"]))

    conversation.close()

    assert waiting.result(0) is None
    assert conversation.next(None).result(0) is None
