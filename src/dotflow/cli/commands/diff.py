"""`dotflow diff`: the differences between two runs by kind, side by side."""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import click
from rich.text import Text

from dotflow.cli.command import Command, Exit, option
from dotflow.cli.options import HISTORY_OPTION, JSON_OPTIONS, RunArgument, open_history, print_json
from dotflow.cli.screen import Column, Screen, local, safe, size, span
from dotflow.records.record import RunRecord
from dotflow.report.differences import MEASURES, Difference, differences


@click.command(cls=Command)
@click.argument("first", type=RunArgument(), metavar="RUN")
@click.argument("second", type=RunArgument(), metavar="RUN")
@option(
    "--exit-code", is_flag=True, example="dotflow diff last 4f0c9a21 --exit-code",
    help="Exit with 1 if anything differs but durations, CPU and memory.",
)  # fmt: skip
@JSON_OPTIONS
@HISTORY_OPTION
def diff(first: str, second: str, exit_code: bool, as_json: bool, history: str | None) -> int:
    """Compare two runs: only what differs is printed.

    \b
    dotflow diff 4f0c9a21 last
    dotflow diff previous:etl etl

    Compared are code, environment, parameters, values and states. Durations, CPU time and memory of a step differ
    from a fifth on.
    """
    archive = open_history(history)
    before, after = archive.load(first), archive.load(second)
    changes = list(differences(archive, before, after))
    if as_json:
        print_json(difference._asdict() for difference in changes)
    else:
        print_differences(before, after, changes)
    is_different = any(difference.kind not in MEASURES for difference in changes)
    return Exit.FAILED if exit_code and is_different else Exit.COMPLETED


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
