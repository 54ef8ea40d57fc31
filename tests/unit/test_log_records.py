"""Records parsed from a log's lines, forwards and backwards, and their fields."""

import itertools
import json
from datetime import UTC, datetime
from io import BytesIO

import pytest

from dotflow import Task, action
from dotflow.cli.log.files import LineSplitter, last_records
from dotflow.cli.log.filter import Filter
from dotflow.cli.log.records import Record, RecordAssembler, parse_records, parse_records_backwards
from dotflow.core.context import Context
from dotflow.core.events import AttemptStarted, TaskFailed
from dotflow.core.failure import Failure
from dotflow.core.text import escape_controls
from dotflow.providers.logs.formats import FIELDS, as_json, json_head, simple, simple_head

from .test_item_counts import mapped

STAMP = b"2026-03-01 12:00:00.123 "
INFO = STAMP + b"INFO    nightly task 0 extract: In progress\n"
FAILED = (
    STAMP + b"ERROR   nightly task 1 load: Failed (attempt 2): ValueError: no\n    Traceback\n\n    ValueError: no\n"
)
JSON = b'{"time": "2026-03-01T12:00:00+00:00", "level": "WARNING", "message": "careful"}\n'
GARBAGE = b"\xff\xfe\x00garbage\n\n\x1b[2Jmore\n"
HALF = b'{"time": "2026-03-01T12:00:00+00:00", "lev\n'
PIECES = [INFO, FAILED, JSON, GARBAGE]


def lines_of(text: bytes) -> list[bytes]:
    return [line + b"\n" for line in text.split(b"\n")[:-1]]


def items(count: int, completed: int = 0, **more: int) -> dict[str, int]:
    return {"count": count, "completed": completed, "failed": 0, "skipped": 0, "restored": 0, "retries": 0} | more


class TestRecords:
    @pytest.mark.parametrize("order", list(itertools.permutations([INFO, FAILED, JSON, JSON + HALF + JSON])))
    def test_both_directions_agree(self, order: tuple[bytes, ...]) -> None:
        """A traceback belongs to the line above it, and JSON is a record by itself, in both directions."""
        lines = lines_of(b"".join(order))

        forwards = [record.raw for record in parse_records(lines)]

        assert forwards == [record.raw for record in parse_records_backwards(reversed(lines))][::-1]
        assert b"".join(forwards) == b"".join(order)
        assert len(forwards) == 6
        assert {INFO, FAILED, JSON, HALF} == set(forwards)

    def test_other_lines_belong_to_the_record_above(self) -> None:
        """Lines of no format belong to the text record above them; elsewhere they are a record."""
        records = [record.raw for record in parse_records(lines_of(GARBAGE + INFO + GARBAGE + JSON + GARBAGE))]

        assert records == [GARBAGE, INFO + GARBAGE, JSON, GARBAGE]

    @pytest.mark.parametrize("blank", [b"\n", b"\n\n", b" \r\n"])
    def test_empty_lines_are_no_records(self, blank: bytes) -> None:
        """Blank lines first or below JSON, as after a full disk, are skipped in both directions."""
        lines = lines_of(blank + HALF + JSON + blank + JSON + blank + HALF)

        assert [record.raw for record in parse_records(lines)] == [HALF, JSON, JSON, HALF]
        assert [record.raw for record in parse_records_backwards(reversed(lines))] == [HALF, JSON, JSON, HALF]

    def test_no_more_lines_are_read_than_needed(self) -> None:
        """Backwards, the last record is complete with its first line."""
        lines = iter(reversed(lines_of(INFO * 5 + FAILED)))

        assert next(parse_records_backwards(lines)).raw == FAILED
        assert len(list(lines)) == 5

    def test_a_record_is_held_back_until_its_end_is_known(self) -> None:
        """A text record is yielded when the next one begins; JSON at once."""
        assembler = RecordAssembler()

        completed = [[record.raw for record in assembler.add(line)] for line in lines_of(FAILED + JSON + INFO)]

        assert completed == [[], [], [], [], [FAILED, JSON], []]
        assert assembler.is_open
        assert [record.raw for record in assembler.end()] == [INFO]

    @pytest.mark.parametrize("size", [1, 2, 7, 64, 1000])
    @pytest.mark.parametrize("count", [0, 1, 3, 7, 100])
    def test_the_last_records_of_several_files(self, size: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """The last records, across files, in their order, for any block size."""
        monkeypatch.setattr("dotflow.cli.log.files.BLOCK_SIZE", size)
        files = [BytesIO(INFO + FAILED + JSON), BytesIO(b""), BytesIO(JSON * 2 + FAILED)]

        records = last_records(files, len(INFO + FAILED + JSON), count, Filter())

        assert [record.raw for record in records] == [JSON, JSON, FAILED, INFO, FAILED, JSON][-count or 6 :]

    def test_the_filter_looks_further_back(self) -> None:
        """N records of the level, not those among the last N."""
        file = BytesIO(FAILED + JSON + INFO * 100)

        records = last_records([file], len(file.getvalue()), 2, Filter(30))

        assert [record.raw for record in records] == [FAILED, JSON]

    @pytest.mark.parametrize("size", [1, 3, 1000])
    def test_lines_from_blocks(self, size: int) -> None:
        """A line is returned with its line end; an incomplete one gets a line end."""
        lines, text = LineSplitter(), b"one\n\ntwo\nthr"

        records = [line for start in range(0, len(text), size) for line in lines.add(text[start : start + size])]

        assert records == [b"one\n", b"\n", b"two\n"]
        assert lines.end() == [b"thr\n"]
        assert lines.end() == []


class TestLevels:
    @pytest.mark.parametrize(
        ("raw", "level"),
        [(INFO, 20), (FAILED, 40), (JSON, 30), (GARBAGE, None), (HALF, None), (b'{"level": ["x"]}\n', None)],
    )
    def test_each_format_has_them(self, raw: bytes, level: int | None) -> None:
        """A record without a level matches only without a level filter."""
        (record,) = parse_records(lines_of(raw))

        assert record.level == level
        assert Filter().matches(record)
        assert [Filter(least).matches(record) for least in (10, 20, 30, 40)] == [
            level is not None and level >= least for least in (10, 20, 30, 40)
        ]


class TestFields:
    def test_a_text_record_has_nearly_the_same_fields(self) -> None:
        """A failure read from the simple format equals the one in JSON, but for fields that are not written."""

        @action
        def load() -> None: ...

        task = Task(1, load, workflow_id="nightly", run_id="run")
        task._apply(AttemptStarted(1, 1, Context(), datetime(2026, 3, 1, tzinfo=UTC), 1.0))
        trace = "Traceback (most recent call last):\n  File x\nValueError: a: b\nc\n"
        failure = Failure("ValueError", "a: b\nc", trace)
        task._apply(TaskFailed(1, 1, failure, datetime(2026, 3, 1, tzinfo=UTC), 2.0))

        (written,) = parse_records([as_json("ERROR", task, "").encode()])
        (read,) = parse_records(lines_of(simple("ERROR", task, "").encode()))

        assert tuple(read.fields) == tuple(written.fields) == FIELDS
        same = {name for name in FIELDS if read.fields[name] == written.fields[name]}
        assert set(FIELDS) - same <= {"time", "duration"}
        assert abs(moment(written) - moment(read)).total_seconds() < 5

    @pytest.mark.parametrize(
        "workflow_id",
        ["\x1b[31mnightly", "\x00" * 20, "\u2028\ud800\r\nabcdefgh", "a/b/../\x1b", "C:\\x1\\data", "Zürich-日本"],
    )
    def test_an_id_that_had_to_be_escaped(self, workflow_id: str) -> None:
        """It is found whole."""

        @action
        def load() -> None: ...

        task = Task(1, load, workflow_id=workflow_id)
        task._apply(AttemptStarted(1, 1, Context(), datetime(2026, 3, 1, tzinfo=UTC), 1.0))
        task._apply(TaskFailed(1, 1, Failure("ValueError", "no", ""), datetime(2026, 3, 1, tzinfo=UTC), 2.0))

        line = simple("ERROR", task, "", simple_head(workflow_id, "0f0c1a52-bbbb")).encode("utf-8")

        (read,) = parse_records(lines_of(line))

        fields = {name: read.fields[name] for name in ("workflow", "task", "step", "status", "attempt", "message")}
        assert fields == {
            "workflow": escape_controls(workflow_id), "task": 1, "step": "load", "status": "Failed", "attempt": 1,
            "message": None,
        }  # fmt: skip
        assert read.fields["error"]["exception"] == "ValueError"
        assert Filter(workflow=workflow_id).matches(read)

    @pytest.mark.parametrize(
        ("rest", "fields"),
        [
            ("INFO    my flow task 12 a b: In progress", {"step": "a b", "task": 12, "attempt": 1}),
            ("INFO    f task 1 a: In progress (attempt 3)", {"attempt": 3, "workflow": "f"}),
            ("INFO    f task 1 a: Completed in 0.250 s", {"status": "Completed", "duration": 0.25, "attempt": None}),
            (
                "INFO    f task 1 a: Completed (from its checkpoint)",
                {"reason": "from its checkpoint"},
            ),
            ("INFO    f task 1 a: Completed (from the cache)", {"duration": None, "reason": "from the cache"}),
            ("WARNING f task 1 a: Retry (attempt 1): my.Error: ", {"status": "Retry", "attempt": 1}),
            ("INFO    f task 1 a: In progress (300 items)", {"step": "a", "attempt": 1, "items": items(300)}),
            ("INFO    f task 1 a: In progress (1 item)", {"items": items(1)}),
            (
                "INFO    f task 1 a [eu]: Completed in 1.5 s (9 of 300 items, 5 skipped, 3 restored, 1 retry)",
                {"group": "eu", "duration": 1.5, "items": items(300, 9, skipped=5, restored=3, retries=1)},
            ),
            (
                "ERROR   f task 1 a: Failed in 2.000 s (0 of 2 items, 2 failed, 4 retries): ItemsFailed: 2 of 2: x",
                {"status": "Failed", "duration": 2.0, "items": items(2, failed=2, retries=4), "item": None},
            ),
            (
                "ERROR   f task 1 a[13]: Failed (attempt 2): E: x",
                {"step": "a", "item": 13, "items": None, "attempt": 2},
            ),
            (
                "INFO    f task 1 a: Skipped: b was 'x: y'",
                {"status": "Skipped", "reason": "b was 'x: y'", "error": None},
            ),
            ("WARNING my callback raised", {"message": "my callback raised", "task": None}),
            ("WARNING ", {"message": "", "level": "WARNING"}),
        ],
    )
    def test_each_line_of_the_simple_format(self, rest: str, fields: dict[str, object]) -> None:
        """A text line has the fields of the JSON format."""
        (record,) = parse_records([STAMP + rest.encode() + b"\n"])

        assert {name: record.fields[name] for name in fields} == fields
        assert record.fields["level"] == rest.split()[0]

    @pytest.mark.parametrize(
        "raw",
        [
            GARBAGE,
            HALF,
            b"2026-13-99 99:99:99.000 INFO    x\n",
            b"0001-01-01 00:00:00.000 INFO    x\n",
            b"9999-12-31 23:59:59.999 INFO    x\n",
            STAMP + b"INFO    " + b"a (x) task 1 b [g]: " * 1_000 + b"\n",
            STAMP + b"INFO    f task 1 a: In progress (" + b"9" * 5_000 + b" items)\n",
            STAMP + b"INFO    f task " + b"9" * 5_000 + b" a[1]: In progress\n",
            b'{"level": NaN, "more": Infinity, "duration": 1e999, "message": "\\ud800", "list": ["\\udfff"]}\n',
            b'{"level": "INFO", "time": 5}\n',
            b"{" * 100_000 + b"\n",
        ],
    )
    def test_any_record_is_strict_json(self, raw: bytes) -> None:
        """One line, all keys, and nothing that a strict reader rejects."""
        for record in parse_records(lines_of(raw)):
            line = record.as_json()
            matches = json.loads(line, parse_constant=lambda name: pytest.fail(name))
            json.dumps(matches, ensure_ascii=False).encode()
            assert set(FIELDS) <= set(matches)
            assert "\n" not in line


def moment(record: Record) -> datetime:
    return datetime.fromisoformat(record.fields["time"])


class TestFilters:
    @pytest.fixture
    def records(self) -> dict[str, Record]:
        """Records of three workflows whose ids have a common prefix, in both formats."""

        @action
        def load() -> None: ...

        records = {}
        for letter, workflow_id, name in (("a", "nightly-1", None), ("b", "nightly-2", "Prices"), ("c", "x (y)", None)):
            task = Task(1, load, workflow_id=workflow_id, run_id="0f0c1a52-bbbb", group_name="eu")
            for kind, write, head in (("s", simple, simple_head), ("j", as_json, json_head)):
                line = write("INFO", task, "", head(workflow_id, task.run_id, name))
                (records[letter + kind],) = parse_records([line.encode()])
        (records["report"],) = parse_records([STAMP + b"WARNING nightly-1 is not what this is about\n"])
        return records

    @pytest.mark.parametrize(
        ("record_filter", "matches"),
        [
            (Filter(), {"as", "aj", "bs", "bj", "cs", "cj", "report"}),
            (Filter(workflow="nightly-1"), {"as", "aj"}),
            (Filter(workflow="nightly-2"), {"bs", "bj"}),
            (Filter(workflow="Prices"), {"bs", "bj"}),
            (Filter(workflow="x (y)"), {"cs", "cj"}),
            (Filter(workflow="nightly"), set()),
            (Filter(step="load"), {"as", "aj", "bs", "bj", "cs", "cj"}),
            (Filter(step="jobs.load", workflow="Prices"), {"bs", "bj"}),
            (Filter(step="jobs:load", level=30), set()),
            (Filter(step="unload"), set()),
        ],
    )
    def test_records_of_a_workflow_or_a_step(
        self, records: dict[str, Record], record_filter: Filter, matches: set[str]
    ) -> None:
        """In both formats."""
        assert {key for key, record in records.items() if record_filter.matches(record)} == matches

    def test_an_item_is_of_its_step(self) -> None:
        """In both formats: the index is no part of the name."""
        item = mapped([], []).items[1]
        item._apply(TaskFailed(0, 1, Failure("E", "no"), datetime(2026, 3, 1, tzinfo=UTC), 1.0))

        for write in (simple, as_json):
            (record,) = parse_records(lines_of(write("ERROR", item, "", "").encode()))
            assert Filter(step="fetch").matches(record)
            assert record.fields["item"] == 1

    def test_a_text_record_has_its_workflow_and_run(self, records: dict[str, Record]) -> None:
        """Workflow, name, the first characters of the run's id, group."""
        fields = records["bs"].fields

        assert [fields[key] for key in ("workflow", "name", "run", "group", "step")] == [
            "nightly-2", "Prices", "0f0c1a52", "eu", "load"
        ]  # fmt: skip
