"""Records parsed from a log's lines, forwards and backwards, and their fields."""

import itertools
import json
from datetime import UTC, datetime
from io import BytesIO

import pytest

from dotflow import action
from dotflow.cli.log.files import LineSplitter, last_records
from dotflow.cli.log.records import Filter, Record, RecordAssembler, parse_records
from dotflow.core.context import Context
from dotflow.core.events import AttemptStarted, TaskFailed
from dotflow.core.failure import Failure
from dotflow.core.task import RunTask
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


class TestRecords:
    @pytest.mark.parametrize("size", [1, 30, 1000])
    @pytest.mark.parametrize("order", list(itertools.permutations([INFO, FAILED, JSON, JSON + HALF + JSON])))
    def test_the_last_records_are_those_of_the_whole_file(
        self, order: tuple[bytes, ...], size: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A traceback belongs to the line above it, and JSON is a record by itself, wherever the reading begins."""
        monkeypatch.setattr("dotflow.cli.log.files.BLOCK_SIZE", size)
        text = b"".join(order)

        records = [record.raw for record in parse_records(lines_of(text))]

        assert b"".join(records) == text
        assert len(records) == 6
        assert {INFO, FAILED, JSON, HALF} == set(records)
        for count in range(1, 7):
            last = last_records([(BytesIO(text), len(text))], count, Filter())
            assert [record.raw for record in last] == records[-count:]

    def test_other_lines_belong_to_the_record_above(self) -> None:
        """Lines of no format belong to the text record above them; elsewhere they are a record."""
        records = [record.raw for record in parse_records(lines_of(GARBAGE + INFO + GARBAGE + JSON + GARBAGE))]

        assert records == [GARBAGE, INFO + GARBAGE, JSON, GARBAGE]

    @pytest.mark.parametrize("blank", [b"\n", b"\n\n", b" \r\n"])
    def test_empty_lines_are_no_records(self, blank: bytes) -> None:
        """Blank lines first or below JSON, as after a full disk, are skipped."""
        text = blank + HALF + JSON + blank + JSON + blank + HALF

        assert [record.raw for record in parse_records(lines_of(text))] == [HALF, JSON, JSON, HALF]
        last = last_records([(BytesIO(text), len(text))], 4, Filter())
        assert [record.raw for record in last] == [HALF, JSON, JSON, HALF]

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

        records = last_records([(file, len(file.getvalue())) for file in files], count, Filter())

        assert [record.raw for record in records] == [JSON, JSON, FAILED, INFO, FAILED, JSON][-count or 6 :]

    def test_the_filter_looks_further_back(self) -> None:
        """N records of the level, not those among the last N."""
        file = BytesIO(FAILED + JSON + INFO * 100)

        records = last_records([(file, len(file.getvalue()))], 2, Filter(30))

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
    @pytest.mark.parametrize(
        ("rest", "message"),
        [
            ("INFO    f task 1 a: Completed in 0.250 s", "f task 1 a: Completed in 0.250 s"),
            (
                "ERROR   f task 1 a: Failed: E: x\n    Traceback\n      File y",
                "f task 1 a: Failed: E: x\nTraceback\n  File y",
            ),
            ("WARNING my callback raised", "my callback raised"),
            ("WARNING ", ""),
        ],
    )
    def test_a_text_record_is_time_level_and_message(self, rest: str, message: str) -> None:
        """A record of the simple format has all keys of the JSON format; three of them have a value."""
        (record,) = parse_records(lines_of(STAMP + rest.encode() + b"\n"))

        assert tuple(record.fields) == FIELDS
        known = {name: value for name, value in record.fields.items() if value is not None}
        assert known == {"time": record.fields["time"], "level": rest.split()[0], "message": message}
        assert datetime.fromisoformat(known["time"]).astimezone() == datetime(2026, 3, 1, 12, 0, 0, 123000).astimezone()

    @pytest.mark.parametrize(
        "workflow_id",
        ["\x1b[31mnightly", "\x00" * 20, "\u2028\ud800\r\nabcdefgh", "a/b/../\x1b", "C:\\x1\\data", "Zürich-日本"],
    )
    def test_an_id_that_had_to_be_escaped(self, workflow_id: str) -> None:
        """It is found whole."""

        @action
        def load() -> None: ...

        task = RunTask(1, load, workflow_id=workflow_id)
        task._apply(AttemptStarted(1, 1, Context(), datetime(2026, 3, 1, tzinfo=UTC), 1.0))
        task._apply(TaskFailed(1, 1, Failure("ValueError", "no", ""), datetime(2026, 3, 1, tzinfo=UTC), 2.0))

        line = simple("ERROR", task, "", simple_head(workflow_id, "0f0c1a52-bbbb")).encode("utf-8")

        (read,) = parse_records(lines_of(line))

        assert Filter(workflow=workflow_id, step="load").matches(read)
        assert not Filter(workflow=workflow_id[1:]).matches(read)

    @pytest.mark.parametrize(
        "raw",
        [
            GARBAGE,
            HALF,
            b"2026-13-99 99:99:99.000 INFO    x\n",
            b"0001-01-01 00:00:00.000 INFO    x\n",
            b"9999-12-31 23:59:59.999 INFO    x\n",
            STAMP + b"INFO    " + b"a (x) task 1 b [g]: " * 1_000 + b"\n",
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


class TestFilters:
    @pytest.fixture
    def records(self) -> dict[str, Record]:
        """Records of three workflows whose ids have a common prefix, in both formats."""

        @action
        def load() -> None: ...

        records = {}
        for letter, workflow_id, name in (("a", "nightly-1", None), ("b", "nightly-2", "Prices"), ("c", "x (y)", None)):
            task = RunTask(1, load, workflow_id=workflow_id, run_id="0f0c1a52-bbbb", group_name="eu")
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
            (Filter(step="jobs.unload"), set()),
        ],
    )
    def test_records_of_a_workflow_or_a_step(
        self, records: dict[str, Record], record_filter: Filter, matches: set[str]
    ) -> None:
        """In both formats."""
        assert {key for key, record in records.items() if record_filter.matches(record)} == matches

    def test_an_item_is_of_its_step(self) -> None:
        """In both formats; an address selects the item."""
        item = mapped([], []).items[1]
        item._apply(TaskFailed(0, 1, Failure("E", "no"), datetime(2026, 3, 1, tzinfo=UTC), 1.0))

        for write in (simple, as_json):
            (record,) = parse_records(lines_of(write("ERROR", item, "", "").encode()))
            assert Filter(step="fetch").matches(record)
            assert Filter(step="fetch[1]").matches(record)
            assert not Filter(step="fetch[0]").matches(record)

    @pytest.mark.parametrize(
        ("message", "workflow", "step"),
        [
            ("task 12 a b: In progress", "", "a b"),
            ("run 0f0c1a52 task 1 a: In progress (attempt 3)", None, "a"),
            ("f task 1 a [eu]: Completed in 1.5 s (9 of 300 items, 5 skipped)", "f", "a"),
            ("f task 1 a[13] [eu]: Failed (attempt 2): E: task 2 b: Failed", "f", "a"),
            ("f task 1 a: Skipped: b was 'x: y'", "f", "a"),
        ],
    )
    def test_the_words_of_a_text_record_name_its_step(self, message: str, workflow: str | None, step: str) -> None:
        """The step of a text record stands between the task's number and its item, group or status."""
        (record,) = parse_records([STAMP + f"INFO    {message}\n".encode()])

        assert Filter(step=step, workflow=workflow).matches(record)
        assert not Filter(step="b").matches(record)


@pytest.mark.parametrize("value", ["[]", "{}", "[1]", "7"])
def test_a_json_record_whose_names_are_no_texts_matches_no_filter(value: str) -> None:
    """Another program may have written it."""
    (record,) = parse_records([f'{{"level": "INFO", "workflow": {value}, "name": {value}, "step": null}}\n'.encode()])

    assert not Filter(workflow="nightly").matches(record)
    assert not Filter(step="load").matches(record)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("repeated", [" [", "[1", "task 1 ", "run a ", ": ", " (", "] ["])
def test_the_names_of_a_long_line_take_linear_time(repeated: str) -> None:
    """A quadratic search of this line would take minutes."""
    record = Record(STAMP + b"INFO    task 1 x" + repeated.encode() * 300_000)

    assert not Filter(step="load").matches(record)
