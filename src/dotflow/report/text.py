"""Texts about runs: in HTML, where whatever a run says is text, and commands to be copied."""

import html
import re
import shlex
from collections.abc import Mapping
from typing import Final

from dotflow.core.durations import format_duration
from dotflow.core.text import escape_controls, escape_lines

#: Words that need no quotes; shlex quotes `fetch#411`.
SAFE: Final = re.compile(r"[\w.-]+#\d+|[\w.-]+")
#: State or status -> its symbol; none where a spinner turns.
SYMBOLS: Final[Mapping[str | None, str]] = {
    None: "·",
    "Not started": "·",
    "Missing": "○",
    "Queued": "…",
    "Running": "▸",
    "Paused": "‖",
    "Completed": "✓",
    "Restored": "✓",
    "Cached": "✓",
    "Failed": "✗",
    "Crashed": "✗",
    "Unknown": "?",
    "Cancelled": "■",
    "Interrupted": "■",
    "Retry": "↻",
    "Skipped": "–",
}


def escape(text: object) -> str:
    r"""Returns text for one line of HTML, with control characters as \x1b and the like."""
    return html.escape(escape_controls(str(text)))


def escape_block(text: str) -> str:
    """Returns the same for several lines."""
    return html.escape(escape_lines(text.replace("\r\n", "\n")))


def state_text(state: str | None) -> str:
    """Returns a state with its symbol."""
    return f"{SYMBOLS.get(state, '')} {state or 'Not started'}".lstrip()


def took_text(seconds: float, *, is_end_known: bool) -> str:
    """Returns how long a run took, or ran at least."""
    return f"{'took' if is_end_known else 'ran at least'} {format_duration(seconds)}"


def size_text(count: int) -> str:
    """Returns a number of bytes."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}" if count < 10 * factor else f"{count / factor:.0f} {unit}"
    return f"{count} B"


def as_command(*words: str, history: str | None) -> str:
    """Returns a command of dotflow, quoted for a shell. *history* is the value of --history."""
    quoted = (word if SAFE.fullmatch(word) else shlex.quote(word) for word in words)
    return " ".join(["dotflow", *quoted, *(() if history is None else ("--history", shlex.quote(history)))])
