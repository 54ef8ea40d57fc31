"""What stands in a log: lines, put together to records, of either format, and whatever else got in between."""

import json
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import cached_property
from math import isfinite
from typing import Any, Final

from dotflow.core.text import escape_surrogates
from dotflow.providers.logs.formats import FIELDS, INDENT, LEVELS

HEAD: Final = re.compile(rf"(\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?) ({'|'.join(LEVELS)}) *(?: (.*))?")
HEAD_BYTES: Final = re.compile(HEAD.pattern.encode())
RESULT: Final = (
    r"(?P<status>Not started|In progress|Completed|Paused|Retry|Failed)"
    r"(?: \(attempt (?P<attempt>\d+)\))?(?: in (?P<duration>\d+\.\d+) s)?(?: \(from its checkpoint\))?"
    r"(?:: (?P<exception>[^\s:]+): ?(?P<message>.*))?"
)
TASK: Final = re.compile(
    r"(?P<workflow>.+?)(?: \((?P<name>.+?)\))?(?: run (?P<run>\S{1,8}))? task (?P<task>\d+) (?P<step>.*?)"
    rf"(?: \[(?P<group>.+?)\])?: {RESULT}"
)
TRACEBACK: Final = re.compile(r"(  \+ Exception Group )?Traceback \(most recent call last\):")


class Record:
    """One thing that was written: a line of JSON, a line with what is indented below it, or lines that are neither.

    Args:
        raw: Its lines, as they stand in the file.
        told: What its line of JSON says, if it is one.
    """

    def __init__(self, raw: bytes, document: dict[str, Any] | None = None) -> None:
        self.raw = raw
        self._document = document

    @cached_property
    def fields(self) -> dict[str, Any]:
        """What it says, under the keys of a line of JSON; None for what it doesn't."""
        fields = dict.fromkeys(FIELDS) | (self._document or {})
        if self._document is None:
            fields |= _parse_text(self.text)
        return fields

    @property
    def text(self) -> str:
        """Its lines, without the end of the last one. What is no text is shown as \\xff."""
        return self.raw.decode("utf-8", "backslashreplace").rstrip("\n")

    @property
    def level(self) -> int | None:
        """How serious it is; None if it doesn't say."""
        if self._document is not None:
            level = self._document.get("level")
        else:
            head = HEAD_BYTES.match(self.raw)
            level = head[2].decode() if head else None
        return LEVELS.get(level) if isinstance(level, str) else None

    def as_json(self) -> str:
        """It as one line of strict JSON, with all keys."""
        line = json.dumps(self.fields)
        if "\\ud" in line:  # perhaps a lone surrogate, which strict readers refuse
            line = json.dumps(_without_surrogates(self.fields))
        return line


class RecordAssembler:
    """Puts lines together to records, as they come.

    Where one ends is known only when the next begins, or when somebody says that nothing more comes.
    """

    def __init__(self) -> None:
        self._lines: list[bytes] = []

    def add(self, line: bytes) -> Iterator[Record]:
        """The records that are whole now."""
        document = _parse_line(line)
        if document is not None:
            yield from self.end()
            yield Record(line, document)
        elif HEAD_BYTES.match(line):
            yield from self.end()
            self._lines = [line]
        elif line.strip() or self._lines:
            self._lines.append(line)

    def end(self) -> Iterator[Record]:
        """The last one."""
        if self._lines:
            lines, self._lines = self._lines, []
            yield Record(b"".join(lines))

    @property
    def is_open(self) -> bool:
        """Whether there is one that may go on."""
        return bool(self._lines)


def parse_records(lines: Iterable[bytes]) -> Iterator[Record]:
    """The records of a whole file, oldest first."""
    assembler = RecordAssembler()
    for line in lines:
        yield from assembler.add(line)
    yield from assembler.end()


def parse_records_backwards(lines: Iterable[bytes]) -> Iterator[Record]:
    """The same records from lines that come last first, newest first; no more lines are taken than they need."""
    below: list[bytes] = []
    for line in lines:
        document = _parse_line(line)
        if document is None:
            below.append(line)
        if document is not None or HEAD_BYTES.match(line):
            yield from _reversed_record(below)
            below = []
        if document is not None:
            yield Record(line, document)
    yield from _reversed_record(below)


def _reversed_record(lines: list[bytes]) -> Iterator[Record]:
    while lines and not lines[-1].strip():
        lines.pop()  # at the beginning of what has no head: forwards, they are passed over, too
    if lines:
        yield Record(b"".join(reversed(lines)))


def _parse_line(line: bytes) -> dict[str, Any] | None:
    """What a line of JSON says; None for one that isn't whole, or isn't a log's."""
    if not line.startswith(b"{"):
        return None
    try:
        document = json.loads(line, parse_constant=lambda name: None, parse_float=_finite_number)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) and "level" in document else None


def _finite_number(number: str) -> float | None:
    """A number; None for 1e999, which would be written as Infinity, and that is no JSON."""
    return value if isfinite(value := float(number)) else None


def _parse_text(text: str) -> dict[str, Any]:
    """What a record for people says, as far as it says it."""
    first, *rest = text.split("\n")
    head = HEAD.fullmatch(first)
    if head is None:
        return {"message": text}
    below = [line.removeprefix(INDENT) for line in rest]
    fields: dict[str, Any] = {"time": _to_utc(head[1]), "level": head[2]}
    task = TASK.fullmatch(head[3] or "")
    if task is None:
        return fields | {"message": "\n".join([head[3] or "", *below])}
    attempt, duration = task["attempt"], task["duration"]
    fields |= {name: task[name] for name in ("workflow", "name", "run", "step", "status")}
    fields |= {"task": int(task["task"]), "group": task["group"] or "default"}
    fields["attempt"] = int(attempt) if attempt else 1 if task["status"] == "In progress" else None
    fields["duration"] = float(duration) if duration else None
    if task["exception"]:
        start = next((number for number, line in enumerate(below) if TRACEBACK.match(line)), len(below))
        fields["error"] = {
            "exception": task["exception"],
            "message": "\n".join([task["message"], *below[:start]]),
            "traceback": "".join(f"{line}\n" for line in below[start:]),
        }
    return fields


def _to_utc(local: str) -> str | None:
    """A local time as an aware one in UTC; None for one that doesn't exist, such as a 31st of June."""
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
