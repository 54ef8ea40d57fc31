"""Numbers, texts and lines of code as the command line prints them."""

import sysconfig
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import click
import pytest

from dotflow.cli.commands.schedule import format_time
from dotflow.cli.formatting import one_line, pluralize
from dotflow.cli.main import dotflow
from dotflow.core.failure import raised_at

STDLIB = sysconfig.get_path("stdlib")


@pytest.mark.parametrize(("count", "expected"), [(0, "0 tasks"), (1, "1 task"), (2, "2 tasks")])
def test_one_is_singular(count: int, expected: str) -> None:
    """A count and its noun agree."""
    assert pluralize(count, "task") == expected


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
    """Control characters and line breaks are removed, and long texts are cut."""
    assert one_line(text) == line


def frame(file: object, line: int, function: str, code: str) -> str:
    return f'  File "{file}", line {line}, in {function}\n    {code}\n'


def test_an_error_points_to_the_users_own_code() -> None:
    """The last line outside of libraries, with a path relative to the current folder."""
    own = Path.cwd() / "jobs" / "load.py"
    text = (
        "Traceback (most recent call last):\n"
        + frame(own, 7, "load", "return json.loads(text)")
        + frame(f"{STDLIB}/json/decoder.py", 355, "raw_decode", "raise JSONDecodeError(...)")
        + "json.decoder.JSONDecodeError: Expecting value\n"
    )

    assert raised_at(text) == f"{Path('jobs') / 'load.py'}:7 in load: return json.loads(text)"


def test_an_error_in_libraries_only_points_there() -> None:
    """A step may be the function of a library."""
    text = frame(f"{STDLIB}/lib.py", 3, "f", "raise ValueError")

    assert raised_at(text) == f"{STDLIB}/lib.py:3 in f: raise ValueError"


def test_the_last_of_several_errors_counts() -> None:
    """Of a chain, the error that ended the step."""
    text = (
        frame("/a/x.py", 1, "f", "1 / 0") + "ZeroDivisionError\n\nDuring handling ...\n" + frame("/a/y.py", 2, "g", "h")
    )

    assert raised_at(text) == "/a/y.py:2 in g: h"


@pytest.mark.parametrize("text", ["", "ValueError: 3\n", "killed by SIGKILL"])
def test_an_error_without_a_traceback_points_nowhere(text: str) -> None:
    """A worker was killed, by a timeout or otherwise."""
    assert raised_at(text) == ""


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        ("America/New_York", "Sun 2026-11-01 01:30:00 EDT (-04:00)"),
        ("Asia/Kolkata", "Sun 2026-11-01 11:00:00 IST (+05:30)"),
        ("UTC", "Sun 2026-11-01 05:30:00 UTC (+00:00)"),
    ],
)
def test_a_time_has_its_zone(zone: str, expected: str) -> None:
    """Day of the week, date, time, the name of the zone at that time, and its offset."""
    assert format_time(datetime(2026, 11, 1, 5, 30, tzinfo=UTC).astimezone(ZoneInfo(zone))) == expected


@pytest.mark.parametrize("columns", [60, 100])
def test_an_example_of_an_option_is_one_line(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    """So it can be copied."""
    monkeypatch.setenv("COLUMNS", str(columns))
    context = click.Context(dotflow, info_name="dotflow")
    command = dotflow.get_command(context, "start")
    assert command is not None

    text = command.get_help(click.Context(command, context, "start", terminal_width=columns))

    lines = [line.strip() for line in text.splitlines()]
    assert "E.g. --workflow jobs.nightly:build" in lines
    assert "E.g. --param day=2026-11-25 --param limit=100" in lines
