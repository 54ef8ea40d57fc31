"""File names for any text: safe on every system, and different for different texts."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dotflow.providers.storages.safe_name import safe_name

ANY_TEXT = st.text(st.characters(exclude_categories=[]), max_size=200)  # lone surrogates too


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "17",
        "nightly",
        "nightly-2024_a",
        "nightly@day=2026-11-25,limit=100",
        "3f0e6c1e-0b5f-4a5e-9b1e-0f2f3d1c9a77",
    ],
)
def test_plain_text_is_its_own_name(text: str) -> None:
    """Files in the folder have the names of their workflows."""
    assert safe_name(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Nightly Report", "nightly_report"),
        ("../../etc/passwd", "etc_passwd"),
        ("con", "con"),
        ("lpt1", "lpt1"),
        ("a.b", "a_b"),
        ("-rf", "rf"),
        ("", ""),
        (".", ""),
        ("a\0b", "a_b"),
        ("日本", ""),
        ("x" * 5000, "x" * 40),
    ],
)
def test_other_text_is_still_recognised(text: str, shown: str) -> None:
    """What is plain in it stands before a digest."""
    assert re.fullmatch(rf"{shown}~[0-9a-f]{{32}}", safe_name(text))


@given(ANY_TEXT)
def test_a_name_is_safe_on_every_system(text: str) -> None:
    """Small letters, digits and _@=,-; short; no dot, no slash, no device; never an option."""
    assert re.fullmatch(r"[a-z0-9_]{0,40}~[0-9a-f]{32}|[a-z0-9][a-z0-9_@=,-]{0,63}", safe_name(text))
    assert safe_name(text) not in {"con", "prn", "aux", "nul", "com1", "lpt9"}


@given(ANY_TEXT, ANY_TEXT)
def test_different_texts_have_different_names(one: str, other: str) -> None:
    """On systems that ignore case, too."""
    assert (safe_name(one).lower() == safe_name(other).lower()) == (one == other)


@given(ANY_TEXT)
def test_a_name_is_no_other_texts_name(text: str) -> None:
    """What a name was made of can't be mistaken for the name's own text."""
    assert safe_name(safe_name(text)) == safe_name(text) or "~" in safe_name(text)


def test_names_that_differ_in_case_only_are_kept_apart() -> None:
    """Windows and macOS would write both into one file."""
    assert len({safe_name(name).lower() for name in ("a", "A", "ab", "aB", "Ab", "AB")}) == 6
