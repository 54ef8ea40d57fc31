"""A service's own words, in an error of ours."""

import pytest

from dotflow.providers.redact import redact


@pytest.mark.parametrize(
    ("said", "is_shown"),
    [
        ("Is it running and accepting TCP/IP connections?", "Is it running and accepting TCP/IP connections?"),
        ("Is it (the server?) there? No.", "Is it (the server?) there? No."),
        ("see https://host/path?Signature=abc&x=1 there", "see https://host/path there"),
        ("exceeded with url: /values?X-Amz-Signature=abc", "exceeded with url: /values"),
        ("https://user:hunter2@host/", "https://host/"),
        ("of\n two\tlines", "of two lines"),
    ],
)
def test_questions_are_shown_and_queries_are_not(said: str, is_shown: str) -> None:
    """A query may hide a signature, and a login a password; a plain sentence keeps its question mark."""
    assert redact(said) == is_shown
