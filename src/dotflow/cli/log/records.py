"""The records of a log, parsed from lines of either format or of none, and the filter for them."""

import json
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import cached_property
from math import isfinite
from typing import Any, Final, NamedTuple

import click

from dotflow.core.text import escape_controls, split_path
from dotflow.providers.logs.formats import FIELDS, INDENT, LEVELS

MAX_RECORD: Final = 500_000_000  # bytes
PIECE_SIZE: Final = 200  # bytes that each piece counts for, beside its own: it takes memory and time

HEAD: Final = re.compile(rf"(\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?) ({'|'.join(LEVELS)})(?: +|$)".encode())
#: The message of a text record about a task: `nightly (Prices) run 0f0c1a52 task 1 load[7] [eu]: Failed`.
TASK: Final = re.compile(
    r"(?>(?:(?!task \d)(?P<workflow>.+?) )?(?:run \S{1,8} )?task \d+ )"  # atomic: a long line takes linear time
    r"(?P<step>.+?)(?: \[[^][]*\])?: "
    r"(?P<status>Not started|In progress|Completed|Paused|Retry|Failed|Skipped)\b"
)
SURROGATE: Final = re.compile("[\ud800-\udfff]")


class Record:
    """A record: a line of JSON, a text line with the indented lines below it, or lines of neither format.

    Args:
        raw: Its lines, as they are in the file.
        document: The JSON object, if it is one.
    """

    def __init__(self, raw: bytes, document: dict[str, Any] | None = None) -> None:
        self.raw = raw
        self._document = document

    @cached_property
    def fields(self) -> dict[str, Any]:
        """The fields of a JSON record; None for those that it lacks. A text record has time, level and message."""
        fields = dict.fromkeys(FIELDS)
        if self._document is not None:
            return fields | self._document
        if head := HEAD.match(self.raw):
            message = self.text[head.end() :].replace(f"\n{INDENT}", "\n")
            return fields | {"time": _to_utc(head[1].decode()), "level": head[2].decode(), "message": message}
        return fields | {"message": self.text}

    @property
    def text(self) -> str:
        """Its lines, without the last line end. Bytes that are no UTF-8 appear as \\xff."""
        return self.raw.decode("utf-8", "backslashreplace").rstrip("\n")

    @property
    def level(self) -> int | None:
        """The number of its level; None if it has none."""
        level = self.fields["level"]
        return LEVELS.get(level) if isinstance(level, str) else None

    def names(self) -> tuple[tuple[Any, ...], Any]:
        """Returns the id and the name of its workflow, and the name of its step or item, as far as it has them."""
        if self._document is not None:
            step, item = self.fields["step"], self.fields["item"]
            if isinstance(step, str) and isinstance(item, int) and "[" not in step:
                step = f"{step}[{item}]"
            return (self.fields["workflow"], self.fields["name"]), step
        task = TASK.match(self.fields["message"])
        if task is None:
            return (), None
        workflow = task["workflow"] or ""
        return (workflow, *workflow.removesuffix(")").rsplit(" (", 1)), task["step"]

    def as_json(self) -> str:
        """Returns it as one line of strict JSON, with all keys."""
        line = json.dumps(self.fields)
        if "\\ud" in line:  # perhaps a lone surrogate, which strict readers reject
            text = json.dumps(self.fields, ensure_ascii=False)
            line = json.dumps(json.loads(SURROGATE.sub(lambda found: rf"\\u{ord(found[0]):x}", text)))
        return line


class Filter(NamedTuple):
    """Selects records; by default all of them.

    Attributes:
        level: The number of the lowest level; records without a level don't match.
        workflow: The id or the name of the records' workflow.
        step: The name or the dotted path of the records' step; or an address, such as `page[3].fetch`, or `page[3]` for
            all of an item or a round.
    """

    level: int | None = None
    workflow: str | None = None
    step: str | None = None

    def matches(self, record: Record) -> bool:
        """Returns whether a record matches."""
        if self.level is not None and (record.level or 0) < self.level:
            return False
        if self.workflow is None and self.step is None:
            return True
        workflows, step = record.names()
        if self.workflow is not None and not {self.workflow, escape_controls(self.workflow)}.intersection(
            name for name in workflows if isinstance(name, str)
        ):
            return False
        if self.step is None or not isinstance(step, str):
            return self.step is None
        wanted = escape_controls(self.step)
        is_of_item = "[" in wanted and f"{step}.".startswith((f"{wanted}.", f"{wanted}["))
        return is_of_item or f".{wanted.replace(':', '.')}".endswith(f".{split_path(step)[0]}")


class Pieces(list[bytes]):
    """The pieces of a line or a record. A file of zeros, which has no end of one, must not fill the memory.

    Raises a ClickException for a record of more than MAX_RECORD.
    """

    size = 0

    def append(self, piece: bytes) -> None:
        self.size += len(piece) + PIECE_SIZE
        if self.size > MAX_RECORD:
            raise click.ClickException(
                f"the log has a record of more than {MAX_RECORD // 1_000_000} MB. Pass another file with --path."
            )
        super().append(piece)


class RecordAssembler:
    """Assembles records from lines as they arrive. A record ends where the next begins, or at `end`."""

    def __init__(self) -> None:
        self._lines = Pieces()

    def add(self, line: bytes) -> Iterator[Record]:
        """Yields the records that a line completes."""
        document = _parse_line(line)
        if document is not None:
            yield from self.end()
            yield Record(line, document)
        elif HEAD.match(line):
            yield from self.end()
            self._lines.append(line)
        elif line.strip() or self._lines:
            self._lines.append(line)

    def end(self) -> Iterator[Record]:
        """Yields the last record."""
        if self._lines:
            lines, self._lines = self._lines, Pieces()
            yield Record(b"".join(lines))

    @property
    def is_open(self) -> bool:
        """Whether there is a record that may get more lines."""
        return bool(self._lines)


def parse_records(lines: Iterable[bytes]) -> Iterator[Record]:
    """Yields the records of a file, oldest first."""
    assembler = RecordAssembler()
    for line in lines:
        yield from assembler.add(line)
    yield from assembler.end()


def begins_record(line: bytes) -> bool:
    """Returns whether a line is the first one of a record, whatever is above it."""
    return _parse_line(line) is not None or HEAD.match(line) is not None


def _parse_line(line: bytes) -> dict[str, Any] | None:
    """Returns the object of a JSON line; None for another line, an incomplete object or one without a level."""
    if not line.startswith(b"{"):
        return None
    try:
        document = json.loads(line, parse_constant=lambda name: None, parse_float=_finite_number)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) and "level" in document else None


def _finite_number(number: str) -> float | None:
    """Returns a number; None for one such as 1e999, which would be written as Infinity, and that is no JSON."""
    return value if isfinite(value := float(number)) else None


def _to_utc(local: str) -> str | None:
    """Returns a local time in UTC; None for one that doesn't exist, such as a 31st of June."""
    try:
        return datetime.fromisoformat(local).astimezone(UTC).isoformat(timespec="microseconds")
    except (ValueError, OverflowError, OSError):
        return None
