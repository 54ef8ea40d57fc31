"""How the command line formats numbers, places and texts."""

import sysconfig
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from dotflow.cli.formatting import one_line, pluralize, raised_at
from dotflow.cli.run.preview import format_time

STDLIB = sysconfig.get_path("stdlib")


@pytest.mark.parametrize(("count", "words"), [(0, "0 tasks"), (1, "1 task"), (2, "2 tasks")])
def test_one_is_singular(count: int, words: str) -> None:
    """A count and its noun agree."""
    assert pluralize(count, "task") == words


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain", "plain"),
        ("two\nlines\tand  gaps", "two lines and gaps"),
        ("\x1b[2Jgone\x07", "[2Jgone"),
        ("", ""),
        ("x" * 301, "x" * 299 + "…"),
    ],
)
def test_any_text_fits_on_one_line(text: str, line: str) -> None:
    """What would drive the terminal or break the line is taken out; what is too long is cut."""
    assert one_line(text) == line


def frame(file: object, line: int, function: str, code: str) -> str:
    return f'  File "{file}", line {line}, in {function}\n    {code}\n'


def test_an_error_is_placed_in_the_users_own_code() -> None:
    """Not where a library raised it, but at the last line that the user wrote, relative to the current folder."""
    own = Path.cwd() / "jobs" / "load.py"
    text = (
        "Traceback (most recent call last):\n"
        + frame(own, 7, "load", "return json.loads(text)")
        + frame(f"{STDLIB}/json/decoder.py", 355, "raw_decode", "raise JSONDecodeError(...)")
        + "json.decoder.JSONDecodeError: Expecting value\n"
    )

    assert raised_at(text) == f"{Path('jobs') / 'load.py'}:7 in load: return json.loads(text)"


def test_an_error_in_nothing_but_libraries_is_placed_there() -> None:
    """A step may be a library's function: then that is the place."""
    text = frame(f"{STDLIB}/lib.py", 3, "f", "raise ValueError")

    assert raised_at(text) == f"{STDLIB}/lib.py:3 in f: raise ValueError"


def test_the_last_of_several_errors_counts() -> None:
    """Of a chain, the error that the step ended by."""
    text = (
        frame("/a/x.py", 1, "f", "1 / 0") + "ZeroDivisionError\n\nDuring handling ...\n" + frame("/a/y.py", 2, "g", "h")
    )

    assert raised_at(text) == "/a/y.py:2 in g: h"


@pytest.mark.parametrize("text", ["", "ValueError: 3\n", "killed by SIGKILL"])
def test_an_error_without_a_traceback_has_no_place(text: str) -> None:
    """A worker that was killed, a timeout that killed it."""
    assert raised_at(text) == ""


@pytest.mark.parametrize(
    ("zone", "words"),
    [
        ("America/New_York", "Sun 2026-11-01 01:30:00 EDT (-04:00)"),
        ("Asia/Kolkata", "Sun 2026-11-01 11:00:00 IST (+05:30)"),
        ("UTC", "Sun 2026-11-01 05:30:00 UTC (+00:00)"),
    ],
)
def test_a_moment_says_whose_clock_it_is_on(zone: str, words: str) -> None:
    """Day of the week, date, time, the zone's name then, and its offset."""
    assert format_time(datetime(2026, 11, 1, 5, 30, tzinfo=UTC).astimezone(ZoneInfo(zone))) == words
