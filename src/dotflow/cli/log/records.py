"""The records of a log, parsed from lines of either format or of none."""

import json
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import cached_property
from math import isfinite
from typing import Any, Final

import click

from dotflow.core.text import escape_surrogates
from dotflow.providers.logs.formats import COUNTS, FIELDS, INDENT, LEVELS

MAX_RECORD: Final = 500_000_000  # bytes
PIECE_SIZE: Final = 200  # bytes that each piece counts for, beside its own: it takes memory and time

HEAD: Final = re.compile(rf"(\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?) ({'|'.join(LEVELS)}) *(?: (.*))?")
HEAD_BYTES: Final = re.compile(HEAD.pattern.encode())
NUMBER: Final = r"\d{1,18}"  # int() refuses more than 4,300 digits
ITEMS: Final = (
    rf"(?:(?P<completed>{NUMBER}) of )?(?P<count>{NUMBER}) items?"
    rf"(?:, (?P<failed>{NUMBER}) failed)?(?:, (?P<skipped>{NUMBER}) skipped)?"
    rf"(?:, (?P<restored>{NUMBER}) restored)?(?:, (?P<retries>{NUMBER}) retr(?:y|ies))?"
)
STATUS: Final = r"(?:Not started|In progress|Completed|Paused|Retry|Failed|Skipped)\b"
RESULT: Final = (
    rf"(?P<status>{STATUS})"
    r"(?:(?<=Skipped): (?P<reason>.*)|"
    rf"(?: \(attempt (?P<attempt>{NUMBER})(?: of {NUMBER}: (?P<refusal>[^()]*))?\))?"
    r"(?: in (?P<duration>\d+\.\d+) s)?(?: \((?P<origin>from its checkpoint|from the cache)\))?"
    rf"(?: \({ITEMS}\))?(?:: (?P<exception>[^\s:]+): ?(?P<message>.*))?)"
)
TASK: Final = re.compile(
    r"(?:(?!run \S{1,8} task |task )(?P<workflow>.+?)(?: \((?P<name>.+?)\))? )?"
    rf"(?:run (?P<run>\S{{1,8}}) )?task (?P<task>{NUMBER}) (?P<step>.*?)"
    rf"(?:\[(?P<item>{NUMBER})\])?(?: \[(?P<group>.+?)\])?: {RESULT}"
)
HAS_STATUS: Final = re.compile(f": {STATUS}")  # a quick look: TASK takes long for a long line that it does not match
TRACEBACK: Final = re.compile(r"(  \+ Exception Group )?Traceback \(most recent call last\):")


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
        """The fields of a JSON record; None for those that it lacks."""
        fields = dict.fromkeys(FIELDS) | (self._document or {})
        if self._document is None:
            fields |= _parse_text(self.text)
        return fields

    @property
    def text(self) -> str:
        """Its lines, without the last line end. Bytes that are no UTF-8 appear as \\xff."""
        return self.raw.decode("utf-8", "backslashreplace").rstrip("\n")

    @property
    def level(self) -> int | None:
        """The number of its level; None if it has none."""
        if self._document is not None:
            level = self._document.get("level")
        else:
            head = HEAD_BYTES.match(self.raw)
            level = head[2].decode() if head else None
        return LEVELS.get(level) if isinstance(level, str) else None

    def as_json(self) -> str:
        """Returns it as one line of strict JSON, with all keys."""
        line = json.dumps(self.fields)
        if "\\ud" in line:  # perhaps a lone surrogate, which strict readers reject
            line = json.dumps(_without_surrogates(self.fields))
        return line


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
        elif HEAD_BYTES.match(line):
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


def parse_records_backwards(lines: Iterable[bytes]) -> Iterator[Record]:
    """Yields the same records, newest first, from lines in reverse order. It takes no more lines than they need."""
    below = Pieces()
    for line in lines:
        document = _parse_line(line)
        if document is None:
            below.append(line)
        if document is not None or HEAD_BYTES.match(line):
            yield from _reversed_record(below)
            below = Pieces()
        if document is not None:
            yield Record(line, document)
    yield from _reversed_record(below)


def _reversed_record(lines: list[bytes]) -> Iterator[Record]:
    while lines and not lines[-1].strip():
        lines.pop()  # blank lines before the first record are skipped, as they are forwards
    if lines:
        yield Record(b"".join(reversed(lines)))


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


def _parse_text(text: str) -> dict[str, Any]:
    """Returns the fields of a text record."""
    first, *rest = text.split("\n")
    head = HEAD.fullmatch(first)
    if head is None:
        return {"message": text}
    below = [line.removeprefix(INDENT) for line in rest]
    fields: dict[str, Any] = {"time": _to_utc(head[1]), "level": head[2]}
    content = head[3] or ""
    task = TASK.fullmatch(content) if HAS_STATUS.search(content) else None
    if task is None:
        return fields | {"message": "\n".join([content, *below])}
    attempt, duration, refusal = task["attempt"], task["duration"], task["refusal"]
    fields |= {name: task[name] for name in ("workflow", "name", "run", "step", "status", "reason")}
    fields["reason"] = fields["reason"] or refusal or task["origin"]
    fields |= {"task": int(task["task"]), "group": task["group"] or "default"}
    fields["attempt"] = int(attempt) if attempt else 1 if task["status"] == "In progress" else None
    fields["duration"] = float(duration) if duration else None
    fields["item"] = int(task["item"]) if task["item"] else None
    if task["count"]:
        fields["items"] = {name: int(task[name] or 0) for name in COUNTS}
    if task["exception"]:
        start = next((number for number, line in enumerate(below) if TRACEBACK.match(line)), len(below))
        fields["error"] = {
            "exception": task["exception"],
            "message": "\n".join([task["message"], *below[:start]]),
            "traceback": "".join(f"{line}\n" for line in below[start:]),
        }
    return fields


def _to_utc(local: str) -> str | None:
    """Returns a local time in UTC; None for one that doesn't exist, such as a 31st of June."""
    try:
        return datetime.fromisoformat(local).astimezone(UTC).isoformat(timespec="microseconds")
    except (ValueError, OverflowError, OSError):
        return None


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return escape_surrogates(value)
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_surrogates(inner) for inner in value]
    return value
