"""The options of the commands about runs of the past, and the history that they read."""

import os
from datetime import datetime
from typing import TYPE_CHECKING, Final

import click

from dotflow.abc.history import HISTORY_VARIABLE, NO_HISTORY
from dotflow.cli.command import option
from dotflow.cli.options import DEFAULT_HISTORY
from dotflow.core.durations import to_seconds

if TYPE_CHECKING:
    from dotflow.providers import HistorySQLite

# fmt: off
HISTORY_OPTION: Final = option(
    "--history", metavar="PATH", example="--history logs/history.db",
    help=f"The file of the runs; ${HISTORY_VARIABLE} or {DEFAULT_HISTORY} by default.",
)
JSON_OPTION: Final = option(
    "--json", "as_json", is_flag=True, example="--json | jq .state", help="Print JSON, one object a line.",
)
# fmt: on


def parse_time(option: str, text: str | None, accepted: str) -> datetime | str | None:
    """Returns a span such as "2d" as it is, and a time as a moment, in the local zone if it has none.

    Raises UsageError with what is *accepted*.
    """
    if text is None or to_seconds(text) is not None:
        return text
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError, OSError):
        raise click.UsageError(f"{option} {text} is no time. Use {accepted}.") from None


def open_history(path: str | None) -> "HistorySQLite":
    """Returns the history at the path of --history, or at the default one."""
    from dotflow.providers import HistorySQLite

    if path == "":
        raise click.UsageError("--history needs the path of a file.")
    variable = os.environ.get(HISTORY_VARIABLE, NO_HISTORY)
    return HistorySQLite(path or (variable if variable not in ("", NO_HISTORY) else DEFAULT_HISTORY))
