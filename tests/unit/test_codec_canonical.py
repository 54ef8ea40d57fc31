"""A digest is the same for the same value in every process, and another one for every other value."""

import math
import subprocess
import sys
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from dotflow.codec import decode, encode
from dotflow.codec.canonical import digest
from dotflow.codec.parts import LARGE
from dotflow.errors import ValueNotStorable
from tests.unit import codec_samples as samples

ROOT = Path(__file__).parent.parent.parent

#: What no dictionary and no set may order by the hash of a text.
PROGRAM = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from dotflow.codec.canonical import digest
from tests.unit.codec_samples import Key, Model, Open, Point, Right, Slotted

words = {{f"word {{number}}" for number in range(50)}}
frozen = frozenset(words)
long = {{letter * 70_000 for letter in "abcdef"}} | {{letter.encode() * 70_000 for letter in "abcdef"}}
values = [
    words, frozen, [words, (frozen, words)], {{"a": {{"b": words}}}}, {{frozen: 1}}, {{(frozen, 1): frozen}},
    {{frozen, frozenset({{"x", frozen}})}}, Point(words, Point(frozen)), Key(frozen), {{Key(frozen): 1}},
    Slotted(name="s", value=words), Model(name="m", value=words), Open(name="o", more=words),
    {{1.5, None, "x", (1, "y")}},
    {{float("nan"), "\\ud800", "x"}} | words, Right.READ | Right.RUN, [b"x" * 70_000, words], long,
]
print("\\n".join(map(digest, values)))
"""


def test_a_digest_does_not_depend_on_the_process() -> None:
    """The hash seed orders sets, at any depth of a value, but not digests."""
    found = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("0", "1", "42")
    }

    assert len(found) == 1
    lines = found.pop().split()
    assert len(set(lines)) == len(lines) == 18


def test_every_value_and_every_type_has_its_own_digest() -> None:
    """Equal values of two types are two values, and so is the order of a dict's keys."""
    values: list[Any] = [
        *(None, 1, True, 1.0, "1", b"1", 0, False, 0.0, -0.0, "", "null", "None", math.nan, math.inf, 1 << 3000),
        *([], [1], [[1]], [1, 1], (), (1,), {1}, frozenset({1}), {True}, {"1"}, {}, {1: 1}, {"1": 1}, {"$set": [1]}),
        *({"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": {1, 2}}, {"a": [1, 2]}, "\ud800", "\\ud800", "é"),
        *(datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1).date(), "2026-01-01"),
        *(samples.Point(1), samples.Derived(1), samples.Key(1), samples.Colour.RED, samples.Model(name="1")),
        *(b"x" * LARGE, b"x" * (LARGE + 1), b"y" * (LARGE + 1), [b"x" * (LARGE + 1)], [b"x" * (LARGE + 1)] * 2),
    ]

    for one, other in combinations(values, 2):
        assert digest(one) != digest(other), (one, other)


@given(samples.values())
def test_a_value_that_was_kept_and_read_has_the_digest_that_it_had(value: Any) -> None:
    """A resumed run compares values from a checkpoint with values from the program."""
    assert digest(decode(encode(value))) == digest(value)


def test_a_refused_value_has_no_digest() -> None:
    """It is refused as in a checkpoint, with its path, and is not pickled."""
    with pytest.raises(ValueNotStorable, match="function") as caught:
        digest({"a": [1, lambda: 1]})

    assert caught.value.place == "['a'][1]"


def test_a_digest_is_thirty_two_hexadecimal_digits() -> None:
    """A new version of dotflow keeps it, or every checkpoint would be void."""
    assert digest(None) == "941dffce4e4308ceb33e87326003257d"
    assert digest("2026-01-01") == "c2e6db87ed538ba66164fea92f346a42"
    assert digest({"day": datetime(2026, 1, 1), "only": {"b", "a"}}) == "ef3f846b7b30b76a7de3215eef0394a9"
