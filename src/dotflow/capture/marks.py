"""Marks in the output of a process: they say which attempt makes what follows, and are taken out where it is read."""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from dotflow.core.attempt_id import AttemptId

BEGIN: Final = b"\x1e\x1fdotflow:"  # two separators of ASCII, which text has no use for
END: Final = b"\x1e"
MAX_SIZE: Final = 256  # bytes of a mark
NO_ATTEMPT: Final = BEGIN + END  # the mark before output that is no attempt's
#: The attempts of a run that a step has started, in the output of that step's worker. On the wire they are "aside".
NESTED: Final = AttemptId("aside", 0, 0)
MARK: Final = re.compile(re.escape(BEGIN) + rb"(?:([!-~]+) (\d{1,18}) (\d{1,18}) (-?\d{1,18}))?" + re.escape(END))


class Piece(NamedTuple):
    """A piece of a stream, and the attempt that has made it, None for none."""

    data: bytes
    attempt: AttemptId | None


def mark(attempt: AttemptId) -> bytes:
    """Returns the mark before the output of an attempt."""
    run_id, task_id, number, item = attempt
    return b"%b%b %d %d %d%b" % (BEGIN, run_id.encode(), task_id, number, -1 if item is None else item, END)


class MarkedStream:
    """Cuts a stream at its marks. *attempt* makes what comes next; *held* may be the beginning of a mark."""

    def __init__(self) -> None:
        self.held = b""
        self.attempt: AttemptId | None = None

    def feed(self, data: bytes) -> Iterator[Piece]:
        """Yields the pieces of what has arrived."""
        data, at = self.held + data, 0
        for match in MARK.finditer(data):
            yield Piece(data[at : match.start()], self.attempt)
            self.attempt, at = _attempt_of(match), match.end()
        begin = data.rfind(BEGIN, at)
        if begin < 0 or len(data) - begin >= MAX_SIZE or END in data[begin + len(BEGIN) :]:  # it is no mark of ours
            begin = data.rfind(BEGIN[:1], max(at, len(data) - len(BEGIN)))
            if begin < 0 or not BEGIN.startswith(data[begin:]):
                begin = len(data)
        self.held = data[begin:]
        yield Piece(data[at:begin], self.attempt)

    def flush(self) -> Piece:
        """Returns what is left at the end of the stream."""
        held, self.held = self.held, b""
        return Piece(held, self.attempt)


def _attempt_of(match: re.Match[bytes]) -> AttemptId | None:
    if match[1] is None:
        return None
    item = int(match[4])
    return AttemptId(match[1].decode(), int(match[2]), int(match[3]), None if item < 0 else item)
