"""The rows of a history: output in bounded room, and previews of values."""

import sqlite3
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, tzinfo
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import Any, cast
from unittest.mock import Mock

import pytest

from dotflow.abc.history import HistoryUnavailable
from dotflow.core.events import AttemptOutput
from dotflow.core.types.attempt_state import TypeAttemptState
from dotflow.providers.histories.sql.output_rows import GAP, LATE, OutputRows
from dotflow.providers.histories.sqlite.database import SQLiteDatabase
from dotflow.providers.histories.sqlite.writer import OutputWriter
from dotflow.records.preview import MAX_PREVIEW, preview

AT = datetime(2026, 3, 1, tzinfo=UTC)


class Printed:
    """An attempt that prints, and the rows of its output after some commits."""

    def __init__(self, limit: int) -> None:
        self.output = OutputRows(limit)
        self._file: dict[Any, Any] = {}

    def write(self, data: bytes, stream: int = 1, skipped: int = 0, *, is_open: bool = True) -> None:
        self.output.add(AttemptOutput(0, 1, stream, data, AT, None, skipped), is_open=is_open)

    def commit(self) -> None:
        for key, row in self.output.rows.items():
            if row is None:
                self._file.pop(key, None)
            else:
                self._file[key] = row
        self.output.clear()

    def rows(self) -> list[tuple[int, bytes, int]]:
        """Returns stream, data and skipped bytes, in order."""
        self.commit()
        return [(row[5], row[6], row[7]) for _, row in sorted(self._file.items())]


def test_output_within_the_limit_is_kept() -> None:
    """All of it, in order, with its stream."""
    printed = Printed(100)
    printed.write(b"one\n")
    printed.commit()
    printed.write(b"two\n", stream=2)

    assert printed.rows() == [(1, b"one\n", 0), (2, b"two\n", 0)]


@pytest.mark.parametrize("commits", [1, 3, 100])
def test_of_long_output_beginning_and_end_are_kept(commits: int) -> None:
    """Half the limit is of the beginning, half of the end, and the gap has the number of missing bytes."""
    printed = Printed(8)
    for number in range(10):
        printed.write(b"%d\n" % number)
        if number % commits == 0:
            printed.commit()

    assert printed.rows() == [
        (1, b"0\n", 0),
        (1, b"1\n", 0),
        (0, GAP % (12, b"8 B"), 12),
        (1, b"8\n", 0),
        (1, b"9\n", 0),
    ]
    assert printed.output.size == 0


def test_a_little_of_one_stream_does_not_drop_the_end_of_the_other() -> None:
    """Of a large part, only as much is dropped as has to be, in eighths."""
    printed = Printed(100_000)
    for _ in range(3):
        printed.write(b"x" * 50_000)
    printed.write(b"a word", stream=2)

    kept = printed.rows()

    assert sum(len(data) for stream, data, _ in kept[1:] if stream == 1) == 43_750
    assert kept[1] == (0, GAP % (56_250, b"100 kB"), 56_250)
    assert kept[-1] == (2, b"a word", 0)


def test_output_waits_once_for_a_busy_file() -> None:
    """The run waits for its output at its end. It is written with the next part."""
    patiences: list[float] = []

    class Busy:
        path = Path("history.db")

        @property
        def file(self) -> "Busy":
            return self

        def transact(self, work: Any, patience: float) -> None:
            patiences.append(patience)
            if len(patiences) < 3:
                raise sqlite3.OperationalError("database is locked")

    writer = OutputWriter(cast("SQLiteDatabase", Busy()), "run", 100)
    for _ in "12":
        with pytest.raises(HistoryUnavailable, match="database is locked"):
            writer.add(AttemptOutput(0, 1, 1, b"one\n", AT))
    writer.add(AttemptOutput(0, 1, 1, b"two\n", AT))

    assert patiences[0] > patiences[1]
    assert patiences[0] > patiences[2]


def test_bytes_that_never_came_count_as_missing() -> None:
    """What was dropped before a row that is dropped is missing, too."""
    printed = Printed(4)
    printed.write(b"begin")
    printed.write(b"middle", skipped=1000)
    printed.write(b"end", skipped=7)

    assert printed.rows() == [(1, b"begin", 0), (0, GAP % (1006, b"4 B"), 1006), (1, b"end", 7)]


def test_output_after_the_end_of_its_attempt_replaces_nothing() -> None:
    """A thread that a step has left behind may print later."""
    printed = Printed(100)
    printed.write(b"in time")
    printed.output.attempts.clear()
    printed.write(b"late", is_open=False)
    printed.write(b"later", is_open=False)

    assert [key[-1] for key in printed.output.rows] == [0, LATE, LATE + 1]


class Zone(tzinfo):
    """A time zone whose own code must not run."""


class Colour(Enum):
    RED = 1


@dataclass
class Batch:
    name: str
    rows: list[int]
    token: str = field(default="", repr=False)


@dataclass(slots=True)
class Slotted:
    path: Path


@dataclass
class Hidden:
    """A dataclass with a repr of its own, which may leave things out."""

    token: str

    def __repr__(self) -> str:
        raise AssertionError


class Secretive:
    """A type whose own code must not run."""

    def __repr__(self) -> str:
        raise AssertionError("its repr was called")

    __str__ = __len__ = __eq__ = __hash__ = __repr__  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "None"),
        (17, "17"),
        (True, "True"),
        (1.5, "1.5"),
        ("a 'text'", "\"a 'text'\""),
        (b"bytes", "b'bytes'"),
        ([], "[]"),
        ({}, "{}"),
        (set(), "set()"),
        ((), "()"),
        ((1,), "(1,)"),
        ([1, "two", None], "[1, 'two', None]"),
        ({"a": [1, 2]}, "{'a': [1, 2]}"),
        ([{"id": 17, "rows": [[1], [2]]}], "[{'id': 17, 'rows': [...]}]"),
        (list(range(10_000)), "[0, 1, 2, 3, 4, ...] (10000 items)"),
        ("x" * 1000, f"'{'x' * 100}'... (1000 characters)"),
        (1 << 1000, "<int of 1001 bits>"),
        (Fraction(1, 2), "<fractions.Fraction>"),
        (Path("data/b.txt"), "'data/b.txt'"),
        (date(2026, 11, 2), "2026-11-02"),
        (datetime(2026, 11, 2, 3, tzinfo=UTC), "2026-11-02 03:00:00+00:00"),
        (datetime(2026, 11, 2, 3, tzinfo=Zone()), "2026-11-02 03:00:00"),
        (Colour.RED, "Colour.RED"),
        (Batch("a", [1, 2]), "Batch(name='a', rows=[1, 2])"),
        ([Slotted(Path("b.txt"))], "[Slotted(path='b.txt')]"),
        (Hidden("a"), "<tests.unit.test_history_rows.Hidden>"),
        (Secretive(), "<tests.unit.test_history_rows.Secretive>"),
        ({1: Secretive()}, "{1: <tests.unit.test_history_rows.Secretive>}"),
    ],
)
def test_a_glimpse_shows_a_value(value: Any, text: str) -> None:
    """It is short, and runs no code of the user's."""
    assert preview(value) == text


def test_a_glimpse_is_short() -> None:
    """Whatever the value holds."""
    value = [{"name" * 20: "value" * 30} for _ in range(100)]

    assert preview("x" * 90, length=80) == f"'{'x' * 76}..."
    assert len(preview(value, length=80)) == 80

    assert len(preview(value)) <= MAX_PREVIEW
    assert preview(value).endswith(" (100 items)")


@pytest.mark.parametrize("pretended", [list, TypeAttemptState])
def test_a_glimpse_of_a_value_that_pretends_to_have_another_type_is_its_own(pretended: type) -> None:
    """A question about it, too, has something in its place."""
    assert preview(Mock(spec=pretended)) == "<Mock>"


def test_a_glimpse_of_a_frame_has_its_shape() -> None:
    """Frames and arrays have rows and columns."""
    pandas = pytest.importorskip("pandas")

    assert preview(pandas.DataFrame({"a": range(9), "b": range(9)})) == "DataFrame 9 × 2"
