"""Masks: what counts as a secret, and that no form of it is left, whole or in chunks."""

import base64
import itertools
import json
import pickle
from collections import UserDict
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dotflow.core.masks import MASK, NO_MASKS, MaskedStream, Masks, secret_variables

TOKEN = "tok/en+wi th\"q'uote\\s&ünï"
KEY = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG\n9w0BAQEFAASCBKcwggSj\n-----END KEY-----\n"

#: A small alphabet, so that secrets overlap each other and themselves. No beginning of one is masked by itself.
SECRETS = st.lists(st.text("ab", min_size=4, max_size=6), min_size=1, max_size=3)


@pytest.mark.parametrize(
    "written",
    [
        TOKEN,
        json.dumps({"token": TOKEN}),
        json.dumps({"token": TOKEN}, ensure_ascii=False),
        repr({"token": TOKEN}),
        repr(TOKEN.replace('"', "")),
        ascii([TOKEN]),
        repr(TOKEN.encode()),
        quote(TOKEN),
        quote(TOKEN, safe=""),
        quote_plus(TOKEN),
        quote(TOKEN, safe="").lower(),
        *(base64.b64encode(b"x" * offset + TOKEN.encode() + b"tail").decode() for offset in range(4)),
        *(base64.urlsafe_b64encode(b"user:"[offset:] + TOKEN.encode()).decode() for offset in range(4)),
    ],
)
def test_every_form_is_masked(written: str) -> None:
    """A secret is masked as it is, and in the forms of JSON, of Python, of URLs and of base64 at any offset."""
    masks = Masks([TOKEN, TOKEN.replace('"', "")])

    masked = masks.mask(f"before {written} after")

    assert masked.startswith("before ")
    assert masked.endswith(" after")
    assert MASK in masked
    assert max(map(len, masked.split(MASK))) < len("before ") + 12
    assert masks.mask_bytes(f"before {written} after".encode()) == masked.encode()


def test_base64_of_a_secret_alone_leaves_nothing() -> None:
    """Where the base64 is of the secret alone, not even its last characters are left."""
    assert Masks(["hunter22"]).mask(base64.b64encode(b"hunter22").decode()) == MASK


def test_each_line_of_a_secret_is_masked() -> None:
    """The lines of a key are masked where they are written one by one."""
    masked = Masks([KEY]).mask("key:\n  MIIEvQIBADANBgkqhkiG\n  9w0BAQEFAASCBKcwggSj\n")

    assert masked == f"key:\n  {MASK}\n  {MASK}\n"
    assert Masks([KEY]).mask(repr(KEY)) == f"'{MASK}'"


def test_overlapping_secrets_leave_nothing() -> None:
    """Where one secret's end is another one's beginning, or one is part of another, nothing of either is left."""
    assert Masks(["xyab", "abcdefgh"]).mask("<xyabcdefgh>") == f"<{MASK}>"
    assert Masks(["abcd", "abcdefgh"]).mask("abcdefgh abcd") == f"{MASK} {MASK}"


def test_short_secrets_are_not_masked() -> None:
    """A secret under four characters would mask ordinary text, so it is left out; without secrets, nothing changes."""
    assert Masks(["abc"]).mask("abc") == "abc"
    assert not Masks(["abc"])
    assert NO_MASKS.mask("text") == "text"
    assert MaskedStream(NO_MASKS).feed(b"text") == b"text"


def test_variables_are_secret_by_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables whose names end like those of secrets count, from eight characters."""
    environment = {
        "GITHUB_TOKEN": "12345678",
        "db_password": "abcdefgh",
        "AWS_SECRET_ACCESS_KEY": "ijklmnop",
        "OPENAI_API_KEY": "qrstuvwx",
        "SHORT_TOKEN": "1234567",
        "TOKENIZERS_PARALLELISM": "otherwise",
        "HOME": "/home/somebody",
    }
    monkeypatch.setattr("os.environ", environment)

    assert sorted(secret_variables()) == ["12345678", "abcdefgh", "ijklmnop", "qrstuvwx"]


def test_a_variable_may_be_removed_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step in another thread may do so."""

    class Changing(UserDict[str, str]):
        def __iter__(self) -> Iterator[str]:
            return iter(["HOME", *self.data])

    monkeypatch.setattr("os.environ", Changing({"GITHUB_TOKEN": "12345678"}))

    assert secret_variables() == ["12345678"]


def test_a_pickle_leaves_the_forms_out() -> None:
    """They are many times as large as the secrets."""
    masks = Masks([TOKEN])
    size = len(pickle.dumps(masks))
    assert masks.mask(TOKEN) == MASK
    assert len(pickle.dumps(masks)) == size
    assert pickle.loads(pickle.dumps(masks)).mask(TOKEN) == MASK


def test_a_repr_shows_no_secret() -> None:
    """The repr of masks counts the secrets and shows none."""
    assert repr(Masks(["hunter22"])) == "<masks of 1 secrets>"


@given(values=SECRETS, data=st.text("abc"), cuts=st.lists(st.integers(0, 40), max_size=5))
def test_chunks_are_masked_as_the_whole(values: list[str], data: str, cuts: list[int]) -> None:
    """However a stream is cut, its masked chunks are what masking all of it at once returns."""
    masks, whole = Masks(values), data.encode()
    borders = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    stream = MaskedStream(masks)

    chunks = [stream.feed(whole[begin:end]) for begin, end in itertools.pairwise(borders)]

    assert b"".join(chunks) + stream.flush() == masks.mask_bytes(whole)
    assert not any(value in masks.mask(data) for value in values)


@given(value=st.text(min_size=4, max_size=30), before=st.text(max_size=5), after=st.text(max_size=5))
def test_any_secret_is_masked_in_its_escaped_forms(value: str, before: str, after: str) -> None:
    """Whatever a secret is made of, JSON, reprs and URLs of a text with it are masked."""
    masks = Masks([value])
    text = f"{before}{value}{after}"

    for written in (text, json.dumps(text), repr(text), ascii(text), repr(text.encode()), quote(text, safe="")):
        assert MASK in masks.mask(written)


@given(values=SECRETS, held=st.text("abc"), data=st.text("abc", max_size=40), at=st.integers(0, 40))
def test_a_cut_leaves_no_part_of_a_secret(values: list[str], held: str, data: str, at: int) -> None:
    """Data can be cut there: no secret has a part before and a part behind it."""
    stream, at = MaskedStream(Masks(values)), min(at, len(data))
    stream.feed(held.encode())
    whole = stream._held.decode() + data

    end = stream.cut(data.encode(), at)

    border = end + len(whole) - len(data)
    assert at <= end <= len(data)
    assert not any(whole[first : first + len(value)] == value for value in values for first in crossing(border, value))


def crossing(border: int, value: str) -> range:
    """The beginnings of a value that has a part on both sides of the border."""
    return range(max(0, border - len(value) + 1), border)


@pytest.mark.parametrize("size", range(len("hunter22-and-more")))
def test_the_beginning_of_a_secret_at_the_end_is_masked(size: int) -> None:
    """A step that is killed may have printed a part of a secret. Fewer than six characters may be any text."""
    secret = "hunter22-and-more"
    stream = MaskedStream(Masks([secret, "22-and-else"]))

    masked = stream.feed(b"token: " + secret[:size].encode()) + stream.flush()

    assert masked == b"token: " + (MASK if size >= 6 else secret[:size]).encode()


def test_the_possible_beginning_of_a_secret_is_held_back() -> None:
    """Only what may be a secret's beginning waits for the next chunk."""
    stream = MaskedStream(Masks(["hunter22"]))

    assert stream.feed(b"password: hunt") == b"password: "
    assert stream.feed(b"er21, hunter22") == b"hunter21, ***"
    assert stream.feed(b" hun") == b" "
    assert stream.flush() == b"hun"
