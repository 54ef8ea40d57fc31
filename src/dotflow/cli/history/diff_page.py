"""`dotflow diff` for people: the differences by kind, with the two runs side by side."""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from rich.text import Text

from dotflow.cli.history.text import Column, Screen, local, safe, size, span
from dotflow.records.record import RunRecord
from dotflow.report.differences import Difference

CODE_LENGTH: Final = 16  # characters of a fingerprint or a digest
COMMIT_LENGTH: Final = 12

FORMATS: Final[dict[str, Callable[[Any], str]]] = {
    "duration": span,
    "cpu": span,
    "memory": size,
    "code": lambda code: str(code).partition(":")[2][:CODE_LENGTH],
    "argv": lambda argv: shlex.join([Path(argv[0]).name, *argv[1:]]),
    "commit": lambda commit: str(commit)[:COMMIT_LENGTH],
}


def print_differences(before: RunRecord, after: RunRecord, differences: Sequence[Difference]) -> None:
    """Prints the differences between two runs."""
    screen = Screen()
    if not differences:
        screen.line("No differences.")
        return
    runs = (Column(run.short_id, fits=1) for run in (before, after))
    rows: list[list[Text | str]] = [["began", "", local(before.began), local(after.began)]]
    previous = ""
    for difference in differences:
        kind, name, *values = difference
        label = kind if kind != previous else ""
        previous = kind
        rows.append([label, safe(name), *(_text(difference, value) for value in values)])
    screen.print_table((Column("What"), Column("Name", fits=2), *runs), rows)


def _text(difference: Difference, value: Any) -> Text:
    if value is None or value == "":
        return Text("–", "dim")
    formatted = FORMATS.get(difference.kind) or FORMATS.get(difference.name) or str
    return Text(safe(formatted(value)))
