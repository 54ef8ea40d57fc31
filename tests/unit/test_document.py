"""A run as one JSON object: what is in it, and how large it may become."""

import json
from typing import Any

import pytest

from dotflow.core.files import GONE, FileRecord, FileState
from dotflow.records.record import AttemptRecord, ErrorRecord, OutputChunk, OutputKey, RunRecord
from dotflow.report.document import (
    MAX_DETAILS,
    MAX_ERRORS,
    MAX_TEXT,
    document,
    output_objects,
    share_out,
    to_json,
    trace_url,
)
from tests.unit.run_samples import COMPLETED, FAILED, HOSTILE, RETRY, a_run, a_task, an_attempt, at


def parsed(run: RunRecord, **members: Any) -> dict[str, Any]:
    """The document after its way through JSON."""
    read: dict[str, Any] = json.loads(to_json(document(run, **members)))
    return read


def test_moments_are_texts_and_the_rest_counts_from_the_beginning_of_the_run() -> None:
    """So that a reader of the JSON needs no arithmetic with dates."""
    read = parsed(
        a_run(a_task(0, an_attempt(RETRY), an_attempt(FAILED, 2, began=3.5), needs=(1, 2)), notes=[(at(1), "x")])
    )

    (planned,) = read["tasks"]
    assert read["version"] == 1
    assert (read["run"]["began"], read["run"]["duration"]) == ("2026-11-24T02:00:00Z", 10.5)
    assert read["run"]["notes"] == [{"at": "2026-11-24T02:00:01Z", "text": "x"}]
    assert [(attempt["attempt"], attempt["began"], attempt["state"]) for attempt in planned["attempts"]] == [
        (1, 1.0, "Retry"),
        (2, 3.5, "Failed"),
    ]
    assert planned["attempts"][1]["errors"][0]["message"] == "closed"
    assert (planned["state"], planned["needs"], planned["items"], planned["count"]) == ("Failed", [1, 2], None, None)


def test_files_have_their_states_then() -> None:
    """Of an attempt, and of those that the run was given from outside; a file that was gone has no size."""
    made = FileRecord(made={"a.csv": FileState(12, 1_764_000_000_123_456_789, digest="5d")}, changed={"b": GONE})
    given = FileRecord(taken={"in.txt": FileState(3)})
    read = parsed(a_run(a_task(0, an_attempt()._replace(files_text=made.as_text())), files=given))

    assert read["tasks"][0]["attempts"][0]["files"] == [
        {"path": "a.csv", "role": "made", "size": 12, "modified": "2025-11-24T16:00:00.123456Z", "sha256": "5d"},
        {"path": "b", "role": "changed", "size": None, "modified": None, "sha256": ""},
    ]
    assert [(file["path"], file["size"]) for file in read["run"]["files"]] == [("in.txt", 3)]


def test_a_task_that_has_not_started_has_no_state() -> None:
    """Nothing is there but what was planned."""
    (task,) = parsed(a_run(a_task(0)))["tasks"]

    assert (task["state"], task["duration"], task["attempts"], task["glimpse"]) == (None, None, [], "")


def test_items_are_columns() -> None:
    """A value for each item that has begun; what no item has is left out."""
    items = {
        0: [an_attempt(item=0)],
        2: [an_attempt(RETRY, item=2), an_attempt(FAILED, 2, item=2, began=3.0)],
    }
    read = parsed(a_run(a_task(0, an_attempt(FAILED), items=items, count=5)))

    (task,) = read["tasks"]
    assert task["items"] == {
        "states": ["Completed", "Failed"],
        "state": [0, None, 1],
        "attempts": [1, 0, 2],
        "round": None,
        "nth": None,
        "began": [1.0, None, 1.0],
        "duration": [0.25, None, 2.25],
        "cpu": [0.123, None, 0.247],
        "peak_mb": [61.2, None, 61.2],
        "waited": None,
    }
    assert (task["count"], task["counts"]) == (5, {"Completed": 1, "Failed": 1})
    assert [(detail["item"], len(detail["attempts"])) for detail in task["details"]] == [(2, 2)]


def test_items_of_a_map_in_rounds_have_a_column_of_rounds() -> None:
    """Each attempt has its round, too."""
    items = {item: [an_attempt(FAILED, item=item)._replace(round=item // 2)] for item in (0, 1, 3)}
    (task,) = parsed(a_run(a_task(0, an_attempt(FAILED), items=items, count=4)))["tasks"]

    assert task["items"]["round"] == [0, 0, None, 1]
    assert [detail["attempts"][0]["round"] for detail in task["details"]] == [0, 0, 1]
    assert task["attempts"][0]["round"] is None


def test_a_map_whose_items_have_not_begun() -> None:
    """Its columns are empty."""
    (task,) = parsed(a_run(a_task(0, an_attempt(), count=0)))["tasks"]

    assert (task["items"]["state"], task["items"]["began"], task["details"]) == ([], None, [])


@pytest.mark.parametrize(
    ("count", "limit"), [(10_000, 1_000_000), pytest.param(100_000, 3_000_000, marks=pytest.mark.exhaustive)]
)
def test_many_items_are_small(count: int, limit: int) -> None:
    """A report of them can be mailed."""
    items = {item: [an_attempt(item=item, began=item / 71)] for item in range(count)}

    assert len(to_json(document(a_run(a_task(0, an_attempt(), items=items, count=count))))) < limit


def test_failed_items_are_shown_in_full_before_repeated_ones() -> None:
    """Of many, the first ones."""
    repeated = {item: [an_attempt(RETRY, item=item), an_attempt(COMPLETED, 2, item=item)] for item in range(600)}
    failed = {item: [an_attempt(FAILED, item=item)] for item in range(100, 500)}
    read = parsed(
        a_run(a_task(0, items=repeated, count=600), a_task(1, items=failed, count=600), a_task(2, an_attempt(FAILED)))
    )

    details = [len(task["details"]) for task in read["tasks"]]
    assert details == [MAX_DETAILS - 400, 400, 0]


def test_long_texts_lose_their_middle_and_many_attempts_their_errors() -> None:
    """A document stays small enough to be read, whatever a step raises."""
    long = AttemptRecord(
        None, 1, FAILED, errors=[ErrorRecord("E", "x" * 10 * MAX_TEXT, "begin" + "y" * MAX_TEXT + "end")]
    )
    read = parsed(a_run(a_task(0, long), a_task(1, *(an_attempt(RETRY, number) for number in range(1, 50)))))

    (cut,) = read["tasks"][0]["attempts"][0]["errors"]
    assert len(cut["message"]) < MAX_TEXT + 100
    assert (cut["traceback"][:5], cut["traceback"][-3:]) == ("begin", "end")
    assert "characters were left out" in cut["traceback"]
    with_errors = [bool(attempt["errors"]) for attempt in read["tasks"][1]["attempts"]]
    assert with_errors == [False] * (49 - MAX_ERRORS) + [True] * 20


@pytest.mark.parametrize("text", HOSTILE)
def test_every_text_comes_back(text: str) -> None:
    """Lone surrogates too, which no file could have in UTF-8."""
    run = a_run(a_task(0, name=text, group=text), name=text, error=text)
    line = to_json(document(run))

    assert json.loads(line.encode())["tasks"][0]["name"] == text
    assert "\n" not in line


def a_chunk(seq: int, data: bytes, stream: int = 1, **fields: Any) -> OutputChunk:
    return OutputChunk(0, None, 1, seq, at(seq), stream, data)._replace(**fields)


def test_output_is_text_by_attempt() -> None:
    """A character may be in two chunks, with another stream's between them; what is no UTF-8 is escaped."""
    chunks = [
        a_chunk(0, "ä".encode()[:1]),
        a_chunk(0, b"other\n", item=7),
        a_chunk(1, b"warning\n", 2, skipped=5),
        a_chunk(2, "ä".encode()[1:] + b"\xff\n"),
        a_chunk(3, b"\xe2\x82"),
    ]

    first, second = output_objects(a_run(), chunks, {})

    assert [(part["seq"], part["stream"], part["text"], part["skipped"]) for part in first["parts"]] == [
        (0, 1, "", 0),
        (1, 2, "warning\n", 5),
        (2, 1, "ä\\xff\n", 0),
        (3, 1, "\\xe2\\x82", 0),
    ]
    assert (first["size"], first["left_out"], first["parts"][1]["at"]) == (14, 0, 1.0)
    assert (second["item"], second["parts"][0]["text"]) == (7, "other\n")


def test_failed_attempts_have_their_output_first() -> None:
    """Then small outputs are whole, and large ones share the rest."""
    run = a_run(
        a_task(0, an_attempt(FAILED)), a_task(1, an_attempt()), a_task(2, an_attempt()), a_task(3, an_attempt())
    )
    sizes = {OutputKey(task, None, 1): size for task, size in enumerate((600, 10, 5000, 8000))}

    shares = share_out(run, sizes, limit=1000)

    assert [shares[key] for key in sizes] == [600, 10, 195, 195]
    assert share_out(run, sizes, limit=300)[OutputKey(0, None, 1)] == 300


@pytest.mark.parametrize(
    ("variable", "trace", "url"),
    [
        ("https://traces.example/trace/{trace}", "4bf92f", "https://traces.example/trace/4bf92f"),
        ("https://traces.example/", "4bf92f", None),
        ("javascript:alert('{trace}')", "4bf92f", None),
        ("https://traces.example/{trace}", '"><script>', None),
        ("https://traces.example/{trace}", "", None),
        (None, "4bf92f", None),
    ],
)
def test_a_trace_has_an_address(
    variable: str | None, trace: str, url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of the environment variable, if it is a web address."""
    monkeypatch.delenv("DOTFLOW_TRACE_URL", raising=False)
    if variable is not None:
        monkeypatch.setenv("DOTFLOW_TRACE_URL", variable)

    assert trace_url(trace) == url
