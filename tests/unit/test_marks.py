"""Marks: they are taken out of a stream wherever it is cut, and what a step prints is none."""

import itertools
import socket

import pytest

from dotflow.capture.collector_main import Recorder, Sink
from dotflow.capture.marks import BEGIN, END, NO_ATTEMPT, MarkedStream, mark
from dotflow.core.attempt_id import AttemptId
from tests.captured import RecordingHistory

ATTEMPT = AttemptId("6f1c1c50-0d6b-4c3c-9a3a-2f1f4b1c2d3e", 3, 1, 411)
OTHER = AttemptId(ATTEMPT.run_id, 4, 2)


def parts_of(chunks: list[bytes]) -> dict[AttemptId | None, bytes]:
    """Returns the output by attempt."""
    stream, output = MarkedStream(), dict[AttemptId | None, bytes]()
    for part in (*itertools.chain.from_iterable(map(stream.feed, chunks)), stream.flush()):
        output[part.attempt] = output.get(part.attempt, b"") + part.data
    return {attempt: data for attempt, data in output.items() if data}


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_marks_part_a_stream_wherever_it_is_cut(size: int) -> None:
    data = b"a" + mark(ATTEMPT) + b"b\n" + mark(OTHER) + b"c" + NO_ATTEMPT + b"d"
    chunks = [data[begin : begin + size] for begin in range(0, len(data), size)]

    assert parts_of(chunks) == {None: b"ad", ATTEMPT: b"b\n", OTHER: b"c"}


@pytest.mark.parametrize(
    "printed",
    [
        BEGIN + b"no mark" + END,
        BEGIN + b"a b c d" + END,
        BEGIN + b"\xff 1 1 1" + END,
        BEGIN + b"run 1 1" + END,
        BEGIN + b"x" * 1000 + END,
        BEGIN + b"x",
    ],
)
@pytest.mark.parametrize("size", [1, 1000])
def test_output_like_a_mark_is_output(printed: bytes, size: int) -> None:
    """The marks after it still count."""
    data = mark(ATTEMPT) + b"a" + printed + mark(OTHER) + b"b"
    chunks = [data[begin : begin + size] for begin in range(0, len(data), size)]

    assert parts_of(chunks) == {ATTEMPT: b"a" + printed, OTHER: b"b"}


def test_a_mark_of_an_unknown_run_is_passed_over() -> None:
    """A step may print one: the collector does not wait for what is to be known of its run."""
    own, other = socket.socketpair()
    with own, other:
        recorder = Recorder(RecordingHistory(), other, Sink())

        assert recorder.feed(1, mark(ATTEMPT) + b"a\n") == b"a\n"
