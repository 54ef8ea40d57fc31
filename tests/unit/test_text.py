"""Text from anywhere can be written as UTF-8, and shown in a message."""

import pytest

from dotflow.core.text import MAX_MESSAGE, escape_surrogates, is_utf8, shorten, split_surrogates

PAIR = "\ud83d\ude00"  # two halves of one character, which a str doesn't join


@pytest.mark.parametrize("text", ["", "a", "ä", "\U0001f600", "\0", "\uffff"])
def test_text_without_surrogates_stays_as_it_is(text: str) -> None:
    """UTF-8 has a form for every other character."""
    assert is_utf8(text)
    assert escape_surrogates(text) is text
    assert split_surrogates(text) == [text] * bool(text)


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", PAIR])
def test_lone_surrogates_are_found_and_escaped(text: str) -> None:
    """What is left can be written as UTF-8, and the parts make the same text again."""
    assert not is_utf8(text)
    assert is_utf8(escape_surrogates(text))
    assert "".join(chr(part) if isinstance(part, int) else part for part in split_surrogates(text)) == text


def test_an_escape_names_the_surrogate() -> None:
    """A reader can see which one it was."""
    assert escape_surrogates("a\ud800b") == "a\\ud800b"
    assert split_surrogates("a\ud800b") == ["a", 0xD800, "b"]


def test_a_message_is_short_and_can_be_printed() -> None:
    """Whatever a file holds: control characters, surrogates, megabytes."""
    assert shorten("all is well") == "all is well"
    assert shorten("a\x1b[31m\ud800\n") == "a\\x1b[31m\\ud800\\n"
    assert shorten("x" * 1000) == "x" * MAX_MESSAGE + "..."
    assert shorten("xyz", 2) == "xy..."
